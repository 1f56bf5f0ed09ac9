//! Changes of boot sources: each has one owner until it is proven or restored.

use super::answers::{superseded, under_way};
use super::*;

/// The boot source is changed for this order; the node runs `boot_id`.
fn changed(order: u128, boot_id: &str, until_ms: u64) -> Entry {
    let booted = Booted { running: None, boot_id: boot_id.to_owned() };
    Entry::BootChange {
        nodes: nodes(),
        order: id(order),
        before: [("n1".to_owned(), booted)].into(),
        until_ms,
    }
}

pub(super) fn restoring(order: u128, until_ms: u64) -> Entry {
    Entry::BootRestoring { nodes: nodes(), order: id(order), until_ms }
}

pub(super) fn restored(order: u128) -> Entry {
    Entry::BootRestored { nodes: nodes(), order: id(order), why: "not taken".to_owned() }
}

/// Returns the number of the order that owns the boot source of n1 after these entries.
fn owner(entries: &[Entry]) -> Option<u128> {
    let record = after(entries)?;
    let order = record.unsettled_boot_change()?.order.clone();
    (0..10).find(|number| id(*number) == order)
}

#[test]
fn a_boot_source_has_one_owner_until_it_is_proven_or_restored() {
    let given = [staged(), ordering(1, 500), changed(1, "b1", 600)];
    let with = |more: &[Entry]| [&given[..], more].concat();
    for (entries, expected) in [
        (with(&[]), Some(1)),
        (with(&[ordered(1)]), Some(1)),
        (with(&[refused(1)]), Some(1)),
        (with(&[unreachable(1)]), Some(1)),
        (with(&[seen(1, Phase::Held)]), Some(1)),
        (with(&[seen(1, Phase::RolledBack)]), Some(1)),
        (with(&[seen(1, Phase::Released)]), Some(1)),
        (with(&[superseded(1)]), Some(1)),
        (with(&[unreachable(1), staged()]), Some(1)),
        (with(&[restoring(1, 700)]), Some(1)),
        // Settled.
        (with(&[seen(1, Phase::Updated)]), None),
        (with(&[restoring(1, 700), restored(1)]), None),
        (with(&[restored(1)]), None),
        (with(&[seen(1, Phase::Updated), staged()]), None),
        (with(&[restored(1), seen(1, Phase::RolledBack), staged()]), None),
        // The agent has another order of this rollout: that one boots it.
        (with(&[under_way(1, Some(7))]), Some(7)),
        (with(&[unreachable(1), ordering(2, 900), changed(2, "b1", 900), under_way(2, Some(1))]), Some(1)),
        (with(&[unreachable(1), ordering(2, 900), changed(2, "b1", 900)]), Some(2)),
        // The next order of it has not come so far.
        (with(&[unreachable(1), ordering(2, 900)]), Some(1)),
    ] {
        assert_eq!(owner(&entries), expected, "{entries:?}");
    }
}

#[test]
fn lines_about_a_boot_source_count_for_their_own_order_only() {
    let twice = [staged(), ordering(1, 105), changed(1, "b1", 105), ordering(2, 500), changed(2, "b1", 600)];
    for late in [restoring(1, 900), restored(1), changed(1, "b1", 900), restored(7), restoring(7, 900)] {
        assert_eq!(after(&[&twice[..], std::slice::from_ref(&late)].concat()), after(&twice), "{late:?}");
    }
    // A process that was thought dead changes it after it was restored: it must be restored again.
    let again = [&twice[..], &[unreachable(2), restored(2), changed(1, "b1", 900)]].concat();
    assert_eq!(owner(&again), Some(1));
}

#[test]
fn the_first_state_that_was_not_restored_is_the_one_to_go_back_to() {
    let first = [staged(), ordering(1, 105), changed(1, "b1", 105)];
    let second = [ordering(2, 500), changed(2, "b2", 600)];
    for (between, before) in [(vec![], "b1"), (vec![restored(1)], "b2"), (vec![unreachable(1)], "b1")] {
        let record = after(&[&first[..], &between, &second[..]].concat()).unwrap();
        let change = record.unsettled_boot_change().unwrap();
        assert_eq!((change.before.boot_id.as_str(), change.boot_id.as_str()), (before, "b2"));
        assert!(!change.has_booted_since("b2") && change.has_booted_since("b3"));
        assert_eq!(change.may_be_running("b2"), before == "b1", "it has booted since the first change");
    }
    let unknown = after(&[staged(), ordering(1, 500), changed(1, "", 600)]).unwrap();
    assert!(unknown.boot_change.unwrap().has_booted_since("b1"), "it may run anything");
}

#[test]
fn a_claim_on_a_boot_source_ends_with_its_time_or_its_outcome() {
    let given = [staged(), ordering(1, 500), changed(1, "b1", 600)];
    let with = |more: &[Entry]| after(&[&given[..], more].concat()).unwrap();
    // Later lines; whether it is claimed before 500 ms, before 600 ms, before 700 ms, and afterwards.
    for (more, claimed) in [
        (vec![], [true, true, false, false]),
        (vec![ordered(1)], [false, false, false, false]),
        (vec![refused(1)], [false, false, false, false]),
        (vec![unreachable(1)], [false, false, false, false]),
        (vec![unreachable(1), restoring(1, 700)], [true, true, true, false]),
        (vec![unreachable(1), restoring(1, 700), restored(1)], [false, false, false, false]),
        // Of another order.
        (vec![unreachable(1), restoring(7, 700)], [false, false, false, false]),
        (vec![ordered(7)], [true, true, false, false]),
    ] {
        let record = with(&more);
        let found = [499, 599, 699, 700].map(|now_ms| record.is_claimed(now_ms));
        assert_eq!(found, claimed, "{more:?}");
    }
}

#[test]
fn a_record_is_settled_once_nothing_is_left_to_do() {
    let given = [staged(), ordering(1, 500), changed(1, "b1", 600)];
    for (more, settled) in [
        (vec![ordered(1)], false),
        (vec![seen(1, Phase::Updated)], true),
        (vec![seen(1, Phase::RolledBack)], false),
        (vec![seen(1, Phase::RolledBack), restored(1)], true),
        (vec![restored(1), seen(1, Phase::Released)], true),
        (vec![restored(1), seen(1, Phase::Held)], false),
        (vec![superseded(1)], false),
        (vec![superseded(1), restored(1)], true),
        (vec![restored(1), refused(1)], false),
    ] {
        let record = after(&[&given[..], &more].concat()).unwrap();
        assert_eq!(record.is_settled(), settled, "{more:?}");
    }
}
