//! Everything that the state directory holds about unsettled rollouts, read once.
//!
//! Each question about it has one answer, here or in a sibling module, as a pure function.

use super::freeze::Freeze;
use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::rollout::image::Image;
use crate::rollout::journal::{Conduct, ConductState, NodeRecord, NodeRecords, Progress};
use crate::rollout::manifest::Manifest;
use crate::slurm::addresses::Addresses;
use crate::slurm::drains::{Drains, Requested};

/// The time within which a failure counts for a halt, if a process looks after started rollouts: it plans every few
/// seconds.
const COUNTED_WITHIN_MS: u64 = 60_000;

/// The state directory at one moment. Closed rollouts are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Rollouts that are not closed, oldest first.
    pub rollouts: Vec<RolloutState>,
    /// Records of plain reboots.
    pub plain_reboots: NodeRecords,
    pub drains: Drains,
    pub addresses: Addresses,
    /// Rollouts whose journal cannot be read. They hold up no other rollout.
    pub unreadable: Vec<Unreadable>,
    /// The freeze that keeps all rollouts from requesting nodes.
    pub frozen: Option<Freeze>,
}

/// A rollout whose journal cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub id: String,
    pub error: String,
    /// Nodes by its manifest. Empty if that cannot be read either.
    pub nodes: NodeSet,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutState {
    /// Its name, followed by `@2`, `@3` … if the name was used before.
    pub id: String,
    /// Time at which it was first staged, in milliseconds since 1970.
    pub staged_ms: u64,
    /// The admin who staged it.
    pub by: String,
    /// The manifest, or the error if it cannot be read any more: a newer version may have written it.
    pub manifest: Result<Manifest, String>,
    pub records: NodeRecords,
    pub conduct: Conduct,
}

/// A node's record in one journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordOf<'a> {
    /// `None` for the journal of plain reboots.
    pub rollout: Option<&'a RolloutState>,
    pub record: &'a NodeRecord,
}

impl RolloutState {
    /// Returns its image, if it changes one and its manifest can be read.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.manifest.as_ref().ok()?.desired.image()
    }

    /// Returns whether nothing is left to do for any of its nodes.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.records.values().all(NodeRecord::is_settled)
    }

    /// Returns whether it is over: nothing is left to do for its nodes, and it has left no request, no drain and
    /// no reservation in Slurm, and its hooks are done. A halted one is not: an admin resumes or stops it first.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let is_halted = matches!(self.conduct.state, ConductState::Halted { .. });
        self.is_at_rest() && !is_halted && !self.conduct.hooks.awaited
    }

    /// Returns whether nothing is left to do for its nodes, and it has left nothing in Slurm.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.is_settled() && !self.has_traces_in_slurm()
    }

    /// Returns whether something is to be requested, withdrawn or recorded for it: it runs, or was stopped, and nodes
    /// still wait, or it has left something in Slurm, or its last nodes may still have to halt it, or it has hooks.
    #[must_use]
    pub fn needs_executor(&self) -> bool {
        let needs = |record: &NodeRecord| match self.conduct.state {
            ConductState::Running => {
                record.progress.is_pending() || record.progress == Progress::Ordered || has_failed(record)
            }
            ConductState::Paused { .. } => record.progress == Progress::Ordered,
            ConductState::Stopped => record.progress.is_pending(),
            ConductState::NotStarted | ConductState::Halted { .. } => false,
        };
        self.records.values().any(needs) || self.has_traces_in_slurm() || self.conduct.hooks.awaited
    }

    /// Returns whether a node failed so recently that the planner may not have counted it for a halt yet.
    #[must_use]
    pub fn may_be_halted(&self, now_ms: u64) -> bool {
        let outcome_ms = |record: &NodeRecord| Some(record.qualification.as_ref()?.outcome.as_ref()?.at_ms);
        let is_recent = |record: &NodeRecord| {
            let hook_ms = record.hook_failure().map_or(0, |(_, at_ms)| at_ms);
            let failed_ms = outcome_ms(record).unwrap_or(0).max(record.since_ms).max(hook_ms);
            now_ms <= failed_ms.saturating_add(COUNTED_WITHIN_MS)
        };
        let runs = matches!(self.conduct.state, ConductState::Running | ConductState::Paused { .. });
        runs && self.records.values().any(|record| has_failed(record) && is_recent(record))
    }

    fn has_traces_in_slurm(&self) -> bool {
        self.records.values().any(NodeRecord::has_traces_in_slurm)
    }
}

/// Returns whether a node failed since its rollout was started or last resumed.
fn has_failed(record: &NodeRecord) -> bool {
    let failed = matches!(record.progress, Progress::Lost | Progress::Seen(Phase::RolledBack | Phase::Held));
    let did_not_pass = record.qualification_failure().is_some() || record.hook_failure().is_some();
    (failed || did_not_pass) && !record.forgiven
}

impl<'a> RecordOf<'a> {
    /// Returns the id of the rollout. `None` for a plain reboot.
    #[must_use]
    pub fn rollout_id(&self) -> Option<&'a str> {
        self.rollout.map(|rollout| rollout.id.as_str())
    }
}

impl Snapshot {
    /// Returns a rollout by its id.
    #[must_use]
    pub fn rollout(&self, id: &str) -> Option<&RolloutState> {
        self.rollouts.iter().find(|rollout| rollout.id == id)
    }

    /// Returns the records of a node in all rollouts, oldest rollout first.
    pub fn records<'a>(&'a self, node: &'a str) -> impl Iterator<Item = RecordOf<'a>> + 'a {
        self.rollouts.iter().filter_map(move |rollout| {
            Some(RecordOf { rollout: Some(rollout), record: rollout.records.get(node)? })
        })
    }

    /// Returns the records of a node in all journals, that of plain reboots last.
    pub fn all_records<'a>(&'a self, node: &'a str) -> impl Iterator<Item = RecordOf<'a>> + 'a {
        let plain = self.plain_reboots.get(node).map(|record| RecordOf { rollout: None, record });
        self.records(node).chain(plain)
    }

    /// Returns the rollout that owns a node: the one that was staged for it last. A rollout over which another one was
    /// staged never applies again. Neither does one that was called off, whatever arrives late about it.
    #[must_use]
    pub fn owner<'a>(&'a self, node: &'a str) -> Option<RecordOf<'a>> {
        // Of two that were staged in the same millisecond, the later rollout.
        self.records(node).filter(|of| of.record.staged_ms.is_some()).max_by_key(|of| of.record.staged_ms)
    }

    /// Returns the rollout that a node gets if Slurm hands it over now.
    #[must_use]
    pub fn armed<'a>(&'a self, node: &'a str, now_ms: u64) -> Option<RecordOf<'a>> {
        self.owner(node).filter(|of| of.record.progress.may_be_ordered(now_ms))
    }

    /// Returns the rollout for which a node waits, including an order that is being sent: nothing else can be staged
    /// then.
    #[must_use]
    pub fn pending<'a>(&'a self, node: &'a str) -> Option<RecordOf<'a>> {
        self.owner(node).filter(|of| of.record.progress.is_pending())
    }

    /// Returns the records with an unsettled change of the node's boot source. There is one at most, unless an older
    /// version had a held node retry while a later order's change was unsettled.
    pub fn boot_owners<'a>(&'a self, node: &'a str) -> impl Iterator<Item = RecordOf<'a>> + 'a {
        self.records(node).filter(|of| of.record.unsettled_boot_change().is_some())
    }

    /// Returns whether a node belongs to a rollout whose journal cannot be read, so that it may have any order.
    #[must_use]
    pub fn is_in_unreadable(&self, node: &str) -> bool {
        self.unreadable.iter().any(|rollout| rollout.nodes.contains(node))
    }

    /// Returns the rollouts whose names may be the Reason of a node because they have requested it. A rollout that
    /// cannot be read may have requested any of its nodes.
    #[must_use]
    pub fn requested(&self) -> Requested {
        let mut requested = Requested::new();
        let mut add = |node: &str, id: &String| {
            requested.entry(node.to_owned()).or_default().insert(id.clone());
        };
        for rollout in &self.rollouts {
            let records = rollout.records.iter().filter(|(_, record)| record.may_have_set_reason());
            records.for_each(|(node, _)| add(node, &rollout.id));
        }
        for rollout in &self.unreadable {
            rollout.nodes.iter().for_each(|node| add(node, &rollout.id));
        }
        requested
    }

    /// Returns all nodes that have a record.
    #[must_use]
    pub fn nodes(&self) -> NodeSet {
        let rollouts = self.rollouts.iter().flat_map(|rollout| rollout.records.keys());
        rollouts.chain(self.plain_reboots.keys()).cloned().collect()
    }
}

#[cfg(test)]
mod tests;
