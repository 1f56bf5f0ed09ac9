//! Asking many agents at once. Touches no node.

use crate::agents::address::Resolver;
use crate::agents::client::AgentClient;
use crate::agents::dispatch::dispatch;
use crate::config::Config;
use crate::hand_over::connect_limit;
use crate::store::Addresses;
use rollout_core::hostlist::NodeSet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Speaks with the agents of all these nodes, each within `limit`, all of them within `all_limit`; `ask` gets a node's
/// name and its agent's address. Those that do not answer
/// in time are there with the reason.
pub fn ask_agents<R: Send + 'static>(
    config: &Config,
    nodes: &NodeSet,
    addresses: &Addresses,
    (limit, all_limit): (Duration, Duration),
    ask: impl Fn(&str, IpAddr, &AgentClient) -> Result<R, String> + Send + Sync + 'static,
) -> BTreeMap<String, Result<R, String>> {
    // Slurm's default NodeAddr is the NodeName.
    let address = |name: &str| addresses.get(name).cloned().unwrap_or_else(|| name.to_owned());
    let errands: Vec<(String, String)> = nodes.iter().map(|name| (name.to_owned(), address(name))).collect();
    let late = || Err("not asked in time".to_owned());
    let mut answers: BTreeMap<_, _> = nodes.iter().map(|name| (name.to_owned(), late())).collect();
    let end = Instant::now() + all_limit;
    let mut client = AgentClient::new(config.agent_port, limit);
    if errands.len() > config.concurrency {
        // Some have to wait for others: hosts that are silent must not use up all the time.
        client = client.connecting_within(connect_limit(errands.len(), config.concurrency, end));
    }
    let resolver = Resolver::default();
    let asked = dispatch(errands, config.concurrency, end, move |(name, address)| {
        let answer = resolver.resolve(&address, limit).and_then(|address| ask(&name, address, &client));
        (name, answer)
    });
    answers.extend(asked.all());
    answers
}
