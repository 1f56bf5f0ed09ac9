//! Packages installed and removed with the node's package manager, and restored exactly as they were before.
//!
//! This module decides from lists of installed packages; the managers themselves are behind [`Tool`].
//! - A spec without a version is satisfied by any installed version; see [`spec`].
//! - No package is removed that the manifest does not name, unless the manifest removes something; see
//!   [`Transaction`].
//! - The packages that a transaction replaces are fetched into the [`UndoCache`] first, so that an undo needs no
//!   mirror.
//! - A transaction that a power cut or the time limit ended is completed first, before the node goes forward or back.

mod apt;
mod detect;
mod dnf;
mod list;
#[cfg(test)]
mod real_apt;
#[cfg(test)]
mod real_dnf;
mod rpm;
mod run_manager;
mod simulate;
mod spec;
mod tool;
mod undo_cache;

use super::{ChangeError, ChangeKind};
use list::Difference;
use rollout_core::agent::record::{After, Before};
use rollout_core::rollout::manifest::Packages;
use run_manager::TimeBudget;
use std::path::Path;
use tool::{Direction, Tool, Transaction};
use undo_cache::UndoCache;

impl ChangeKind for Packages {
    fn is_satisfied(&self) -> Result<bool, ChangeError> {
        let (_, tool) = detect::tool(self.manager)?;
        let installed = tool.installed()?;
        Ok(Transaction::of(self, tool.notation(), &installed).is_empty())
    }

    fn observe(&self) -> Result<Before, ChangeError> {
        let (manager, tool) = detect::tool(self.manager)?;
        Ok(Before::Packages { manager, installed: observe_with(&*tool)? })
    }

    fn apply(&self, before: &Before, state_dir: &Path) -> Result<After, ChangeError> {
        let (tool, installed) = recorded(before, "applying a change")?;
        apply_with(&*tool, self, installed, &UndoCache::in_dir(state_dir))
    }

    fn verify(&self, _before: &Before, after: &After) -> Result<(), ChangeError> {
        let (_, tool) = detect::tool(self.manager)?;
        verify_with(&*tool, self, after)
    }

    fn undo(&self, before: &Before, state_dir: &Path) -> Result<(), ChangeError> {
        let (tool, installed) = recorded(before, "undoing a change")?;
        undo_with(&*tool, self, installed, &UndoCache::in_dir(state_dir))
    }

    fn verify_old(&self, before: &Before) -> Result<(), ChangeError> {
        let (tool, installed) = recorded(before, "verifying the old state")?;
        verify_old_with(&*tool, installed)
    }
}

pub(super) fn forget(state_dir: &Path) -> Result<(), ChangeError> {
    UndoCache::in_dir(state_dir).remove()
}

/// Returns the manager that observed the node, and the packages installed then.
fn recorded<'a>(before: &'a Before, attempt: &str) -> Result<(Box<dyn Tool>, &'a [String]), ChangeError> {
    match before {
        Before::Packages { manager, installed } => Ok((detect::tool(Some(*manager))?.1, installed)),
        _ => Err(ChangeError::other_kind(attempt)),
    }
}

fn observe_with(tool: &dyn Tool) -> Result<Vec<String>, ChangeError> {
    let installed = tool.installed()?;
    if let Some(half) = installed.iter().find(|package| package.ends_with(list::HALF_INSTALLED)) {
        let problem = format!(
            "{half}: {} was interrupted before this rollout, and that state cannot be restored; repair it first, \
             `dpkg --configure -a` and `apt-get --fix-broken install` mostly do",
            tool.name()
        );
        return Err(ChangeError::state("listing the installed packages", problem));
    }
    // The files of an unconfigured package are there. Apply configures it before all else, so record it as configured.
    let configured = |package: String| match package.strip_suffix(list::UNCONFIGURED) {
        Some(package) => package.to_owned(),
        None => package,
    };
    Ok(installed.into_iter().map(configured).collect())
}

fn apply_with(
    tool: &dyn Tool,
    wanted: &Packages,
    before: &[String],
    cache: &UndoCache,
) -> Result<After, ChangeError> {
    let budget = TimeBudget::new(wanted.timeout.get());
    let unfinished = cache.unfinished()?.is_some();
    tool.recover(before, Direction::Forward, unfinished, budget)?;
    if unfinished {
        let mut new = Difference::between(before, &tool.installed()?).extra;
        // An old package that is half installed is about to be replaced, as it was when the interruption came.
        new.retain(|p| {
            !p.strip_suffix(list::HALF_INSTALLED).is_some_and(|p| before.iter().any(|old| old == p))
        });
        tool.finish(&new, budget)?;
    }
    let installed = tool.installed()?;
    let transaction = Transaction::of(wanted, tool.notation(), &installed);
    if !transaction.is_empty() {
        let mut affected = tool.affected(&transaction, &installed, budget);
        affected.retain(|package| before.contains(package));
        tool.fetch_to_cache(&affected, cache, budget);
        cache.begin(&affected)?;
        tool.execute(&transaction, budget)?;
    }
    let now = tool.installed()?;
    check(tool, wanted, &now)?;
    let Difference { missing, extra } = Difference::between(before, &now);
    if unfinished {
        tool.remove_leftovers(&extra, budget);
    }
    cache.end()?;
    let changed = !missing.is_empty() || !extra.is_empty();
    Ok(After { changed, added: extra, removed: missing })
}

/// Checks that the manifest is satisfied.
fn check(tool: &dyn Tool, wanted: &Packages, now: &[String]) -> Result<(), ChangeError> {
    let remaining = Transaction::of(wanted, tool.notation(), now);
    let failed = |problem: String| {
        let attempt = format!("checking what {} did", tool.name());
        Err(ChangeError::state(attempt, problem))
    };
    for spec in remaining.install.iter().filter(|spec| !spec::needs_manager(spec)) {
        if !tool.is_provided(spec)? {
            return failed(format!("{spec} is not installed"));
        }
    }
    if remaining.remove.is_empty() {
        Ok(())
    } else {
        failed(format!("still installed: {}", list::few(&remaining.remove)))
    }
}

fn verify_with(tool: &dyn Tool, wanted: &Packages, after: &After) -> Result<(), ChangeError> {
    let now = tool.installed()?;
    let missing: Vec<&String> = after.added.iter().filter(|package| !now.contains(package)).collect();
    let reappeared: Vec<&String> = after.removed.iter().filter(|package| now.contains(package)).collect();
    let failed = |problem: String| Err(ChangeError::state("verifying the packages", problem));
    if !missing.is_empty() {
        return failed(format!("no longer as installed: {}", list::few(&missing)));
    }
    if !reappeared.is_empty() {
        return failed(format!("there again: {}", list::few(&reappeared)));
    }
    check(tool, wanted, &now)
}

fn undo_with(
    tool: &dyn Tool,
    wanted: &Packages,
    before: &[String],
    cache: &UndoCache,
) -> Result<(), ChangeError> {
    let budget = TimeBudget::new(wanted.timeout.get());
    let unfinished = cache.unfinished()?;
    // No transaction was begun, so do without the manager: it may be the very thing that is broken, or locked.
    if unfinished.is_none() && Difference::between(before, &tool.installed()?).is_empty() {
        return Ok(());
    }
    tool.recover(before, Direction::Back, unfinished.is_some(), budget)?;
    let affected = unfinished.unwrap_or_default();
    cache.begin(&affected)?;
    tool.restore(before, &affected, cache, budget).map_err(|error| {
        const NOT_FOUND: [&str; 4] = ["No match for", "Unable to find a match", "was not found", "metadata"];
        let advice = "make a repository offer the versions of before again";
        NOT_FOUND.iter().fold(error, |error, cause| error.advise(cause, advice))
    })?;
    verify_old_with(tool, before)?;
    tool.remove_leftovers(&affected, budget);
    cache.end()
}

fn verify_old_with(tool: &dyn Tool, before: &[String]) -> Result<(), ChangeError> {
    let difference = Difference::between(before, &tool.installed()?);
    if difference.is_empty() {
        return Ok(());
    }
    Err(ChangeError::state("restoring the packages of before", difference.describe()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::time_limit::TimeLimit;

    /// An unreadable note stops an undo and an apply before they change anything, and the error names its path. The
    /// packages of this machine are the old ones, and the undo comes first: without a note it does nothing.
    #[test]
    fn files_for_an_undo_are_kept_in_the_state_directory() {
        let state_dir = tempfile::tempdir().unwrap();
        let note = state_dir.path().join("undo/unfinished");
        std::fs::create_dir_all(&note).unwrap();
        let timeout = TimeLimit::from_secs(60);
        let packages = Packages { install: Vec::new(), remove: Vec::new(), manager: None, timeout };
        let before = packages.observe().unwrap();
        for error in [
            packages.undo(&before, state_dir.path()).unwrap_err(),
            packages.apply(&before, state_dir.path()).map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().starts_with(&format!("reading {}", note.display())), "{error}");
        }
        forget(state_dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(state_dir.path()).unwrap().count(), 0);
    }
}
