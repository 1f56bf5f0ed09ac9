//! Packages installed and removed with the node's package manager, and the way back to exactly those of before.
//!
//! This decides what to do from lists of installed packages; the managers themselves are behind [`tool::Tool`].
//! - A spec without a version is satisfied by any installed version; see [`spec`].
//! - Nothing is removed that the manifest does not say, unless it removes something: see [`tool::Wish`].
//! - What a transaction replaces is fetched first and [`kept`], so that going back needs no mirror.
//! - A transaction that a power cut or the time limit ended is brought to an end first, whichever way it then goes.

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

use super::ChangeError;
use list::Difference;
use rollout_core::agent::record::{After, Before};
use rollout_core::rollout::manifest::{Manager, Packages};
use run_manager::Patience;
use tool::{Direction, Tool, Wish};
use undo_cache::Kept;

pub(super) fn is_already_so(wanted: &Packages) -> Result<bool, ChangeError> {
    let (_, tool) = detect::tool(wanted.manager)?;
    let installed = tool.installed()?;
    Ok(Wish::of(wanted, tool.notation(), &installed).is_empty())
}

pub(super) fn observe(wanted: &Packages) -> Result<Before, ChangeError> {
    let (manager, tool) = detect::tool(wanted.manager)?;
    Ok(Before::Packages { manager, installed: observe_with(&*tool)? })
}

pub(super) fn apply(wanted: &Packages, manager: Manager, before: &[String]) -> Result<After, ChangeError> {
    let (_, tool) = detect::tool(Some(manager))?;
    apply_with(&*tool, wanted, before, &Kept::of_node())
}

pub(super) fn verify(wanted: &Packages, after: &After) -> Result<(), ChangeError> {
    let (_, tool) = detect::tool(wanted.manager)?;
    verify_with(&*tool, wanted, after)
}

pub(super) fn undo(wanted: &Packages, manager: Manager, before: &[String]) -> Result<(), ChangeError> {
    let (_, tool) = detect::tool(Some(manager))?;
    undo_with(&*tool, wanted, before, &Kept::of_node())
}

pub(super) fn verify_old(manager: Manager, before: &[String]) -> Result<(), ChangeError> {
    let (_, tool) = detect::tool(Some(manager))?;
    verify_old_with(&*tool, before)
}

pub(super) fn forget() -> Result<(), ChangeError> {
    Kept::of_node().forget()
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
    // Its files are there: configured, as apply does first of all, it is what it was meant to be.
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
    kept: &Kept,
) -> Result<After, ChangeError> {
    let patience = Patience::new(wanted.timeout.get());
    let unfinished = kept.unfinished()?.is_some();
    tool.mend(before, Direction::Onward, unfinished, patience)?;
    if unfinished {
        let mut new = Difference::between(before, &tool.installed()?).extra;
        // One of before that is half there is about to be replaced, as it was when that was interrupted.
        new.retain(|p| {
            !p.strip_suffix(list::HALF_INSTALLED).is_some_and(|p| before.iter().any(|old| old == p))
        });
        tool.finish(&new, patience)?;
    }
    let installed = tool.installed()?;
    let wish = Wish::of(wanted, tool.notation(), &installed);
    if !wish.is_empty() {
        let mut touched = tool.touched(&wish, &installed, patience);
        touched.retain(|package| before.contains(package));
        tool.keep(&touched, kept, patience);
        kept.begin(&touched)?;
        tool.carry_out(&wish, patience)?;
    }
    let now = tool.installed()?;
    check(tool, wanted, &now)?;
    let Difference { missing, extra } = Difference::between(before, &now);
    if unfinished {
        tool.sweep(&extra, patience);
    }
    kept.end()?;
    let changed = !missing.is_empty() || !extra.is_empty();
    Ok(After { changed, added: extra, removed: missing })
}

/// Whether what was asked for holds.
fn check(tool: &dyn Tool, wanted: &Packages, now: &[String]) -> Result<(), ChangeError> {
    let left = Wish::of(wanted, tool.notation(), now);
    let failed = |what: String| {
        let attempt = format!("checking what {} did", tool.name());
        Err(ChangeError::state(attempt, what))
    };
    for spec in left.install.iter().filter(|spec| !spec::is_open(spec)) {
        if !tool.is_provided(spec)? {
            return failed(format!("{spec} is not installed"));
        }
    }
    if left.remove.is_empty() {
        Ok(())
    } else {
        failed(format!("still installed: {}", list::few(&left.remove)))
    }
}

fn verify_with(tool: &dyn Tool, wanted: &Packages, after: &After) -> Result<(), ChangeError> {
    let now = tool.installed()?;
    let gone: Vec<&String> = after.added.iter().filter(|package| !now.contains(package)).collect();
    let back: Vec<&String> = after.removed.iter().filter(|package| now.contains(package)).collect();
    let failed = |what: String| Err(ChangeError::state("verifying the packages", what));
    if !gone.is_empty() {
        return failed(format!("no longer as installed: {}", list::few(&gone)));
    }
    if !back.is_empty() {
        return failed(format!("there again: {}", list::few(&back)));
    }
    check(tool, wanted, &now)
}

fn undo_with(tool: &dyn Tool, wanted: &Packages, before: &[String], kept: &Kept) -> Result<(), ChangeError> {
    let patience = Patience::new(wanted.timeout.get());
    let unfinished = kept.unfinished()?;
    // Nothing was begun: no need of a manager that may be the very thing that is broken, or locked.
    if unfinished.is_none() && Difference::between(before, &tool.installed()?).is_empty() {
        return Ok(());
    }
    tool.mend(before, Direction::Back, unfinished.is_some(), patience)?;
    let touched = unfinished.unwrap_or_default();
    kept.begin(&touched)?;
    tool.restore(before, &touched, kept, patience).map_err(|error| {
        const GONE: [&str; 4] = ["No match for", "Unable to find a match", "was not found", "metadata"];
        let advice = "make a repository offer the versions of before again";
        GONE.iter().fold(error, |error, cause| error.advise(cause, advice))
    })?;
    verify_old_with(tool, before)?;
    tool.sweep(&touched, patience);
    kept.end()
}

fn verify_old_with(tool: &dyn Tool, before: &[String]) -> Result<(), ChangeError> {
    let difference = Difference::between(before, &tool.installed()?);
    if difference.is_empty() {
        return Ok(());
    }
    Err(ChangeError::state("restoring the packages of before", difference.describe()))
}
