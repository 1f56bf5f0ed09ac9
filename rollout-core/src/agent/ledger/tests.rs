use super::*;
use crate::agent::test_orders::{BACK, ledger, order, record};
use crate::rollout::image::Running;

#[test]
fn the_newest_orders_are_remembered() {
    let mut ledger = ledger(Phase::Updated);
    for number in 2..=200_u32 {
        ledger = Ledger::begin(
            order(number.into(), OrderKind::Reboot(BACK.into())),
            Phase::Updated,
            "b",
            10,
            Some(&ledger),
        );
    }
    assert_eq!(ledger.accepted_orders.len(), MAX_ACCEPTED_ORDERS);
    assert_eq!(
        ledger.accepted_orders.first(),
        Some(&OrderId::from_random(200 - MAX_ACCEPTED_ORDERS as u128 + 1))
    );
    assert_eq!(ledger.accepted_orders.last(), Some(&OrderId::from_random(200)));
    ledger.remember(OrderId::from_random(201));
    assert_eq!(
        (ledger.accepted_orders.len(), ledger.accepted_orders.last()),
        (MAX_ACCEPTED_ORDERS, Some(&OrderId::from_random(201)))
    );
}

#[test]
fn what_is_begun_too_often_is_given_up_with_a_reason() {
    for (phase, gives_up) in [
        (Phase::Applying, Some(Event::ApplyFailed)),
        (Phase::Verifying, Some(Event::VerifyFailed)),
        (Phase::Undoing, Some(Event::UndoFailed)),
        (Phase::VerifyingOld, Some(Event::OldNotProven)),
        (Phase::Rebooting, None),
        (Phase::RebootingBack, None),
        (Phase::Held, None),
        (Phase::Updated, None),
        (Phase::RolledBack, None),
        (Phase::Released, None),
    ] {
        let mut ledger = ledger(phase);
        ledger.error = None;
        for tries in 1..MAX_TRIES {
            assert_eq!(ledger.tries, tries);
            assert_eq!(ledger.started("boot-1"), Event::Started { rebooted: false }, "{phase:?}");
            assert_eq!(ledger.error, None);
            ledger.enter(phase, "boot-1", 20);
        }
        let event = ledger.started("boot-1");
        assert_eq!(event, gives_up.unwrap_or(Event::Started { rebooted: false }), "{phase:?}");
        let error = gives_up.map(|_| format!("interrupted 3 times while {}", phase.name()));
        assert_eq!(ledger.error, error);
    }
    // The agent of a node that may have jobs only looks, however often it is started.
    let mut looks = ledger(Phase::Verifying);
    for _ in 1..MAX_TRIES {
        looks.enter(Phase::Verifying, "boot-1", 20);
    }
    looks.enter(Phase::Registering, "boot-1", 20);
    for _ in 0..10 {
        assert_eq!(looks.started("boot-1"), Event::Started { rebooted: false });
        looks.enter(Phase::Registering, "boot-1", 20);
    }
    assert_eq!((looks.tries, looks.error.clone()), (MAX_TRIES, None));
    assert_eq!(looks.started("boot-2"), Event::VerifyFailed);
    // A boot between does not begin the count anew: a change that crashes the node is given up too.
    let mut crashes = ledger(Phase::Applying);
    for boot in ["boot-2", "boot-3"] {
        assert_eq!(crashes.started(boot), Event::Started { rebooted: true });
        crashes.enter(Phase::Applying, boot, 20);
    }
    assert_eq!(crashes.started("boot-4"), Event::ApplyFailed);
    // So is a system that crashes whenever slurmd starts, though each boot is proven anew in between.
    let mut crashes = ledger(Phase::Rebooting);
    for boot in ["boot-2", "boot-3", "boot-4"] {
        assert_eq!(crashes.started(boot), Event::Started { rebooted: true });
        crashes.enter(Phase::Verifying, boot, 20);
        crashes.enter(Phase::Registering, boot, 20);
        assert_eq!(crashes.boot_id, boot);
    }
    assert_eq!(crashes.started("boot-5"), Event::VerifyFailed);
    assert_eq!(crashes.error.as_deref(), Some("interrupted 3 times while registering"));
}

#[test]
fn slurm_must_accept_a_node_that_has_a_slurmd_and_was_changed() {
    let slurmd = |active, enabled| Some(Slurmd { active, enabled });
    let plain = Ledger::begin(order(1, OrderKind::Reboot(BACK.into())), Phase::Verifying, "b", 10, None);
    for (ledger, slurmd, register) in [
        (ledger(Phase::Verifying), slurmd(true, true), true),
        // A script of the site starts it.
        (ledger(Phase::Verifying), slurmd(true, false), true),
        (ledger(Phase::Verifying), slurmd(false, true), true),
        (ledger(Phase::Verifying), slurmd(false, false), false),
        (ledger(Phase::Verifying), None, false),
        // There is nothing to go back to.
        (plain, slurmd(true, true), false),
    ] {
        let ledger = Ledger { slurmd, ..ledger };
        assert_eq!(ledger.must_register(), register, "{slurmd:?}");
    }
}

#[test]
fn a_released_node_is_settled_once_its_drain_is_kept() {
    for phase in Phase::ALL {
        let mut ledger = ledger(phase);
        assert_eq!(ledger.is_settled(), phase.is_settled());
        ledger.drained = Some("bad disk".to_owned());
        assert_eq!(ledger.is_settled(), phase.is_settled() && phase != Phase::Released, "{phase:?}");
        ledger.drain_kept = true;
        assert_eq!(ledger.is_settled(), phase.is_settled());
    }
}

#[test]
fn entering_counts_tries_and_keeps_the_time_of_the_first() {
    let mut ledger = ledger(Phase::Applying);
    ledger.enter(Phase::Applying, "boot-2", 20);
    assert_eq!((ledger.tries, ledger.since_s, ledger.boot_id.as_str()), (2, 10, "boot-1"));
    ledger.enter(Phase::Rebooting, "boot-2", 30);
    assert_eq!((ledger.tries, ledger.since_s, ledger.boot_id.as_str()), (1, 30, "boot-2"));
    assert_eq!(ledger.ordered_boot_id, "boot-1");
    assert_eq!(ledger.started("boot-2"), Event::Started { rebooted: false });
    assert_eq!(ledger.started("boot-3"), Event::Started { rebooted: true });
}

#[test]
fn the_first_failure_stays_in_front() {
    let mut ledger = ledger(Phase::Applying);
    ledger.fail("change 1:\n\tno such\u{1b}[31m package\n");
    assert_eq!(ledger.error.as_deref(), Some("change 1: no such [31m package"));
    ledger.fail("no such [31m package");
    assert_eq!(ledger.error.as_deref(), Some("change 1: no such [31m package"), "said already");
    ledger.fail("undo: disk full");
    assert_eq!(ledger.error.as_deref(), Some("change 1: no such [31m package; undo: disk full"));
    for number in 0..50 {
        ledger.fail(&format!("{number}: {}", "long ".repeat(1000)));
    }
    let error = ledger.error.as_deref().unwrap();
    assert!(error.chars().count() <= 2 * MAX_ERROR && error.starts_with("change 1: no such"), "{error}");
}

#[test]
fn a_boot_is_due_after_changes_or_while_slurm_waits_for_one() {
    for (records, booted, changed, due) in [
        (vec![], false, false, true),
        (vec![], true, false, false),
        (vec![record(Some(false))], false, false, true),
        (vec![record(Some(false))], true, false, false),
        (vec![record(Some(false)), record(Some(true))], true, true, true),
        (vec![record(Some(true))], false, true, true),
        // Interrupted: it may have done anything.
        (vec![record(None)], true, true, true),
    ] {
        let mut ledger = ledger(Phase::Undoing);
        ledger.records = records;
        let boot_id = if booted { "boot-2" } else { "boot-1" };
        assert_eq!(
            (ledger.changed(), ledger.reboot_due(boot_id, true)),
            (changed, due),
            "{:?} {booted}",
            ledger.records
        );
    }
    // An image: only where another one runs.
    let image = |after| Record {
        before: Before::Image { running: Running::default(), saved: None },
        ..record(after)
    };
    for (records, booted, as_before, due) in [
        (vec![image(Some(true))], true, false, true),
        (vec![image(Some(true))], true, true, false),
        (vec![image(None)], true, true, false),
        (vec![image(Some(true))], false, true, true),
        (vec![image(Some(true)), record(Some(true))], true, true, true),
    ] {
        let mut ledger = ledger(Phase::Undoing);
        ledger.records = records;
        let boot_id = if booted { "boot-2" } else { "boot-1" };
        assert_eq!(ledger.reboot_due(boot_id, as_before), due, "{:?} {booted}", ledger.records);
    }
}

#[test]
fn a_status_says_whether_anything_is_left_on_the_node() {
    let mut ledger = ledger(Phase::Updated);
    assert!(!ledger.status().changed);
    ledger.records = vec![record(Some(true))];
    assert!(ledger.status().changed);
    let status = ledger.status();
    assert_eq!(
        (status.rollout.as_deref(), status.since_s, status.id),
        (Some("driver"), 10, ledger.order.id.clone())
    );
}

#[test]
fn only_an_order_that_ended_by_itself_says_how_long_it_took() {
    let mut ledger = ledger(Phase::Applying);
    assert_eq!(ledger.ordered_s, Some(10));
    for (phase, ended_s, took_s) in [
        (Phase::Rebooting, 20, None),
        (Phase::Updated, 100, Some(90)),
        (Phase::RolledBack, 400, Some(390)),
        (Phase::Held, 400, None),
        (Phase::Released, 9000, None),
        (Phase::Updated, 9, None),
    ] {
        ledger.enter(phase, "boot-2", ended_s);
        assert_eq!(ledger.status().took_s, took_s, "{phase:?} at {ended_s}");
    }
    ledger.begin_again(OrderId::from_random(2), "boot-2", 50);
    ledger.enter(Phase::RolledBack, "boot-3", 60);
    assert_eq!(ledger.status().took_s, Some(10), "a retry counts from itself");
    ledger.ordered_s = None;
    assert_eq!(ledger.status().took_s, None, "a ledger of an older agent");
}

#[test]
fn retrying_forgets_what_was_and_not_which_orders_were_taken() {
    let mut ledger = ledger(Phase::Held);
    ledger.records = vec![record(Some(true))];
    ledger.begin_again(OrderId::from_random(2), "boot-5", 9);
    assert!(ledger.records.is_empty() && ledger.error.is_none());
    assert_eq!(ledger.order.id, OrderId::from_random(1), "it is still the same order");
    assert_eq!(ledger.accepted_orders, [1, 2].map(OrderId::from_random));
    assert!(ledger.reboot_due("boot-5", true) && !ledger.reboot_due("boot-6", true));
}

#[test]
fn only_a_manifest_that_says_so_holds_a_node_that_was_undone() {
    assert_eq!(ledger(Phase::VerifyingOld).old_proven(), Event::OldProven { hold: false });
    let mut hold = ledger(Phase::VerifyingOld);
    if let OrderKind::Apply(apply) = &mut hold.order.kind {
        apply.desired.verify.on_failure = OnFailure::Hold;
    }
    assert_eq!(hold.old_proven(), Event::OldProven { hold: true });
    let mut plain = Ledger::begin(order(1, OrderKind::Reboot(BACK.into())), Phase::Rebooting, "b", 1, None);
    assert_eq!(plain.old_proven(), Event::OldProven { hold: false });
    assert_eq!(plain.subject(), "plain reboot");
}

#[test]
fn notes_are_in_the_status_beside_the_failure() {
    let mut updated = ledger(Phase::Applying);
    updated.records = vec![record(None)];
    let notes = vec!["a scriptlet failed:\nno".to_owned()];
    updated.record_after(After { changed: true, notes: notes.clone(), ..After::default() });
    updated.note(&notes);
    assert_eq!(updated.error, None);
    let status = updated.status();
    assert_eq!((status.error, status.notes), (None, vec!["a scriptlet failed: no".to_owned()]));
    let mut held = ledger(Phase::Held);
    held.note(&["tzdata was updated".to_owned()]);
    let status = held.status();
    assert_eq!(status.error.as_deref(), Some("nhc said no"));
    assert_eq!(status.notes, ["tzdata was updated"]);
    assert_eq!(held.reason(), "nhc said no");
    held.begin_again(OrderId::from_random(9), "boot-2", 20);
    let status = held.status();
    assert_eq!((status.error, status.notes), (None, Vec::new()));
    held.note(&(0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(held.status().notes.len(), MAX_NOTES);
}
