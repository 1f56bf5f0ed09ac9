use super::*;
use crate::controller::snapshot::Snapshot;
use crate::controller::testing::{Boot, IMAGE, LINK, record, rollout, running};
use crate::rollout::manifest::Change;

const UPDATED: Progress = Progress::Seen(Phase::Updated);

/// Returns the changes of rollouts in the order in which an agent reports them. `-` before a name: it changed nothing.
fn past(rollouts: &[&str]) -> Vec<NodeChanges> {
    let link = |before: &str| ChangeMade::Symlink { path: "/opt/slurm".into(), before: Some(before.into()) };
    let changes = |name: &&str| match name.strip_prefix('-') {
        Some(name) => NodeChanges { rollout: name.into(), made: Vec::new() },
        None => NodeChanges { rollout: (*name).into(), made: vec![link(&format!("/before-{name}"))] },
    };
    rollouts.iter().map(changes).collect()
}

fn snapshot(records: &[(&str, NodeRecord)]) -> Snapshot {
    let rollouts = records.iter().map(|(id, record)| rollout(id, IMAGE, &[("n1", record.clone())]));
    Snapshot { rollouts: rollouts.collect(), ..Snapshot::default() }
}

#[test]
fn only_rollouts_that_the_node_became_and_that_still_stand_are_in_the_way() {
    const UNKNOWN: &str = "nothing to undo: it is not known to have become what was staged";
    const UNDONE: &str = "nothing to undo: it was undone already";
    const SAME: &str = "nothing to undo: nothing was another than before";
    // The rollouts that the agent reports, and the answer to `undo A`.
    for (became, expected) in [
        (vec!["A"], Ok("/before-A")),
        // B was rolled back, refused or unanswered: the agent never became it. M6.
        (vec!["X", "A"], Ok("/before-A")),
        (vec!["A", "B"], Err("has had B since, undo that first")),
        (vec!["A", "B", "C"], Err("has had C since, undo that first")),
        (vec!["A", "-B"], Ok("/before-A")),
        // An undo cancels the rollout before it.
        (vec!["A", "B", "undo-B"], Ok("/before-A")),
        (vec!["A", "B", "C", "undo-C", "undo-B"], Ok("/before-A")),
        (vec!["A", "B", "C", "undo-C@2"], Err("has had B since, undo that first")),
        (vec!["A", "B@2", "undo-B-2"], Ok("/before-A")),
        (vec!["A", "undo-A"], Err(UNDONE)),
        // The undo of the undo is a rollout of its own.
        (vec!["A", "undo-A", "undo-undo-A"], Err(UNDONE)),
        (vec!["-A"], Err(SAME)),
        (vec![], Err(UNKNOWN)),
        (vec!["B"], Err(UNKNOWN)),
    ] {
        let of = rollout("A", LINK, &[("n1", record(UPDATED))]);
        let found = way_back(&of, "n1", &snapshot(&[]), Some(&Ok(past(&became))));
        let target = found.map(|desired| match &desired.changes[..] {
            [Change::Symlink(link)] => link.target.clone().unwrap(),
            other => panic!("{other:?}"),
        });
        assert_eq!(target.as_deref().map_err(String::as_str), expected, "{became:?}");
    }
    let undone = rollout("undo-undo-A", LINK, &[("n1", record(UPDATED))]);
    let past = Ok(past(&["A", "undo-A", "undo-undo-A"]));
    assert!(way_back(&undone, "n1", &snapshot(&[]), Some(&past)).is_ok());
}

#[test]
fn a_node_without_a_ledger_is_undone_by_the_journals() {
    const UNKNOWN: &str = "nothing to undo: it is not known to have become what was staged";
    let volatile = |progress, boot| NodeRecord { volatile: true, ..record(progress).with_boot(boot) };
    let updated = |ordered_at| volatile(UPDATED, Boot::Changed).ordered_at(ordered_at);
    let rolled_back = volatile(Progress::Seen(Phase::RolledBack), Boot::Restored).ordered_at(9);
    for (records, expected) in [
        (vec![("A", updated(1))], Ok(())),
        (vec![("A", updated(1)), ("B", updated(2))], Err("has had B since, undo that first")),
        (vec![("A", updated(2)), ("B", updated(1))], Ok(())),
        (vec![("A", updated(1)), ("B", rolled_back)], Ok(())),
        (vec![("A", updated(1)), ("B", updated(2)), ("undo-B", updated(3))], Ok(())),
        (vec![("A", updated(1)), ("undo-A", updated(2))], Err("nothing to undo: it was undone already")),
        // It is on its way there, or its outcome is unknown.
        (vec![("A", volatile(Progress::Ordered, Boot::Changed))], Err(UNKNOWN)),
        (vec![("A", volatile(Progress::Unreachable, Boot::Changed))], Err(UNKNOWN)),
        (vec![("A", volatile(UPDATED, Boot::Restored))], Err(UNKNOWN)),
        (vec![("A", volatile(UPDATED, Boot::Unchanged))], Err(UNKNOWN)),
        // Its agent has forgotten a rollout that it would know of.
        (vec![("A", record(UPDATED).with_boot(Boot::Changed))], Err(UNKNOWN)),
    ] {
        let snapshot = snapshot(&records);
        let found = way_back(&snapshot.rollouts[0], "n1", &snapshot, Some(&Ok(Vec::new())));
        let found = found.map(|desired| {
            let [Change::Image(image)] = &desired.changes[..] else { panic!("{desired:?}") };
            assert_eq!((image.version.clone(), image.restores.as_deref()), (running("1").version, Some("A")));
        });
        assert_eq!(
            found.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|why| *why),
            "{records:?}"
        );
    }
}

#[test]
fn an_undo_needs_the_agents_answer_and_a_manifest_that_can_be_read() {
    let mut of = rollout("A", LINK, &[("n1", record(UPDATED))]);
    let way_back = |of: &RolloutState, changes: Option<&Result<Vec<NodeChanges>, String>>| {
        way_back(of, "n1", &snapshot(&[]), changes).unwrap_err()
    };
    assert_eq!(way_back(&of, None), "its agent was not asked");
    let silent = Err("timed out".to_owned());
    assert_eq!(way_back(&of, Some(&silent)), "its agent did not report its changes: timed out");
    of.manifest = Err("unknown kind".to_owned());
    assert_eq!(way_back(&of, Some(&Ok(past(&["A"])))), "unknown kind");
}

#[test]
fn an_undo_has_a_name_that_a_manifest_may_have() {
    assert_eq!(undo_name("driver"), "undo-driver");
    assert_eq!(undo_name("driver@2"), "undo-driver-2");
    assert_eq!(undo_name(&"x".repeat(64)).len(), MAX_NAME);
}
