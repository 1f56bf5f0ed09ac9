//! Orders and ledgers for the tests of this folder.

use super::ledger::Ledger;
use super::phase::Phase;
use super::record::{After, Before, Record};
use crate::hostlist::NodeSet;
use crate::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};
use crate::rollout::manifest::Manifest;

pub(super) const BACK: GiveBack = GiveBack { resume_if_late: true, drained: None };

/// An order to n[1-3].
pub(super) fn order(number: u128, kind: OrderKind) -> Order {
    Order::new(OrderId::from_random(number), NodeSet::parse("n[1-3]").unwrap(), kind)
}

/// Changes one link.
pub(super) fn apply(rollout: &str) -> OrderKind {
    apply_changes(rollout, "[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n")
}

/// Makes the changes of this manifest, without its head.
pub(super) fn apply_changes(rollout: &str, changes: &str) -> OrderKind {
    let text = format!("name='r'\nnodes='n1'\n{changes}");
    let desired = Manifest::parse(&text).unwrap().desired;
    OrderKind::Apply(Apply { rollout: rollout.to_owned(), desired, give_back: BACK })
}

pub(super) fn reboot() -> OrderKind {
    OrderKind::Reboot(BACK.into())
}

/// The ledger of order 1, which applies `driver`.
pub(super) fn ledger(phase: Phase) -> Ledger {
    let mut ledger = Ledger::begin(order(1, apply("driver")), phase, "boot-1", 10, None);
    if phase == Phase::Held {
        ledger.fail("nhc said no");
    }
    ledger
}

/// The record of a link that was or was not changed, or is being changed.
pub(super) fn record(changed: Option<bool>) -> Record {
    let after = changed.map(|changed| After { changed, ..After::default() });
    Record { before: Before::Symlink { target: None }, after }
}
