use super::*;
use crate::agent::phase::Phase;
use crate::controller::testing::{Boot, LINK, Node, nodes, record, rollout};
use crate::rollout::journal::Progress;

const KILLED: Progress = Progress::Ordering { until_ms: 105_000 };
const SENDING: Progress = Progress::Ordering { until_ms: 120_000 };

fn id(of: Option<RecordOf<'_>>) -> Option<&str> {
    of.and_then(|of| of.rollout_id())
}

#[test]
fn one_rollout_at_most_is_armed_for_a_node() {
    let older = |progress| record(progress);
    let newer = |progress| record(progress).staged_at(60_000);
    let (staged, silent, updated) = (Progress::Staged, Progress::Unreachable, Progress::Seen(Phase::Updated));
    // The owner is always the one that was staged last. Whether it is armed, and pending.
    for (old, new, owner, armed, pending) in [
        (older(staged), newer(staged), "new", true, true),
        (older(silent), newer(staged), "new", true, true),
        (older(silent), newer(Progress::Refused), "new", true, true),
        (older(silent), newer(KILLED), "new", true, true),
        (older(silent), newer(SENDING), "new", false, true),
        // The older one never applies again: M12.
        (older(silent), newer(Progress::Ordered), "new", false, false),
        (older(KILLED), newer(updated), "new", false, false),
        (older(staged), newer(Progress::Lost), "new", false, false),
        (older(staged), newer(Progress::Superseded), "new", false, false),
        // Staged again later.
        (older(staged).staged_at(70_000), newer(Progress::Seen(Phase::RolledBack)), "old", true, true),
        // Staged in the same millisecond.
        (newer(staged), newer(updated), "new", false, false),
        // Called off, and taken all the same: nobody has staged it.
        (older(staged), NodeRecord { staged_ms: None, ..newer(silent) }, "old", true, true),
    ] {
        let what = format!("{old:?} {new:?}");
        let node = Node::in_rollout("old", old).and_in("new", LINK, new);
        let snapshot = node.snapshot();
        assert_eq!(id(snapshot.owner("n1")), Some(owner), "{what}");
        assert_eq!(id(snapshot.armed("n1", 110_000)), armed.then_some(owner), "{what}");
        assert_eq!(id(snapshot.pending("n1")), pending.then_some(owner), "{what}");
    }
    let late = NodeRecord { staged_ms: None, ..record(silent) };
    assert_eq!(Node::in_rollout("called-off", late).snapshot().owner("n1"), None);
}

#[test]
fn records_come_with_their_rollouts_and_plain_reboots_last() {
    let node = Node::in_rollout("a", record(Progress::Ordered))
        .and_in("b", LINK, record(Progress::Staged))
        .plain(record(Progress::Ordered));
    let found: Vec<_> = node.snapshot().all_records("n1").map(|of| of.rollout_id()).collect();
    assert_eq!(found, [Some("a"), Some("b"), None]);
    assert_eq!(node.snapshot().records("n1").count(), 2);
    assert_eq!(node.snapshot().all_records("n2").count(), 0);
    assert_eq!(node.snapshot().nodes(), nodes("n1"));
    assert!(node.snapshot().rollout("a").is_some_and(|a| a.image().is_some()));
    assert!(node.snapshot().rollout("b").is_some_and(|b| b.image().is_none()));
    assert_eq!(node.snapshot().rollout("c"), None);
}

#[test]
fn the_boot_source_belongs_to_orders_that_are_not_settled() {
    for (progress, boot, owns) in [
        (Progress::Ordered, Boot::Changed, true),
        (Progress::Ordered, Boot::Claimed, true),
        (Progress::Ordered, Boot::Restoring, true),
        (Progress::Ordered, Boot::Restored, false),
        (Progress::Ordered, Boot::Unchanged, false),
        (Progress::Refused, Boot::Changed, true),
        (Progress::Seen(Phase::RolledBack), Boot::Changed, true),
        (Progress::Seen(Phase::Updated), Boot::Changed, false),
    ] {
        let node = Node::in_rollout("r", record(progress).with_boot(boot));
        assert_eq!(node.snapshot().boot_owners("n1").count() == 1, owns, "{progress:?} {boot:?}");
    }
}

#[test]
fn a_rollout_that_cannot_be_read_concerns_its_own_nodes() {
    let torn = Unreadable { id: "torn".into(), error: "torn".into(), nodes: nodes("n[2-3]") };
    let rollouts = vec![rollout("a", LINK, &[("n1", record(Progress::Staged))])];
    let snapshot = Snapshot { rollouts, unreadable: vec![torn], ..Snapshot::default() };
    assert!(snapshot.is_in_unreadable("n2") && !snapshot.is_in_unreadable("n1"));
    assert!(snapshot.armed("n1", 0).is_some());
}
