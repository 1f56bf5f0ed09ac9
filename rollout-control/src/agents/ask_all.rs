//! One request to many agents at once, with bounded threads and a deadline for all of them.

use crate::agents::address::{HostAddresses, Resolver};
use crate::agents::client::{AgentClient, NoAnswer};
use crate::agents::dispatch::{connect_limit, dispatch};
use crate::config::Config;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::slurm::addresses::Addresses;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time limits of one request to many agents.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    agent: Duration,
    all: Duration,
    connect: Option<Duration>,
}

impl Limits {
    /// Returns limits for the exchange with one `agent`, and for `all` of them.
    #[must_use]
    pub fn new(agent: Duration, all: Duration) -> Self {
        Self { agent, all, connect: None }
    }

    /// Sets a limit for the connection. Without it, connecting is limited if some agents have to wait for others.
    #[must_use]
    pub fn connecting_within(self, limit: Duration) -> Self {
        Self { connect: Some(limit), ..self }
    }
}

/// Calls `ask` for each of these nodes, with its name and the addresses of its agent, and returns the answers by node.
/// Every node is in the result: those that were not reached in time with [`NoAnswer::NotAsked`].
pub fn ask_agents<R: Send + 'static>(
    config: &Config,
    nodes: &NodeSet,
    addresses: &Addresses,
    limits: Limits,
    ask: impl Fn(&str, &HostAddresses, &AgentClient) -> Result<R, NoAnswer> + Send + Sync + 'static,
) -> BTreeMap<String, Result<R, NoAnswer>> {
    let requests: Vec<(String, String)> =
        nodes.iter().map(|name| (name.to_owned(), addresses.of(name).to_owned())).collect();
    let not_asked = |name: &str| (name.to_owned(), Err(NoAnswer::NotAsked));
    let mut answers: BTreeMap<_, _> = nodes.iter().map(not_asked).collect();
    let end = Instant::now() + limits.all;
    let mut client = AgentClient::new(config.agent_port, limits.agent);
    if let Some(limit) = limits.connect {
        client = client.connecting_within(limit);
    } else if requests.len() > config.concurrency {
        // Silent hosts must not use up the time of those that wait for their turn.
        client = client.connecting_within(connect_limit(requests.len(), config.concurrency, end));
    }
    let resolver = Resolver::default();
    let asked = dispatch(requests, config.concurrency, end, move |(name, address)| {
        let host = resolver.resolve(&address, limits.agent).map_err(NoAnswer::NoAddress);
        let answer = host.and_then(|host| ask(&name, &host, &client));
        (name, answer)
    });
    answers.extend(asked.all());
    answers
}

/// Sends each node the order that was sealed for it, and returns the answers by node.
pub fn send_sealed<S: AsRef<str> + Send + Sync + 'static>(
    config: &Config,
    sealed: BTreeMap<String, S>,
    addresses: &Addresses,
    limits: Limits,
) -> BTreeMap<String, Result<Answer, NoAnswer>> {
    let nodes: NodeSet = sealed.keys().cloned().collect();
    ask_agents(config, &nodes, addresses, limits, move |name, host, client| match sealed.get(name) {
        Some(sealed) => client.order(host, sealed.as_ref()),
        None => Err(NoAnswer::NotAsked),
    })
}
