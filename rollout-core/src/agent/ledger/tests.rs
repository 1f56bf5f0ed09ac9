use super::*;
use crate::protocol::order::{Apply, GiveBack};
use crate::rollout::manifest::Manifest;

const BACK: GiveBack = GiveBack { resume_if_late: true, drained: None };

fn order(number: u128, what: OrderKind) -> Order {
    Order::new(OrderId::from_random(number), NodeSet::parse("n[1-3]").unwrap(), what)
}

fn apply(rollout: &str) -> OrderKind {
    let text = "name='r'\nnodes='n1'\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
    OrderKind::Apply(Apply {
        rollout: rollout.to_owned(),
        desired: Manifest::parse(text).unwrap().desired,
        give_back: BACK,
    })
}

fn ledger(phase: Phase) -> Ledger {
    let mut ledger = Ledger::begin(order(1, apply("driver")), phase, "boot-1", 10, None);
    if phase == Phase::Held {
        ledger.fail("nhc said no");
    }
    ledger
}

fn record(after: Option<bool>) -> Record {
    let after = after.map(|changed| After { changed, added: Vec::new(), removed: Vec::new() });
    Record { before: Before::Symlink { target: None }, after }
}

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
        (Phase::Undoing, closed("driver: undoing"), closed("driver: undoing")),
        (Phase::RebootingBack, closed("driver: rebooting-back"), Gate::Wait),
        (Phase::VerifyingOld, Gate::Wait, Gate::Wait),
        (Phase::Held, closed("driver: held: nhc said no"), closed("driver: held: nhc said no")),
        (Phase::Updated, Gate::Open, Gate::Open),
        (Phase::RolledBack, Gate::Open, Gate::Open),
        (Phase::Released, Gate::Open, Gate::Open),
    ] {
        assert_eq!(gate(Some(&ledger(phase)), Some(false), "boot-1"), same_boot, "{phase:?}");
        assert_eq!(gate(Some(&ledger(phase)), Some(false), "boot-2"), rebooted, "{phase:?} after a boot");
    }
    let plain = Ledger::begin(order(1, OrderKind::Reboot(BACK.into())), Phase::Rebooting, "boot-1", 10, None);
    assert_eq!(gate(Some(&plain), None, "boot-1"), closed("plain reboot: rebooting"));
    let mut no_reason = ledger(Phase::Held);
    no_reason.error = None;
    assert_eq!(gate(Some(&no_reason), None, "boot-1"), closed("driver: held: no reason is known"));
}

#[test]
fn orders_are_taken_where_nothing_is_under_way() {
    let taken = |what: OrderKind, phase: Option<Phase>| match consider(
        phase.map(ledger).as_ref(),
        &order(2, what),
        "n1",
    ) {
        Verdict::Accept(event) => format!("{event:?}"),
        Verdict::UnderWay(phase) => format!("under way: {}", phase.name()),
        Verdict::Refuse(why) => why,
    };
    let held = "held by driver: nhc said no; first `slurm-rollout retry n1` or `slurm-rollout release n1`";
    for settled in [None, Some(Phase::Updated), Some(Phase::RolledBack), Some(Phase::Released)] {
        let idle = settled.map_or("idle", Phase::name);
        assert_eq!(taken(apply("driver"), settled), "OrderedToApply");
        assert_eq!(taken(apply("other"), settled), "OrderedToApply");
        assert_eq!(taken(OrderKind::Reboot(BACK.into()), settled), "OrderedToReboot");
        assert_eq!(taken(OrderKind::Retry, settled), format!("the node is not held but {idle}"));
        assert_eq!(taken(OrderKind::Release, settled), format!("the node is not held but {idle}"));
    }
    for busy in Phase::ALL.into_iter().filter(|phase| !phase.is_settled() && *phase != Phase::Held) {
        let name = busy.name();
        assert_eq!(taken(apply("driver"), Some(busy)), format!("under way: {name}"));
        assert_eq!(taken(apply("other"), Some(busy)), format!("busy: driver is {name}"));
        assert_eq!(taken(OrderKind::Reboot(BACK.into()), Some(busy)), format!("under way: {name}"));
        assert_eq!(taken(OrderKind::Retry, Some(busy)), format!("the node is not held but {name}"));
        assert_eq!(taken(OrderKind::Release, Some(busy)), format!("the node is not held but {name}"));
    }
    assert_eq!(taken(apply("driver"), Some(Phase::Held)), held);
    assert_eq!(taken(apply("other"), Some(Phase::Held)), held);
    assert_eq!(taken(OrderKind::Reboot(BACK.into()), Some(Phase::Held)), held);
    assert_eq!(taken(OrderKind::Retry, Some(Phase::Held)), "OrderedToRetry");
    assert_eq!(taken(OrderKind::Release, Some(Phase::Held)), "OrderedToRelease");
}

#[test]
fn an_order_is_taken_once_and_only_by_the_nodes_that_it_names() {
    let same = order(1, apply("driver"));
    let foreign = consider(None, &same, "n4");
    assert_eq!(foreign, Verdict::Refuse("the order is for n[1-3], this is n4".to_owned()));
    assert_eq!(
        consider(Some(&ledger(Phase::Applying)), &same, "n4"),
        foreign,
        "not even that it is busy with it"
    );
    for phase in Phase::ALL {
        let verdict = consider(Some(&ledger(phase)), &same, "n1");
        if phase.is_settled() || phase == Phase::Held {
            let id = &same.id;
            let why = format!("order {id} was carried out before; the node is {}", phase.name());
            assert_eq!(verdict, Verdict::Refuse(why));
        } else {
            assert_eq!(verdict, Verdict::UnderWay(phase));
        }
    }
    // An order before the last one, whatever is under way now.
    let next =
        Ledger::begin(order(2, apply("next")), Phase::Applying, "boot-2", 20, Some(&ledger(Phase::Updated)));
    assert!(matches!(consider(Some(&next), &same, "n1"), Verdict::Refuse(why) if why.contains("before")));
    // An admin's word, which is not the order that the ledger names.
    let mut retried = ledger(Phase::Held);
    let retry = order(3, OrderKind::Retry);
    retried.begin_again(retry.id.clone(), "boot-1", 9);
    retried.enter(Phase::Applying, "boot-1", 20);
    assert!(matches!(consider(Some(&retried), &retry, "n1"), Verdict::Refuse(_)));
    assert_eq!(consider(Some(&retried), &same, "n1"), Verdict::UnderWay(Phase::Applying));
}

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
    assert_eq!(ledger.seen.len(), MAX_SEEN);
    assert_eq!(ledger.seen.first(), Some(&OrderId::from_random(200 - MAX_SEEN as u128 + 1)));
    assert_eq!(ledger.seen.last(), Some(&OrderId::from_random(200)));
    ledger.remember(OrderId::from_random(201));
    assert_eq!((ledger.seen.len(), ledger.seen.last()), (MAX_SEEN, Some(&OrderId::from_random(201))));
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
    // A boot between does not begin the count anew: a change that crashes the node is given up too.
    let mut crashes = ledger(Phase::Applying);
    for boot in ["boot-2", "boot-3"] {
        assert_eq!(crashes.started(boot), Event::Started { rebooted: true });
        crashes.enter(Phase::Applying, boot, 20);
    }
    assert_eq!(crashes.started("boot-4"), Event::ApplyFailed);
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
    assert_eq!(ledger.seen, [1, 2].map(OrderId::from_random));
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
