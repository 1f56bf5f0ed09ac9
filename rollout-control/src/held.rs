//! Telling held nodes to retry or to return to service as they are.

use crate::agents::ask_all::{Limits, send_sealed};
use crate::agents::seal::{SealError, seal};
use crate::boot::change::{By, NotGiven, Restore, change, restore};
use crate::config::Config;
use crate::store::{StoreError, StoreWriter};
use rollout_core::controller::held::Hold;
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};
use rollout_core::rollout::image::Image;
use rollout_core::rollout::journal::{Entry, NodeRecord};
use rollout_core::rollout::manifest::Manifest;
use rollout_host::random;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time limit for providers. A person waits.
const GIVING: Duration = Duration::from_secs(60);

/// The result of telling held nodes.
#[derive(Debug, Default)]
pub struct Told {
    pub done: NodeSet,
    /// Nodes that were not told, with the reason.
    pub failed: BTreeMap<String, String>,
}

/// Held nodes, by NodeName.
pub type Holds = BTreeMap<String, Hold>;

/// Has held nodes carry out their orders once more. A node whose order changes its boot source gets its image again; if
/// the node cannot be told then, its boot source is restored.
///
/// # Errors
/// Fails if nothing can be sealed; then no node was told.
pub fn retry(
    config: &Config,
    store: &StoreWriter,
    view: &View,
    holds: Holds,
    limits: Limits,
) -> Result<Told, SealError> {
    let nodes: NodeSet = holds.keys().cloned().collect();
    // Sealed first: a boot source must not be changed for an order that cannot be sent.
    let sealed = seal(config, &Order::new(random::order_id(), nodes, OrderKind::Retry))?;
    let not_given = give_images(config, store, view, &holds);
    let tell = holds.iter().filter(|(node, _)| !not_given.contains_key(*node));
    let tell: Holds = tell.map(|(node, hold)| (node.clone(), hold.clone())).collect();
    let mut told = send(config, view, &tell, &sealed, limits);
    record(store, &tell, &mut told, |nodes, order| Entry::Retried { nodes, order });
    // Whatever the reason: the node does not boot the image unproven.
    told.failed.extend(not_given);
    let failed = |node: &String| told.failed.contains_key(node);
    let of_failed = holds.into_iter().filter(|(node, _)| failed(node)).collect();
    let kept = restore_images(config, store, of_failed, "the retry was not taken", By::Owner);
    for (node, why) in kept {
        told.failed.entry(node).and_modify(|failed| *failed = format!("{failed}; {why}"));
    }
    Ok(told)
}

/// Gives held nodes back as they are. A boot source that was changed for the order is restored first.
///
/// # Errors
/// Fails if nothing can be sealed; then no node was told.
pub fn release(
    config: &Config,
    store: &StoreWriter,
    view: &View,
    holds: Holds,
    limits: Limits,
) -> Result<Told, SealError> {
    let nodes: NodeSet = holds.keys().cloned().collect();
    let sealed = seal(config, &Order::new(random::order_id(), nodes, OrderKind::Release))?;
    let not_restored = restore_images(config, store, holds.clone(), "the node is released", By::Other);
    let tell: Holds = holds.into_iter().filter(|(node, _)| !not_restored.contains_key(node)).collect();
    let mut told = send(config, view, &tell, &sealed, limits);
    record(store, &tell, &mut told, |nodes, order| Entry::Released { nodes, order });
    told.failed.extend(not_restored);
    Ok(told)
}

fn send(config: &Config, view: &View, holds: &Holds, sealed: &str, limits: Limits) -> Told {
    let letters: BTreeMap<String, String> =
        holds.keys().map(|node| (node.clone(), sealed.to_owned())).collect();
    let mut told = Told::default();
    let mut done = Vec::new();
    for (node, answer) in send_sealed(config, letters, &view.snapshot.addresses, limits) {
        match answer {
            Ok(Answer::Accepted { .. } | Answer::UnderWay { .. }) => done.push(node),
            Ok(Answer::Refused { why, .. }) => drop(told.failed.insert(node, why)),
            Err(no_answer) => drop(told.failed.insert(node, no_answer.to_string())),
        }
    }
    told.done = done.into_iter().collect();
    told
}

/// Records the admin's word under the order that held each node. A journal that cannot be written concerns its own
/// nodes only.
fn record(store: &StoreWriter, holds: &Holds, told: &mut Told, entry: impl Fn(NodeSet, OrderId) -> Entry) {
    for (hold, nodes) in by_hold(holds.iter().filter(|(node, _)| told.done.contains(node))) {
        let entry = entry(nodes.iter().cloned().collect(), hold.order.clone());
        if let Err(error) = store.record(hold.rollout.as_deref(), vec![entry]) {
            told.failed
                .extend(nodes.into_iter().map(|node| (node, format!("told, and not written down: {error}"))));
        }
    }
}

fn by_hold<'a>(holds: impl Iterator<Item = (&'a String, &'a Hold)>) -> BTreeMap<&'a Hold, Vec<String>> {
    let mut groups: BTreeMap<&Hold, Vec<String>> = BTreeMap::new();
    for (node, hold) in holds {
        groups.entry(hold).or_default().push(node.clone());
    }
    groups
}

/// Gives the nodes whose orders change their boot source their image again. It was restored when they went back.
/// Returns the nodes for which that failed: a rollout whose files cannot be written concerns its own nodes only.
fn give_images(config: &Config, store: &StoreWriter, view: &View, holds: &Holds) -> NotGiven {
    let mut not_given = NotGiven::new();
    for (hold, nodes) in by_hold(holds.iter()) {
        let Some(id) = &hold.rollout else { continue };
        let desired = match store.rollout(id).map(|rollout| rollout.state.manifest) {
            Ok(Ok(manifest)) => manifest.desired,
            Ok(Err(error)) => {
                not_given.extend(nodes.into_iter().map(|node| (node, error.clone())));
                continue;
            }
            Err(error) => {
                let why = image_unknown(store, id, &error);
                not_given
                    .extend(why.iter().flat_map(|why| nodes.iter().map(|node| (node.clone(), why.clone()))));
                continue;
            }
        };
        if desired.image().is_none_or(|image| !image.via.is_on_controller()) {
            continue;
        }
        let give_back = GiveBack { resume_if_late: true, drained: None };
        let apply = Apply { rollout: id.clone(), desired, give_back };
        let (order, all) = (hold.order.clone(), nodes.iter().cloned().collect());
        let order = Order::new(order, all, OrderKind::Apply(apply.clone()));
        let until = Instant::now() + GIVING;
        match change(config, store, &order, &apply, &view.snapshot.addresses, until) {
            Ok(some) => not_given.extend(some),
            Err(error) => not_given.extend(nodes.into_iter().map(|node| (node, error.to_string()))),
        }
        // Without it, the timer follows up half a minute later.
        let _ = store.call_follow_up();
    }
    not_given
}

/// Returns why it is not known whether the controller sets an image for a rollout that cannot be read. If the rollout
/// is not here any more, its image is none of the controller's business.
fn image_unknown(store: &StoreWriter, id: &str, error: &StoreError) -> Option<String> {
    if matches!(error, StoreError::NoSuchRollout(_)) {
        return None;
    }
    let manifest = store.manifest_text(id).ok().and_then(|text| Manifest::parse(&text).ok());
    let image = manifest.as_ref().map(|manifest| manifest.desired.image());
    let is_elsewhere = image.is_some_and(|image| image.is_none_or(|image| !image.via.is_on_controller()));
    (!is_elsewhere).then(|| error.to_string())
}

/// Restores the boot sources that the orders of held nodes have changed. Returns the nodes for which that failed, as
/// [`give_images`] does.
fn restore_images(
    config: &Config,
    store: &StoreWriter,
    holds: Holds,
    why: &str,
    by: By,
) -> BTreeMap<String, String> {
    let mut failed = BTreeMap::new();
    for (hold, nodes) in by_hold(holds.iter()) {
        let Some(id) = &hold.rollout else { continue };
        let rollout = match store.rollout(id) {
            Ok(rollout) => rollout,
            Err(error) => {
                let why = image_unknown(store, id, &error);
                failed
                    .extend(why.iter().flat_map(|why| nodes.iter().map(|node| (node.clone(), why.clone()))));
                continue;
            }
        };
        let to_restore: BTreeMap<String, Restore> = nodes
            .into_iter()
            .filter_map(|node| {
                let record: &NodeRecord = rollout.state.records.get(&node)?;
                let order = record.unsettled_boot_change()?.order.clone();
                Some((node, Restore { order, why: why.to_owned() }))
            })
            .collect();
        let image = match &rollout.state.manifest {
            Ok(manifest) => manifest.desired.image(),
            Err(error) => {
                failed.extend(to_restore.into_keys().map(|node| (node, error.clone())));
                continue;
            }
        };
        let Some(image) = image else { continue };
        let nodes: Vec<String> = to_restore.keys().cloned().collect();
        match restore_all(config, store, (&rollout.state.id, image), to_restore, by) {
            Ok(some) => failed.extend(some),
            Err(error) => failed.extend(nodes.into_iter().map(|node| (node, error.to_string()))),
        }
    }
    failed
}

fn restore_all(
    config: &Config,
    store: &StoreWriter,
    of: (&str, &Image),
    nodes: BTreeMap<String, Restore>,
    by: By,
) -> Result<BTreeMap<String, String>, StoreError> {
    if nodes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let wanted: Vec<String> = nodes.keys().cloned().collect();
    let until = (by, Instant::now() + GIVING);
    let mut restored = restore(config, store, of, nodes, &store.addresses(), until)?;
    for node in wanted.into_iter().filter(|node| !restored.done.contains(node)) {
        let busy = || "its boot source is being changed, try again in a minute".to_owned();
        restored.failed.entry(node).or_insert_with(busy);
    }
    Ok(restored.failed)
}
