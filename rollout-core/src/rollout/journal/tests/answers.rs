//! Answers that are about an order other than the one that was sent, and outcomes that the controller concludes.

use super::*;

pub(super) fn under_way(order: u128, under_way: Option<u128>) -> Entry {
    Entry::UnderWay { nodes: nodes(), order: id(order), under_way: under_way.map(id), volatile: false }
}

pub(super) fn covered(order: u128, by: Option<u128>) -> Entry {
    Entry::Covered { nodes: nodes(), order: id(order), by: by.map(id) }
}

pub(super) fn lost(order: u128) -> Entry {
    Entry::Lost { nodes: nodes(), order: id(order), why: "silence".to_owned() }
}

pub(super) fn superseded(order: u128) -> Entry {
    Entry::Superseded { nodes: nodes(), order: Some(id(order)), why: "it moved on".to_owned() }
}

fn progress(entries: &[Entry]) -> Option<(Progress, Option<OrderId>)> {
    after(entries).map(|node| (node.progress, node.order))
}

#[test]
fn the_order_under_way_takes_the_place_of_the_one_that_was_sent() {
    let twice = || vec![staged(), ordering(1, 105), ordering(2, 500)];
    let with = |more: &[Entry]| [&twice()[..], more].concat();
    for (entries, expected, order) in [
        (with(&[under_way(2, Some(1))]), Progress::Ordered, 1),
        // From now on order 1 is the node's, and order 2 never was.
        (with(&[under_way(2, Some(1)), seen(1, Phase::Updated)]), Progress::Seen(Phase::Updated), 1),
        (with(&[under_way(2, Some(1)), seen(2, Phase::Held)]), Progress::Ordered, 1),
        (with(&[under_way(2, Some(1)), unreachable(2)]), Progress::Ordered, 1),
        // Agents up to 0.1.0 do not report it.
        (with(&[under_way(2, None)]), Progress::Ordered, 2),
        (with(&[under_way(2, None), seen(2, Phase::Updated)]), Progress::Seen(Phase::Updated), 2),
        // An order that no journal has.
        (with(&[under_way(2, Some(9))]), Progress::Ordered, 9),
        // Late: it is about an order before the last one, or after the end.
        (with(&[under_way(1, Some(7))]), Progress::Ordering { until_ms: 500 }, 2),
        (with(&[seen(2, Phase::Updated), under_way(2, Some(1))]), Progress::Seen(Phase::Updated), 2),
    ] {
        assert_eq!(progress(&entries), Some((expected, Some(id(order)))), "{entries:?}");
    }
    let called_off = [staged(), ordering(1, 105), unstaged(), under_way(1, Some(1))];
    assert_eq!(
        progress(&called_off),
        Some((Progress::Ordered, Some(id(1)))),
        "an order that was taken is true"
    );
}

#[test]
fn an_answer_that_does_not_report_the_ledger_leaves_it_as_it_was() {
    let volatile = |order| Entry::Ordered { nodes: nodes(), order: id(order), volatile: true };
    let under_way_volatile =
        Entry::UnderWay { nodes: nodes(), order: id(2), under_way: None, volatile: true };
    for (entries, expected) in [
        (vec![ordering(1, 500), volatile(1)], true),
        (vec![ordering(1, 500), volatile(1), ordering(2, 500), under_way(2, Some(1))], true),
        (vec![ordering(1, 500), volatile(1), ordering(2, 500), covered(2, Some(1))], true),
        (vec![ordering(1, 500), volatile(1), ordering(2, 500), unreachable(2)], true),
        (vec![ordering(2, 500), under_way_volatile], true),
        (vec![ordering(2, 500), under_way(2, Some(1))], false),
        // This agent reports it: it is on a disk by now.
        (vec![ordering(1, 500), volatile(1), ordering(2, 500), ordered(2)], false),
    ] {
        assert_eq!(after(&entries).unwrap().volatile, expected, "{entries:?}");
    }
}

#[test]
fn a_plain_reboot_that_another_order_covers_is_over() {
    for (entries, expected) in [
        (vec![ordering(2, 500), covered(2, Some(1))], Some((Progress::Covered, Some(id(2))))),
        (vec![ordering(2, 500), covered(2, None)], Some((Progress::Covered, Some(id(2))))),
        (vec![ordering(1, 105), ordering(2, 500), covered(1, None)], {
            Some((Progress::Ordering { until_ms: 500 }, Some(id(2))))
        }),
        (vec![covered(2, Some(1))], None),
    ] {
        assert_eq!(progress(&entries), expected, "{entries:?}");
    }
    assert!(after(&[ordering(2, 500), covered(2, Some(1))]).unwrap().is_settled());
}

#[test]
fn a_node_is_lost_until_it_is_heard_of() {
    let accepted = [staged(), ordering(1, 500), ordered(1)];
    let with = |more: &[Entry]| [&accepted[..], more].concat();
    for (entries, expected) in [
        (with(&[lost(1)]), Some(Progress::Lost)),
        (with(&[lost(1), ordered(1)]), Some(Progress::Ordered)),
        (with(&[lost(1), seen(1, Phase::Updated)]), Some(Progress::Seen(Phase::Updated))),
        (with(&[lost(1), superseded(1)]), Some(Progress::Superseded)),
        // It can be given up, and stays so.
        (with(&[lost(1), unstaged()]), None),
        (with(&[lost(1), unstaged(), lost(1)]), None),
        (with(&[lost(1), staged()]), Some(Progress::Staged)),
        // A conclusion that comes late.
        (with(&[seen(1, Phase::Updated), lost(1)]), Some(Progress::Seen(Phase::Updated))),
        (with(&[seen(1, Phase::Held), lost(1)]), Some(Progress::Seen(Phase::Held))),
        (with(&[superseded(1), lost(1)]), Some(Progress::Superseded)),
        (with(&[lost(2)]), Some(Progress::Ordered)),
        (with(&[superseded(2)]), Some(Progress::Ordered)),
    ] {
        assert_eq!(after(&entries).map(|node| node.progress), expected, "{entries:?}");
    }
    let why = after(&with(&[lost(1)])).unwrap().why;
    assert_eq!(why.as_deref(), Some("silence"));
}

#[test]
fn nothing_happens_to_an_order_after_its_end() {
    let held = [staged(), ordering(1, 500), seen(1, Phase::Held)];
    for end in [Phase::Updated, Phase::RolledBack, Phase::Released] {
        let ended = [&held[..], &[seen(1, end)]].concat();
        let whole = after(&ended);
        for late in [
            seen(1, Phase::Held),
            seen(1, Phase::Updated),
            retried(1),
            released(1),
            ordered(1),
            unreachable(1),
            refused(1),
            under_way(1, Some(7)),
            lost(1),
            superseded(1),
            unstaged(),
        ] {
            assert_eq!(after(&[&ended[..], std::slice::from_ref(&late)].concat()), whole, "{end:?} {late:?}");
        }
    }
}

#[test]
fn a_rollout_can_be_superseded_before_its_first_order() {
    let superseded =
        Entry::Superseded { nodes: nodes(), order: None, why: "next was staged after it".into() };
    for (entries, expected) in [
        (vec![staged(), superseded.clone()], Progress::Superseded),
        // An order came in between.
        (vec![staged(), ordering(1, 500), superseded.clone()], Progress::Ordering { until_ms: 500 }),
        (vec![staged(), superseded.clone(), staged()], Progress::Staged),
    ] {
        assert_eq!(after(&entries).unwrap().progress, expected, "{entries:?}");
    }
    assert_eq!(after(&[superseded]), None);
}
