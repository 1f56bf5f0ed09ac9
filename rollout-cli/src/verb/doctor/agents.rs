//! Asking the agents of all nodes at once.

use rollout_control::agents::address::Resolver;
use rollout_control::agents::client::{AgentClient, NoAnswer};
use rollout_control::agents::dispatch::dispatch;
use rollout_control::config::Config;
use rollout_control::store::Addresses;
use rollout_core::doctor::agents::{AgentFacts, Silence};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::AgentStatus;
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long one agent may take, and to be connected to. An idle one answers in a millisecond.
const AGENT_LIMIT: Duration = Duration::from_secs(3);
const CONNECT_LIMIT: Duration = Duration::from_millis(1500);
/// All of them. Ten thousand nodes of which none answers take half of it.
const ALL_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn ask(
    config: &Config,
    nodes: &NodeSet,
    known: &[NodeInfo],
    addresses: &Addresses,
) -> Vec<AgentFacts> {
    let known: BTreeMap<&str, &NodeInfo> = known.iter().map(|node| (node.name.as_str(), node)).collect();
    let address = |name: &str| {
        let by_slurm = known.get(name).map(|node| node.address.clone());
        // Slurm's default NodeAddr is the NodeName.
        by_slurm.or_else(|| addresses.get(name).cloned()).unwrap_or_else(|| name.to_owned())
    };
    let errands: Vec<(String, String)> = nodes.iter().map(|name| (name.to_owned(), address(name))).collect();
    let client = AgentClient::new(config.agent_port, AGENT_LIMIT).connecting_within(CONNECT_LIMIT);
    let resolver = Resolver::default();
    let ask_one = move |(name, address): (String, String)| {
        let answer = resolver.resolve(&address, AGENT_LIMIT).map_err(Silence::NoAddress);
        let answer = answer.and_then(|address| client.status(address).map_err(silence));
        (name, answer, clock::now_s())
    };
    let answers = dispatch(errands, config.concurrency, Instant::now() + ALL_LIMIT, ask_one).all();
    let mut answers: BTreeMap<String, _> =
        answers.into_iter().map(|(name, answer, now_s)| (name, (answer, now_s))).collect();
    let facts = nodes.iter().map(|name| {
        let late = || (Err(Silence::Other("not asked in time".to_owned())), 0);
        let (answer, now_s) = answers.remove(name).unwrap_or_else(late);
        AgentFacts {
            node: name.to_owned(),
            slurm: known.get(name).map(|node| (*node).clone()),
            ahead_s: answer.as_ref().ok().and_then(|status| ahead(status, now_s)),
            answer,
        }
    });
    facts.collect()
}

fn ahead(status: &AgentStatus, now_s: u64) -> Option<i64> {
    let theirs = i64::try_from(status.clock_s?).unwrap_or(i64::MAX);
    Some(theirs.saturating_sub(i64::try_from(now_s).unwrap_or(i64::MAX)))
}

fn silence(error: NoAnswer) -> Silence {
    if error.nobody_listens {
        Silence::NobodyListens
    } else if error.host_silent {
        Silence::HostSilent
    } else {
        Silence::Other(error.why)
    }
}
