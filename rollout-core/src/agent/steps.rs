//! Steps of the actions, as the ledger tells them: which change is next, and which ones are verified or undone.
//!
//! The executor follows these steps and writes the ledger after each `record_…`. A restarted agent asks again and gets
//! the step at which it was interrupted.

use crate::agent::ledger::Ledger;
use crate::agent::phase::Phase;
use crate::agent::record::{After, Before, Record};
use crate::protocol::order::{OrderKind, PlainReboot};
use crate::rollout::image::Image;
use crate::rollout::kernel_args::CONFIGURE_LIMIT;
use crate::rollout::manifest::{Change, DesiredState, Reboot, Verify};
use crate::time_limit::TimeLimit;
use std::time::Duration;

/// An agent that starts later than this after an order was settled leaves slurmd and Slurm alone. Until then it makes
/// sure that the node comes back, because its predecessor may have died in between.
const JUST_SETTLED: Duration = Duration::from_secs(600);

/// A change that was begun, with its record. Numbers start at 1, as in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BegunChange<'a> {
    pub number: usize,
    pub change: &'a Change,
    pub record: &'a Record,
}

/// The next step of applying an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextChange<'a> {
    /// The change comes with the image: call [`Ledger::record_in_image`].
    InImage,
    /// Look at the node, and call [`Ledger::record_before`].
    Observe { number: usize, change: &'a Change },
    /// Make the change, again if it was interrupted, and call [`Ledger::record_after`].
    Make { number: usize, change: &'a Change, before: &'a Before },
}

/// The party that reboots the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebootBy {
    Agent,
    /// The boot service reboots a node whose boot source it changed.
    BootService,
    /// The boot service reboots the node for the restored boot source as well, unless nothing had changed. The agent
    /// does so if the service does not.
    BootServiceThenAgent,
}

/// Steps of giving a node back once its order is settled and its drain is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Record that slurmd may run in this boot: the ledger does not survive one.
    pub admit: bool,
    /// Start slurmd. Not at a later start of the agent: an admin may have stopped it.
    pub start_slurmd: bool,
    /// Resume the node if Slurm has given up on it. Not after a later boot: Slurm may have given up on a different
    /// reboot, of which the agent was never told.
    pub resume_if_late: bool,
}

impl Ledger {
    /// Returns the desired state of the order. `None` for a plain reboot.
    #[must_use]
    pub fn desired(&self) -> Option<&DesiredState> {
        match &self.order.kind {
            OrderKind::Apply(apply) => Some(&apply.desired),
            _ => None,
        }
    }

    /// Returns the changes of the order, begun or not.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        self.desired().map_or(&[], |desired| desired.changes.as_slice())
    }

    /// Checks that its changes can be made on this node, in this boot.
    ///
    /// # Errors
    /// Returns the reason if the node would lose them in the boot, or if the image from before is unknown: a node that
    /// has booted since may run the new one already.
    pub fn check_applicable(&self, volatile: bool, boot_id: &str) -> Result<(), String> {
        if self.desired().is_none() {
            return Ok(());
        }
        if let Some(desired) = self.desired().filter(|_| volatile) {
            check_volatile(desired)?;
        }
        if self.has_unrecorded_image() && self.ordered_running.is_none() && boot_id != self.ordered_boot_id {
            return Err("the node booted before the image that it was running was recorded".to_owned());
        }
        Ok(())
    }

    /// Returns the next step of applying the order. `None` once all changes are made.
    #[must_use]
    pub fn next_change(&self, volatile: bool) -> Option<NextChange<'_>> {
        let made = self.records.iter().take_while(|record| record.after.is_some()).count();
        let change = self.changes().get(made)?;
        let number = made + 1;
        Some(match (self.records.get(made), change) {
            (Some(Record { before, .. }), _) => NextChange::Make { number, change, before },
            (None, Change::Packages(_) | Change::Symlink(_) | Change::KernelArgs(_)) if volatile => {
                NextChange::InImage
            }
            (None, _) => NextChange::Observe { number, change },
        })
    }

    /// Records that the next change comes with the image.
    pub fn record_in_image(&mut self) {
        self.records.push(Record::unchanged(Before::InImage));
    }

    /// Records the state before the next change. `already_made` means that there is nothing to do.
    pub fn record_before(&mut self, mut before: Before, already_made: bool) {
        if let (Before::Image { running, .. }, Some(ordered)) = (&mut before, &self.ordered_running) {
            running.clone_from(ordered);
        }
        self.records.push(match already_made {
            true => Record::unchanged(before),
            false => Record { before, after: None },
        });
    }

    /// Records the state after the change that was being made.
    pub fn record_after(&mut self, after: After) {
        self.note(&after.notes);
        if let Some(record) = self.records.iter_mut().find(|record| record.after.is_none()) {
            record.after = Some(after);
        }
    }

    /// Returns the changes that were begun, in order.
    pub fn begun_changes(&self) -> impl DoubleEndedIterator<Item = BegunChange<'_>> + ExactSizeIterator {
        let begun = self.changes().iter().zip(&self.records).enumerate();
        begun.map(|(index, (change, record))| BegunChange { number: index + 1, change, record })
    }

    /// Returns the changes that were made on the node and not with its image. They may have to prepare the reboot, and
    /// to make themselves permanent after it.
    pub fn changes_to_prepare(&self) -> impl Iterator<Item = BegunChange<'_>> {
        self.begun_changes().filter(|begun| begun.record.before != Before::InImage)
    }

    /// Returns the changes to undo, in this order. It is all of them after an interruption as well: undoing twice
    /// changes nothing.
    pub fn changes_to_undo(&self) -> impl Iterator<Item = BegunChange<'_>> {
        self.begun_changes().rev().filter(|begun| begun.record.may_have_changed())
    }

    /// Returns the changes that may take another boot until they can be proven.
    pub fn changes_with_boots_left(&self) -> impl Iterator<Item = BegunChange<'_>> {
        let boots = self.further_boots + 1;
        let changed =
            |begun: &BegunChange<'_>| begun.record.after.as_ref().is_some_and(|after| after.changed);
        self.begun_changes().filter(move |begun| changed(begun) && boots < begun.change.boots())
    }

    /// Records that these changes, by their numbers, are to be made once more before another boot.
    pub fn make_again(&mut self, numbers: &[usize]) {
        self.further_boots += 1;
        for (index, record) in self.records.iter_mut().enumerate() {
            if numbers.contains(&(index + 1)) {
                record.after = None;
            }
        }
    }

    /// Returns the changes to prove before the node is given back.
    ///
    /// # Errors
    /// Returns the reason if not all of them were made.
    pub fn changes_to_prove(&self) -> Result<Vec<(BegunChange<'_>, &After)>, String> {
        let changes = self.changes().len();
        if self.records.len() != changes && self.desired().is_some() {
            return Err(format!("{} of {changes} changes are in the ledger", self.records.len()));
        }
        let finished = |begun: BegunChange<'_>| begun.record.after.is_none().then_some(begun.number);
        if let Some(number) = self.begun_changes().find_map(finished) {
            return Err(format!("change {number} was not finished"));
        }
        Ok(self.begun_changes().filter_map(|begun| Some((begun, begun.record.after.as_ref()?))).collect())
    }

    /// Returns the changes whose undoing is proven before the node is given back.
    pub fn changes_to_prove_undone(&self) -> impl Iterator<Item = BegunChange<'_>> {
        self.begun_changes().filter(|begun| begun.record.before != Before::InImage)
    }

    /// Returns the time within which the controller must restore the boot source during an undo. `None` if the
    /// controller has not changed it. The node must not boot before, since it would boot the failed image once more.
    #[must_use]
    pub fn boot_source_timeout(&self) -> Option<TimeLimit> {
        self.image_on_controller().map(|image| image.boot_timeout)
    }

    /// Returns the party that reboots the node in this phase.
    #[must_use]
    pub fn reboot_by(&self) -> RebootBy {
        match self.image_on_controller().is_some_and(|image| image.via.reboots()) {
            true if self.phase == Phase::Rebooting => RebootBy::BootService,
            true => RebootBy::BootServiceThenAgent,
            false => RebootBy::Agent,
        }
    }

    /// Returns the time limit of one reboot.
    #[must_use]
    pub fn reboot_timeout(&self) -> TimeLimit {
        self.desired().map_or_else(|| Reboot::default().timeout, |desired| desired.reboot.timeout)
    }

    /// Returns the site's program that reboots the node into what was staged, with its arguments. Empty if there is
    /// none, and on the way back.
    #[must_use]
    pub fn reboot_command(&self) -> &[String] {
        let desired = self.desired().filter(|_| self.phase == Phase::Rebooting);
        desired.map_or(&[], |desired| &desired.reboot.command)
    }

    /// Returns the time for which the proof of a change waits for what shows late.
    #[must_use]
    pub fn proof_timeout(&self) -> TimeLimit {
        self.desired().map_or_else(|| Verify::default().timeout, |desired| desired.verify.timeout)
    }

    /// Returns the time limit for Slurm to accept the node.
    #[must_use]
    pub fn registration_timeout(&self) -> TimeLimit {
        self.desired().map_or_else(
            || Verify::default().registration_timeout,
            |desired| desired.verify.registration_timeout,
        )
    }

    /// Returns the features that a job wants the node to boot with.
    #[must_use]
    pub fn features(&self) -> Option<&str> {
        match &self.order.kind {
            OrderKind::Reboot(PlainReboot { features, .. }) => features.as_deref(),
            _ => None,
        }
    }

    /// Returns the time limit of the longest program that an earlier agent may have started for this order.
    #[must_use]
    pub fn longest_program(&self) -> Duration {
        let Some(desired) = self.desired() else { return Duration::ZERO };
        let changes = desired.changes.iter().filter_map(|change| match change {
            Change::Packages(packages) => Some(packages.timeout.get()),
            Change::KernelArgs(_) => Some(CONFIGURE_LIMIT),
            Change::Command(command) => Some(command.timeout.get()),
            Change::Symlink(_) | Change::Image(_) => None,
        });
        changes.chain([desired.verify.timeout.get()]).max().unwrap_or_default()
    }

    /// Returns whether the drain has to be kept while the gate opens, and recorded as kept then. A proof keeps it
    /// before the order is settled, because slurmd may start from then on; a release is settled at once.
    #[must_use]
    pub fn keeps_drain_last(&self) -> bool {
        self.phase == Phase::Released && !self.drain_kept
    }

    /// Returns the steps of giving the node back. The agent that settled the order takes them whatever the clock shows,
    /// which may be set right after a boot.
    #[must_use]
    pub fn opening(&self, volatile: bool, boot_id: &str, now_s: u64) -> Opening {
        let settled_by_this_agent = self.tries <= 1;
        let recently = now_s.saturating_sub(self.since_s) < JUST_SETTLED.as_secs();
        let just_settled = settled_by_this_agent || recently;
        let returns_by_itself = self.order.give_back().is_some_and(|back| back.resume_if_late);
        Opening {
            admit: volatile,
            start_slurmd: just_settled,
            resume_if_late: just_settled
                && returns_by_itself
                && self.drained.is_none()
                && self.boot_id == boot_id,
        }
    }

    /// Returns whether the controller changes its image and the image from before is not in the ledger.
    pub(crate) fn has_unrecorded_image(&self) -> bool {
        let recorded = |begun: BegunChange<'_>| matches!(begun.change, Change::Image(_));
        self.image_on_controller().is_some() && !self.begun_changes().any(recorded)
    }

    fn image_on_controller(&self) -> Option<&Image> {
        self.desired()?.image().filter(|image| image.via.is_on_controller())
    }
}

/// Checks that a node that keeps nothing over a boot can be brought to this state.
///
/// # Errors
/// Returns the reason if the node would lose the changes in the boot.
pub fn check_volatile(desired: &DesiredState) -> Result<(), String> {
    const KEEPS_NOTHING: &str = "this node keeps nothing over a boot (ledger = \"volatile\")";
    if let Some(command) = desired.commands().next() {
        return Err(format!(
            "{KEEPS_NOTHING}: the version of {} from before would be forgotten; give the agent a state directory on a disk",
            command.name
        ));
    }
    match desired.image().filter(|image| image.via.is_on_controller()) {
        Some(_) => Ok(()),
        None => Err(format!("{KEEPS_NOTHING}: change its image, on the controller's side")),
    }
}

#[cfg(test)]
mod tests;
