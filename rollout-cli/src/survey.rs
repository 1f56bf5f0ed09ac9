//! Asking everybody at once: the agents of some nodes and Slurm, each with a short limit, and joining the answers with
//! the journals.

use crate::context::{Context, Failure};
use rollout_control::agents::address::Addresses;
use rollout_control::agents::ask_all::{self, Limits};
use rollout_control::agents::client::{AgentClient, NoAnswer};
use rollout_control::store::Rollout;
use rollout_core::agent::phase::Phase;
use rollout_core::controller::status::{Images, NodeStatus, join};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::AgentStatus;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, NodeRecord, Progress};
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// How long one agent may take, and all of them together. A node that reboots answers nothing; a person waits.
const AGENT_LIMIT: Duration = Duration::from_millis(1500);
const ALL_LIMIT: Duration = Duration::from_secs(6);
const SLURM_LIMIT: Duration = Duration::from_secs(5);

/// What agents and Slurm say of some nodes.
pub(crate) struct Survey {
    agents: BTreeMap<String, Result<AgentStatus, NoAnswer>>,
    slurm: BTreeMap<String, NodeInfo>,
    /// Why Slurm could not be asked.
    pub(crate) no_slurm: Option<String>,
    now_ms: u64,
}

impl Survey {
    /// Asks Slurm, and then the agents at the addresses that it gives.
    pub(crate) fn of(context: &Context, nodes: &NodeSet) -> Self {
        let asked = context.config.scontrol().within(SLURM_LIMIT).show_nodes(nodes);
        let (infos, no_slurm) = match asked {
            Ok(infos) => (infos, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let slurm: BTreeMap<_, _> = infos.into_iter().map(|info| (info.name.clone(), info)).collect();
        let mut addresses = context.store.addresses();
        addresses.learn(slurm.values());
        let ask = |_: &str, address, client: &AgentClient| client.status(address);
        let agents = ask_agents(context, nodes, &addresses, ask);
        Self { agents, slurm, no_slurm, now_ms: clock::now_ms() }
    }

    /// Where the nodes of a rollout stand; `only` these of them.
    pub(crate) fn statuses(&self, rollout: &Rollout, only: Option<&NodeSet>) -> Vec<NodeStatus> {
        let nodes = rollout.nodes();
        let shown = nodes.iter().filter(|(name, _)| only.is_none_or(|only| only.contains(name)));
        let order: NodeSet = shown.map(|(name, _)| name.clone()).collect();
        let image = rollout.manifest.desired.image();
        let status = |name: &str| {
            let record = nodes.get(name)?;
            let agent = self.agents.get(name).and_then(|answer| answer.as_ref().ok());
            let images = image.map(|image| Images::of(image, record, agent));
            Some(NodeStatus { images, ..self.status(name, &rollout.id, record) })
        };
        order.iter().filter_map(status).collect()
    }

    fn status(&self, name: &str, rollout: &str, record: &NodeRecord) -> NodeStatus {
        let agent = self.agents.get(name).map(|answer| answer.as_ref().map_err(NoAnswer::cause));
        let slurm = self.slurm.get(name);
        let by_agent = agent
            .and_then(Result::ok)
            .map(|agent| self.now_ms.saturating_sub(agent.uptime_s.saturating_mul(1000)));
        let booted_ms =
            by_agent.or_else(|| slurm.and_then(|info| info.boot_s).map(|s| s.saturating_mul(1000)));
        join(name, rollout, record, agent, slurm, booted_ms)
    }

    /// The phase of a node, if its agent carries out the order that the journal speaks of.
    pub(crate) fn phase(&self, name: &str, record: &NodeRecord) -> Option<Phase> {
        let agent = self.agents.get(name).and_then(|answer| answer.as_ref().ok());
        let order = agent.and_then(|agent| agent.order.as_ref())?;
        (record.order.as_ref() == Some(&order.id)).then_some(order.phase)
    }

    /// Writes down which nodes were seen to be done or held, so that it is known when their agents are gone.
    pub(crate) fn remember(&self, context: &Context, rollout: &Rollout) -> Result<(), Failure> {
        let mut seen: BTreeMap<(OrderId, Phase, Option<String>), Vec<String>> = BTreeMap::new();
        for (name, record) in rollout.nodes() {
            let Some(phase) = self.phase(&name, &record) else { continue };
            if !phase.has_ended() || record.progress == Progress::Seen(phase) {
                continue;
            }
            let agent = self.agents.get(&name).and_then(|answer| answer.as_ref().ok());
            if let Some(order) = agent.and_then(|agent| agent.order.clone()) {
                seen.entry((order.id, phase, order.error)).or_default().push(name);
            }
        }
        let entries = seen.into_iter().map(|((order, phase, error), nodes)| Entry::Seen {
            nodes: nodes.into_iter().collect(),
            order,
            phase,
            error,
        });
        context.store.record(Some(&rollout.id), entries.collect())?;
        Ok(())
    }
}

/// Speaks with the agents of all these nodes at once. Those that do not answer in time are there with the reason.
pub(crate) fn ask_agents<R: Send + 'static>(
    context: &Context,
    nodes: &NodeSet,
    addresses: &Addresses,
    ask: impl Fn(&str, IpAddr, &AgentClient) -> Result<R, NoAnswer> + Send + Sync + 'static,
) -> BTreeMap<String, Result<R, NoAnswer>> {
    ask_all::ask_agents(&context.config, nodes, addresses, Limits::new(AGENT_LIMIT, ALL_LIMIT), ask)
}
