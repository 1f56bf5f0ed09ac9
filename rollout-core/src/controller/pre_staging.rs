//! Orders that agents must hold in advance, if slurmd runs RebootProgram: on the node nobody can ask the controller.

use super::snapshot::{RecordOf, Snapshot};
use crate::hostlist::NodeSet;
use crate::protocol::order::OrderId;
use crate::slurm::drains::Drain;
use std::collections::BTreeMap;

/// Nodes with a pre-staged order whose agents know of a different drain than there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedDrain {
    /// The rollout that is pre-staged.
    pub rollout: String,
    /// The order under which the agents hold it.
    pub order: OrderId,
    /// The Reason of the drain. `None` if there is no longer one.
    pub reason: Option<String>,
    pub nodes: NodeSet,
}

/// Returns the staged nodes whose agents do not hold the order yet, by rollout.
#[must_use]
pub fn missing(snapshot: &Snapshot, now_ms: u64) -> Vec<(String, NodeSet)> {
    let waits = |of: &RecordOf<'_>| !of.record.pre_staged;
    by_rollout(snapshot, now_ms, waits)
}

/// Returns the nodes of a rollout whose agents hold it, and that still wait for it.
#[must_use]
pub fn pre_staged(snapshot: &Snapshot, rollout: &str, now_ms: u64) -> NodeSet {
    let held = by_rollout(snapshot, now_ms, |of| of.record.pre_staged && of.rollout_id() == Some(rollout));
    held.into_iter().map(|(_, nodes)| nodes).next().unwrap_or_default()
}

/// Returns the changed drains that agents with a pre-staged order do not know of.
#[must_use]
pub fn changed_drains(snapshot: &Snapshot, now_ms: u64) -> Vec<ChangedDrain> {
    let mut changed: BTreeMap<(String, OrderId, Option<String>), Vec<String>> = BTreeMap::new();
    for rollout in &snapshot.rollouts {
        for (name, record) in &rollout.records {
            let drain = snapshot.drains.get(name).and_then(Drain::kept_by_every_reboot);
            let reason = drain.map(str::to_owned);
            let differs =
                record.pre_staged && record.progress.may_be_ordered(now_ms) && record.drained != reason;
            if let Some(order) = record.order.clone().filter(|_| differs) {
                changed.entry((rollout.id.clone(), order, reason)).or_default().push(name.clone());
            }
        }
    }
    let of = |((rollout, order, reason), names): (_, Vec<String>)| ChangedDrain {
        rollout,
        order,
        reason,
        nodes: names.into_iter().collect(),
    };
    changed.into_iter().map(of).collect()
}

fn by_rollout(
    snapshot: &Snapshot,
    now_ms: u64,
    wanted: impl Fn(&RecordOf<'_>) -> bool,
) -> Vec<(String, NodeSet)> {
    let of_rollout = |rollout: &super::snapshot::RolloutState| {
        let waits = |name: &&String| {
            let armed = snapshot.armed(name, now_ms);
            armed.is_some_and(|of| of.rollout_id() == Some(rollout.id.as_str()) && wanted(&of))
        };
        let nodes: NodeSet = rollout.records.keys().filter(waits).cloned().collect();
        (rollout.id.clone(), nodes)
    };
    snapshot.rollouts.iter().map(of_rollout).filter(|(_, nodes)| !nodes.is_empty()).collect()
}

#[cfg(test)]
mod tests;
