use super::*;
use crate::agent::test_orders::{apply, ledger, order, reboot};

#[test]
fn orders_are_taken_where_nothing_is_under_way() {
    let taken = |what: OrderKind, phase: Option<Phase>| match consider(
        phase.map(ledger).as_ref(),
        &order(2, what),
        "n1",
    ) {
        Verdict::Accept(event) => format!("{event:?}"),
        Verdict::UnderWay(phase) => format!("under way: {}", phase.name()),
        Verdict::Refuse { why, transient, .. } => {
            format!("{}{why}", if transient { "for now: " } else { "" })
        }
    };
    let held = "held by driver: nhc said no; first `slurm-rollout retry n1` or `slurm-rollout release n1`";
    for settled in [None, Some(Phase::Updated), Some(Phase::RolledBack), Some(Phase::Released)] {
        let idle = settled.map_or("idle", Phase::name);
        assert_eq!(taken(apply("driver"), settled), "OrderedToApply");
        assert_eq!(taken(apply("other"), settled), "OrderedToApply");
        assert_eq!(taken(reboot(), settled), "OrderedToReboot");
        assert_eq!(taken(OrderKind::Retry, settled), format!("the node is not held but {idle}"));
        assert_eq!(taken(OrderKind::Release, settled), format!("the node is not held but {idle}"));
    }
    for busy in Phase::ALL.into_iter().filter(|phase| !phase.is_settled() && *phase != Phase::Held) {
        let name = busy.name();
        // The registering one ends without a boot.
        let covered = match busy {
            Phase::Registering => format!("for now: busy: driver is {name}"),
            _ => format!("under way: {name}"),
        };
        let other = match busy {
            Phase::Registering => covered.clone(),
            _ => format!("busy: driver is {name}"),
        };
        assert_eq!(taken(apply("driver"), Some(busy)), covered);
        assert_eq!(taken(apply("other"), Some(busy)), other);
        assert_eq!(taken(reboot(), Some(busy)), covered);
        assert_eq!(taken(OrderKind::Retry, Some(busy)), format!("the node is not held but {name}"));
        assert_eq!(taken(OrderKind::Release, Some(busy)), format!("the node is not held but {name}"));
    }
    assert_eq!(taken(apply("driver"), Some(Phase::Held)), held);
    assert_eq!(taken(apply("other"), Some(Phase::Held)), held);
    assert_eq!(taken(reboot(), Some(Phase::Held)), held);
    assert_eq!(taken(OrderKind::Retry, Some(Phase::Held)), "OrderedToRetry");
    assert_eq!(taken(OrderKind::Release, Some(Phase::Held)), "OrderedToRelease");
}

#[test]
fn an_order_is_taken_once_and_only_by_the_nodes_that_it_names() {
    let same = order(1, apply("driver"));
    let foreign = consider(None, &same, "n4");
    let why = "the order is for n[1-3], this is n4".to_owned();
    assert_eq!(foreign, Verdict::Refuse { why, order: None, transient: false });
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
            assert_eq!(verdict, Verdict::Refuse { why, order: Some(id.clone()), transient: false });
        } else {
            assert_eq!(verdict, Verdict::UnderWay(phase));
        }
    }
    // An order before the last one is refused during any other.
    let next =
        Ledger::begin(order(2, apply("next")), Phase::Applying, "boot-2", 20, Some(&ledger(Phase::Updated)));
    let late = consider(Some(&next), &same, "n1");
    assert!(matches!(late, Verdict::Refuse { why, .. } if why.contains("before")));
    // A retry has an id of its own, which is not that of the order in the ledger.
    let mut retried = ledger(Phase::Held);
    let retry = order(3, OrderKind::Retry);
    retried.begin_again(retry.id.clone(), "boot-1", 9);
    retried.enter(Phase::Applying, "boot-1", 20);
    assert!(matches!(consider(Some(&retried), &retry, "n1"), Verdict::Refuse { .. }));
    assert_eq!(consider(Some(&retried), &same, "n1"), Verdict::UnderWay(Phase::Applying));
}

#[test]
fn a_refusal_names_the_order_in_the_way() {
    let one = || Some(OrderId::from_random(1));
    for (kind, phase, in_the_way) in [
        (apply("other"), Some(Phase::Verifying), one()),
        (apply("driver"), Some(Phase::Held), one()),
        (reboot(), Some(Phase::Held), one()),
        (OrderKind::Retry, Some(Phase::Applying), one()),
        (OrderKind::Release, Some(Phase::Updated), None),
        (OrderKind::Retry, None, None),
        (OrderKind::BootRestored { order: OrderId::from_random(1) }, Some(Phase::Applying), None),
    ] {
        let what = format!("{kind:?} {phase:?}");
        match consider(phase.map(ledger).as_ref(), &order(2, kind), "n1") {
            Verdict::Refuse { order, .. } => assert_eq!(order, in_the_way, "{what}"),
            other => panic!("{other:?}: {what}"),
        }
    }
}
