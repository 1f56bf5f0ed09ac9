//! Sending the orders that got lost: Slurm runs RebootProgram once for a node, marks the node first, and never asks again,
//! whether the program was killed with slurmctld, could not be started, or found the agent dead (22.05 to 26.05).

use crate::config::Config;
use crate::deliver::{DeliverError, Told, deliver, is_wanted};
use crate::hand_over::{Report, hand_over};
use crate::store::{Store, StoreError};
use rollout_core::hand_over::Request;
use rollout_core::hostlist::NodeSet;
use rollout_core::way::Way;
use rollout_host::run::RunError;
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

/// Looks for nodes that Slurm shows as being rebooted and that nobody told so, and hands them over as RebootProgram does.
/// Where no node is being rebooted this is one scontrol call and nothing else. Drains that others set are written down.
///
/// # Errors
/// If Slurm or the state directory cannot be read.
pub fn reconcile(config: &Config, store: &Store, by: &str) -> Result<Reconciled, ReconcileError> {
    let begun = Instant::now();
    let mut infos = config.scontrol().show_all_nodes()?;
    store.learn_drains(&infos)?;
    infos.retain(|info| info.has("REBOOT_ISSUED"));
    if infos.is_empty() {
        return Ok(Reconciled::NothingLost);
    }
    let nodes = store.lost(&infos)?;
    if nodes.is_empty() {
        return Ok(Reconciled::NothingLost);
    }
    let not_ours = |why| Ok(Reconciled::NotOurs { nodes: nodes.clone(), why });
    // With actions of Slurm 26.05 nobody knows which one was lost: the one that changes less is taken.
    let plain = match Way::of(&config.scontrol().show_config()?) {
        Way::Controller { plain } => plain,
        Way::Action(_) => false,
        Way::Node { .. } => return not_ours("slurmd runs RebootProgram on each node".to_owned()),
        Way::NotOurs(why) => return not_ours(why),
    };
    let request = Request { nodes, features: None, plain };
    let report = hand_over(config, by, &request, begun);
    Ok(Reconciled::Ordered { nodes: request.nodes, report })
}

/// Gives agents what is staged for their nodes and did not reach them yet, where slurmd runs RebootProgram.
///
/// # Errors
/// If Slurm or the state directory cannot be read, or nothing can be sealed.
pub fn deliver_again(config: &Config, store: &Store) -> Result<Vec<(String, Told)>, ReconcileError> {
    let waiting = store.undelivered()?;
    if waiting.is_empty() || !is_wanted(config, || config.scontrol().show_config())? {
        return Ok(Vec::new());
    }
    let deliver = |(rollout, nodes): (String, NodeSet)| {
        let told = deliver(config, store, &rollout, &nodes)?;
        Ok((rollout, told))
    };
    waiting.into_iter().map(deliver).collect()
}
