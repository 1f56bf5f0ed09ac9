//! Giving agents beforehand what is staged for their nodes, where slurmd runs RebootProgram: on the node nobody can ask
//! the controller. Nothing is done with it until slurmd says that Slurm has the node rebooted.

use crate::agents::ask_all::ask_agents;
use crate::config::{Config, Deliver};
use crate::store::{ChangedDrain, Store, StoreError};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Order, OrderKind, PreStage, UpdateDrain};
use rollout_core::rollout::journal::Entry;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::hand_over_mode::HandOverMode;
use rollout_host::{munge, random};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long all agents together may take. What they did not get by then, they get later.
const ALL_LIMIT: Duration = Duration::from_secs(10);

/// What came of telling agents.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Told {
    /// These took it.
    pub nodes: NodeSet,
    /// These did not, by the reason.
    pub failed: BTreeMap<String, NodeSet>,
}

/// Why no agent was told anything.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeliverError {
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is to be told cannot be sealed.
    #[error(transparent)]
    Munge(#[from] munge::MungeError),
}

/// Whether what is staged is to be given to agents beforehand. `slurm` is asked only where the configuration leaves it
/// to Slurm's.
///
/// # Errors
/// Those of `slurm`.
pub fn is_wanted<E>(config: &Config, slurm: impl FnOnce() -> Result<SlurmConfig, E>) -> Result<bool, E> {
    match config.deliver {
        Deliver::Always => Ok(true),
        Deliver::Never => Ok(false),
        Deliver::Auto => Ok(matches!(HandOverMode::of(&slurm()?), HandOverMode::Node { plain: false })),
    }
}

/// Gives the agents of these nodes what is staged for them in a rollout, with the drains that others have set, and writes
/// down who has it.
///
/// # Errors
/// If the rollout cannot be read, or nothing can be sealed.
pub fn deliver(config: &Config, store: &Store, rollout: &str, nodes: &NodeSet) -> Result<Told, DeliverError> {
    let (desired, drains) = (store.load(rollout)?.manifest.desired, store.drains());
    let mut by_drain: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for name in nodes.iter() {
        let drained = drains.get(name).map(|drain| drain.reason.clone());
        by_drain.entry(drained).or_default().push(name.to_owned());
    }
    let order = |(drained, names): (Option<String>, Vec<String>)| {
        let keep = PreStage { rollout: rollout.to_owned(), desired: desired.clone(), drained };
        Order::new(random::order_id(), names.into_iter().collect(), OrderKind::PreStage(keep))
    };
    let orders: Vec<Order> = by_drain.into_iter().map(order).collect();
    let told = tell(config, store, &orders)?;
    let taken = orders.into_iter().filter_map(|order| {
        let nodes = order.nodes.intersection(&told.nodes);
        let OrderKind::PreStage(PreStage { drained, .. }) = order.kind else { return None };
        (!nodes.is_empty()).then_some(Entry::Delivered { nodes, order: order.id, drained })
    });
    store.record(Some(rollout), taken.collect())?;
    Ok(told)
}

/// Tells agents of drains that others have set, or taken away, since they were given what is staged, and writes down who
/// knows. Those that do not answer are told the next time.
///
/// # Errors
/// If nothing can be sealed or written.
pub fn tell_drains(config: &Config, store: &Store, changed: &[ChangedDrain]) -> Result<(), DeliverError> {
    let order = |changed: &ChangedDrain| {
        let drained = UpdateDrain { order: changed.order.clone(), reason: changed.reason.clone() };
        Order::new(random::order_id(), changed.nodes.clone(), OrderKind::UpdateDrain(drained))
    };
    let orders: Vec<Order> = changed.iter().map(order).collect();
    let told = tell(config, store, &orders)?;
    for changed in changed {
        let nodes = changed.nodes.intersection(&told.nodes);
        if !nodes.is_empty() {
            let (order, drained) = (changed.order.clone(), changed.reason.clone());
            store.record(Some(&changed.rollout), vec![Entry::Delivered { nodes, order, drained }])?;
        }
    }
    Ok(())
}

/// Has the agents of these nodes forget what they were given of a rollout.
///
/// # Errors
/// If nothing can be sealed.
pub fn take_back(
    config: &Config,
    store: &Store,
    rollout: &str,
    nodes: &NodeSet,
) -> Result<Told, DeliverError> {
    let what = OrderKind::DropPreStaged { rollout: rollout.to_owned() };
    tell(config, store, &[Order::new(random::order_id(), nodes.clone(), what)])
}

/// Sends these orders, each node being in one of them, all at once.
fn tell(config: &Config, store: &Store, orders: &[Order]) -> Result<Told, DeliverError> {
    let mut letters: BTreeMap<String, Arc<str>> = BTreeMap::new();
    for order in orders {
        let sealed = config.munge().seal(&serde_json::to_vec(order).unwrap_or_default(), 0)?;
        let sealed: Arc<str> = sealed.into();
        letters.extend(order.nodes.iter().map(|name| (name.to_owned(), Arc::clone(&sealed))));
    }
    let nodes: NodeSet = letters.keys().cloned().collect();
    let limits = (config.agent_timeout.get(), ALL_LIMIT);
    let answers = ask_agents(config, &nodes, &store.addresses(), limits, move |name, address, client| {
        let sealed = letters.get(name).map_or("", |sealed| sealed);
        client.order(address, sealed).map_err(|silence| format!("no answer from its agent: {silence}"))
    });
    let (mut taken, mut failed): (Vec<String>, BTreeMap<String, Vec<String>>) = Default::default();
    for (name, answer) in answers {
        match answer {
            Ok(Answer::Accepted { .. } | Answer::UnderWay { .. }) => taken.push(name),
            Ok(Answer::Refused { why, .. }) | Err(why) => failed.entry(why).or_default().push(name),
        }
    }
    let failed = failed.into_iter().map(|(why, names)| (why, NodeSet::from_iter(names))).collect();
    Ok(Told { nodes: taken.into_iter().collect(), failed })
}
