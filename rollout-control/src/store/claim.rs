//! Claiming handed-over nodes: under the lock, each node is given to one invocation of RebootProgram only.

use super::journal_file::Appended;
use super::{StoreError, StoreWriter};
use rollout_core::controller::hand_over::{HandedOver, OrderGroup, SkippedNodes, group};
use rollout_core::controller::snapshot::{Snapshot, Unreadable};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderKind, PlainReboot};
use rollout_core::rollout::journal::Entry;
use rollout_host::{clock, random};

/// Nodes that this process alone may order, and the order.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The rollout whose journal has the claim. `None` for plain reboots.
    pub rollout: Option<String>,
    pub order: Order,
}

/// The result of claiming nodes.
#[derive(Debug, Default)]
pub struct Claims {
    pub claims: Vec<Claim>,
    /// Nodes that must not be ordered.
    pub skipped: SkippedNodes,
    /// Nodes of rollouts whose manifest or journal cannot be read any more, with the error: nobody knows what they must
    /// become.
    pub broken: Vec<(NodeSet, String)>,
}

impl StoreWriter {
    /// Claims the nodes for `hold_ms` milliseconds. The claims are in the journals when this returns. `features` go
    /// with plain reboots.
    ///
    /// # Errors
    /// Fails if a journal cannot be written; then nothing may be ordered.
    pub fn claim(
        &self,
        nodes: &[HandedOver],
        features: Option<&str>,
        hold_ms: u64,
    ) -> Result<Claims, StoreError> {
        let (lock, snapshot) = self.lock_with_snapshot()?;
        let now_ms = clock::now_ms();
        lock.compact_plain_reboots(now_ms)?;
        // A node whose journal cannot be read may have any order, and boot anything.
        let (unknown, nodes): (Vec<HandedOver>, Vec<HandedOver>) =
            nodes.iter().cloned().partition(|handed| snapshot.is_in_unreadable(&handed.node));
        let (groups, skipped) = group(&nodes, &snapshot, now_ms);
        let mut claims = Claims { skipped, broken: broken(&unknown, &snapshot), ..Claims::default() };
        let mut appended = Vec::new();
        for (group, names) in groups {
            let nodes = NodeSet::from_iter(names);
            let kind = match kind(&group, &snapshot, features) {
                Ok(kind) => kind,
                Err(error) => {
                    claims.broken.push((nodes, error));
                    continue;
                }
            };
            // Under the order that an agent has already it cannot be carried out twice.
            let id = group.pre_staged.cloned().unwrap_or_else(random::order_id);
            let order = Order::new(id, nodes, kind);
            let until_ms = now_ms.saturating_add(hold_ms);
            let entry = Entry::Ordering { nodes: order.nodes.clone(), order: order.id.clone(), until_ms };
            appended.push(lock.append_at(group.rollout, vec![entry], now_ms)?);
            claims.claims.push(Claim { rollout: group.rollout.map(str::to_owned), order });
        }
        // Neither the disk nor freeing a large snapshot holds up others.
        drop(lock);
        appended.into_iter().try_for_each(Appended::sync)?;
        Ok(claims)
    }
}

/// Returns the nodes of rollouts that cannot be read, with the error.
fn broken(nodes: &[HandedOver], snapshot: &Snapshot) -> Vec<(NodeSet, String)> {
    let of = |rollout: &Unreadable| -> NodeSet {
        let names = nodes.iter().map(|handed| &handed.node);
        names.filter(|name| rollout.nodes.contains(name)).cloned().collect()
    };
    let broken = snapshot.unreadable.iter().map(|rollout| (of(rollout), rollout.error.clone()));
    broken.filter(|(nodes, _)| !nodes.is_empty()).collect()
}

fn kind(group: &OrderGroup<'_>, snapshot: &Snapshot, features: Option<&str>) -> Result<OrderKind, String> {
    let drained = group.drained.map(str::to_owned);
    let give_back = GiveBack { resume_if_late: group.resume_if_late, drained };
    let Some(id) = group.rollout else {
        return Ok(OrderKind::Reboot(PlainReboot { give_back, features: features.map(str::to_owned) }));
    };
    let rollout = snapshot.rollout(id).ok_or_else(|| StoreError::NoSuchRollout(id.to_owned()).to_string())?;
    let desired = rollout.manifest.as_ref().map_err(String::clone)?.desired.clone();
    Ok(OrderKind::Apply(Apply { rollout: id.to_owned(), desired, give_back }))
}
