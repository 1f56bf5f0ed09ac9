//! Claiming handed-over nodes: under the lock, each node is given to one invocation of RebootProgram only.

use super::{Store, StoreError};
use rollout_core::controller::hand_over::{HandedOver, SkippedNodes, sort};
use rollout_core::controller::lost_orders::{LostOrder, lost};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderKind, PlainReboot};
use rollout_core::rollout::journal::{Entry, NodeRecord, NodeRecords, fold};
use rollout_core::rollout::manifest::DesiredState;
use rollout_core::slurm::node::NodeInfo;
use rollout_host::{clock, random};

/// Nodes that this process alone may order, and the order.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The rollout whose journal has the claim; none for plain reboots.
    pub rollout: Option<String>,
    /// What is to be sent.
    pub order: Order,
}

/// What came of claiming nodes.
#[derive(Debug, Default)]
pub struct Claims {
    /// To be sent.
    pub claims: Vec<Claim>,
    /// Nodes that are not to be ordered.
    pub skipped: SkippedNodes,
    /// Nodes of rollouts whose manifest cannot be read any more: they cannot become what nobody knows.
    pub broken: Vec<(NodeSet, StoreError)>,
}

impl Store {
    /// Claims the nodes for `hold_ms` milliseconds. The claims are in the journals when this returns. `features` go with
    /// plain reboots.
    ///
    /// # Errors
    /// If a journal cannot be read or written; then nothing may be ordered.
    pub fn claim(
        &self,
        nodes: &[HandedOver],
        features: Option<&str>,
        hold_ms: u64,
    ) -> Result<Claims, StoreError> {
        let _lock = self.lock()?;
        self.journal(None).rotate()?;
        let now_ms = clock::now_ms();
        let rollouts = self.folds()?;
        let plain = fold(&self.plain_reboots()?);
        let (groups, skipped) = sort(nodes, &rollouts, &plain, now_ms);
        let mut claims = Claims { skipped, ..Claims::default() };
        for (group, names) in groups {
            let nodes = NodeSet::from_iter(names);
            let back =
                GiveBack { resume_if_late: group.resume_if_late, drained: group.drained.map(str::to_owned) };
            let what = match group.rollout.map(|id| Ok((id, self.desired(id)?))).transpose() {
                Ok(Some((id, desired))) => {
                    OrderKind::Apply(Apply { rollout: id.to_owned(), desired, give_back: back })
                }
                Ok(None) => {
                    OrderKind::Reboot(PlainReboot { give_back: back, features: features.map(str::to_owned) })
                }
                Err(error) => {
                    claims.broken.push((nodes, error));
                    continue;
                }
            };
            // Under the order that an agent has already it cannot be carried out twice.
            let id = group.given.cloned().unwrap_or_else(random::order_id);
            let order = Order::new(id, nodes, what);
            let entry = Entry::Ordering {
                nodes: order.nodes.clone(),
                order: order.id.clone(),
                until_ms: now_ms.saturating_add(hold_ms),
            };
            self.append(group.rollout, vec![entry])?;
            claims.claims.push(Claim { rollout: group.rollout.map(str::to_owned), order });
        }
        Ok(claims)
    }

    /// Of these nodes, those that Slurm has handed over and that nobody told so. Takes no lock.
    ///
    /// # Errors
    /// If a journal cannot be read.
    pub fn lost(&self, slurm: &[NodeInfo]) -> Result<Vec<LostOrder>, StoreError> {
        Ok(lost(slurm, &self.folds()?, &fold(&self.plain_reboots()?), clock::now_ms()))
    }

    /// What is staged and was not given to its agents yet, by rollout.
    ///
    /// # Errors
    /// If a journal cannot be read.
    pub fn undelivered(&self) -> Result<Vec<(String, NodeSet)>, StoreError> {
        let now_ms = clock::now_ms();
        let waiting = |fold: NodeRecords| -> NodeSet {
            let waits = |node: &NodeRecord| node.progress.is_armed(now_ms) && !node.delivered;
            fold.into_iter().filter(|(_, node)| waits(node)).map(|(name, _)| name).collect()
        };
        let all = self.folds()?.into_iter().map(|(id, fold)| (id, waiting(fold)));
        Ok(all.filter(|(_, nodes)| !nodes.is_empty()).collect())
    }

    /// Of these nodes, those whose agents were given the rollout, and that still wait for it.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn delivered(&self, id: &str, nodes: Option<&NodeSet>) -> Result<NodeSet, StoreError> {
        let given = fold(&self.lines(id)?).into_iter().filter(|(_, node)| node.delivered);
        let armed = given.filter(|(_, node)| node.progress.is_armed(clock::now_ms()));
        let names = armed.map(|(name, _)| name);
        Ok(names.filter(|name| nodes.is_none_or(|nodes| nodes.contains(name))).collect())
    }

    fn desired(&self, id: &str) -> Result<DesiredState, StoreError> {
        Ok(self.manifest(id)?.desired)
    }
}
