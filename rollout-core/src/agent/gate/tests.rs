use super::*;
use crate::agent::test_orders::{ledger, order, reboot};

#[test]
fn the_gate_opens_for_settled_orders_only() {
    let closed = |why: &str| Gate::Closed(why.to_owned());
    assert_eq!(gate(None, None, "boot-1"), Gate::Open);
    assert_eq!(gate(None, Some(true), "boot-1"), Gate::Open);
    assert_eq!(gate(None, Some(false), "boot-1"), Gate::Wait, "nobody has said yet that it may");
    for (phase, same_boot, rebooted) in [
        (Phase::Applying, closed("driver: applying"), closed("driver: applying")),
        (Phase::Rebooting, closed("driver: rebooting"), Gate::Wait),
        (Phase::Verifying, Gate::Wait, Gate::Wait),
        // slurmd's start is a part of the proof, in the boot that was proven.
        (Phase::Registering, Gate::Open, Gate::Wait),
        (Phase::Undoing, closed("driver: undoing"), closed("driver: undoing")),
        (Phase::RebootingBack, closed("driver: rebooting-back"), Gate::Wait),
        (Phase::VerifyingOld, Gate::Wait, Gate::Wait),
        (Phase::Held, closed("driver: held: nhc said no"), closed("driver: held: nhc said no")),
        (Phase::Updated, Gate::Open, Gate::Open),
        (Phase::RolledBack, Gate::Open, Gate::Open),
        (Phase::Released, Gate::Open, Gate::Open),
    ] {
        let ledger = ledger(phase);
        for admitted in [None, Some(false)] {
            assert_eq!(gate(Some(&ledger), admitted, "boot-1"), same_boot, "{phase:?}");
        }
        assert_eq!(gate(Some(&ledger), None, "boot-2"), rebooted, "{phase:?} after a boot");
        // Settled in an earlier boot, it shows nothing about a node that loses its state in each.
        let volatile = if phase.is_settled() { Gate::Wait } else { rebooted };
        assert_eq!(gate(Some(&ledger), Some(false), "boot-2"), volatile, "{phase:?} after a boot");
    }
    let plain = Ledger::begin(order(1, reboot()), Phase::Rebooting, "boot-1", 10, None);
    assert_eq!(gate(Some(&plain), None, "boot-1"), closed("plain reboot: rebooting"));
    let mut drained = ledger(Phase::Released);
    drained.drained = Some("bad disk".to_owned());
    assert_eq!(gate(Some(&drained), None, "boot-1"), Gate::Wait, "the drain is kept first");
    drained.drain_kept = true;
    assert_eq!(gate(Some(&drained), None, "boot-1"), Gate::Open);
    let mut no_reason = ledger(Phase::Held);
    no_reason.error = None;
    assert_eq!(gate(Some(&no_reason), None, "boot-1"), closed("driver: held: no reason is known"));
}
