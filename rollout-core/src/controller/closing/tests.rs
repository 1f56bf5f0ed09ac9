use super::*;
use crate::agent::phase::Phase;
use crate::controller::testing::{Boot, LINK, nodes, record, rollout};
use crate::rollout::journal::{NodeRecord, Progress};

const UPDATED: Progress = Progress::Seen(Phase::Updated);
const HELD: Progress = Progress::Seen(Phase::Held);

fn snapshot(rollouts: &[(&str, &[(&str, NodeRecord)])]) -> Snapshot {
    let rollouts = rollouts.iter().map(|(id, records)| rollout(id, LINK, records));
    Snapshot { rollouts: rollouts.collect(), ..Snapshot::default() }
}

fn closed(snapshot: &Snapshot) -> Vec<String> {
    closable(snapshot, &NodeSet::default(), 1000).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn a_rollout_is_over_when_nothing_is_left_to_do_for_any_node() {
    let rolled_back = Progress::Seen(Phase::RolledBack);
    for (record, over) in [
        (record(UPDATED), true),
        (record(UPDATED).with_boot(Boot::Changed), true),
        (record(rolled_back), true),
        (record(rolled_back).with_boot(Boot::Restored), true),
        (record(rolled_back).with_boot(Boot::Changed), false),
        (record(Progress::Seen(Phase::Released)), true),
        (record(Progress::Superseded), true),
        (record(Progress::Superseded).with_boot(Boot::Changed), false),
        (record(HELD), false),
        (record(Progress::Staged), false),
        (record(Progress::Ordering { until_ms: 1 }), false),
        (record(Progress::Ordered), false),
        (record(Progress::Refused), false),
        (record(Progress::Unreachable), false),
        (record(Progress::Lost), false),
    ] {
        let one = snapshot(&[("r", &[("n1", record.clone())])]);
        assert_eq!(closed(&one) == ["r"], over, "{record:?}");
        let with_others = snapshot(&[("r", &[("n1", record.clone()), ("n2", self::record(UPDATED))])]);
        assert_eq!(closed(&with_others) == ["r"], over, "{record:?}");
    }
    assert_eq!(closed(&snapshot(&[("called-off", &[])])), ["called-off"]);
}

#[test]
fn a_rollout_stays_open_while_one_of_its_nodes_is_handed_over() {
    let both = snapshot(&[("r", &[("n1", record(UPDATED)), ("n2", record(UPDATED))])]);
    for (handed_over, over) in [("n1", false), ("n[2-3]", false), ("n3", true)] {
        assert_eq!(closable(&both, &nodes(handed_over), 1000).len() == 1, over, "{handed_over}");
    }
}

#[test]
fn a_rollout_stays_open_over_an_older_one_that_would_apply_again() {
    let newer = record(UPDATED).staged_at(60_000);
    for (older, over) in [
        (record(Progress::Unreachable), false),
        (record(Progress::Staged), false),
        (record(Progress::Ordering { until_ms: 1 }), false),
        (record(Progress::Ordered), true),
        (record(Progress::Lost), true),
        (record(HELD), true),
        (record(Progress::Unreachable).staged_at(70_000), true),
    ] {
        let both = snapshot(&[("older", &[("n1", older.clone())]), ("newer", &[("n1", newer.clone())])]);
        assert_eq!(closed(&both) == ["newer"], over, "{older:?}");
    }
}

#[test]
fn a_summary_counts_nodes_by_their_last_phase() {
    let records = [("n1", record(UPDATED)), ("n2", record(UPDATED)), ("n3", record(Progress::Superseded))];
    let mut of = rollout("r", LINK, &records);
    let found = summary(&of, 9);
    assert_eq!((found.staged_ms, found.by.as_str(), found.closed_ms), (50_000, "root", 9));
    assert_eq!(found.phases, BTreeMap::from([("superseded".to_owned(), 1), ("updated".to_owned(), 2)]));
    assert_eq!(found.nodes, nodes("n1"), "all nodes that were staged, by the manifest");
    of.manifest = Err("unknown kind".to_owned());
    assert_eq!(summary(&of, 9).nodes, nodes("n[1-3]"));
}

#[test]
fn the_oldest_rollouts_are_archived_by_age_and_by_count() {
    let closed = |id: &str, closed_ms| {
        let summary = summary(&rollout(id, LINK, &[]), closed_ms);
        (id.to_owned(), summary)
    };
    let all = [closed("c", 3000), closed("a", 1000), closed("b", 2000), closed("b@2", 2000)];
    for (age_ms, count, expected) in [
        (10_000, 10, ""),
        (10_000, 4, ""),
        (10_000, 3, "a"),
        (10_000, 2, "a b"),
        (10_000, 0, "a b b@2 c"),
        // It is 5000 now.
        (4001, 10, ""),
        (4000, 10, "a"),
        (3000, 10, "a b b@2"),
        (3000, 3, "a b b@2"),
        (0, 10, "a b b@2 c"),
    ] {
        let retention = Retention { age: Duration::from_millis(age_ms), count };
        assert_eq!(expired(&all, retention, 5000).join(" "), expected, "{retention:?}");
    }
    let forever = Retention { age: Duration::MAX, count: usize::MAX };
    assert!(expired(&all, forever, u64::MAX - 1).is_empty());
}
