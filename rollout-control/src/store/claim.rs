//! Claiming handed-over nodes: under the lock, each node is given to one invocation of RebootProgram only.

use super::{Store, StoreError};
use rollout_core::hand_over::{HandedOver, SkippedNodes, sort};
use rollout_core::hostlist::NodeSet;
use rollout_core::journal::{Entry, fold};
use rollout_core::manifest::Aim;
use rollout_core::order::{Apply, Order, Return, What};
use rollout_host::{clock, random};

/// Nodes that this process alone may order, and the order.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The rollout whose journal has the claim; none for plain reboots.
    pub rollout: Option<String>,
    /// What is to be sent.
    pub order: Order,
}

impl Store {
    /// Claims the nodes for `hold_ms` milliseconds. The claims are in the journals when this returns.
    ///
    /// # Errors
    /// If a journal cannot be read or written; then nothing may be ordered.
    pub fn claim(
        &self,
        nodes: &[HandedOver],
        hold_ms: u64,
    ) -> Result<(Vec<Claim>, SkippedNodes), StoreError> {
        let _lock = self.lock()?;
        self.journal(None).rotate()?;
        let now_ms = clock::now_ms();
        let rollouts = self.folds()?;
        let plain = fold(&self.plain_reboots()?);
        let (groups, skipped) = sort(nodes, &rollouts, &plain, now_ms);
        let mut claims = Vec::new();
        for (group, names) in groups {
            let back = Return { resume_if_late: group.resume_if_late };
            let what = match group.rollout {
                Some(id) => What::Apply(Apply { rollout: id.to_owned(), aim: self.aim(id)?, back }),
                None => What::Reboot(back),
            };
            let order = Order::new(random::order_id(), NodeSet::from_iter(names), what);
            claims.push(Claim { rollout: group.rollout.map(str::to_owned), order });
        }
        // Only once all of them can be sent: a claim that nobody sends would keep its nodes waiting until it ends.
        for Claim { rollout, order } in &claims {
            let entry = Entry::Ordering {
                nodes: order.nodes.clone(),
                order: order.id.clone(),
                until_ms: now_ms + hold_ms,
            };
            self.append(rollout.as_deref(), vec![entry])?;
        }
        Ok((claims, skipped))
    }

    fn aim(&self, id: &str) -> Result<Aim, StoreError> {
        Ok(self.manifest(id)?.aim)
    }
}
