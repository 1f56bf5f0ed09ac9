use super::*;
use crate::agent::phase::Phase;
use crate::controller::snapshot::Snapshot;
use crate::controller::testing::{Boot, IMAGE, LINK, id, record, rollout};
use crate::rollout::journal::{self, NodeRecords, Way};
use crate::slurm::drains::Drain;

fn info(name: &str, state: &[&str]) -> NodeInfo {
    let state = state.iter().map(|word| (*word).to_owned()).collect();
    NodeInfo { name: name.into(), state, ..NodeInfo::default() }
}

#[test]
fn only_nodes_that_slurm_handed_over_are_taken() {
    let nodes = NodeSet::parse("n[1-4]").unwrap();
    let slurm = [
        info("n1", &["DOWN", "REBOOT_ISSUED"]),
        info("n2", &["IDLE"]),
        info("n3", &["ALLOCATED", "POWERING_UP"]),
    ];
    let request = Request { nodes, ..Request::default() };
    let (taken, skipped) = handed_over(&request, Some(&slurm), &Drains::new());
    let plain: Vec<_> = taken.iter().map(|handed| handed.plain).collect();
    assert_eq!(plain, [false, true], "a job waits for n3");
    let taken: Vec<_> = taken.iter().map(|handed| handed.node.as_str()).collect();
    assert_eq!(taken, ["n1", "n3"]);
    assert_eq!(skipped[&Skipped::NotHandedOver], ["n2"]);
    assert_eq!(skipped[&Skipped::Unknown], ["n4"]);
    let unasked = handed_over(&request, None, &Drains::new()).0;
    assert!(unasked.len() == 4 && unasked.iter().all(|handed| !handed.plain));
    let for_a_job = Request { features: Some("knl".to_owned()), ..request.clone() };
    assert!(handed_over(&for_a_job, None, &Drains::new()).0.iter().all(|handed| handed.plain));
    let when = |request: &Request| handed_over(request, Some(&slurm), &Drains::new()).0[0].issued_ms;
    assert_eq!(when(&request), None, "no Reason says so");
    let known = Request { handed_over_ms: BTreeMap::from([("n1".to_owned(), 7)]), ..request.clone() };
    assert_eq!(when(&known), Some(7));
    let wanted_so = Request { plain: true, ..request };
    assert!(handed_over(&wanted_so, Some(&slurm), &Drains::new()).0.iter().all(|handed| handed.plain));
}

#[test]
fn drains_of_others_are_handed_on_if_they_still_stand() {
    let request = Request { nodes: NodeSet::parse("n[1-3]").unwrap(), ..Request::default() };
    let drain = Drain { reason: "bad disk".to_owned(), ..Drain::default() };
    let drains: Drains = [("n1".to_owned(), drain.clone()), ("n2".to_owned(), drain)].into();
    let slurm = [
        info("n1", &["DOWN", "DRAIN", "REBOOT_ISSUED"]),
        info("n2", &["DOWN", "REBOOT_ISSUED"]),
        info("n3", &["DOWN", "DRAIN", "REBOOT_ISSUED"]),
    ];
    let drained = |slurm: Option<&[NodeInfo]>| -> Vec<bool> {
        handed_over(&request, slurm, &drains).0.iter().map(|handed| handed.drained.is_some()).collect()
    };
    assert_eq!(drained(Some(&slurm)), [true, false, false]);
    assert_eq!(drained(None), [true, true, false]);
}

fn at(progress: Progress, ordering_ms: u64) -> NodeRecord {
    let record = record(progress);
    let ordering_ms = record.ordering_ms.map(|_| ordering_ms);
    NodeRecord { ordering_ms, ..record }
}

fn handed(node: &str) -> HandedOver {
    HandedOver {
        node: node.into(),
        issued_ms: Some(99_000),
        returns_by_itself: node != "stays-down",
        plain: node == "for-a-job",
        only_named_in: None,
        drained: (node == "drained").then(|| "bad disk".to_owned()),
    }
}

#[test]
fn each_node_gets_what_is_staged_for_it_and_no_node_twice() {
    let now = 100_000;
    let (sending, killed) =
        (Progress::Ordering { until_ms: now + 1 }, Progress::Ordering { until_ms: now - 1 });
    let driver = rollout(
        "driver",
        LINK,
        &[
            ("staged", at(Progress::Staged, 1)),
            ("for-a-job", at(Progress::Staged, 1)),
            ("drained", at(Progress::Staged, 1)),
            ("pre-staged", at(Progress::Staged, 1).pre_staged(7)),
            ("silent", at(Progress::Unreachable, 1)),
            ("refused", at(Progress::Refused, 99_500)),
            ("busy", at(sending, 1)),
            ("crashed", at(killed, 1)),
            ("just-ordered", at(Progress::Ordered, 99_000)),
            ("ordered-before", at(Progress::Ordered, 50_000)),
            ("done", at(Progress::Seen(Phase::Updated), 50_000)),
            ("just-done", at(Progress::Seen(Phase::Updated), 99_500)),
            ("just-lost", at(Progress::Lost, 99_500)),
            ("lost", at(Progress::Lost, 50_000)),
        ],
    );
    let plain = [("plain-busy", at(sending, 1)), ("covered", at(Progress::Covered, 99_500))];
    let plain_reboots: NodeRecords =
        plain.into_iter().map(|(name, record)| (name.to_owned(), record)).collect();
    let snapshot = Snapshot { rollouts: vec![driver], plain_reboots, ..Snapshot::default() };
    let names = "staged silent refused busy crashed just-ordered ordered-before done just-done plain-busy covered \
                 for-a-job drained pre-staged never stays-down just-lost lost";
    let nodes: Vec<_> = names.split_whitespace().map(handed).collect();
    let (groups, skipped) = group(&nodes, &snapshot, now);
    let of = |rollout, resume_if_late, drained| {
        groups[&OrderGroup { rollout, resume_if_late, drained, pre_staged: None }].join(" ")
    };
    let order = id(7);
    let pre_staged =
        OrderGroup { rollout: Some("driver"), resume_if_late: true, drained: None, pre_staged: Some(&order) };
    assert_eq!(groups[&pre_staged], ["pre-staged"], "under the order that its agent has");
    assert_eq!(of(Some("driver"), true, Some("bad disk")), "drained");
    assert_eq!(of(Some("driver"), true, None), "staged silent refused crashed");
    assert_eq!(of(None, true, None), "ordered-before done for-a-job never lost");
    assert_eq!(of(None, false, None), "stays-down");
    assert_eq!(skipped[&Skipped::BeingOrdered].join(" "), "busy plain-busy");
    assert_eq!(skipped[&Skipped::Ordered].join(" "), "just-ordered just-done covered just-lost");
}

#[test]
fn a_boot_source_is_left_to_the_order_that_owns_it() {
    let now = 110_000;
    let staged = || ("next", record(Progress::Staged).staged_at(60_000));
    let silent = |boot| ("driver", record(Progress::Unreachable).with_boot(boot));
    let ordered = |boot| ("driver", record(Progress::Ordered).ordered_at(1000).with_boot(boot));
    // The rollouts of the node, whether a job waits for it, and the rollout of the order.
    for (rollouts, plain, expected) in [
        // The owner's own order is sent again.
        (vec![silent(Boot::Changed)], false, Ok(Some("driver"))),
        (vec![silent(Boot::Restored)], false, Ok(Some("driver"))),
        (vec![silent(Boot::Claimed)], false, Err(Skipped::BootSource)),
        (vec![silent(Boot::Restoring)], false, Err(Skipped::BootSource)),
        // Any other order would boot the owner's image: another rollout's, or a plain one.
        (vec![silent(Boot::Changed), staged()], false, Err(Skipped::BootSource)),
        (vec![ordered(Boot::Changed), staged()], false, Err(Skipped::BootSource)),
        (vec![silent(Boot::Changed)], true, Err(Skipped::BootSource)),
        (vec![ordered(Boot::Changed)], false, Err(Skipped::BootSource)),
        (vec![ordered(Boot::Restored), staged()], false, Ok(Some("next"))),
        (vec![ordered(Boot::Unchanged)], false, Ok(None)),
        // Of two owners neither goes first, whichever is the older one.
        (
            vec![
                ("driver", record(Progress::Unreachable).with_boot(Boot::Changed).staged_at(60_000)),
                ("held", record(Progress::Seen(Phase::Held)).ordered_at(1000).with_boot(Boot::Changed)),
            ],
            false,
            Err(Skipped::BootSource),
        ),
    ] {
        let what = format!("{rollouts:?} {plain}");
        let rollouts = rollouts.into_iter().map(|(id, record)| rollout(id, IMAGE, &[("n1", record)]));
        let snapshot = Snapshot { rollouts: rollouts.collect(), ..Snapshot::default() };
        let nodes = [HandedOver { plain, ..handed("n1") }];
        let (groups, skipped) = group(&nodes, &snapshot, now);
        let found = match groups.keys().next() {
            Some(group) => Ok(group.rollout),
            None => Err(*skipped.keys().next().unwrap()),
        };
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn a_reboot_that_must_name_the_rollout_and_does_not_is_plain() {
    let driver = rollout("driver", LINK, &[("n1", record(Progress::Staged))]);
    let snapshot = Snapshot { rollouts: vec![driver], ..Snapshot::default() };
    for (apply, reason, applied) in [
        (ApplyBy::Any, Some("xid 79 : reboot issued"), true),
        (ApplyBy::Any, None, true),
        (ApplyBy::Named, Some("driver : reboot issued"), true),
        (ApplyBy::Named, Some("xid 79 : reboot issued"), false),
        (ApplyBy::Named, Some("undo-driver : reboot issued"), false),
        (ApplyBy::Named, Some("Reboot ASAP : reboot issued"), false),
        // RebootProgram found no agent, and `reconcile` sends the order.
        (ApplyBy::Named, Some("slurm-rollout driver: not ordered: no answer"), true),
        (ApplyBy::Named, Some("slurm-rollout RebootProgram for driver: not ordered: no space"), true),
        // Left by an earlier rollout, on a node that is now rebooted without `reason=`.
        (ApplyBy::Named, Some("slurm-rollout driver: held: nhc : reboot timed out : reboot issued"), false),
        (ApplyBy::Named, None, false),
    ] {
        let request = Request { nodes: NodeSet::parse("n1").unwrap(), apply, ..Request::default() };
        let slurm =
            [NodeInfo { reason: reason.map(str::to_owned), ..info("n1", &["DOWN", "REBOOT_ISSUED"]) }];
        let (taken, _) = handed_over(&request, Some(&slurm), &Drains::new());
        let (groups, _) = group(&taken, &snapshot, 100_000);
        let rollouts: Vec<_> = groups.keys().map(|group| group.rollout).collect();
        assert_eq!(rollouts, [applied.then_some("driver")], "{apply:?} {reason:?}");
        let (unasked, _) = handed_over(&request, None, &Drains::new());
        let (groups, _) = group(&unasked, &snapshot, 100_000);
        let rollouts: Vec<_> = groups.keys().map(|group| group.rollout).collect();
        assert_eq!(rollouts, [(apply == ApplyBy::Any).then_some("driver")], "Slurm was not asked");
    }
}

#[test]
fn a_reboot_that_the_rollout_requested_need_not_name_it() {
    for (way, reason) in [
        (Way::Drained, Some("hw : reboot issued")),
        (Way::Reserved, Some("reboot issued")),
        (Way::Reserved, None),
    ] {
        let requested = journal::Request { at_ms: 1, way, taken: true, withdrawing: false, drained: None };
        let node = NodeRecord { request: Some(requested), ..record(Progress::Staged) };
        let snapshot =
            Snapshot { rollouts: vec![rollout("driver", LINK, &[("n1", node)])], ..Snapshot::default() };
        let only_named_in = Some(reason.unwrap_or_default().to_owned());
        for plain in [false, true] {
            let taken = [HandedOver { only_named_in: only_named_in.clone(), plain, ..handed("n1") }];
            let (groups, _) = group(&taken, &snapshot, 100_000);
            let rollouts: Vec<_> = groups.keys().map(|group| group.rollout).collect();
            assert_eq!(rollouts, [(!plain).then_some("driver")], "{way:?} {reason:?} {plain}");
        }
    }
}
