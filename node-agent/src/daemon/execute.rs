//! The actions. Each one is carried out to its end and reports its outcome; the ledger is on disk before anything
//! happens that it tells of.

mod register;

use crate::daemon::boot_restored::BootRestored;
use crate::daemon::rehearse::rehearse;
use crate::daemon::tools::Tools;
use crate::failpoint;
use crate::log;
use crate::state::StateError;
use crate::state::ledger_file::LedgerFile;
use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::phase::Action;
use rollout_core::agent::record::Before;
use rollout_core::agent::registration::Unit;
use rollout_core::agent::steps::{BegunChange, NextChange, RebootBy};
use rollout_core::agent::{Identity, Outcome};
use rollout_core::protocol::rehearsal::Report;
use rollout_core::rollout::manifest::{Change, DesiredState};
use rollout_core::slurm::reason;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Carries out actions.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    tools: Arc<dyn Tools>,
    file: LedgerFile,
    identity: Identity,
    /// The reason for standing in for the installed agent, if this is a copy of it.
    stands_in: Option<String>,
}

/// Early end of an action.
#[derive(Debug)]
enum Stop {
    /// The action failed, and the order continues with that.
    Failed(String),
    /// The ledger cannot be written. Nothing further may be done.
    Ledger(StateError),
}

impl From<String> for Stop {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        Self::Ledger(error)
    }
}

impl Executor {
    pub(crate) fn new(
        tools: Arc<dyn Tools>,
        state_dir: &Path,
        identity: Identity,
        stands_in: Option<String>,
    ) -> Self {
        Self { tools, file: LedgerFile::in_dir(state_dir), identity, stands_in }
    }

    /// Carries out an action.
    ///
    /// # Errors
    /// Returns the reason if the ledger cannot be written. Nothing further may be done then.
    pub(crate) fn perform(
        &self,
        action: Action,
        ledger: &mut Ledger,
        boot_restored: &BootRestored,
    ) -> Result<Outcome, StateError> {
        if let Action::Apply | Action::Verify | Action::Undo | Action::VerifyOld = action {
            self.tools.wait_for_orphans(ledger.longest_program());
        }
        if let Action::Verify | Action::VerifyOld = action {
            self.stop_early_slurmd(ledger)?;
        }
        let outcome = match action {
            Action::Apply => self.apply(ledger),
            Action::Reboot => Ok(Outcome::Failed(self.reboot(ledger))),
            Action::Verify => self.verify(ledger),
            Action::Register => self.register(ledger),
            Action::Undo => self.undo(ledger, boot_restored),
            Action::VerifyOld => self.verify_old(ledger),
            Action::Hold => Ok(self.hold(ledger)),
            Action::OpenGate => self.open_gate(ledger),
        };
        match outcome {
            Ok(Outcome::Failed(why)) | Err(Stop::Failed(why)) => {
                log::error(&format!("{}: {why}", ledger.subject()));
                Ok(Outcome::Failed(why))
            }
            Ok(outcome) => Ok(outcome),
            Err(Stop::Ledger(error)) => Err(error),
        }
    }

    /// Returns what an order to apply this would do now. Changes nothing.
    pub(crate) fn rehearse(&self, desired: &DesiredState, stop: &AtomicBool) -> Report {
        match self.check_agent() {
            Ok(()) => rehearse(&*self.tools, desired, self.identity.volatile, stop),
            Err(why) => Report { stopped: Some(why), ..Report::default() },
        }
    }

    /// Sets the Reason of the node whose order cannot go on.
    pub(crate) fn give_reason(&self, ledger: &Ledger, what: &str) {
        self.tools.give_reason(ledger.subject(), what);
    }

    /// Makes the changes that are not made yet, in order.
    fn apply(&self, ledger: &mut Ledger) -> Result<Outcome, Stop> {
        if ledger.desired().is_none() {
            return Ok(Outcome::Applied);
        }
        failpoint::here("accepted");
        if ledger.slurmd.is_none() {
            let (slurmd, _) = self.tools.slurmd()?;
            ledger.slurmd = Some(slurmd);
            self.file.write(ledger)?;
        }
        if ledger.records.is_empty() && ledger.boot_default.is_none() {
            ledger.boot_default = self.tools.boot_default();
            if ledger.boot_default.is_some() {
                self.file.write(ledger)?;
            }
        }
        self.stop_slurmd()?;
        failpoint::here("slurmd-stopped");
        let Identity { volatile, boot_id, .. } = &self.identity;
        let volatile = *volatile;
        ledger.check_applicable(volatile, boot_id)?;
        while let Some(next) = ledger.next_change(volatile) {
            match next {
                NextChange::InImage => ledger.record_in_image(),
                NextChange::Observe { number, change } => {
                    let boot = ledger.boot_default.as_ref();
                    let observed = self.tools.observe(change, boot).map_err(failed(number, change));
                    let (before, already_made) = observed?;
                    ledger.record_before(before, already_made);
                    self.file.write(ledger)?;
                }
                NextChange::Make { number, change, before } => {
                    failpoint::here(&format!("recorded-{number}"));
                    if let Change::Packages(_) = change {
                        self.tools.keep_rescue_copy()?;
                    }
                    let made = self.tools.make(change, before).map_err(failed(number, change));
                    failpoint::here(&format!("made-{number}"));
                    let made = made?;
                    for note in &made.notes {
                        log::warning(&format!("change {number} ({}): {note}", change.kind()));
                    }
                    ledger.record_after(made);
                    self.file.write(ledger)?;
                }
            }
        }
        for begun in ledger.changes_to_prepare() {
            let prepared = self.tools.before_reboot(begun.change, &begun.record.before);
            prepared.map_err(failed(begun.number, begun.change))?;
        }
        failpoint::here("applied");
        Ok(Outcome::Applied)
    }

    /// Reboots the node. Returns only if that fails.
    fn reboot(&self, ledger: &Ledger) -> String {
        failpoint::here(ledger.phase.name());
        if let Some(features) = ledger.features() {
            if let Err(why) = self.tools.set_features(features) {
                return why;
            }
        }
        let limit = ledger.reboot_timeout().get();
        match ledger.reboot_by() {
            RebootBy::Agent => self.tools.reboot(ledger.reboot_command(), limit),
            RebootBy::BootService => self.tools.wait_for_reboot(limit),
            RebootBy::BootServiceThenAgent => {
                log::warning(&self.tools.wait_for_reboot(limit));
                self.tools.reboot(&[], limit)
            }
        }
    }

    /// Proves that the node is in the staged state, and makes that last.
    fn verify(&self, ledger: &mut Ledger) -> Result<Outcome, Stop> {
        failpoint::here("verifying");
        self.check_agent()?;
        let due = self.changes_that_need_another_boot(ledger)?;
        if !due.is_empty() {
            ledger.make_again(&due);
            return Ok(Outcome::AnotherBootDue);
        }
        let limit = ledger.proof_timeout().get();
        for (begun, after) in ledger.changes_to_prove()? {
            let verified = match &begun.record.before {
                Before::InImage => self.tools.verify_in_image(begun.change),
                before => self.tools.verify(begun.change, before, after, limit),
            };
            verified.map_err(not_staged(begun.number))?;
        }
        if let Some(desired) = ledger.desired() {
            self.tools.verify_node(&desired.verify)?;
        }
        for begun in ledger.changes_to_prepare() {
            let confirmed = self.tools.confirm(begun.change, &begun.record.before);
            confirmed.map_err(|why| format!("change {} does not stay: {why}", begun.number))?;
        }
        failpoint::here("verified");
        if ledger.slurmd.is_none() && ledger.desired().is_some() {
            // A node without a ledger cannot know it from before. A start that waits for the gate counts.
            ledger.slurmd = Some(self.tools.slurmd()?.0);
        }
        self.keep_drain(ledger)?;
        if ledger.must_register() {
            ledger.before_start = self.look_before_start()?;
        }
        Ok(Outcome::Verified)
    }

    /// Returns the numbers of the changes that this boot has not brought, and that another one may bring.
    fn changes_that_need_another_boot(&self, ledger: &Ledger) -> Result<Vec<usize>, Stop> {
        let limit = ledger.proof_timeout().get();
        let mut due = Vec::new();
        for BegunChange { number, change, .. } in ledger.changes_with_boots_left() {
            if self.tools.is_another_boot_due(change, limit).map_err(not_staged(number))? {
                log::info(&format!("{}: change {number} needs another boot", ledger.subject()));
                due.push(number);
            }
        }
        Ok(due)
    }

    /// Undoes the changes in reverse order.
    fn undo(&self, ledger: &Ledger, boot_restored: &BootRestored) -> Result<Outcome, Stop> {
        self.tools.give_reason(ledger.subject(), &reason::going_back(ledger.error.as_deref()));
        failpoint::here("undoing");
        self.stop_slurmd()?;
        for begun in ledger.changes_to_undo() {
            let number = begun.number;
            let undone = self.tools.undo(begun.change, &begun.record.before);
            undone.map_err(|why| format!("change {number} cannot be undone: {why}"))?;
            failpoint::here(&format!("undone-{number}"));
        }
        if let Some(limit) = ledger.boot_source_timeout() {
            if !boot_restored.wait(limit.get()) {
                return Err(Stop::Failed(format!(
                    "what the node boots from was not put back within {limit}: is slurm-rollout-reconcile.timer running on \
                     the controller?"
                )));
            }
        }
        failpoint::here("undone");
        let runs_as_before =
            ledger.begun_changes().all(|begun| self.tools.runs_as_before(begun.change, &begun.record.before));
        Ok(Outcome::Undone { runs_as_before })
    }

    /// Proves that the node is in its state from before the order.
    fn verify_old(&self, ledger: &mut Ledger) -> Result<Outcome, Stop> {
        failpoint::here("verifying-old");
        self.check_agent()?;
        let limit = ledger.proof_timeout().get();
        let mut drift = Vec::new();
        for begun in ledger.changes_to_prove_undone() {
            let verified = self.tools.verify_old(begun.change, &begun.record.before, limit);
            drift.extend(verified.map_err(|why| format!("change {} is not undone: {why}", begun.number))?);
        }
        for note in &drift {
            log::warning(&format!("{}: {note}", ledger.subject()));
        }
        ledger.note(&drift);
        self.keep_drain(ledger)?;
        Ok(Outcome::OldVerified)
    }

    /// Keeps slurmd down and gives Slurm the reason.
    fn hold(&self, ledger: &Ledger) -> Outcome {
        let why = reason::held(ledger.error.as_deref());
        log::error(&format!("{}: {why}", ledger.subject()));
        if let Err(error) = self.tools.stop_slurmd() {
            log::error(&error);
        }
        self.tools.give_reason(ledger.subject(), &why);
        Outcome::Ended
    }

    /// Gives the node back. Its ledger was settled before.
    fn open_gate(&self, ledger: &mut Ledger) -> Result<Outcome, Stop> {
        self.tools.clean_up();
        let now_s = self.tools.now_s();
        if ledger.keeps_drain_last() {
            self.keep_drain(ledger)?;
            ledger.drain_kept = true;
            self.file.write(ledger)?;
        }
        let Identity { volatile, boot_id, .. } = &self.identity;
        // As of the beginning: keeping the drain may have taken long.
        let opening = ledger.opening(*volatile, boot_id, now_s);
        if opening.admit {
            self.file.admit(boot_id)?;
        }
        if opening.start_slurmd {
            self.start_slurmd(ledger);
        }
        if opening.resume_if_late {
            self.tools.ensure_taken_back();
        }
        Ok(Outcome::Ended)
    }

    /// Keeps a drain that somebody else set, which Slurm would remove with the reboot. The ledger comes first, because
    /// the Reason is gone while Slurm is being told.
    fn keep_drain(&self, ledger: &mut Ledger) -> Result<(), Stop> {
        let drained = self.tools.drained_by_others(ledger.drained.as_deref())?;
        if ledger.settle_drain(drained.as_deref()) {
            self.file.write(ledger)?;
        }
        if let Some(reason) = drained {
            self.tools.keep_drained(&reason)?;
        }
        Ok(())
    }

    /// Stops a slurmd that runs before the node is proven: the gate did not hold it. A drain alone would let jobs begin
    /// that Slurm has already sent, and Slurm removes it when it counts the boot. Jobs that began meanwhile go on,
    /// because slurmd's unit has KillMode=process, and a proven node's next slurmd finds them again.
    fn stop_early_slurmd(&self, ledger: &mut Ledger) -> Result<(), StateError> {
        if !self.tools.slurmd().is_ok_and(|(_, unit)| unit == Unit::Runs) {
            return Ok(());
        }
        let what = "slurmd was running before the node was proven, and was stopped: does slurm-rollout-gate.service hold \
                    it? (`slurm-rollout-agent doctor`)";
        log::error(&format!("{}: {what}", ledger.subject()));
        ledger.note(&[what.to_owned()]);
        self.file.write(ledger)?;
        if let Err(error) = self.tools.stop_slurmd() {
            log::error(&error);
        }
        self.tools.give_reason(ledger.subject(), what);
        Ok(())
    }

    fn start_slurmd(&self, ledger: &Ledger) {
        if let Err(error) = self.tools.start_slurmd(ledger.slurmd) {
            log::error(&format!("slurmd cannot be started: {error}"));
        }
    }

    fn stop_slurmd(&self) -> Result<(), String> {
        self.tools.stop_slurmd().map_err(|error| format!("slurmd cannot be stopped: {error}"))
    }

    /// Fails if this is a copy that stands in for the installed agent: a node without a working agent is never proven.
    fn check_agent(&self) -> Result<(), String> {
        self.stands_in.clone().map_or(Ok(()), Err)
    }
}

fn not_staged(number: usize) -> impl FnOnce(String) -> String {
    move |why| format!("change {number} is not what was staged: {why}")
}

fn failed(number: usize, change: &Change) -> impl FnOnce(String) -> String {
    let kind = change.kind();
    move |why| format!("change {number} ({kind}): {why}")
}

#[cfg(test)]
mod tests;
