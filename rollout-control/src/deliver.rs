//! Giving agents beforehand what is staged for their nodes, where slurmd runs RebootProgram: on the node nobody can ask
//! the controller. Nothing is done with it until slurmd says that Slurm has the node rebooted.

use crate::ask::ask_agents;
use crate::config::{Config, Deliver};
use crate::store::{Store, StoreError};
use rollout_core::agent_api::Answer;
use rollout_core::hostlist::NodeSet;
use rollout_core::journal::Entry;
use rollout_core::order::{Keep, Order, What};
use rollout_core::slurm_config::SlurmConfig;
use rollout_core::way::Way;
use rollout_host::{munge, random};
use std::collections::BTreeMap;
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
        Deliver::Auto => Ok(matches!(Way::of(&slurm()?), Way::Node { plain: false })),
    }
}

/// Gives the agents of these nodes what is staged for them in a rollout, and writes down who has it.
///
/// # Errors
/// If the rollout cannot be read, or nothing can be sealed.
pub fn deliver(config: &Config, store: &Store, rollout: &str, nodes: &NodeSet) -> Result<Told, DeliverError> {
    let aim = store.load(rollout)?.manifest.aim;
    let what = What::Keep(Keep { rollout: rollout.to_owned(), aim });
    let order = Order::new(random::order_id(), nodes.clone(), what);
    let told = tell(config, store, &order)?;
    if !told.nodes.is_empty() {
        let entry = Entry::Delivered { nodes: told.nodes.clone(), order: order.id };
        store.record(Some(rollout), vec![entry])?;
    }
    Ok(told)
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
    let what = What::Drop { rollout: rollout.to_owned() };
    tell(config, store, &Order::new(random::order_id(), nodes.clone(), what))
}

fn tell(config: &Config, store: &Store, order: &Order) -> Result<Told, DeliverError> {
    let sealed = config.munge().seal(&serde_json::to_vec(order).unwrap_or_default(), 0)?;
    let limits = (config.agent_timeout.get(), ALL_LIMIT);
    let answers = ask_agents(config, &order.nodes, &store.addresses(), limits, move |address, client| {
        client.order(address, &sealed).map_err(|silence| format!("no answer from its agent: {silence}"))
    });
    let (mut taken, mut failed): (Vec<String>, BTreeMap<String, Vec<String>>) = Default::default();
    for (name, answer) in answers {
        match answer {
            Ok(Answer::Accepted { .. } | Answer::UnderWay { .. }) => taken.push(name),
            Ok(Answer::Refused { why }) | Err(why) => failed.entry(why).or_default().push(name),
        }
    }
    let failed = failed.into_iter().map(|(why, names)| (why, NodeSet::from_iter(names))).collect();
    Ok(Told { nodes: taken.into_iter().collect(), failed })
}
