mod answers;
mod boot_changes;
mod conduct;
mod hook;

use super::*;
use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::protocol::order::OrderId;

fn nodes() -> NodeSet {
    NodeSet::parse("n1").unwrap()
}

fn id(number: u128) -> OrderId {
    OrderId::from_random(number)
}

fn staged() -> Entry {
    Entry::Staged { nodes: nodes() }
}

fn unstaged() -> Entry {
    Entry::Unstaged { nodes: nodes() }
}

fn ordering(order: u128, until_ms: u64) -> Entry {
    Entry::Ordering { nodes: nodes(), order: id(order), until_ms }
}

fn ordered(order: u128) -> Entry {
    Entry::Ordered { nodes: nodes(), order: id(order), volatile: false }
}

fn refused(order: u128) -> Entry {
    Entry::Refused { nodes: nodes(), order: id(order), why: "busy".to_owned() }
}

fn unreachable(order: u128) -> Entry {
    Entry::Unreachable { nodes: nodes(), order: id(order), why: "silence".to_owned() }
}

fn retried(order: u128) -> Entry {
    Entry::Retried { nodes: nodes(), order: id(order) }
}

fn released(order: u128) -> Entry {
    Entry::Released { nodes: nodes(), order: id(order) }
}

fn seen(order: u128, phase: Phase) -> Entry {
    Entry::Seen {
        nodes: nodes(),
        order: id(order),
        phase,
        error: (phase == Phase::Held).then(|| "nhc".to_owned()),
        notes: Vec::new(),
    }
}

fn noted(order: u128, phase: Phase) -> Entry {
    let Entry::Seen { nodes, order, phase, error, .. } = seen(order, phase) else { unreachable!() };
    Entry::Seen { nodes, order, phase, error, notes: vec!["a scriptlet failed".to_owned()] }
}

/// Returns the record of n1 after these entries, written at 100 ms, 110 ms and so on.
fn after(entries: &[Entry]) -> Option<NodeRecord> {
    let line = |(index, entry): (usize, &Entry)| Line {
        t_ms: 100 + 10 * index as u64,
        by: "test".to_owned(),
        entry: entry.clone(),
    };
    let lines: Vec<Line> = entries.iter().enumerate().map(line).collect();
    replay(&lines).remove("n1")
}

#[test]
fn each_line_leads_to_its_progress() {
    use Progress as S;
    let held = Some("nhc");
    // The other times have tests of their own.
    let after = |entries: &[Entry]| {
        after(entries).map(|node| NodeRecord {
            ordering_ms: None,
            staged_ms: None,
            earlier_orders: Vec::new(),
            ..node
        })
    };
    for (entries, progress, since_ms, order, why) in [
        (vec![staged()], S::Staged, 100, None, None),
        (vec![staged(), ordering(1, 500)], S::Ordering { until_ms: 500 }, 110, Some(1), None),
        (vec![staged(), ordering(1, 500), ordered(1)], S::Ordered, 120, Some(1), None),
        (vec![staged(), ordering(1, 500), refused(1)], S::Refused, 120, Some(1), Some("busy")),
        (vec![staged(), ordering(1, 500), unreachable(1)], S::Unreachable, 120, Some(1), Some("silence")),
        // Ordered once more after silence, and this time it answers.
        (
            vec![ordering(1, 500), unreachable(1), ordering(2, 500), ordered(2)],
            S::Ordered,
            130,
            Some(2),
            None,
        ),
        (
            vec![ordering(1, 500), ordered(1), seen(1, Phase::Updated)],
            S::Seen(Phase::Updated),
            120,
            Some(1),
            None,
        ),
        (vec![ordering(1, 500), seen(1, Phase::Held)], S::Seen(Phase::Held), 110, Some(1), held),
        (vec![ordering(1, 500), seen(1, Phase::Held), retried(1)], S::Ordered, 120, Some(1), None),
        (
            vec![ordering(1, 500), seen(1, Phase::Held), released(1)],
            S::Seen(Phase::Released),
            120,
            Some(1),
            None,
        ),
        (
            vec![ordering(1, 500), seen(1, Phase::Held), retried(1), seen(1, Phase::Updated)],
            S::Seen(Phase::Updated),
            130,
            Some(1),
            None,
        ),
        // Staged anew, it owes nothing to what was.
        (vec![ordering(1, 500), seen(1, Phase::RolledBack), staged()], S::Staged, 120, None, None),
        // Late news: of an order before the last one, of one before it was staged anew, after it was seen done.
        (
            vec![ordering(1, 105), ordering(2, 500), ordered(1)],
            S::Ordering { until_ms: 500 },
            110,
            Some(2),
            None,
        ),
        (
            vec![ordering(1, 105), ordering(2, 500), seen(1, Phase::Held)],
            S::Ordering { until_ms: 500 },
            110,
            Some(2),
            None,
        ),
        (vec![ordering(1, 105), staged(), unreachable(1)], S::Staged, 110, None, None),
        (vec![ordering(1, 105), staged(), retried(1)], S::Staged, 110, None, None),
        (
            vec![ordering(1, 500), seen(1, Phase::Updated), unreachable(1)],
            S::Seen(Phase::Updated),
            110,
            Some(1),
            None,
        ),
        // The journal of plain reboots may begin anywhere.
        (vec![ordered(1)], S::Ordered, 100, Some(1), None),
        (vec![seen(1, Phase::Updated)], S::Seen(Phase::Updated), 100, Some(1), None),
    ] {
        let (order, why) = (order.map(id), why.map(str::to_owned));
        let record = NodeRecord { order, why, ..NodeRecord::new(progress, since_ms) };
        assert_eq!(after(&entries), Some(record), "{entries:?}");
    }
}

#[test]
fn notes_are_kept_beside_the_failure_until_the_order_goes_on() {
    let note = |entries: &[Entry]| {
        let record = after(entries).unwrap();
        (record.why.clone(), record.note())
    };
    let text = |text: &str| Some(text.to_owned());
    let held = vec![ordering(1, 105), noted(1, Phase::Held)];
    assert_eq!(note(&held), (text("nhc"), text("nhc; a scriptlet failed")));
    assert_eq!(note(&[held.clone(), vec![retried(1)]].concat()), (None, None));
    assert_eq!(note(&[held, vec![ordering(2, 500)]].concat()), (None, None));
    let updated = [ordering(1, 105), noted(1, Phase::Updated)];
    assert_eq!(note(&updated), (None, text("a scriptlet failed")));
    // As 0.1.0 writes and reads it.
    let line = Line { t_ms: 1, by: "test".to_owned(), entry: seen(1, Phase::Updated) };
    assert!(!serde_json::to_string(&line).unwrap().contains("notes"));
}

#[test]
fn the_time_of_the_order_is_known_whatever_came_of_it() {
    for (entries, ordering_ms) in [
        (vec![staged()], None),
        (vec![staged(), ordering(1, 500)], Some(110)),
        (vec![staged(), ordering(1, 500), ordered(1), seen(1, Phase::Updated)], Some(110)),
        (vec![ordering(1, 500), unreachable(1), ordering(2, 500), refused(2)], Some(120)),
        (vec![ordering(1, 500), ordered(1), staged()], Some(100)),
        (vec![ordered(1)], Some(100)),
        (vec![seen(1, Phase::Updated)], None),
    ] {
        assert_eq!(after(&entries).and_then(|node| node.ordering_ms), ordering_ms, "{entries:?}");
    }
}

#[test]
fn the_time_of_staging_is_the_last_one() {
    for (entries, staged_ms) in [
        (vec![staged()], Some(100)),
        (vec![staged(), ordering(1, 500), ordered(1), seen(1, Phase::RolledBack)], Some(100)),
        (vec![staged(), ordering(1, 500), seen(1, Phase::RolledBack), staged()], Some(130)),
        // A plain reboot, and an order that was called off and taken all the same.
        (vec![ordering(1, 500)], None),
        (vec![staged(), ordering(1, 105), unstaged(), ordered(1)], None),
    ] {
        assert_eq!(after(&entries).and_then(|node| node.staged_ms), staged_ms, "{entries:?}");
    }
}

#[test]
fn a_pre_staged_order_is_known_by_its_id() {
    let pre_staged = |order: u128| Entry::PreStaged { nodes: nodes(), order: id(order), drained: None };
    for (entries, progress, order, given) in [
        (vec![staged(), pre_staged(1)], Progress::Staged, Some(1), true),
        // Given once more, as the answer was lost.
        (vec![staged(), pre_staged(1), pre_staged(2)], Progress::Staged, Some(2), true),
        (
            vec![staged(), pre_staged(1), seen(1, Phase::Updated)],
            Progress::Seen(Phase::Updated),
            Some(1),
            true,
        ),
        (vec![staged(), pre_staged(1), seen(1, Phase::RolledBack), staged()], Progress::Staged, None, false),
        (
            vec![staged(), pre_staged(1), ordering(3, 500)],
            Progress::Ordering { until_ms: 500 },
            Some(3),
            false,
        ),
        // By reconcile, where slurmd runs RebootProgram.
        (
            vec![staged(), pre_staged(1), ordering(1, 500), unreachable(1)],
            Progress::Unreachable,
            Some(1),
            true,
        ),
        (vec![ordering(3, 500), ordered(3), pre_staged(1)], Progress::Ordered, Some(3), false),
    ] {
        let node = after(&entries).unwrap();
        assert_eq!(
            (node.progress, node.order, node.pre_staged),
            (progress, order.map(id), given),
            "{entries:?}"
        );
    }
    let drained =
        |reason: &str| Entry::PreStaged { nodes: nodes(), order: id(1), drained: Some(reason.to_owned()) };
    for (entries, reason) in [
        (vec![staged(), drained("bad disk")], Some("bad disk")),
        (vec![staged(), drained("bad disk"), drained("bad fan")], Some("bad fan")),
        (vec![staged(), drained("bad disk"), pre_staged(1)], None),
        (vec![staged(), drained("bad disk"), ordering(1, 500), unreachable(1)], Some("bad disk")),
        (vec![staged(), drained("bad disk"), ordering(3, 500)], None),
    ] {
        assert_eq!(after(&entries).unwrap().drained.as_deref(), reason, "{entries:?}");
    }
    let silent = after(&[staged(), ordering(1, 500), unreachable(1), pre_staged(2)]).unwrap();
    assert!(silent.has_order(&id(1)), "the agent may have that one as well");
    let late = [staged(), ordering(1, 105), ordering(2, 500), unreachable(2), pre_staged(1)];
    assert_eq!(after(&late).unwrap().order, Some(id(2)));
    assert_eq!(after(&[staged(), unstaged(), pre_staged(1)]), None);
    assert_eq!(after(&[staged(), pre_staged(1), unstaged()]), None);
}

#[test]
fn only_orders_that_are_still_to_come_can_be_called_off() {
    for (entries, gone) in [
        (vec![staged(), unstaged()], true),
        (vec![ordering(1, 500), refused(1), unstaged()], true),
        (vec![ordering(1, 500), unreachable(1), unstaged()], true),
        // Its RebootProgram died; while it may live, the order is on its way.
        (vec![ordering(1, 110), unstaged()], true),
        (vec![ordering(1, 111), unstaged()], false),
        (vec![ordering(1, 500), ordered(1), unstaged()], false),
        (vec![ordering(1, 500), seen(1, Phase::Held), unstaged()], false),
        (vec![unstaged()], true),
        (vec![staged(), unstaged(), unstaged()], true),
        (vec![staged(), unstaged(), staged()], false),
        // A RebootProgram that was thought dead says that nobody answered.
        (vec![ordering(1, 105), unstaged(), unreachable(1)], true),
        (vec![ordering(1, 105), unstaged(), refused(1)], true),
        (vec![ordering(1, 105), unstaged(), ordered(1)], false),
    ] {
        assert_eq!(after(&entries).is_none(), gone, "{entries:?}");
    }
}

#[test]
fn a_claim_holds_until_its_end() {
    // Progress; whether it may be ordered at 1000 ms, is pending, and has an unknown outcome.
    for (progress, may_be_ordered, pending, unknown) in [
        (Progress::Staged, true, true, false),
        (Progress::Refused, true, true, false),
        (Progress::Unreachable, true, true, true),
        (Progress::Ordering { until_ms: 999 }, true, true, true),
        (Progress::Ordering { until_ms: 1000 }, true, true, true),
        (Progress::Ordering { until_ms: 1001 }, false, true, false),
        (Progress::Ordered, false, false, false),
        (Progress::Covered, false, false, false),
        (Progress::Seen(Phase::RolledBack), false, false, false),
        (Progress::Seen(Phase::Held), false, false, false),
        (Progress::Lost, false, false, false),
        (Progress::Superseded, false, false, false),
    ] {
        let found = (progress.may_be_ordered(1000), progress.is_pending(), progress.is_outcome_unknown(1000));
        assert_eq!(found, (may_be_ordered, pending, unknown), "{progress:?}");
    }
}

#[test]
fn descriptions_read_as_sentences() {
    for (entry, text) in [
        (staged(), "n1 staged"),
        (unstaged(), "n1 unstaged"),
        (ordering(1, 1), "n1 handed over by Slurm, order being sent"),
        (ordered(1), "n1 ordered"),
        (refused(1), "n1 refused the order: busy"),
        (unreachable(1), "n1 unreachable: silence"),
        (retried(1), "n1 held, told to retry"),
        (released(1), "n1 held, released"),
        (seen(1, Phase::RolledBack), "n1 rolled-back"),
        (seen(1, Phase::Held), "n1 held: nhc"),
        (noted(1, Phase::Held), "n1 held: nhc; a scriptlet failed"),
        (noted(1, Phase::Updated), "n1 updated: a scriptlet failed"),
        (answers::under_way(2, Some(1)), "n1 carrying it out already"),
        (answers::covered(2, Some(1)), "n1 carrying out another order, which reboots them too"),
        (answers::lost(1), "n1 lost: silence"),
        (answers::superseded(1), "n1 superseded: it moved on"),
        (boot_changes::restoring(1, 5), "n1 being given back what they booted from before"),
        (boot_changes::restored(1), "n1 given back what they booted from before: not taken"),
    ] {
        assert_eq!(entry.describe(), text);
    }
}
