use super::*;
use crate::agent::test_orders::{BACK, order};
use crate::protocol::order::UpdateDrain;
use crate::rollout::manifest::Manifest;

fn pre_stage(number: u128, rollout: &str) -> Order {
    let text = "name='r'\nnodes='n1'\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
    let desired = Manifest::parse(text).unwrap().desired;
    order(number, OrderKind::PreStage(PreStage { rollout: rollout.to_owned(), desired, drained: None }))
}

fn drop_it(number: u128, rollout: &str) -> Order {
    order(number, OrderKind::DropPreStaged { rollout: rollout.to_owned() })
}

fn hand_over(content: &PreStaged, apply: bool, carried_out: &[OrderId]) -> Order {
    let me = NodeSet::parse("n1").unwrap();
    let handed = LocalHandOver { apply, plain: BACK.into() };
    content.order_for(&handed, OrderId::from_random(99), &me, carried_out)
}

/// The rollout and id of a hand-over. `None` for a plain reboot.
fn becomes(content: &PreStaged, apply: bool, carried_out: &[OrderId]) -> Option<(String, OrderId)> {
    let order = hand_over(content, apply, carried_out);
    order.rollout().map(|rollout| (rollout.to_owned(), order.id.clone()))
}

#[test]
fn a_pre_staged_order_is_applied_once_and_only_on_request() {
    let content = PreStaged::default();
    assert_eq!((content.rollout(), becomes(&content, true, &[])), (None, None));
    let content = content.after(&pre_stage(1, "driver")).unwrap();
    let id = OrderId::from_random(1);
    assert_eq!(content.rollout(), Some("driver"));
    assert_eq!(becomes(&content, true, &[]), Some(("driver".to_owned(), id.clone())));
    assert_eq!(becomes(&content, false, &[]), None, "a job's reboot");
    assert_eq!(becomes(&content, true, &[id]), None, "carried out before");
    assert_eq!(content.without("other"), None);
    assert_eq!(content.without("driver").unwrap().rollout(), None);
}

#[test]
fn a_drain_goes_with_the_pre_staged_order() {
    let update = |number, of, reason: Option<&str>| {
        let (of, reason) = (OrderId::from_random(of), reason.map(str::to_owned));
        order(number, OrderKind::UpdateDrain(UpdateDrain { order: of, reason }))
    };
    let drained = |content: &PreStaged, apply, carried_out: &[OrderId]| {
        hand_over(content, apply, carried_out).give_back().and_then(|back| back.drained.clone())
    };
    let mut content = PreStaged::default().after(&pre_stage(1, "driver")).unwrap();
    assert_eq!(drained(&content, true, &[]), None);
    for (number, of, reason, expected) in [
        (2, 1, Some("bad disk"), Some("bad disk")),
        (3, 7, Some("of another order"), Some("bad disk")),
        (4, 1, Some("bad fan"), Some("bad fan")),
        (5, 1, None, None),
        (6, 1, Some("bad disk"), Some("bad disk")),
    ] {
        content = content.after(&update(number, of, reason)).unwrap();
        for apply in [true, false] {
            assert_eq!(drained(&content, apply, &[]).as_deref(), expected, "{number}");
        }
    }
    assert_eq!(drained(&content, true, &[OrderId::from_random(1)]), None, "carried out before");
    assert_eq!(becomes(&content, true, &[]), Some(("driver".to_owned(), OrderId::from_random(1))));
    let dropped = content.without("driver").unwrap().after(&update(8, 1, Some("bad fan"))).unwrap();
    assert_eq!(drained(&dropped, true, &[]), None, "nothing is kept");
}

#[test]
fn the_newest_is_kept_until_it_is_dropped_and_each_order_counts_once() {
    let content = PreStaged::default().after(&pre_stage(1, "driver")).unwrap();
    let content = content.after(&pre_stage(2, "slurm")).unwrap().after(&drop_it(3, "driver")).unwrap();
    assert_eq!(content.rollout(), Some("slurm"), "a different one was dropped");
    let content = content.after(&drop_it(4, "slurm")).unwrap();
    assert_eq!(content.rollout(), None);
    let again = content.after(&pre_stage(2, "slurm")).unwrap_err();
    assert!(again.contains("told before"), "{again}");
    let mut content = content;
    for number in 5..=200 {
        content = content.after(&pre_stage(number, "driver")).unwrap();
    }
    assert_eq!(content.accepted_orders.len(), MAX_ACCEPTED_ORDERS);
    assert_eq!(content.accepted_orders.last(), Some(&OrderId::from_random(200)));
}

#[test]
fn the_file_is_as_before_and_asks_for_nothing_that_a_manifest_may_not() {
    let content = PreStaged::default().after(&pre_stage(5, "driver")).unwrap();
    let text = serde_json::to_string(&content).unwrap();
    assert_eq!(PreStaged::parse(text.as_bytes()), Ok(content));
    assert!(text.starts_with(r#"{"version":1,"staged":{"purpose":"#), "{text}");
    assert!(text.ends_with(r#""seen":["00000000000000000000000000000005"]}"#), "{text}");
    assert!(PreStaged::parse(text.replace("\"/a\"", "\"/a/../etc\"").as_bytes()).is_err());
    assert!(PreStaged::parse(&text.as_bytes()[..text.len() - 1]).is_err());
    assert_eq!(PreStaged::parse(br#"{"version":2,"a-newer-key":1}"#).unwrap().rollout(), None);
}
