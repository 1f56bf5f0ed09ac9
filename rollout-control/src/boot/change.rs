//! Changing what nodes boot from, and putting back what they had: what is about to be done is in the journal first.
//!
//! A node whose agent does not answer, or whose boot source cannot be read, is left alone. Sends no order.

use crate::agents::address::Addresses;
use crate::agents::ask_all::{Limits, ask_agents};
use crate::agents::client::NoAnswer;
use crate::boot::{BootNode, BootSource, NodesFile, Outcomes, Saved, provider};
use crate::config::Config;
use crate::store::{Store, StoreError};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Apply, Order, OrderId};
use rollout_core::rollout::image::{Image, Via};
use rollout_core::rollout::journal::{Booted, Entry};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an agent may take to say what its node runs, before anything is changed.
const ASKING_AGENTS: Duration = Duration::from_millis(1500);

/// Why nodes are not to be ordered, by NodeName.
pub type NotGiven = BTreeMap<String, String>;

/// Has the nodes of an order boot its image from now on, where the controller's side brings that about. Those of which that
/// is not certain are in the answer: they must not be ordered.
///
/// # Errors
/// If the journal cannot be read or written; then nothing has been changed.
pub fn change(
    config: &Config,
    store: &Store,
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
    let limits = Limits::new(limit, limit);
    let agents =
        ask_agents(config, &order.nodes, addresses, limits, |_, address, client| client.status(address));
    let end = Instant::now() + until.saturating_duration_since(Instant::now()) * 2 / 3;
    let (mut before, mut sources) = (BTreeMap::new(), BTreeMap::new());
    let mut saved = provider.read(&answering(&nodes, &agents, &mut not_given), end);
    for node in &nodes {
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
    let given: Vec<BootNode> = nodes.into_iter().filter(|node| before.contains_key(&node.name)).collect();
    if given.is_empty() {
        return Ok(not_given);
    }
    store.save_boot_sources(&apply.rollout, sources)?;
    let told = NodeSet::from_iter(before.keys().cloned());
    let entry = Entry::BootSource { nodes: told, order: order.id.clone(), before };
    store.record(Some(&apply.rollout), vec![entry])?;
    let outcomes = match &image.restores {
        None => provider.set(image, &given, end),
        Some(rollout) => restore(store, rollout, &*provider, given, end)?,
    };
    let refused = outcomes.into_iter().filter_map(|(node, done)| Some((node, done.err()?)));
    not_given
        .extend(refused.map(|(node, why)| (node, format!("{} is not given to it: {why}", image.name()))));
    Ok(not_given)
}

/// Those whose agents answer; the others are not to be given anything.
fn answering<T>(
    nodes: &[BootNode],
    agents: &BTreeMap<String, Result<T, NoAnswer>>,
    not_given: &mut NotGiven,
) -> Vec<BootNode> {
    let mut answering = Vec::new();
    for node in nodes {
        match agents.get(&node.name) {
            Some(Ok(_)) => answering.push(node.clone()),
            Some(Err(why)) => drop(not_given.insert(node.name.clone(), why.to_string())),
            None => drop(not_given.insert(node.name.clone(), "its agent was not asked".to_owned())),
        }
    }
    answering
}

/// Has the nodes boot what they booted before another rollout.
fn restore(
    store: &Store,
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

/// Has nodes boot again what they booted before a rollout's order, and writes down for which that was done. The others are
/// in the answer, with the reason.
///
/// # Errors
/// If the journal cannot be written.
pub fn put_back(
    config: &Config,
    store: &Store,
    (rollout, image): (&str, &Image),
    nodes: BTreeMap<String, Back>,
    addresses: &Addresses,
    until: Instant,
) -> Result<BTreeMap<String, String>, StoreError> {
    let mut sources = store.boot_sources(rollout)?;
    sources.retain(|node, _| nodes.contains_key(node));
    let outcomes = put_back_at(config, image.via, &sources, addresses, until);
    let mut done: BTreeMap<(OrderId, String), Vec<String>> = BTreeMap::new();
    let mut failed = BTreeMap::new();
    for (node, back) in nodes {
        match outcomes.get(&node).cloned().unwrap_or_else(|| Err("it was not kept".to_owned())) {
            Ok(()) => done.entry((back.order, back.why)).or_default().push(node),
            Err(why) => {
                drop(failed.insert(node, format!("what it booted from before cannot be put back: {why}")))
            }
        }
    }
    let entry = |((order, why), nodes): ((OrderId, String), Vec<String>)| Entry::PutBack {
        nodes: NodeSet::from_iter(nodes),
        order,
        why,
    };
    store.record(Some(rollout), done.into_iter().map(entry).collect())?;
    Ok(failed)
}

/// For which order something is put back, and why.
#[derive(Debug, Clone)]
pub struct Back {
    /// The order that it was changed for.
    pub order: OrderId,
    /// Why it is put back.
    pub why: String,
}

fn put_back_at(
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

/// A provider, and these nodes as it knows them.
///
/// # Errors
/// If it is not configured, or the site's file of nodes cannot be used.
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
