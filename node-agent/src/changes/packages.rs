//! Packages installed and removed with the node's package manager, and restored exactly as they were before.
//!
//! This module decides from lists of installed packages; the managers themselves are behind [`Tool`].
//! - A spec without a version is satisfied by any installed version; see [`spec`].
//! - No package is removed that the manifest does not name, unless the manifest removes something; see
//!   [`Transaction`].
//! - The packages that a transaction replaces are fetched into the [`UndoCache`] first, so that an undo needs no
//!   mirror. A change that could not be undone is refused.
//! - The state around the packages is recorded before the change and restored with them; see [`Surrounded`].
//! - A transaction that a power cut or the time limit ended is completed first, before the node goes forward or back.
//! - An undo restores what the transaction changed. Packages that others have changed meanwhile stay as they are.

mod apt;
mod configuration;
mod detect;
mod dnf;
mod kernel;
mod list;
#[cfg(test)]
mod real_apt;
#[cfg(test)]
mod real_dnf;
#[cfg(test)]
mod real_rpm;
#[cfg(test)]
mod real_zypper;
mod rehearse;
mod rpm;
mod run_manager;
mod scriptlets;
mod simulate;
mod space;
mod spec;
mod surroundings;
mod tool;
mod undo_cache;
mod units;
mod zypper;

use super::{ChangeError, ChangeKind};
use crate::log;
use list::Difference;
use rollout_core::agent::record::{After, Before, BootDefault};
use rollout_core::protocol::rehearsal::ChangeReport;
use rollout_core::rollout::manifest::{Allowance, Packages};
use run_manager::TimeBudget;
use std::path::Path;
use std::time::Duration;
use surroundings::{Surrounded, System};
use tool::{Direction, Forecast, Tool, Transaction, Unkept};
use undo_cache::UndoCache;

impl ChangeKind for Packages {
    fn is_satisfied(&self) -> Result<bool, ChangeError> {
        let (_, tool) = detect::tool(self, self.manager)?;
        Ok(transaction(&*tool, self, &tool.installed()?).is_empty())
    }

    fn rehearse(&self, state_dir: &Path, limit: Duration) -> Result<ChangeReport, ChangeError> {
        rehearse::on_node(self, state_dir, limit)
    }

    fn observe(&self, state_dir: &Path, _boot: Option<&BootDefault>) -> Result<Before, ChangeError> {
        let (manager, tool) = detect::tool(self, self.manager)?;
        let (cache, system) = (UndoCache::in_dir(state_dir), System::of_node()?);
        let installed = Site { tool: &*tool, cache: &cache, system: &system }.observe()?;
        Ok(Before::Packages { manager, installed })
    }

    fn apply(&self, before: &Before, state_dir: &Path) -> Result<After, ChangeError> {
        let (tool, installed) = recorded(self, before, "applying a change")?;
        let (cache, system) = (UndoCache::in_dir(state_dir), System::of_node()?);
        Site { tool: &*tool, cache: &cache, system: &system }.apply(self, installed)
    }

    fn verify(&self, _before: &Before, after: &After) -> Result<(), ChangeError> {
        let (_, tool) = detect::tool(self, self.manager)?;
        verify_with(&*tool, self, after, &super::image::kernel()?)
    }

    fn undo(&self, before: &Before, state_dir: &Path) -> Result<(), ChangeError> {
        let (tool, installed) = recorded(self, before, "undoing a change")?;
        let (cache, system) = (UndoCache::in_dir(state_dir), System::of_node()?);
        Site { tool: &*tool, cache: &cache, system: &system }.undo(self, installed)
    }

    fn verify_old(&self, before: &Before, state_dir: &Path) -> Result<Vec<String>, ChangeError> {
        let (tool, installed) = recorded(self, before, "verifying the old state")?;
        let (cache, system) = (UndoCache::in_dir(state_dir), System::of_node()?);
        Site { tool: &*tool, cache: &cache, system: &system }.verify_old(installed)
    }
}

pub(super) fn forget(state_dir: &Path) -> Result<(), ChangeError> {
    UndoCache::in_dir(state_dir).remove()
}

/// Returns the manager that observed the node, and the packages installed then.
fn recorded<'a>(
    wanted: &Packages,
    before: &'a Before,
    attempt: &str,
) -> Result<(Box<dyn Tool>, &'a [String]), ChangeError> {
    match before {
        Before::Packages { manager, installed } => Ok((detect::tool(wanted, Some(*manager))?.1, installed)),
        _ => Err(ChangeError::other_kind(attempt)),
    }
}

/// The part of a change that is left to do.
fn transaction(tool: &dyn Tool, wanted: &Packages, installed: &[String]) -> Transaction {
    let modules = wanted.modules.iter().filter(|module| !tool.is_enabled(module)).cloned().collect();
    Transaction { modules, ..Transaction::of(wanted, tool.notation(), installed) }
}

/// A transaction that can be made and undone.
struct Prepared {
    /// The packages that were installed then.
    installed: Vec<String>,
    /// The packages that an undo restores.
    start: Vec<String>,
    transaction: Transaction,
    /// Packages of `start` that the transaction replaces or removes.
    affected: Vec<String>,
    unkept: Unkept,
}

/// A node with its package manager, and what is kept for an undo.
struct Site<'a> {
    tool: &'a dyn Tool,
    cache: &'a UndoCache,
    system: &'a System,
}

impl Site<'_> {
    fn surrounded(&self) -> Surrounded<'_> {
        Surrounded { tool: self.tool, cache: self.cache, system: self.system }
    }

    /// Forgets an earlier attempt and records the present state. Returns the installed packages.
    fn observe(&self) -> Result<Vec<String>, ChangeError> {
        let installed = self.tool.installed()?;
        half_installed(self.tool, &installed)?;
        self.cache.remove()?;
        self.surrounded().record()?;
        // The files of an unconfigured package are there. Apply configures it before all else, so record it as
        // configured.
        let configured = |package: String| match package.strip_suffix(list::UNCONFIGURED) {
            Some(package) => package.to_owned(),
            None => package,
        };
        Ok(installed.into_iter().map(configured).collect())
    }

    fn apply(&self, wanted: &Packages, before: &[String]) -> Result<After, ChangeError> {
        let Self { tool, cache, .. } = *self;
        let unfinished = cache.unfinished()?.is_some();
        if let Some(after) = cache.after()?.filter(|_| !unfinished) {
            // The agent was interrupted before it recorded that.
            return Ok(after);
        }
        let budget = TimeBudget::for_transaction(wanted.timeout.get());
        tool.recover(before, Direction::Forward, unfinished, budget)?;
        if unfinished {
            self.finish(before, budget)?;
        }
        let (start, notes) = self.change(wanted, before, unfinished)?;
        let now = tool.installed()?;
        check(tool, wanted, &now)?;
        let Difference { missing, extra } = Difference::between(&start, &now);
        if unfinished {
            tool.remove_leftovers(&extra, budget);
        }
        if let Some(surroundings) = self.surrounded().recorded()? {
            self.surrounded().restore_holds(&surroundings, None, budget)?;
        }
        let kernels = if extra.is_empty() { Vec::new() } else { kernel::versions(&tool.files_of(&extra)?) };
        let changed = !missing.is_empty() || !extra.is_empty() || !wanted.modules.is_empty();
        let after = After { changed, added: extra, removed: missing, kernels, notes };
        cache.succeeded(&after)?;
        Ok(after)
    }

    /// Completes the packages that an interrupted transaction installed.
    fn finish(&self, before: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        let mut new = Difference::between(before, &self.tool.installed()?).extra;
        // An old package that is half installed is about to be replaced, as it was when the interruption came.
        new.retain(|p| {
            !p.strip_suffix(list::HALF_INSTALLED).is_some_and(|p| before.iter().any(|old| old == p))
        });
        self.tool.finish(&new, budget)
    }

    /// Installs and removes what is left. Returns the packages from before that, and notes for the admin.
    fn change(
        &self,
        wanted: &Packages,
        before: &[String],
        unfinished: bool,
    ) -> Result<(Vec<String>, Vec<String>), ChangeError> {
        let Self { tool, cache, .. } = *self;
        let limit = wanted.timeout.get();
        let Prepared { start, transaction, affected, unkept, .. } =
            self.prepare_undisturbed(wanted, before, unfinished, TimeBudget::new(limit))?;
        if transaction.is_empty() {
            return Ok((start, Vec::new()));
        }
        self.surrounded().record_configuration(&affected)?;
        cache.begin(&affected)?;
        let failed = tool.execute(&transaction, TimeBudget::for_transaction(limit))?;
        if !failed.is_empty() && !wanted.allows(Allowance::FailedScriptlets) {
            let problem = format!(
                "{}; packages are installed, but not all of their scriptlets succeeded: \
                 allow = [\"failed-scriptlets\"] accepts that",
                failed.join("; ")
            );
            return Err(ChangeError::state(transaction.describe(), problem));
        }
        let lost = (!unkept.packages.is_empty()).then(|| unkept.describe());
        let failed = failed.into_iter().map(|line| format!("a scriptlet failed: {line}"));
        Ok((start, failed.chain(lost).collect()))
    }

    /// Prepares the transaction, and once more whenever another process has changed packages meanwhile: the transaction
    /// would be made with an old list.
    fn prepare_undisturbed(
        &self,
        wanted: &Packages,
        before: &[String],
        unfinished: bool,
        budget: TimeBudget,
    ) -> Result<Prepared, ChangeError> {
        loop {
            self.tool.wait_for_lock(budget)?;
            let prepared = self.prepare(wanted, before, unfinished, budget)?;
            self.tool.wait_for_lock(budget)?;
            if self.tool.installed()? == prepared.installed {
                return Ok(prepared);
            }
            log::info("another process has changed packages, preparing the transaction again");
        }
    }

    /// Checks that the rest of the change can be made and undone, and keeps what an undo needs.
    fn prepare(
        &self,
        wanted: &Packages,
        before: &[String],
        unfinished: bool,
        budget: TimeBudget,
    ) -> Result<Prepared, ChangeError> {
        let Self { tool, cache, system } = *self;
        let installed = tool.installed()?;
        let transaction = transaction(tool, wanted, &installed);
        // A package that others have changed since the node was observed is not ours.
        let start = if unfinished { self.start(before)? } else { installed.clone() };
        // A record of an earlier attempt may be of packages that others have changed back.
        if !unfinished && (start != before || cache.start()?.is_some()) {
            cache.record_start(&start)?;
        }
        if transaction.is_empty() {
            let (affected, unkept) = (Vec::new(), Unkept::default());
            return Ok(Prepared { installed, start, transaction, affected, unkept });
        }
        if !transaction.modules.is_empty() {
            self.surrounded().record_configuration(&[])?;
            cache.begin(&[])?;
            tool.enable(&transaction.modules, TimeBudget::for_transaction(wanted.timeout.get()))?;
        }
        let Forecast { mut affected, space, .. } = tool.forecast(&transaction, &installed, budget)?;
        affected.retain(|package| start.contains(package));
        let old = tool.size_of_files(&affected, budget);
        space::check(space, old, &system.root, &tool.download_dir(), &cache.files_dir()?)?;
        let unkept = tool.fetch_to_cache(&affected, cache, budget)?;
        if !wanted.allows(Allowance::NoRollback) {
            refuse(&unkept)?;
        }
        Ok(Prepared { installed, start, transaction, affected, unkept })
    }

    /// Returns the packages from before the transaction: those that were observed, unless others changed them then.
    fn start(&self, before: &[String]) -> Result<Vec<String>, ChangeError> {
        Ok(self.cache.start()?.unwrap_or_else(|| before.to_vec()))
    }

    fn undo(&self, wanted: &Packages, observed: &[String]) -> Result<(), ChangeError> {
        let Self { tool, cache, .. } = *self;
        let before = &self.start(observed)?;
        let budget = TimeBudget::for_undo(wanted.timeout.get());
        let unfinished = cache.unfinished()?;
        let after = cache.after()?;
        // No transaction was begun, so do without the manager: it may be the very thing that is broken, or locked.
        let is_begun = unfinished.is_some() || after.is_some() || cache.touched()?.is_some();
        let is_recorded = self.surrounded().recorded()?.is_some();
        if !is_begun && (is_recorded || Difference::between(before, &tool.installed()?).is_empty()) {
            return Ok(());
        }
        tool.wait_for_lock(budget)?;
        let now = tool.installed()?;
        let difference = Difference::between(before, &now);
        let ours = match &after {
            Some(after) => difference.split(tool.notation(), before, &touched_by(after)).0,
            None => difference,
        };
        let target = ours.undone(&now);
        cache.touch(&[&ours.missing[..], &ours.extra[..]].concat())?;
        tool.recover(before, Direction::Back, unfinished.is_some(), budget)?;
        let affected = unfinished.unwrap_or_default();
        cache.begin(&affected)?;
        let installed_extra: Vec<String> =
            ours.extra.iter().filter(|package| !package.ends_with(']')).cloned().collect();
        self.surrounded().record_brought(&installed_extra)?;
        self.surrounded().restore_own_configuration()?;
        let failed = tool.restore(&target, &affected, cache, budget).map_err(|error| {
            const NOT_FOUND: [&str; 4] =
                ["No match for", "Unable to find a match", "was not found", "metadata"];
            let advice = "make a repository offer the versions of before again";
            NOT_FOUND.iter().fold(error, |error, cause| error.advise(cause, advice))
        })?;
        failed.iter().for_each(|line| log::warning(&format!("on the way back a scriptlet failed: {line}")));
        cache.add_failed(&failed)?;
        let touched = cache.touched()?.unwrap_or_default();
        self.check_old(before, &touched)?;
        self.surrounded().restore(&touched, after.as_ref(), budget)?;
        tool.remove_leftovers(&affected, budget);
        cache.end()
    }

    /// Proves that the packages that were touched are those of before.
    fn check_old(&self, before: &[String], touched: &[String]) -> Result<(), ChangeError> {
        let difference = Difference::between(before, &self.tool.installed()?);
        let (ours, _) = difference.split(self.tool.notation(), before, touched);
        match ours.is_empty() {
            true => Ok(()),
            false => Err(ChangeError::state("restoring the packages of before", ours.describe())),
        }
    }

    fn verify_old(&self, observed: &[String]) -> Result<Vec<String>, ChangeError> {
        let before = &self.start(observed)?;
        let after = self.cache.after()?;
        let mut touched = self.cache.touched()?.unwrap_or_default();
        touched.extend(after.iter().flat_map(touched_by));
        if self.surrounded().recorded()?.is_none() {
            // An older agent kept no record of what it touched.
            touched.extend(before.iter().cloned());
            touched.extend(self.tool.installed()?);
        }
        self.check_old(before, &touched)?;
        let others = Difference::between(observed, &self.tool.installed()?);
        let drift = self.surrounded().verify_old(after.as_ref())?;
        let packages = (!others.is_empty()).then(|| format!("packages: {}", others.describe()));
        let files = (!drift.is_empty()).then(|| format!("files: {}", list::few(&drift)));
        let parts: Vec<String> = packages.into_iter().chain(files).collect();
        let others = (!parts.is_empty())
            .then(|| format!("changed by others meanwhile, and left alone: {}", parts.join("; ")));
        let failed = self.cache.failed()?.into_iter();
        let failed = failed.map(|line| format!("on the way back a scriptlet failed: {line}"));
        Ok(others.into_iter().chain(failed).collect())
    }
}

fn touched_by(after: &After) -> Vec<String> {
    [&after.added[..], &after.removed[..]].concat()
}

/// Refuses packages of which an earlier transaction left one half installed.
fn half_installed(tool: &dyn Tool, installed: &[String]) -> Result<(), ChangeError> {
    let Some(half) = installed.iter().find(|package| package.ends_with(list::HALF_INSTALLED)) else {
        return Ok(());
    };
    let problem = format!(
        "{half}: {} was interrupted before this rollout, and that state cannot be restored; repair it first, \
         `dpkg --configure -a` and `apt-get --fix-broken install` mostly do",
        tool.name()
    );
    Err(ChangeError::state("listing the installed packages", problem))
}

/// Refuses a change that could not be undone.
fn refuse(unkept: &Unkept) -> Result<(), ChangeError> {
    if unkept.packages.is_empty() {
        return Ok(());
    }
    let problem = format!(
        "{}: nothing was changed, because it could not be undone; make a repository offer the installed version, or accept \
         that with allow = [\"no-rollback\"]",
        unkept.describe()
    );
    Err(ChangeError::state("keeping the packages that would be replaced", problem))
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

fn verify_with(tool: &dyn Tool, wanted: &Packages, after: &After, kernel: &str) -> Result<(), ChangeError> {
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
    check(tool, wanted, &now)?;
    let runs_it = after.kernels.is_empty() || after.kernels.iter().any(|version| version == kernel);
    if runs_it || wanted.allows(Allowance::OtherKernel) {
        return Ok(());
    }
    let problem = format!(
        "the node runs {kernel}, and the change installed {}: look at the boot loader's default; \
         allow = [\"other-kernel\"] accepts that",
        list::few(&after.kernels)
    );
    Err(ChangeError::state("verifying the kernel", problem))
}

#[cfg(test)]
mod tests;
