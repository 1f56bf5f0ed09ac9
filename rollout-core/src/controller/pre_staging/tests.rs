use super::*;
use crate::agent::phase::Phase;
use crate::controller::testing::{LINK, id, nodes, record, rollout};
use crate::rollout::journal::{NodeRecord, Progress};
use crate::slurm::drains::Drain;

#[test]
fn agents_are_given_the_rollout_that_is_armed_for_their_node() {
    let held = || record(Progress::Staged).pre_staged(7);
    let driver = rollout(
        "driver",
        LINK,
        &[
            ("n1", record(Progress::Staged)),
            ("n2", record(Progress::Unreachable)),
            ("n3", held()),
            ("n4", record(Progress::Ordered)),
            ("n5", record(Progress::Seen(Phase::Updated)).pre_staged(7)),
            ("n6", record(Progress::Ordering { until_ms: 120_000 })),
            // Another rollout was staged over it.
            ("n7", record(Progress::Staged)),
            ("n8", held()),
        ],
    );
    let over = |record: NodeRecord| record.staged_at(60_000);
    let next = rollout("next", LINK, &[("n7", over(record(Progress::Staged))), ("n8", over(held()))]);
    let snapshot = Snapshot { rollouts: vec![driver, next], ..Snapshot::default() };
    let found = missing(&snapshot, 110_000);
    assert_eq!(found, [("driver".to_owned(), nodes("n[1-2]")), ("next".to_owned(), nodes("n7"))]);
    assert_eq!(pre_staged(&snapshot, "driver", 110_000), nodes("n3"));
    assert_eq!(pre_staged(&snapshot, "next", 110_000), nodes("n8"));
    assert!(pre_staged(&snapshot, "other", 110_000).is_empty());
}

#[test]
fn agents_with_a_pre_staged_order_are_told_of_changed_drains() {
    let staged = |drained: Option<&str>| NodeRecord {
        drained: drained.map(str::to_owned),
        ..record(Progress::Staged).pre_staged(7)
    };
    let drain = |reason: &str| Drain { reason: reason.to_owned(), ..Drain::default() };
    let bad = || Some("bad disk".to_owned());
    for (record, drain, expected) in [
        (staged(None), None, None),
        (staged(None), Some(drain("bad disk")), Some(bad())),
        (staged(Some("bad disk")), Some(drain("bad disk")), None),
        (staged(Some("bad fan")), Some(drain("bad disk")), Some(bad())),
        (staged(Some("bad disk")), None, Some(None)),
        // Slurm clears it, or keeps it, by `nextstate=`.
        (staged(None), Some(Drain { cleared_by_reboot: true, ..drain("Kill task failed") }), None),
        // No order is pre-staged, or not any more.
        (record(Progress::Staged), Some(drain("bad disk")), None),
        (NodeRecord { progress: Progress::Ordered, ..staged(None) }, Some(drain("bad disk")), None),
    ] {
        let what = format!("{record:?} {drain:?}");
        let drains = drain.map(|drain| ("n1".to_owned(), drain)).into_iter().collect();
        let rollouts = vec![rollout("driver", LINK, &[("n1", record)])];
        let snapshot = Snapshot { rollouts, drains, ..Snapshot::default() };
        let expected = expected.map(|reason| ChangedDrain {
            rollout: "driver".to_owned(),
            order: id(7),
            reason,
            nodes: nodes("n1"),
        });
        assert_eq!(changed_drains(&snapshot, 110_000), Vec::from_iter(expected), "{what}");
    }
}
