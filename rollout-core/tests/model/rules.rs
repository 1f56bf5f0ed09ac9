//! The rules under which a world is explored: those of rollout-core, those from before the redesign, or one of
//! rollout-core's with a part left out.

use crate::controller::Outcome;
use crate::old_rules;
use rollout_core::controller::follow_up::{FollowUp, due, may_be_expected, nodes};
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::view::View;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, NodeRecords};
use std::collections::BTreeSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// The real ones.
    New,
    /// The ones from before the controller's decisions were made in one view of the cluster's state.
    Old,
    Mutant(Mutation),
}

/// A part of the rules that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The follow-up takes every node for one that has not booted since its boot source was changed.
    BootIdsIgnored,
    /// The restoration of an earlier order's boot source counts for the present one.
    LateRestorationsCount,
    /// Boot sources are restored without a claim.
    RestoringWithoutClaim,
    /// A node gets an order although its boot source belongs to an earlier one.
    BootOwnerIgnored,
    /// The order under way is recorded as the one that was sent.
    AnswersWithoutOrder,
    /// A node that awaits instructions gets the one to open its gate if no step is due.
    GateOpensByDefault,
    /// A claim to send an order is not respected.
    ClaimsIgnored,
    /// The boot source of a node is changed while its agent awaits instructions.
    ChangedWhileAwaiting,
    /// A rollout is closed although Slurm still waits for the boot of one of its nodes.
    ClosedDuringHandOver,
}

impl Rules {
    fn has(self, mutation: Mutation) -> bool {
        self == Self::Mutant(mutation)
    }

    /// Returns the steps that are due for all nodes, as one look of the follow-up finds them.
    pub fn follow_up(self, mut view: View) -> Vec<(String, FollowUp)> {
        if self == Self::Old {
            return old_rules::follow_up(&view);
        }
        if self.has(Mutation::BootIdsIgnored) {
            for rollout in &mut view.snapshot.rollouts {
                for (name, record) in &mut rollout.records {
                    let agent = view.agents.get(name).and_then(|agent| agent.as_ref().ok());
                    if let (Some(change), Some(agent)) = (record.boot_change.as_mut(), agent) {
                        change.boot_id.clone_from(&agent.boot_id);
                    }
                }
            }
        }
        let known = nodes(&view.snapshot, view.now_ms, false);
        let others = view.slurm.values().filter(|info| may_be_expected(info)).map(|info| info.name.clone());
        let all: BTreeSet<String> = known.iter().map(str::to_owned).chain(others).collect();
        let mut steps = Vec::new();
        for name in all {
            let mut due = due(view.node(&name));
            if due.is_empty() && self.has(Mutation::GateOpensByDefault) {
                due.extend(old_rules::plain_instruction(&view, &name));
            }
            steps.extend(due.into_iter().map(|step| (name.clone(), step)));
        }
        steps
    }

    /// Returns the snapshot by which nodes are handed over and lost orders are found.
    pub fn snapshot(self, snapshot: &Snapshot) -> Snapshot {
        let mut snapshot = snapshot.clone();
        if self == Self::Old || self.has(Mutation::BootOwnerIgnored) {
            for rollout in &mut snapshot.rollouts {
                rollout.records.values_mut().for_each(|record| record.boot_change = None);
            }
        }
        if self.has(Mutation::ClaimsIgnored) {
            use rollout_core::rollout::journal::Progress;
            let all = snapshot.rollouts.iter_mut().flat_map(|rollout| rollout.records.values_mut());
            for record in all.chain(snapshot.plain_reboots.values_mut()) {
                if let Progress::Ordering { until_ms } = &mut record.progress {
                    *until_ms = 0;
                }
            }
        }
        snapshot
    }

    /// Returns the outcome of an order by the agent's answer: `rollout-control/src/hand_over/send.rs`.
    pub fn outcome(self, answer: Answer, sent: &OrderId, of_rollout: bool) -> Outcome {
        match answer {
            Answer::Accepted { volatile, .. } => Outcome::Ordered { volatile },
            Answer::UnderWay { .. } if self == Self::Old || self.has(Mutation::AnswersWithoutOrder) => {
                Outcome::Ordered { volatile: false }
            }
            Answer::UnderWay { order, volatile, .. } if order.as_ref() == Some(sent) => {
                Outcome::Ordered { volatile }
            }
            Answer::UnderWay { order, volatile, .. } if of_rollout => {
                Outcome::UnderWay { under_way: order, volatile }
            }
            Answer::UnderWay { order, .. } => Outcome::Covered { by: order },
            Answer::Refused { why, .. } => Outcome::Refused(why),
        }
    }

    pub fn restores_without_claim(self) -> bool {
        self == Self::Old || self.has(Mutation::RestoringWithoutClaim)
    }

    pub fn changes_while_awaiting(self) -> bool {
        self == Self::Old || self.has(Mutation::ChangedWhileAwaiting)
    }

    pub fn closes_at_once(self) -> bool {
        self.has(Mutation::ClosedDuringHandOver)
    }

    /// Returns an entry as it counts in a journal with these records.
    pub fn written(self, entry: Entry, records: &NodeRecords) -> Entry {
        if self != Self::Old && !self.has(Mutation::LateRestorationsCount) {
            return entry;
        }
        match entry {
            Entry::BootRestored { nodes, order, why } => {
                let record = nodes.iter().next().and_then(|name| records.get(name));
                let of = record.and_then(|record| Some(record.boot_change.as_ref()?.order.clone()));
                Entry::BootRestored { nodes, order: of.unwrap_or(order), why }
            }
            other => other,
        }
    }
}
