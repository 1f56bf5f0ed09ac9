//! Asks the agents of all nodes for `doctor`.

use rollout_control::agents::ask_all::{Limits, ask_agents};
use rollout_control::agents::client::NoAnswer;
use rollout_control::config::Config;
use rollout_core::doctor::agents::Probe;
use rollout_core::doctor::agents::{AgentFacts, Silence};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::AgentStatus;
use rollout_core::slurm::addresses::Addresses;
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time limits for one agent, and for connecting to it. An idle one answers in a millisecond.
const AGENT_LIMIT: Duration = Duration::from_secs(3);
const CONNECT_LIMIT: Duration = Duration::from_millis(1500);
/// Time limit for all agents. Ten thousand silent nodes take half of it.
const ALL_LIMIT: Duration = Duration::from_secs(60);

/// Asks these agents for their status, and sends them the trial order if there is one.
pub(super) fn ask(
    config: &Config,
    nodes: &NodeSet,
    known: &[NodeInfo],
    mut addresses: Addresses,
    probe: Option<String>,
) -> Vec<AgentFacts> {
    addresses.learn(known);
    let known: BTreeMap<&str, &NodeInfo> = known.iter().map(|node| (node.name.as_str(), node)).collect();
    let limits = Limits::new(AGENT_LIMIT, ALL_LIMIT).connecting_within(CONNECT_LIMIT);
    let mut answers = ask_agents(config, nodes, &addresses, limits, move |_, address, client| {
        let status = client.status(address)?;
        let ahead_s = ahead(&status, clock::now_s());
        let probe = probe.as_ref().map(|sealed| match client.order(address, sealed) {
            Ok(answer) => Probe::of(answer),
            Err(no_answer) => Probe::NoAnswer(no_answer.cause().to_owned()),
        });
        Ok((status, ahead_s, probe))
    });
    let facts = nodes.iter().map(|node| {
        let (answer, ahead_s, probe) = match answers.remove(node).unwrap_or(Err(NoAnswer::NotAsked)) {
            Ok((status, ahead_s, probe)) => (Ok(status), ahead_s, probe),
            Err(no_answer) => (Err(silence(no_answer)), None, None),
        };
        let slurm = known.get(node).map(|node| (*node).clone());
        AgentFacts { node: node.to_owned(), slurm, answer, ahead_s, probe }
    });
    facts.collect()
}

fn ahead(status: &AgentStatus, now_s: u64) -> Option<i64> {
    let theirs = i64::try_from(status.clock_s?).unwrap_or(i64::MAX);
    Some(theirs.saturating_sub(i64::try_from(now_s).unwrap_or(i64::MAX)))
}

fn silence(no_answer: NoAnswer) -> Silence {
    match no_answer {
        NoAnswer::NobodyListens(_) => Silence::NobodyListens,
        NoAnswer::HostSilent { .. } => Silence::HostSilent,
        NoAnswer::NoAddress(why) => Silence::NoAddress(why),
        other => Silence::Other(other.cause().to_owned()),
    }
}
