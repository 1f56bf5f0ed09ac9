use super::*;
use crate::agent::phase::Phase;
use crate::controller::testing::{Boot, LINK, manifest, nodes, record, rollout};
use crate::rollout::journal::{KeptOut, Progress, Request, Way};

const SENDING: Progress = Progress::Ordering { until_ms: 120_000 };
const KILLED: Progress = Progress::Ordering { until_ms: 105_000 };

fn snapshot(rollouts: &[(&str, &[(&str, NodeRecord)])]) -> Snapshot {
    let rollouts = rollouts.iter().map(|(id, records)| rollout(id, LINK, records));
    Snapshot { rollouts: rollouts.collect(), ..Snapshot::default() }
}

fn other_manifest(list: &str) -> Manifest {
    let mut manifest = manifest(&LINK.replace("slurm-25", "slurm-26"));
    manifest.nodes = nodes(list);
    manifest
}

#[test]
fn a_node_that_waits_for_a_rollout_gets_no_other_one() {
    for (progress, waits) in [
        (Progress::Staged, true),
        (Progress::Refused, true),
        (Progress::Unreachable, true),
        (KILLED, true),
        // An order that is being sent keeps its node: M12.
        (SENDING, true),
        (Progress::Ordered, false),
        (Progress::Lost, false),
        (Progress::Superseded, false),
        (Progress::Seen(Phase::Held), false),
        (Progress::Seen(Phase::Updated), false),
    ] {
        let snapshot = snapshot(&[("A", &[("n1", record(progress)), ("n2", record(Progress::Ordered))])]);
        let taken = Verdict::Taken { nodes: nodes("n1"), rollout: "A".into() };
        let expected = if waits { taken } else { Verdict::Free };
        assert_eq!(check(&other_manifest("n[1-3]"), &snapshot), expected, "{progress:?}");
        let free = if waits { "n[2-3]" } else { "n[1-3]" };
        assert_eq!(free_nodes(&nodes("n[1-3]"), &snapshot), nodes(free), "{progress:?}");
    }
}

#[test]
fn the_same_manifest_for_the_same_nodes_is_staged_already() {
    let staged = [("n1", record(Progress::Staged))];
    let both = [("n1", record(Progress::Staged)), ("n2", record(Progress::Staged))];
    let partly = [("n1", record(Progress::Staged)), ("n2", record(Progress::Ordered))];
    let taken = || Verdict::Taken { nodes: nodes("n1"), rollout: "A".into() };
    for (records, wanted, expected) in [
        (&staged[..], manifest(LINK), Verdict::Already("A".into())),
        (&staged[..], other_manifest("n1"), taken()),
        (&both[..], manifest(LINK), taken()),
        (&partly[..], manifest(LINK), taken()),
        (&[], manifest(LINK), Verdict::Free),
    ] {
        assert_eq!(check(&wanted, &snapshot(&[("A", records)])), expected, "{records:?}");
    }
    // A rollout that was staged over does not count.
    let over = [("n1", record(Progress::Ordered).staged_at(60_000))];
    assert_eq!(check(&manifest(LINK), &snapshot(&[("A", &staged), ("B", &over)])), Verdict::Free);
}

#[test]
fn a_rollout_is_called_off_only_if_nothing_of_it_is_left_on_the_node() {
    for (progress, boot, can_be) in [
        (Progress::Staged, Boot::Unchanged, true),
        (Progress::Refused, Boot::Unchanged, true),
        (Progress::Unreachable, Boot::Unchanged, true),
        (KILLED, Boot::Unchanged, true),
        (Progress::Lost, Boot::Unchanged, true),
        (Progress::Unreachable, Boot::Restored, true),
        // Afterwards nobody would know what the node boots from.
        (Progress::Unreachable, Boot::Changed, false),
        (Progress::Lost, Boot::Changed, false),
        (Progress::Refused, Boot::Restoring, false),
        (SENDING, Boot::Unchanged, false),
        (Progress::Ordered, Boot::Unchanged, false),
        (Progress::Superseded, Boot::Unchanged, false),
        (Progress::Seen(Phase::Held), Boot::Unchanged, false),
        (Progress::Seen(Phase::Updated), Boot::Unchanged, false),
    ] {
        let snapshot = snapshot(&[("A", &[("n1", record(progress).with_boot(boot))])]);
        let found = unstageable(&nodes("n[1-2]"), &snapshot, "A", 110_000);
        assert_eq!(!found.is_empty(), can_be, "{progress:?} {boot:?}");
        assert!(unstageable(&nodes("n1"), &snapshot, "B", 110_000).is_empty());
    }
}

#[test]
fn an_id_is_the_name_or_the_first_free_number_behind_it() {
    let known = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    assert_eq!(new_id("driver", &known(&[])), "driver");
    assert_eq!(new_id("driver", &known(&["driver"])), "driver@2");
    assert_eq!(new_id("driver", &known(&["driver", "driver@3"])), "driver@2");
    assert_eq!(new_id("driver", &known(&["driver", "driver@2", "driver@3"])), "driver@4");
}

#[test]
fn a_node_with_a_request_or_a_drain_in_slurm_is_not_called_off() {
    let request = Some(Request { at_ms: 1, way: Way::Asap, taken: false, withdrawing: false, drained: None });
    let kept_out = Some(KeptOut { since_ms: 1, reason: None });
    for (record, can_be) in [
        (record(Progress::Staged), true),
        (NodeRecord { cancelled: true, ..record(Progress::Staged) }, true),
        (NodeRecord { request: request.clone(), ..record(Progress::Staged) }, false),
        (NodeRecord { request, ..record(Progress::Refused) }, false),
        (NodeRecord { kept_out: kept_out.clone(), ..record(Progress::Staged) }, false),
        (NodeRecord { kept_out, ..record(Progress::Lost) }, false),
    ] {
        let snapshot = snapshot(&[("A", &[("n1", record.clone())])]);
        let expected = if can_be { nodes("n1") } else { NodeSet::new() };
        assert_eq!(unstageable(&nodes("n1"), &snapshot, "A", 110_000), expected, "{record:?}");
    }
}
