//! `drains.json`: drains that somebody else set, as they were last seen before a reboot was asked for.

use super::{Store, StoreError};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::slurm::drains::{Drains, observe};
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;
use std::collections::BTreeMap;

const FILE: &str = "drains.json";

/// Nodes whose agents were given something beforehand, and know another drain than there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedDrain {
    /// The rollout that they were given.
    pub rollout: String,
    /// The order under which they have it.
    pub order: OrderId,
    /// The Reason of the drain; none if there is none any more.
    pub reason: Option<String>,
    /// The nodes.
    pub nodes: NodeSet,
}

impl Store {
    /// The drains that agents do not know of which were given something beforehand.
    ///
    /// # Errors
    /// If a journal cannot be read.
    pub fn changed_drains(&self) -> Result<Vec<ChangedDrain>, StoreError> {
        let (drains, now_ms) = (self.drains(), clock::now_ms());
        let mut changed: BTreeMap<(String, OrderId, Option<String>), Vec<String>> = BTreeMap::new();
        for (rollout, fold) in self.folds()? {
            for (name, node) in fold {
                let reason = drains.get(&name).map(|drain| drain.reason.clone());
                let waits = node.delivered && node.progress.is_armed(now_ms) && node.drained != reason;
                if let Some(order) = node.order.filter(|_| waits) {
                    changed.entry((rollout.clone(), order, reason)).or_default().push(name);
                }
            }
        }
        let of = |((rollout, order, reason), names): (_, Vec<String>)| ChangedDrain {
            rollout,
            order,
            reason,
            nodes: names.into_iter().collect(),
        };
        Ok(changed.into_iter().map(of).collect())
    }

    /// What was last seen. Empty where nothing was; a file that cannot be read counts as that.
    #[must_use]
    pub fn drains(&self) -> Drains {
        self.read_json(FILE)
    }

    /// Keeps what Slurm says of these nodes now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn learn_drains(&self, nodes: &[NodeInfo]) -> Result<(), StoreError> {
        let next = |known: Drains| {
            let seen = observe(&known, nodes);
            let mut next = known;
            next.retain(|name, _| !nodes.iter().any(|node| node.name == *name));
            next.extend(seen);
            next
        };
        let known = self.drains();
        if next(known.clone()) == known {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.write_json(FILE, &next(self.drains()))
    }
}
