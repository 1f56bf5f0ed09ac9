//! Claiming handed-over nodes.

use crate::prelude::*;
use rollout_core::controller::pre_staging::{missing, pre_staged};
use rollout_core::protocol::order::OrderKind;
use rollout_core::rollout::journal::Booted;
use rollout_host::clock;

#[test]
fn claims_give_each_node_what_is_staged_for_it_once() {
    let (_dir, store) = store();
    let (driver, kernel) = (staged(&store, "driver", "n[1-3]"), staged(&store, "kernel", "m[1-2]"));
    let first = claim(&store, "n[1-2],m1,plain1");
    assert!(first.skipped.is_empty() && first.broken.is_empty());
    let expected = [
        (None, "plain1".to_owned()),
        (Some("driver"), "n[1-2]".to_owned()),
        (Some("kernel"), "m1".to_owned()),
    ];
    assert_eq!(claimed(&first), expected);
    let claims = &first.claims;
    assert!(matches!(claims[0].order.kind, OrderKind::Reboot(_)));
    let OrderKind::Apply(apply) = &claims[1].order.kind else { panic!("{:?}", claims[1]) };
    assert_eq!((&apply.rollout, &apply.desired), (&driver, &manifest("driver", "n1").desired));
    // The journals have the claims before anything is sent.
    let node = record_of(&store, &driver, "n1");
    assert!(matches!(node.progress, Progress::Ordering { .. }), "{node:?}");
    assert_eq!(node.order.as_ref(), Some(&claims[1].order.id));
    assert_eq!(store.snapshot().unwrap().plain_reboots.keys().collect::<Vec<_>>(), ["plain1"]);

    let again = claim(&store, "n[1-3],m1,plain1");
    assert_eq!(claimed(&again), [(Some("driver"), "n3".to_owned())]);
    assert_eq!(again.skipped[&Skipped::BeingOrdered], ["m1", "n1", "n2", "plain1"]);

    // A refusal gives it back, and so does an expired claim. A node that was ordered only reboots.
    let order = claims[1].order.id.clone();
    let refused = Entry::Refused { nodes: set("n1"), order: order.clone(), why: "busy".to_owned() };
    let taken = Entry::Ordered { nodes: set("n2"), order, volatile: false };
    store.record(Some(&driver), vec![refused, taken]).unwrap();
    let again = store.claim(&handed("n[1-2]"), None, 0).unwrap();
    assert_eq!(claimed(&again), [(None, "n2".to_owned()), (Some("driver"), "n1".to_owned())]);
    let again = claim(&store, "n1");
    assert_eq!(claimed(&again), [(Some("driver"), "n1".to_owned())], "the claim before it held for no time");
    assert_eq!(lines(&store, &kernel), 2);
}

/// If slurmd runs RebootProgram, an order that reconcile sends is the one that the agent has: it is carried out once.
#[test]
fn a_claim_is_the_order_that_was_given_beforehand() {
    let (_dir, store) = store();
    let driver = staged(&store, "driver", "n[1-2]");
    let waiting = |nodes: &str| vec![(driver.clone(), set(nodes))];
    let missing = || missing(&store.snapshot().unwrap(), clock::now_ms());
    assert_eq!(missing(), waiting("n[1-2]"));
    let given = Entry::PreStaged { nodes: set("n1"), order: id(7), drained: None };
    store.record(Some(&driver), vec![given]).unwrap();
    assert_eq!(missing(), waiting("n2"));
    let claims = store.claim(&handed("n[1-2]"), None, 0).unwrap().claims;
    let of = |node: &str| claims.iter().find(|claim| claim.order.nodes == set(node)).unwrap();
    assert_eq!(of("n1").order.id, id(7));
    assert_ne!(of("n2").order.id, id(7));
    // Neither answers: one agent has the order, the other one still has to get it.
    let silent = |node: &str| {
        let order = of(node).order.id.clone();
        Entry::Unreachable { nodes: set(node), order, why: "silence".to_owned() }
    };
    store.record(Some(&driver), vec![silent("n1"), silent("n2")]).unwrap();
    assert_eq!(missing(), waiting("n2"));
    assert_eq!(pre_staged(&store.snapshot().unwrap(), &driver, clock::now_ms()), set("n1"));
}

/// Any other order would boot the image of the earlier one, which nobody has proven.
#[test]
fn a_node_whose_boot_source_belongs_to_an_earlier_order_is_not_ordered() {
    let (_dir, store) = store();
    let image = staged(&store, "image", "n[1-3]");
    let before = ["n1", "n2", "n3"].map(|node| (node.to_owned(), Booted::default())).into();
    let change = Entry::BootChange { nodes: set("n[1-3]"), order: id(1), before, until_ms: 0 };
    store.record(Some(&image), vec![ordering("n[1-3]", 1, 0), change]).unwrap();
    // The rollout that owns the boot source may send its order again.
    assert_eq!(claimed(&claim(&store, "n1")), [(Some("image"), "n1".to_owned())]);
    // A plain reboot may not, and nobody while it is being restored.
    let as_plain: Vec<_> = handed("n2").into_iter().map(|node| HandedOver { plain: true, ..node }).collect();
    let claims = store.claim(&as_plain, None, HOLD_MS).unwrap();
    assert_eq!((claims.claims.len(), &claims.skipped[&Skipped::BootSource][..]), (0, &["n2".to_owned()][..]));
    let orders = [("n3".to_owned(), id(1))].into();
    assert_eq!(store.claim_restoring(&image, &orders, HOLD_MS, false).unwrap(), set("n3"));
    let claims = claim(&store, "n3,m1");
    assert_eq!(claimed(&claims), [(None, "m1".to_owned())]);
    assert_eq!(claims.skipped[&Skipped::BootSource], ["n3"]);
    let restored = Entry::BootRestored { nodes: set("n3"), order: id(1), why: "nhc".to_owned() };
    store.record(Some(&image), vec![restored]).unwrap();
    assert_eq!(claimed(&claim(&store, "n3")), [(Some("image"), "n3".to_owned())]);
}
