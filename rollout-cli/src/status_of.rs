//! The status of all nodes of one rollout.

use crate::context::Context;
use crate::failure::Failure;
use rollout_core::controller::snapshot::{RecordOf, RolloutState};
use rollout_core::controller::status::{NodeStatus, of_node};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;

/// Asks Slurm and the agents, and returns the status of a rollout's nodes.
pub(crate) fn rollout(context: &Context, rollout: &RolloutState) -> Result<Vec<NodeStatus>, Failure> {
    let nodes = rollout.records.keys().cloned().collect();
    let view = context.survey(context.store.snapshot()?, &nodes);
    Ok(in_view(&view, rollout, None))
}

/// Returns the status of a rollout's nodes in a view, in the order of their names; `only` these of them.
pub(crate) fn in_view(view: &View, rollout: &RolloutState, only: Option<&NodeSet>) -> Vec<NodeStatus> {
    let shown = rollout.records.keys().filter(|name| only.is_none_or(|only| only.contains(name)));
    let in_order: NodeSet = shown.cloned().collect();
    let status = |name: &str| {
        let of = RecordOf { rollout: Some(rollout), record: rollout.records.get(name)? };
        Some(of_node(view.node(name), of))
    };
    in_order.iter().filter_map(status).collect()
}
