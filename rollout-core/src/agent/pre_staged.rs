//! The pre-staged order, which an agent keeps if slurmd runs RebootProgram. It causes no work until slurmd hands the
//! node over.

use crate::hostlist::NodeSet;
use crate::protocol::order::{
    Apply, GiveBack, LocalHandOver, Order, OrderId, OrderKind, PlainReboot, PreStage,
};
use serde::{Deserialize, Serialize};

/// The format, as in the ledger.
const VERSION: u32 = 1;

/// Number of order ids to remember: MUNGE credentials live at most an hour.
const MAX_ACCEPTED_ORDERS: usize = 64;

/// Content of `staged.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreStaged {
    version: u32,
    /// The order with [`OrderKind::PreStage`]. Its id is that of the order that will apply it.
    #[serde(default)]
    staged: Option<Order>,
    /// Ids of the orders that changed this content, oldest first. Each one is accepted once.
    #[serde(default, rename = "seen")]
    accepted_orders: Vec<OrderId>,
}

impl Default for PreStaged {
    fn default() -> Self {
        Self { version: VERSION, staged: None, accepted_orders: Vec::new() }
    }
}

impl PreStaged {
    /// Parses the content of `staged.json`.
    ///
    /// # Errors
    /// Returns the reason if it is damaged, or asks for something that a manifest cannot ask for.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let content: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if let Some((_, pre_stage)) = content.kept() {
            pre_stage.desired.check().map_err(|error| error.to_string())?;
        }
        Ok(content)
    }

    /// Returns the id of the pre-staged rollout.
    #[must_use]
    pub fn rollout(&self) -> Option<&str> {
        self.staged.as_ref().and_then(Order::rollout)
    }

    /// Returns the content after an order that pre-stages, drops or updates the drain.
    ///
    /// # Errors
    /// Returns the reason if the order was accepted before.
    pub fn after(&self, order: &Order) -> Result<Self, String> {
        if self.accepted_orders.contains(&order.id) {
            return Err(format!("{} was told before", order.id));
        }
        let mut next = self.clone();
        match &order.kind {
            OrderKind::PreStage(_) => next.staged = Some(order.clone()),
            OrderKind::DropPreStaged { rollout } if self.rollout() == Some(rollout) => next.staged = None,
            OrderKind::UpdateDrain(update) => {
                let staged = next.staged.as_mut().filter(|staged| staged.id == update.order);
                if let Some(OrderKind::PreStage(pre_stage)) = staged.map(|staged| &mut staged.kind) {
                    pre_stage.drained.clone_from(&update.reason);
                }
            }
            _ => {}
        }
        next.accepted_orders.push(order.id.clone());
        let extra = next.accepted_orders.len().saturating_sub(MAX_ACCEPTED_ORDERS);
        next.accepted_orders.drain(..extra);
        Ok(next)
    }

    /// Returns the content without this rollout. `None` if it is not the pre-staged one.
    #[must_use]
    pub fn without(&self, rollout: &str) -> Option<Self> {
        (self.rollout() == Some(rollout)).then(|| Self { staged: None, ..self.clone() })
    }

    /// Translates a hand-over by slurmd to node `me`: to the pre-staged order, unless that is among the orders that
    /// were `carried_out`, or to a plain reboot with this `id`. An earlier drain is known from the pre-staged order
    /// alone.
    #[must_use]
    pub fn order_for(
        &self,
        handed: &LocalHandOver,
        id: OrderId,
        me: &NodeSet,
        carried_out: &[OrderId],
    ) -> Order {
        let kept = self.kept().filter(|(id, _)| !carried_out.contains(id));
        let drained = kept.and_then(|(_, pre_stage)| pre_stage.drained.clone());
        let give_back = GiveBack { drained, ..handed.plain.give_back.clone() };
        match kept.filter(|_| handed.apply) {
            Some((id, pre_stage)) => {
                let (rollout, desired) = (pre_stage.rollout.clone(), pre_stage.desired.clone());
                let apply = Apply { rollout, desired, give_back };
                Order::new(id.clone(), me.clone(), OrderKind::Apply(apply))
            }
            None => {
                let plain = PlainReboot { give_back, ..handed.plain.clone() };
                Order::new(id, me.clone(), OrderKind::Reboot(plain))
            }
        }
    }

    fn kept(&self) -> Option<(&OrderId, &PreStage)> {
        match self.staged.as_ref().map(|staged| (&staged.id, &staged.kind)) {
            Some((id, OrderKind::PreStage(pre_stage))) => Some((id, pre_stage)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
