//! Doing what `step` decided. Each action is done to its end and says with which event; what it does is in the ledger,
//! on disk, before it is done.

use crate::changes;
use crate::config::Config;
use crate::daemon::boot_restored::PutBack;
use crate::daemon::orphans;
use crate::daemon::reboot;
use crate::daemon::verify;
use crate::failpoint;
use crate::log;
use crate::slurm::node::SlurmNode;
use crate::slurm::slurmd;
use crate::state::ledger_file::{LedgerError, LedgerFile};
use crate::verbs::rescue;
use rollout_core::agent::ledger::{After, Before, Ledger, Record};
use rollout_core::agent::phase::{Action, Event, Phase};
use rollout_core::protocol::order::{OrderKind, PlainReboot};
use rollout_core::rollout::image::Image;
use rollout_core::rollout::manifest::{Change, DesiredState, Reboot};
use rollout_core::slurm::reason;
use rollout_core::time_limit::TimeLimit;
use rollout_host::clock;
use rollout_host::run::Program;
use std::time::Duration;

/// So long after an order was settled, an agent that starts still sees to it that the node is back: the one before it
/// may have died in between.
const JUST_SETTLED: Duration = Duration::from_secs(600);

/// How long a site's program may take to set a node's features, in its firmware perhaps.
const FEATURES_LIMIT: Duration = Duration::from_secs(300);

/// OrderKind actions need besides the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    pub(crate) config: Config,
    pub(crate) file: LedgerFile,
    pub(crate) slurm: SlurmNode,
    pub(crate) boot_id: String,
    /// Where the controller's side says that it has put back what the node boots from.
    pub(crate) put_back: PutBack,
    /// Why we stand in for the installed agent, if we do: a node without a working agent is never proven.
    pub(crate) stands_in: Option<String>,
}

impl Executor {
    /// Does the action. The event says how it ended; none if nothing is left to do.
    ///
    /// # Errors
    /// If the ledger cannot be written. Then nothing further may be done.
    pub(crate) fn perform(&self, action: Action, ledger: &mut Ledger) -> Result<Option<Event>, LedgerError> {
        if let Action::Apply | Action::Verify | Action::Undo | Action::VerifyOld = action {
            orphans::see_out(longest_program_of(ledger));
        }
        Ok(match action {
            Action::Apply => Some(self.apply(ledger)?),
            Action::Reboot => {
                failpoint::here(ledger.phase.name());
                let limit = reboot_of(ledger).timeout.get();
                let waits = image_of(ledger).is_some_and(|image| image.via.reboots());
                let why = match self.set_features(ledger) {
                    Ok(()) if waits && ledger.phase == Phase::Rebooting => reboot::wait_for_it(limit),
                    Ok(()) if waits => {
                        // It also boots the node with what was put back, unless that was there all the time.
                        log::warning(&reboot::wait_for_it(limit));
                        reboot::reboot_within(limit)
                    }
                    Ok(()) => reboot::reboot_within(limit),
                    Err(why) => why,
                };
                self.failed(ledger, &why, Event::RebootFailed)
            }
            Action::Verify => {
                failpoint::here("verifying");
                match self.agent_works().and_then(|()| verify::staged(ledger)).and_then(|()| confirm(ledger))
                {
                    Ok(()) => {
                        failpoint::here("verified");
                        self.keep_drained(ledger)?;
                        Some(Event::Verified)
                    }
                    Err(why) => self.failed(ledger, &why, Event::VerifyFailed),
                }
            }
            Action::Undo => {
                let why = reason::going_back(ledger.error.as_deref());
                self.slurm.give_reason(ledger.subject(), &why);
                match self.undo(ledger) {
                    Ok(()) => {
                        failpoint::here("undone");
                        let as_before = changes_begun(ledger)
                            .all(|(change, record)| changes::of(change).runs_as_before(&record.before));
                        Some(Event::Undone { reboot_due: ledger.reboot_due(&self.boot_id, as_before) })
                    }
                    Err(why) => self.failed(ledger, &why, Event::UndoFailed),
                }
            }
            Action::VerifyOld => {
                failpoint::here("verifying-old");
                match self.agent_works().and_then(|()| verify::old(ledger)) {
                    Ok(()) => {
                        self.keep_drained(ledger)?;
                        Some(ledger.old_proven())
                    }
                    Err(why) => self.failed(ledger, &why, Event::OldNotProven),
                }
            }
            Action::Hold => {
                let why = reason::held(ledger.error.as_deref());
                log::error(&format!("{}: {why}", ledger.subject()));
                if let Err(error) = slurmd::stop(&self.config) {
                    log::error(&error.to_string());
                }
                self.slurm.give_reason(ledger.subject(), &why);
                None
            }
            Action::OpenGate => {
                // The ledger was settled before; this is what it means.
                if let Err(error) = changes::forget(&self.config.state_dir) {
                    log::warning(&error.to_string());
                }
                if self.config.is_volatile() {
                    self.file.admit(&self.boot_id)?;
                }
                rescue::remove_copy();
                // The others were before they were settled: slurmd may start from then on.
                if ledger.phase == Phase::Released {
                    self.keep_drained(ledger)?;
                }
                // Not at a later start of the agent: slurmd may be down because an admin stopped it, and what Slurm gave
                // up on may be another reboot, which never reached us.
                if clock::now_s().saturating_sub(ledger.since_s) >= JUST_SETTLED.as_secs() {
                    return Ok(None);
                }
                if let Err(error) = slurmd::start(&self.config) {
                    log::error(&error.to_string());
                }
                if resumes_if_late(ledger) && ledger.boot_id == self.boot_id {
                    self.slurm.ensure_taken_back();
                }
                None
            }
        })
    }

    /// A drain that somebody else set stays: Slurm would take it away with the reboot. Before slurmd may start, and on
    /// disk first, as the Reason is gone while Slurm is told.
    fn keep_drained(&self, ledger: &mut Ledger) -> Result<(), LedgerError> {
        let drained = self.slurm.drained_by_others(ledger.drained.as_deref());
        if ledger.drained != drained {
            ledger.drained.clone_from(&drained);
            self.file.write(ledger)?;
        }
        if let Some(reason) = drained {
            self.slurm.keep_drained(&reason);
        }
        Ok(())
    }

    /// Executor the features that a job wants to the site's program. Slurm's own plugins do that only where slurmd runs
    /// RebootProgram (`_rpc_reboot`, 24.05 and later).
    fn set_features(&self, ledger: &Ledger) -> Result<(), String> {
        let OrderKind::Reboot(PlainReboot { features: Some(features), .. }) = &ledger.order.kind else {
            return Ok(());
        };
        let Some(program) = &self.config.features_program else {
            log::info(&format!(
                "rebooting for a job with features {features}; no features_program is configured"
            ));
            return Ok(());
        };
        let set = Program::new(program, FEATURES_LIMIT).arg(features).run();
        set.map(drop).map_err(|error| format!("features {features} cannot be set: {error}"))
    }

    fn agent_works(&self) -> Result<(), String> {
        self.stands_in.clone().map_or(Ok(()), Err)
    }

    fn apply(&self, ledger: &mut Ledger) -> Result<Event, LedgerError> {
        let OrderKind::Apply(apply) = ledger.order.kind.clone() else { return Ok(Event::Applied) };
        failpoint::here("accepted");
        let stopped =
            slurmd::stop(&self.config).map_err(|error| format!("slurmd cannot be stopped: {error}"));
        failpoint::here("slurmd-stopped");
        let made = match stopped {
            Ok(()) => self.make_changes(&apply.desired, ledger)?,
            Err(why) => Err(why),
        };
        Ok(match made {
            Ok(()) => {
                failpoint::here("applied");
                Event::Applied
            }
            Err(why) => {
                log_and_keep(ledger, &why);
                Event::ApplyFailed
            }
        })
    }

    /// Makes the changes that are not made yet, in order.
    fn make_changes(
        &self,
        desired: &DesiredState,
        ledger: &mut Ledger,
    ) -> Result<Result<(), String>, LedgerError> {
        let volatile = self.config.is_volatile();
        if volatile && desired.image().is_none_or(|image| !image.via.is_on_controller()) {
            let why = "this node keeps nothing over a boot (ledger = \"volatile\"): change its image, on the controller's side";
            return Ok(Err(why.to_owned()));
        }
        for (index, change) in desired.changes.iter().enumerate() {
            let failed =
                |error: changes::ChangeError| format!("change {} ({}): {error}", index + 1, change.kind());
            let before = match ledger.records.get(index) {
                Some(Record { after: Some(_), .. }) => continue,
                Some(Record { before, after: None }) => before.clone(),
                None if volatile && !matches!(change, Change::Image(_)) => {
                    let after = After { changed: false, added: Vec::new(), removed: Vec::new() };
                    ledger.records.push(Record { before: Before::InImage, after: Some(after) });
                    continue;
                }
                None => {
                    let seen = changes::of(change)
                        .is_satisfied()
                        .and_then(|so| Ok((so, changes::of(change).observe()?)));
                    let (already_so, before) = match seen.map_err(failed) {
                        Ok(seen) => seen,
                        Err(why) => return Ok(Err(why)),
                    };
                    let after =
                        already_so.then(|| After { changed: false, added: Vec::new(), removed: Vec::new() });
                    ledger.records.push(Record { before: before.clone(), after });
                    self.file.write(ledger)?;
                    if already_so {
                        continue;
                    }
                    before
                }
            };
            failpoint::here(&format!("recorded-{}", index + 1));
            let kept = if let Change::Packages(_) = change { rescue::keep_copy() } else { Ok(()) };
            let made = kept
                .and_then(|()| changes::of(change).apply(&before, &self.config.state_dir).map_err(failed));
            failpoint::here(&format!("made-{}", index + 1));
            match (made, ledger.records.get_mut(index)) {
                (Ok(after), Some(record)) => record.after = Some(after),
                (Ok(_), None) => return Ok(Err("the ledger lost a change".to_owned())),
                (Err(why), _) => return Ok(Err(why)),
            }
            self.file.write(ledger)?;
        }
        Ok(Ok(()))
    }

    /// Undoes in reverse order, all of it each time: an undo of what is undone changes nothing.
    fn undo(&self, ledger: &Ledger) -> Result<(), String> {
        failpoint::here("undoing");
        slurmd::stop(&self.config).map_err(|error| format!("slurmd cannot be stopped: {error}"))?;
        for (index, (change, record)) in changes_begun(ledger).enumerate().rev() {
            if record.after.as_ref().is_some_and(|after| !after.changed) {
                continue;
            }
            changes::of(change)
                .undo(&record.before, &self.config.state_dir)
                .map_err(|error| format!("change {} cannot be undone: {error}", index + 1))?;
            failpoint::here(&format!("undone-{}", index + 1));
        }
        // Before the node boots: else it would boot once more what has failed.
        let on_controller = image_of(ledger).filter(|image| image.via.is_on_controller());
        match on_controller.map(|image| image.boot_timeout) {
            Some(limit) if !self.put_back.wait(&ledger.order.id, limit.get()) => Err(format!(
                "what the node boots from was not put back within {limit}: is slurm-rollout-reconcile.timer running on the \
                 controller?"
            )),
            _ => Ok(()),
        }
    }

    fn failed(&self, ledger: &mut Ledger, why: &str, event: Event) -> Option<Event> {
        log_and_keep(ledger, why);
        Some(event)
    }
}

/// Makes stay what is proven.
fn confirm(ledger: &Ledger) -> Result<(), String> {
    for (index, (change, _)) in changes_begun(ledger).enumerate() {
        changes::of(change)
            .confirm()
            .map_err(|error| format!("change {} does not stay: {error}", index + 1))?;
    }
    Ok(())
}

fn log_and_keep(ledger: &mut Ledger, why: &str) {
    log::error(&format!("{}: {why}", ledger.subject()));
    ledger.fail(why);
}

/// The changes that were begun, in order, each with what undo needs.
pub(crate) fn changes_begun(
    ledger: &Ledger,
) -> impl DoubleEndedIterator<Item = (&Change, &Record)> + ExactSizeIterator {
    let changes = match &ledger.order.kind {
        OrderKind::Apply(apply) => apply.desired.changes.as_slice(),
        _ => &[],
    };
    changes.iter().zip(&ledger.records)
}

/// How long a program may take that an earlier agent started for this order.
fn longest_program_of(ledger: &Ledger) -> Duration {
    let OrderKind::Apply(apply) = &ledger.order.kind else { return Duration::ZERO };
    let packages = apply.desired.changes.iter().filter_map(|change| match change {
        Change::Packages(packages) => Some(packages.timeout),
        Change::Symlink(_) | Change::Image(_) => None,
    });
    packages.chain([apply.desired.verify.timeout]).map(TimeLimit::get).max().unwrap_or_default()
}

fn image_of(ledger: &Ledger) -> Option<&Image> {
    match &ledger.order.kind {
        OrderKind::Apply(apply) => apply.desired.image(),
        _ => None,
    }
}

fn reboot_of(ledger: &Ledger) -> Reboot {
    match &ledger.order.kind {
        OrderKind::Apply(apply) => apply.desired.reboot.clone(),
        _ => Reboot::default(),
    }
}

fn resumes_if_late(ledger: &Ledger) -> bool {
    ledger.drained.is_none() && ledger.order.give_back().is_some_and(|back| back.resume_if_late)
}
