//! Changing the boot sources of nodes and restoring them. The journal has each step before it is taken, and a boot
//! source has one owner at a time.
//!
//! A node whose agent does not answer, or whose boot source cannot be read, is left alone. Sends no order.

use crate::agents::ask_all::{Limits, ask_agents};
use crate::agents::client::NoAnswer;
use crate::boot::{BootNode, BootSource, NodesFile, Outcomes, Saved, provider};
use crate::config::Config;
use crate::store::{StoreError, StoreWriter};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::AgentStatus;
use rollout_core::protocol::order::{Apply, Order, OrderId};
use rollout_core::rollout::image::{Image, Via};
use rollout_core::rollout::journal::{Booted, Entry};
use rollout_core::slurm::addresses::Addresses;
use rollout_host::clock;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time limit for agents to report the running system, before anything is changed.
const ASKING_AGENTS: Duration = Duration::from_millis(1500);

/// Time for which a claim on boot sources outlives the deadline of the change.
const CLAIM_SLACK: Duration = Duration::from_secs(5);

/// Nodes that must not be ordered, with the reason.
pub type NotGiven = BTreeMap<String, String>;

/// Gives the nodes of an order the image to boot, if the controller brings that about. Returns the nodes for which that
/// is not certain: they must not be ordered.
///
/// # Errors
/// Fails if the journal cannot be read or written; then nothing was changed.
pub fn change(
    config: &Config,
    store: &StoreWriter,
    order: &Order,
    apply: &Apply,
    addresses: &Addresses,
    until: Instant,
) -> Result<NotGiven, StoreError> {
    let Some(image) = apply.desired.image().filter(|image| image.via.is_on_controller()) else {
        return Ok(NotGiven::new());
    };
    let all = |why: String| order.nodes.iter().map(|node| (node.to_owned(), why.clone())).collect();
    let (provider, nodes) = match provider_and_nodes(config, image.via, &order.nodes, addresses) {
        Ok(ready) => ready,
        Err(why) => return Ok(all(why)),
    };
    let mut not_given = NotGiven::new();
    let limit = ASKING_AGENTS.min(until.saturating_duration_since(Instant::now()) / 3);
    let limits = Limits::new(limit, limit).connecting_within(limit);
    let agents =
        ask_agents(config, &order.nodes, addresses, limits, |_, address, client| client.status(address));
    let end = Instant::now() + until.saturating_duration_since(Instant::now()) * 2 / 3;
    let answering = answering(&nodes, &agents, &mut not_given);
    let (before, sources) = observe(&*provider, &answering, &agents, end, &mut not_given);
    let given: Vec<BootNode> = nodes.into_iter().filter(|node| before.contains_key(&node.name)).collect();
    if given.is_empty() {
        return Ok(not_given);
    }
    store.save_boot_sources(&apply.rollout, sources)?;
    let changed = NodeSet::from_iter(before.keys().cloned());
    let until_ms = clock::now_ms().saturating_add(hold_ms(until));
    let entry = Entry::BootChange { nodes: changed, order: order.id.clone(), before, until_ms };
    store.record(Some(&apply.rollout), vec![entry])?;
    let outcomes = match &image.restores {
        None => provider.set(image, &given, end),
        Some(rollout) => set_as_before(store, rollout, &*provider, given, end)?,
    };
    let refused = outcomes.into_iter().filter_map(|(node, done)| Some((node, done.err()?)));
    not_given
        .extend(refused.map(|(node, why)| (node, format!("{} is not given to it: {why}", image.name()))));
    Ok(not_given)
}

fn hold_ms(until: Instant) -> u64 {
    let hold = until.saturating_duration_since(Instant::now()) + CLAIM_SLACK;
    u64::try_from(hold.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the nodes whose agents answered. The others are not given anything.
fn answering(
    nodes: &[BootNode],
    agents: &BTreeMap<String, Result<AgentStatus, NoAnswer>>,
    not_given: &mut NotGiven,
) -> Vec<BootNode> {
    let mut answering = Vec::new();
    for node in nodes {
        match agents.get(&node.name) {
            // It may be running an image that is not proven, which must not pass for the one from before.
            Some(Ok(agent)) if agent.awaits => {
                not_given.insert(node.name.clone(), "it has booted and awaits its instructions".to_owned());
            }
            Some(Ok(_)) => answering.push(node.clone()),
            Some(Err(no_answer)) => drop(not_given.insert(node.name.clone(), no_answer.to_string())),
            None => drop(not_given.insert(node.name.clone(), "its agent was not asked".to_owned())),
        }
    }
    answering
}

/// Returns the state before the change and the present boot sources, of the nodes for which both are known.
fn observe(
    provider: &dyn BootSource,
    nodes: &[BootNode],
    agents: &BTreeMap<String, Result<AgentStatus, NoAnswer>>,
    end: Instant,
    not_given: &mut NotGiven,
) -> (BTreeMap<String, Booted>, BTreeMap<String, Saved>) {
    let (mut before, mut sources) = (BTreeMap::new(), BTreeMap::new());
    let mut saved = provider.read(nodes, end);
    for node in nodes {
        let (Some(saved), Some(Ok(agent))) = (saved.remove(&node.name), agents.get(&node.name)) else {
            continue;
        };
        match saved {
            Ok(saved) => {
                let (running, boot_id) = (agent.running.clone(), agent.boot_id.clone());
                before.insert(node.name.clone(), Booted { running, boot_id });
                sources.insert(node.name.clone(), saved);
            }
            Err(why) => {
                drop(not_given.insert(node.name.clone(), format!("what it boots from is not known: {why}")))
            }
        }
    }
    (before, sources)
}

/// Gives the nodes the boot sources from before another rollout: the undo of that one.
fn set_as_before(
    store: &StoreWriter,
    rollout: &str,
    provider: &dyn BootSource,
    nodes: Vec<BootNode>,
    until: Instant,
) -> Result<Outcomes<()>, StoreError> {
    let mut sources = store.boot_sources(rollout)?;
    let mut outcomes = Outcomes::new();
    let mut back = Vec::new();
    for node in nodes {
        match sources.remove(&node.name) {
            Some(saved) => back.push((node, saved)),
            None => {
                let why = format!("{rollout} has not written down what it booted from before");
                outcomes.insert(node.name, Err(why));
            }
        }
    }
    outcomes.extend(provider.put_back(&back, until));
    Ok(outcomes)
}

/// An order for which a boot source is restored, and the reason.
#[derive(Debug, Clone)]
pub struct Restore {
    /// The order that owns the boot source.
    pub order: OrderId,
    pub why: String,
}

/// The process that restores boot sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The one that changed them and has just failed to send the order.
    Owner,
    /// Any other one: it waits until the owner's claim is over.
    Other,
}

/// The result of restoring boot sources.
#[derive(Debug, Default)]
pub struct Restored {
    pub done: NodeSet,
    /// Nodes for which it failed, with the reason. Nodes that another process is restoring, or whose boot source
    /// belongs to another order by now, are in neither.
    pub failed: BTreeMap<String, String>,
}

/// Restores the boot sources from before a rollout's orders, and records it.
///
/// # Errors
/// Fails if the journal cannot be read or written.
pub fn restore(
    config: &Config,
    store: &StoreWriter,
    (rollout, image): (&str, &Image),
    nodes: BTreeMap<String, Restore>,
    addresses: &Addresses,
    (by, until): (By, Instant),
) -> Result<Restored, StoreError> {
    let orders = nodes.iter().map(|(node, restore)| (node.clone(), restore.order.clone())).collect();
    let claimed = store.claim_restoring(rollout, &orders, hold_ms(until), by == By::Owner)?;
    let mut sources = store.boot_sources(rollout)?;
    sources.retain(|node, _| claimed.contains(node));
    let outcomes = restore_at(config, image.via, &sources, addresses, until);
    let mut done: BTreeMap<(OrderId, String), Vec<String>> = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for (node, restore) in nodes.into_iter().filter(|(node, _)| claimed.contains(node)) {
        match outcomes.get(&node).cloned().unwrap_or_else(|| Err("it was not kept".to_owned())) {
            Ok(()) => done.entry((restore.order, restore.why)).or_default().push(node),
            Err(why) => {
                drop(failed.insert(node, format!("what it booted from before cannot be put back: {why}")))
            }
        }
    }
    let restored = done.values().flatten().cloned().collect();
    let entry = |((order, why), nodes): ((OrderId, String), Vec<String>)| Entry::BootRestored {
        nodes: NodeSet::from_iter(nodes),
        order,
        why,
    };
    store.record(Some(rollout), done.into_iter().map(entry).collect())?;
    Ok(Restored { done: restored, failed })
}

fn restore_at(
    config: &Config,
    via: Via,
    sources: &BTreeMap<String, Saved>,
    addresses: &Addresses,
    until: Instant,
) -> Outcomes<()> {
    let names = &NodeSet::from_iter(sources.keys().cloned());
    match provider_and_nodes(config, via, names, addresses) {
        Err(why) => names.iter().map(|node| (node.to_owned(), Err(why.clone()))).collect(),
        Ok((provider, known)) => {
            let back = known.into_iter().filter_map(|node| {
                let saved = sources.get(&node.name)?.clone();
                Some((node, saved))
            });
            provider.put_back(&back.collect::<Vec<_>>(), until)
        }
    }
}

/// Returns a provider, and these nodes in its terms.
///
/// # Errors
/// Fails if it is not configured, or the site's file of nodes cannot be used.
pub fn provider_and_nodes(
    config: &Config,
    via: Via,
    names: &NodeSet,
    addresses: &Addresses,
) -> Result<(Box<dyn BootSource>, Vec<BootNode>), String> {
    let provider = provider(via, config)?;
    let file = NodesFile::load(&config.nodes_file).map_err(|error| error.to_string())?;
    Ok((provider, file.nodes(names, addresses)))
}
