//! The effect that a change of packages would have, found out with dry runs.
//!
//! No package is installed, removed, downloaded or kept. The managers refresh their lists of packages for a dry run, as
//! they do for the change itself, and dnf accepts the keys of signed lists.

use super::run_manager::TimeBudget;
use super::space;
use super::tool::{Forecast, Transaction};
use super::{Site, UndoCache, half_installed, refuse, transaction};
use crate::changes::ChangeError;
use rollout_core::protocol::rehearsal::{ChangeReport, Step};
use rollout_core::rollout::manifest::{Allowance, Packages};
use std::time::Duration;

impl Site<'_> {
    /// Returns what [`Self::apply`] would do now, all within `limit`.
    pub(super) fn rehearse(&self, wanted: &Packages, limit: Duration) -> Result<ChangeReport, ChangeError> {
        let Self { tool, cache, system } = *self;
        let budget = TimeBudget::new(limit);
        tool.wait_for_lock(budget)?;
        let installed = tool.installed()?;
        half_installed(tool, &installed)?;
        let transaction = transaction(tool, wanted, &installed);
        let mut report = ChangeReport::default();
        if transaction.is_empty() {
            return Ok(report);
        }
        if !transaction.modules.is_empty() {
            // A dry run cannot enable a stream, and without it does not see the packages.
            report.steps = transaction.modules.iter().map(|module| Step::new(module, "enabled")).collect();
            report.notes.push("what it installs is known only once these modules are enabled".to_owned());
            return Ok(report);
        }
        let Forecast { affected, steps, space } = tool.forecast(&transaction, &installed, budget)?;
        report.steps = if steps.is_empty() { unnamed(&transaction) } else { steps };
        if report.steps.is_empty() {
            return Ok(report);
        }
        let old = tool.size_of_files(&affected, budget);
        let demands = space::demands(space, old, &system.root, &tool.download_dir(), cache.directory());
        report.trouble.extend(space::shortage(&demands));
        report.disk = space::disks(&demands);
        let unkept = tool.not_offered(&affected, budget)?;
        match refuse(&unkept) {
            Err(error) if !wanted.allows(Allowance::NoRollback) => report.trouble.push(error.to_string()),
            Err(_) => report.notes.push(format!("no way back: {}", unkept.describe())),
            Ok(()) => {}
        }
        Ok(report)
    }
}

/// Returns the steps of a transaction of which the manager's own words name none. If only the manager can tell which
/// packages are meant, there is nothing to do then.
fn unnamed(transaction: &Transaction) -> Vec<Step> {
    let install = transaction.install.iter().filter(|spec| !super::spec::needs_manager(spec));
    let install = install.map(|spec| Step::new(spec, "installed"));
    let remove = transaction.remove.iter();
    let remove = remove.map(|package| Step { what: package.clone(), ..Step::new("", "removed") });
    install.chain(remove).collect()
}

/// Rehearses the change on this node.
pub(super) fn on_node(
    wanted: &Packages,
    state_dir: &std::path::Path,
    limit: Duration,
) -> Result<ChangeReport, ChangeError> {
    let (_, tool) = super::detect::tool(wanted, wanted.manager)?;
    let (cache, system) = (UndoCache::in_dir(state_dir), super::System::of_node()?);
    Site { tool: &*tool, cache: &cache, system: &system }.rehearse(wanted, limit.min(wanted.timeout.get()))
}
