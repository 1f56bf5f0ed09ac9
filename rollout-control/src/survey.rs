//! A [`View`]: the state directory with the present answers of Slurm and the agents.

use crate::agents::ask_all::{Limits, ask_agents};
use crate::config::Config;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;
use std::collections::BTreeMap;
use std::time::Instant;

/// Asks the agents of these nodes for their status. `slurm` is Slurm's report about them.
#[must_use]
pub fn survey(
    config: &Config,
    mut snapshot: Snapshot,
    nodes: &NodeSet,
    slurm: Vec<NodeInfo>,
    limits: Limits,
) -> View {
    snapshot.addresses.learn(&slurm);
    let asked = ask_agents(config, nodes, &snapshot.addresses, limits, |_, host, client| {
        client.status(host).map(|status| (status, Instant::now()))
    });
    // The last answers may come seconds after the first ones.
    let agents = asked
        .into_iter()
        .map(|(node, answer)| {
            let status = answer.map(|(status, at)| status.aged(at.elapsed()));
            (node, status.map_err(|no_answer| no_answer.cause().to_owned()))
        })
        .collect();
    let slurm: BTreeMap<String, NodeInfo> = slurm.into_iter().map(|info| (info.name.clone(), info)).collect();
    View { snapshot, slurm, agents, now_ms: clock::now_ms() }
}
