//! The nodes that a manifest can be staged for.

use super::snapshot::Snapshot;
use crate::hostlist::NodeSet;
use crate::rollout::journal::NodeRecord;
use crate::rollout::manifest::Manifest;
use std::collections::BTreeSet;

/// The verdict on staging a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its nodes wait for no other rollout.
    Free,
    /// The same manifest is staged for the same nodes already, under this id.
    Already(String),
    /// Some of its nodes wait for this rollout.
    Taken { nodes: NodeSet, rollout: String },
}

/// Decides whether a manifest can be staged. An order that is being sent keeps its node as well: its outcome is
/// unknown.
#[must_use]
pub fn check(manifest: &Manifest, snapshot: &Snapshot) -> Verdict {
    for rollout in &snapshot.rollouts {
        let waits = |name: &&str| {
            snapshot.pending(name).is_some_and(|of| of.rollout_id() == Some(rollout.id.as_str()))
        };
        let taken: NodeSet = manifest.nodes.iter().filter(waits).map(str::to_owned).collect();
        if taken.is_empty() {
            continue;
        }
        let whole = taken == manifest.nodes && rollout.records.len() == taken.len();
        if whole && rollout.manifest.as_ref().is_ok_and(|staged| staged == manifest) {
            return Verdict::Already(rollout.id.clone());
        }
        return Verdict::Taken { nodes: taken, rollout: rollout.id.clone() };
    }
    Verdict::Free
}

/// Returns the nodes that a rollout can be staged for once more: those that do not wait for anything.
#[must_use]
pub fn free_nodes(nodes: &NodeSet, snapshot: &Snapshot) -> NodeSet {
    nodes.iter().filter(|name| snapshot.pending(name).is_none()).map(str::to_owned).collect()
}

/// Returns the nodes of a rollout for which it can be called off now.
///
/// An order that was taken is carried out. A node that boots from what the rollout gave it must have its boot source
/// restored first: afterwards nobody would know of it. The same goes for a request and a drain in Slurm.
#[must_use]
pub fn unstageable(nodes: &NodeSet, snapshot: &Snapshot, rollout: &str, now_ms: u64) -> NodeSet {
    let records = snapshot.rollout(rollout).map(|rollout| &rollout.records);
    let can_be_unstaged = |record: &NodeRecord| {
        let waits = record.progress.may_be_ordered(now_ms)
            || record.progress == crate::rollout::journal::Progress::Lost;
        waits && record.unsettled_boot_change().is_none() && !record.has_traces_in_slurm()
    };
    let wanted = |name: &&str| records.and_then(|records| records.get(*name)).is_some_and(can_be_unstaged);
    nodes.iter().filter(wanted).map(str::to_owned).collect()
}

/// Returns the id of a new rollout: its name, or the name with the first number behind it that is free (`driver`,
/// `driver@2`).
#[must_use]
pub fn new_id(name: &str, known: &BTreeSet<String>) -> String {
    let numbered = (2..).map(|number| format!("{name}@{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(|id| !known.contains(id)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
