//! Acceptance of orders: what an agent does with a genuine order, by its ledger.

use crate::agent::ledger::Ledger;
use crate::agent::phase::{Event, Phase};
use crate::protocol::order::{Order, OrderId, OrderKind};

/// Decision about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Carry it out, starting with this event.
    Accept(Event),
    /// An order that leads to the same result is being carried out.
    UnderWay(Phase),
    Refuse {
        why: String,
        /// The order in the way. The refused order's own id if that was carried out before.
        order: Option<OrderId>,
        /// The cause ends by itself, and without a boot: the order should be sent again.
        transient: bool,
    },
}

/// Decides about a genuine order to node `me`, whose newest ledger is `last`.
#[must_use]
pub fn consider(last: Option<&Ledger>, order: &Order, me: &str) -> Verdict {
    if !order.nodes.contains(me) {
        return refuse(None, format!("the order is for {}, this is {me}", order.nodes));
    }
    let under_way = last.filter(|ledger| !ledger.phase.is_settled());
    if let Some(ledger) = last.filter(|ledger| ledger.accepted_orders.contains(&order.id)) {
        return match under_way {
            Some(ledger) if ledger.phase != Phase::Held && ledger.order.id == order.id => {
                Verdict::UnderWay(ledger.phase)
            }
            _ => {
                let phase = ledger.phase.name();
                let why = format!("order {} was carried out before; the node is {phase}", order.id);
                Verdict::Refuse { why, order: Some(order.id.clone()), transient: false }
            }
        };
    }
    match &order.kind {
        // The agent turns a hand-over by slurmd into one of the others, and the rest asks for no work.
        OrderKind::PreStage(_)
        | OrderKind::UpdateDrain(_)
        | OrderKind::DropPreStaged { .. }
        | OrderKind::LocalHandOver(_)
        | OrderKind::BootRestored { .. }
        | OrderKind::Probe
        | OrderKind::Rehearse(_) => refuse(None, "not an order to be carried out".to_owned()),
        OrderKind::RestoreLedger(_) => consider_restoring(last, me),
        OrderKind::Retry | OrderKind::Release => consider_ending_a_hold(last, order),
        OrderKind::Apply(_) | OrderKind::Reboot(_) => match under_way {
            None if matches!(order.kind, OrderKind::Apply(_)) => Verdict::Accept(Event::OrderedToApply),
            None => Verdict::Accept(Event::OrderedToReboot),
            Some(ledger) => consider_beside(ledger, order, me),
        },
    }
}

fn consider_restoring(last: Option<&Ledger>, me: &str) -> Verdict {
    match last {
        None => Verdict::Accept(Event::Started { rebooted: true }),
        Some(ledger) => {
            let phase = ledger.phase.name();
            refuse(last, format!("{me} has a ledger and goes by it: it is {phase}"))
        }
    }
}

fn consider_ending_a_hold(last: Option<&Ledger>, order: &Order) -> Verdict {
    match last {
        Some(ledger) if ledger.phase == Phase::Held => Verdict::Accept(match order.kind {
            OrderKind::Retry => Event::OrderedToRetry,
            _ => Event::OrderedToRelease,
        }),
        _ => {
            let phase = last.map_or("idle", |ledger| ledger.phase.name());
            let in_the_way = last.filter(|ledger| !ledger.phase.is_settled());
            refuse(in_the_way, format!("the node is not held but {phase}"))
        }
    }
}

/// Decides about an order to apply or to reboot while another one is unsettled.
fn consider_beside(ledger: &Ledger, order: &Order, me: &str) -> Verdict {
    let subject = ledger.subject();
    if ledger.phase == Phase::Held {
        let why = ledger.reason();
        let ways = format!("`slurm-rollout retry {me}` or `slurm-rollout release {me}`");
        return refuse(Some(ledger), format!("held by {subject}: {why}; first {ways}"));
    }
    let busy = || format!("busy: {subject} is {}", ledger.phase.name());
    match &order.kind {
        // This one ends without a boot unless it fails. Slurm would wait for the boot of a new hand-over in vain.
        _ if ledger.phase == Phase::Registering => {
            Verdict::Refuse { why: busy(), order: Some(ledger.order.id.clone()), transient: true }
        }
        OrderKind::Apply(apply) if ledger.order.rollout() != Some(&apply.rollout) => {
            refuse(Some(ledger), busy())
        }
        // A plain reboot, as the order under way ends in a boot too; or the same rollout.
        _ => Verdict::UnderWay(ledger.phase),
    }
}

fn refuse(in_the_way: Option<&Ledger>, why: String) -> Verdict {
    Verdict::Refuse { why, order: in_the_way.map(|ledger| ledger.order.id.clone()), transient: false }
}

#[cfg(test)]
mod tests;
