//! Rollouts that are over. A closed rollout is read only by `history`, `show`, `undo` and `retry`: past rollouts cost a
//! hand-over nothing.

use super::conduct::{self, ConductSummary};
use super::pace::Pace;
use super::snapshot::{RolloutState, Snapshot};
use super::status;
use crate::hostlist::NodeSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Summary of a closed rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedRollout {
    /// Time at which it was staged, in milliseconds since 1970.
    pub staged_ms: u64,
    /// The admin who staged it.
    pub by: String,
    /// Time at which it was closed, in milliseconds since 1970.
    pub closed_ms: u64,
    pub nodes: NodeSet,
    /// Number of nodes by their last phase.
    pub phases: BTreeMap<String, usize>,
    /// Its state if an admin started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conduct: Option<ConductSummary>,
    /// `None` if no node was updated, and in summaries of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
}

/// Retention of closed rollouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Age since closing from which a rollout is archived.
    pub age: Duration,
    /// Number of closed rollouts that are kept; the oldest ones are archived first.
    pub count: usize,
}

/// Returns the rollouts that can be closed, with their summaries.
///
/// A rollout that was staged over an older one stays open until the older one's end for the node is in the journal: it
/// is the only evidence that the older one never applies again. A rollout of a node that Slurm still shows as handed
/// over stays open as well: its journal is the only evidence that the node was ordered for this hand-over. A started
/// rollout stays open until its last failure had time to halt it.
#[must_use]
pub fn closable(snapshot: &Snapshot, handed_over: &NodeSet, now_ms: u64) -> Vec<(String, ClosedRollout)> {
    let is_needed = |rollout: &RolloutState| rollout.records.keys().any(|node| handed_over.contains(node));
    let over = |rollout: &&RolloutState| {
        let is_last = !covers_another(rollout, snapshot) && !is_needed(rollout);
        rollout.is_over() && is_last && !rollout.may_be_halted(now_ms)
    };
    snapshot
        .rollouts
        .iter()
        .filter(over)
        .map(|rollout| (rollout.id.clone(), summary(rollout, now_ms)))
        .collect()
}

fn covers_another(rollout: &RolloutState, snapshot: &Snapshot) -> bool {
    rollout.records.keys().any(|node| {
        let mut others = snapshot.records(node).filter(|of| of.rollout_id() != Some(rollout.id.as_str()));
        others.any(|of| {
            of.record.progress.is_pending() && of.record.staged_ms < rollout.records[node].staged_ms
        })
    })
}

/// Returns the summary of a rollout.
#[must_use]
pub fn summary(rollout: &RolloutState, now_ms: u64) -> ClosedRollout {
    let nodes = match &rollout.manifest {
        Ok(manifest) => manifest.nodes.clone(),
        Err(_) => rollout.records.keys().cloned().collect(),
    };
    let mut phases = BTreeMap::new();
    for record in rollout.records.values() {
        *phases.entry(status::recorded_phase(record).name().to_owned()).or_default() += 1;
    }
    let (staged_ms, by) = (rollout.staged_ms, rollout.by.clone());
    let (conduct, pace) = (conduct::summary(rollout), Pace::of(&rollout.records));
    ClosedRollout { staged_ms, by, closed_ms: now_ms, nodes, phases, conduct, pace }
}

/// Returns the closed rollouts whose time in the state directory is over, oldest first.
#[must_use]
pub fn expired(closed: &[(String, ClosedRollout)], retention: Retention, now_ms: u64) -> Vec<String> {
    let mut oldest_first: Vec<&(String, ClosedRollout)> = closed.iter().collect();
    oldest_first.sort_by_key(|(id, rollout)| (rollout.closed_ms, id.clone()));
    let surplus = oldest_first.len().saturating_sub(retention.count);
    let age_ms = u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX);
    let old = |rollout: &ClosedRollout| rollout.closed_ms.saturating_add(age_ms) <= now_ms;
    let expired =
        oldest_first.iter().enumerate().filter(|(index, (_, rollout))| *index < surplus || old(rollout));
    expired.map(|(_, (id, _))| id.clone()).collect()
}

#[cfg(test)]
mod tests;
