//! Sending the orders that got lost: Slurm runs RebootProgram once for a node, marks the node first, and never asks again,
//! whether the program was killed with slurmctld, could not be started, or found the agent dead (22.05 to 26.05).

use crate::agents::address::Addresses;
use crate::agents::ask_all::{Limits, ask_agents};
use crate::agents::client::NoAnswer;
use crate::config::{Config, Deliver};
use crate::hand_over::{Report, hand_over};
use crate::pre_stage::{DeliverError, Told, deliver, is_wanted, tell_drains};
use crate::store::{Store, StoreError};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::hand_over::{Request, Skipped};
use rollout_core::controller::lost_orders::{Due, LostOrder};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::AgentStatus;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::Entry;
use rollout_core::slurm::hand_over_mode::HandOverMode;
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;
use rollout_host::run::RunError;
use std::collections::BTreeMap;
use std::time::Instant;

/// Why nobody knows whether anything is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    /// Slurm cannot be asked.
    #[error("Slurm cannot be asked: {0}")]
    Slurm(#[from] RunError),
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing can be given to agents.
    #[error(transparent)]
    Deliver(#[from] DeliverError),
}

/// What came of looking for lost orders.
#[derive(Debug)]
pub enum Reconciled {
    /// No order is lost.
    NothingLost,
    /// These nodes wait for a reboot that is not ours to do: so Slurm's RebootProgram says.
    NotOurs {
        /// The nodes.
        nodes: NodeSet,
        /// In words.
        why: String,
    },
    /// These nodes were ordered now, or it was tried.
    Ordered {
        /// The nodes.
        nodes: NodeSet,
        /// What came of it.
        report: Report,
    },
}

/// What Slurm says of all its nodes. Drains that others have set are written down.
///
/// # Errors
/// If Slurm cannot be asked, or nothing can be written.
pub fn ask_slurm(config: &Config, store: &Store) -> Result<Vec<NodeInfo>, ReconcileError> {
    let infos = config.scontrol().show_all_nodes()?;
    store.learn_drains(&infos)?;
    Ok(infos)
}

/// Looks among these nodes, all that Slurm has, for those that it shows as being rebooted and that nobody told so, and
/// hands them over as RebootProgram does. Where no node is being rebooted this does nothing.
///
/// The agents are asked first. One that has the order, though its answer was lost, gets no other one; and a node that has
/// booted since the hand-over gets none at all: Slurm takes that boot for its reboot, and jobs may start there any moment.
///
/// Where slurmd runs RebootProgram, all nodes that are being rebooted are asked: whether they were told, only they know.
///
/// # Errors
/// If Slurm or the state directory cannot be read.
pub fn reconcile(
    config: &Config,
    store: &Store,
    by: &str,
    mut infos: Vec<NodeInfo>,
) -> Result<Reconciled, ReconcileError> {
    infos.retain(|info| info.has("REBOOT_ISSUED"));
    if infos.is_empty() {
        return Ok(Reconciled::NothingLost);
    }
    let lost = store.lost(&infos)?;
    if lost.is_empty() {
        return Ok(Reconciled::NothingLost);
    }
    let nodes: NodeSet = lost.iter().map(|lost| lost.node.clone()).collect();
    let not_ours = |why| Ok(Reconciled::NotOurs { nodes: nodes.clone(), why });
    // With actions of Slurm 26.05 nobody knows which one was lost: the one that changes less is taken.
    let (plain, on_the_node) = match HandOverMode::of(&config.scontrol().show_config()?) {
        HandOverMode::Controller { plain } => (plain, false),
        HandOverMode::Node { plain } => (plain, true),
        // Where an action runs Slurm does not say. An admin has, if it is on the node.
        HandOverMode::Action(_) => (false, config.deliver == Deliver::Always),
        HandOverMode::NotOurs(why) => return not_ours(why),
    };
    let mut addresses = Addresses::default();
    addresses.learn(&infos);
    let limits = Limits::new(config.agent_timeout.get(), config.deadline.get());
    let agents = ask_agents(config, &nodes, &addresses, limits, |_, address, client| client.status(address));
    let mut sorted = Sorted::default();
    let now_ms = clock::now_ms();
    let not_asked = Err(NoAnswer::NotAsked);
    for lost in lost {
        let agent = agents.get(&lost.node).unwrap_or(&not_asked).as_ref();
        let due = match on_the_node {
            true => lost.due_on_the_node(agent.ok(), now_ms),
            false => Some(lost.due(agent.ok(), now_ms)),
        };
        if let Some(due) = due {
            sorted.add(lost, due, agent);
        }
    }
    let Sorted { untold, told, mut report } = sorted;
    let store = Store::open(&config.state_dir, by)?;
    for ((rollout, order, ended), names) in told {
        if !on_the_node {
            report.skipped.entry(Skipped::Ordered).or_default().extend(names.iter().cloned());
        }
        let volatile = names.iter().any(|name| matches!(agents.get(name), Some(Ok(agent)) if agent.volatile));
        let nodes = names.into_iter().collect();
        let entry = match ended {
            Some((phase, error)) => Entry::Seen { nodes, order, phase, error },
            None => Entry::Ordered { nodes, order, volatile },
        };
        store.record(rollout.as_deref(), vec![entry])?;
    }
    let nodes = match on_the_node {
        true if untold.is_empty() => return Ok(Reconciled::NothingLost),
        true => untold.keys().cloned().collect(),
        false => nodes,
    };
    if !untold.is_empty() {
        // Another process may be doing the same: with these times it is seen that it has.
        let nodes = untold.keys().cloned().collect();
        let request = Request { nodes, features: None, plain, handed_over_ms: untold };
        report.absorb(hand_over(config, by, &request, Instant::now()));
    }
    Ok(Reconciled::Ordered { nodes, report })
}

/// How an order ended, and what had failed; none while it is carried out.
type Ended = Option<(Phase, Option<String>)>;

/// What is due where.
#[derive(Default)]
struct Sorted {
    /// Nodes to be ordered, and by when they had been handed over.
    untold: BTreeMap<String, u64>,
    /// Nodes whose agents have the order, by its rollout and id, and how it ended if it has.
    told: BTreeMap<(Option<String>, OrderId, Ended), Vec<String>>,
    report: Report,
}

impl Sorted {
    fn add(&mut self, lost: LostOrder, due: Due, agent: Result<&AgentStatus, &NoAnswer>) {
        match (due, lost.order) {
            (Due::WriteDown, Some(order)) => {
                let says = agent.ok().and_then(|agent| agent.order.clone());
                let ended = says.filter(|says| says.phase.has_ended()).map(|says| (says.phase, says.error));
                self.told.entry((lost.rollout, order, ended)).or_default().push(lost.node);
            }
            (Due::Order | Due::WriteDown, _) => drop(self.untold.insert(lost.node, lost.handed_over_ms)),
            (Due::Booted, _) => self.report.skipped.entry(Skipped::Booted).or_default().push(lost.node),
            (Due::Silent, _) => {
                let why = agent.err().map(ToString::to_string).unwrap_or_default();
                self.report.silent.entry(why).or_default().push(lost.node);
            }
        }
    }
}

/// Gives agents what is staged for their nodes and did not reach them yet, and tells them of changed drains, where slurmd
/// runs RebootProgram.
///
/// # Errors
/// If Slurm or the state directory cannot be read, or nothing can be sealed.
pub fn deliver_again(config: &Config, store: &Store) -> Result<Vec<(String, Told)>, ReconcileError> {
    let (waiting, drains) = (store.undelivered()?, store.changed_drains()?);
    if waiting.is_empty() && drains.is_empty() || !is_wanted(config, || config.scontrol().show_config())? {
        return Ok(Vec::new());
    }
    if !drains.is_empty() {
        tell_drains(config, store, &drains)?;
    }
    let deliver = |(rollout, nodes): (String, NodeSet)| {
        let told = deliver(config, store, &rollout, &nodes)?;
        Ok((rollout, told))
    };
    waiting.into_iter().map(deliver).collect()
}
