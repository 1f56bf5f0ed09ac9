//! Giving agents staged orders in advance, if slurmd runs RebootProgram: on the node nobody can ask the controller. The
//! agent does nothing with them until slurmd reports that Slurm has the node rebooted.

use crate::agents::ask_all::{Limits, send_sealed};
use crate::agents::seal::{SealError, seal};
use crate::config::{Config, Deliver};
use crate::store::{StoreError, StoreWriter};
use rollout_core::controller::hand_over::ApplyBy;
use rollout_core::controller::pre_staging::ChangedDrain;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Order, OrderKind, PreStage, UpdateDrain};
use rollout_core::rollout::journal::Entry;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::drains::Drain;
use rollout_core::slurm::hand_over_mode::HandOverMode;
use rollout_host::random;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time limit for all agents together. The others get it later.
const ALL_LIMIT: Duration = Duration::from_secs(10);

/// The result of telling agents.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Told {
    /// Nodes whose agents took it.
    pub nodes: NodeSet,
    /// Nodes whose agents did not, by the reason.
    pub failed: BTreeMap<String, NodeSet>,
}

/// The reason for telling no agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreStageError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The rollout's manifest cannot be read any more.
    #[error("{0}")]
    Manifest(String),
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Returns whether agents must hold staged orders in advance. `slurm` is asked only if the configuration leaves it to
/// Slurm's.
///
/// # Errors
/// Fails if `slurm` does.
pub fn is_wanted<E>(config: &Config, slurm: impl FnOnce() -> Result<SlurmConfig, E>) -> Result<bool, E> {
    match config.deliver {
        // An agent has no Reason when slurmd calls it: it would apply what no reboot has named.
        _ if config.apply == ApplyBy::Named => Ok(false),
        Deliver::Always => Ok(true),
        Deliver::Never => Ok(false),
        Deliver::Auto => Ok(matches!(HandOverMode::of(&slurm()?), HandOverMode::Node { plain: false })),
    }
}

/// Gives the agents of these nodes their staged order, with the drains set by others, and records which agents have it.
///
/// # Errors
/// Fails if the rollout cannot be read, or nothing can be sealed.
pub fn pre_stage(
    config: &Config,
    store: &StoreWriter,
    rollout: &str,
    nodes: &NodeSet,
) -> Result<Told, PreStageError> {
    let manifest = store.rollout(rollout)?.state.manifest.map_err(PreStageError::Manifest)?;
    let (desired, drains) = (manifest.desired, store.drains());
    let mut by_drain: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for name in nodes.iter() {
        let drained = drains.get(name).and_then(Drain::kept_by_every_reboot).map(str::to_owned);
        by_drain.entry(drained).or_default().push(name.to_owned());
    }
    let order = |(drained, names): (Option<String>, Vec<String>)| {
        let kind = PreStage { rollout: rollout.to_owned(), desired: desired.clone(), drained };
        Order::new(random::order_id(), names.into_iter().collect(), OrderKind::PreStage(kind))
    };
    let orders: Vec<Order> = by_drain.into_iter().map(order).collect();
    let told = tell(config, store, &orders)?;
    let taken = orders.into_iter().filter_map(|order| {
        let nodes = order.nodes.intersection(&told.nodes);
        let OrderKind::PreStage(PreStage { drained, .. }) = order.kind else { return None };
        (!nodes.is_empty()).then_some(Entry::PreStaged { nodes, order: order.id, drained })
    });
    store.record(Some(rollout), taken.collect())?;
    Ok(told)
}

/// Tells agents with a pre-staged order of drains that others have set or removed since, and records which agents know.
/// The others are told the next time.
///
/// # Errors
/// Fails if nothing can be sealed or written.
pub fn tell_drains(
    config: &Config,
    store: &StoreWriter,
    changed: &[ChangedDrain],
) -> Result<(), PreStageError> {
    let order = |changed: &ChangedDrain| {
        let drain = UpdateDrain { order: changed.order.clone(), reason: changed.reason.clone() };
        Order::new(random::order_id(), changed.nodes.clone(), OrderKind::UpdateDrain(drain))
    };
    let orders: Vec<Order> = changed.iter().map(order).collect();
    let told = tell(config, store, &orders)?;
    for changed in changed {
        let nodes = changed.nodes.intersection(&told.nodes);
        if !nodes.is_empty() {
            let (order, drained) = (changed.order.clone(), changed.reason.clone());
            store.record(Some(&changed.rollout), vec![Entry::PreStaged { nodes, order, drained }])?;
        }
    }
    Ok(())
}

/// Has the agents of these nodes forget the pre-staged order of a rollout.
///
/// # Errors
/// Fails if nothing can be sealed.
pub fn take_back(
    config: &Config,
    store: &StoreWriter,
    rollout: &str,
    nodes: &NodeSet,
) -> Result<Told, PreStageError> {
    let kind = OrderKind::DropPreStaged { rollout: rollout.to_owned() };
    tell(config, store, &[Order::new(random::order_id(), nodes.clone(), kind)])
}

/// Sends these orders, all at once. Each node is in one of them.
fn tell(config: &Config, store: &StoreWriter, orders: &[Order]) -> Result<Told, PreStageError> {
    let mut sealed_for: BTreeMap<String, Arc<str>> = BTreeMap::new();
    for order in orders {
        let sealed: Arc<str> = seal(config, order)?.into();
        sealed_for.extend(order.nodes.iter().map(|name| (name.to_owned(), Arc::clone(&sealed))));
    }
    let limits = Limits::new(config.agent_timeout.get(), ALL_LIMIT);
    let (mut taken, mut failed): (Vec<String>, BTreeMap<String, Vec<String>>) = Default::default();
    for (name, answer) in send_sealed(config, sealed_for, &store.addresses(), limits) {
        match answer {
            Ok(Answer::Accepted { .. } | Answer::UnderWay { .. }) => taken.push(name),
            Ok(Answer::Refused { why, .. }) => failed.entry(why).or_default().push(name),
            Err(no_answer) => failed.entry(no_answer.to_string()).or_default().push(name),
        }
    }
    let failed = failed.into_iter().map(|(why, names)| (why, NodeSet::from_iter(names))).collect();
    Ok(Told { nodes: taken.into_iter().collect(), failed })
}
