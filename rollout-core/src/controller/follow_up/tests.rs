mod combinations;

use super::*;
use crate::controller::testing::{
    Boot, IMAGE, LINK, NEW_BOOT, Node, OLD_BOOT, agent, id, nodes as node_set, record, rollout, slurm,
};
use crate::rollout::journal::{Request, Way};

const HELD: Progress = Progress::Seen(Phase::Held);
const ROLLED_BACK: Progress = Progress::Seen(Phase::RolledBack);
const UPDATED: Progress = Progress::Seen(Phase::Updated);
/// The claim of a RebootProgram that was killed.
const KILLED: Progress = Progress::Ordering { until_ms: 105_000 };
/// The claim of one that is at work.
const SENDING: Progress = Progress::Ordering { until_ms: 120_000 };

fn back(why: &str, then: AfterRestoring) -> Option<Step> {
    Some(restore_boot(why, then))
}

fn recorded(outcome: Outcome) -> Option<Step> {
    Some(Step::Record(outcome))
}

fn ended(phase: Phase, error: Option<&str>) -> Option<Step> {
    recorded(Outcome::Ended { phase, error: error.map(str::to_owned), notes: Vec::new() })
}

fn superseded(why: &str) -> Option<Step> {
    recorded(Outcome::Superseded { why: why.into() })
}

#[test]
fn notes_are_recorded_and_are_no_failure() {
    let mut reports = agent(NEW_BOOT).at(1, Phase::Updated).for_rollout("driver");
    reports.order.iter_mut().for_each(|order| order.notes = vec!["a scriptlet failed".to_owned()]);
    let order = reports.order.clone().unwrap();
    let notes = vec!["a scriptlet failed".to_owned()];
    assert_eq!(Outcome::ended(&order), Outcome::Ended { phase: Phase::Updated, error: None, notes });
    let node = Node::in_rollout("driver", record(Progress::Ordered)).agent(reports);
    assert_eq!(step(&node), recorded(Outcome::ended(&order)));
}

#[test]
fn nodes_are_asked_at_once_when_slurm_shows_them_back() {
    for (progress, state, is_asked) in [
        (Progress::Ordered, "IDLE", true),
        (Progress::Ordered, "IDLE+DRAIN", true),
        (Progress::Ordered, "ALLOCATED", true),
        (Progress::Ordered, "DOWN+DRAIN+REBOOT_ISSUED", false),
        (Progress::Ordered, "IDLE+POWERING_UP", false),
        (Progress::Ordered, "DOWN+DRAIN", false),
        (Progress::Staged, "IDLE", false),
        (UPDATED, "IDLE", false),
    ] {
        let node = Node::in_rollout("driver", record(progress));
        let expected = if is_asked { node_set("n1") } else { NodeSet::new() };
        assert_eq!(returned(&node.0.snapshot, &[slurm(state, "")]), expected, "{progress:?} {state}");
    }
}

#[test]
fn a_node_with_the_order_in_advance_is_asked_once_its_request_is_gone() {
    let request = Request { at_ms: 1, way: Way::Asap, taken: true, withdrawing: false, drained: None };
    let pre_staged = || record(Progress::Staged).pre_staged(1);
    let requested = |record| NodeRecord { request: Some(request.clone()), ..record };
    for (record, state, is_asked) in [
        (requested(pre_staged()), "IDLE", true),
        (requested(pre_staged()), "MIXED+DRAIN+REBOOT_REQUESTED", false),
        (requested(pre_staged()), "DOWN+DRAIN+REBOOT_ISSUED", false),
        (requested(pre_staged()), "DOWN", false),
        (requested(record(Progress::Staged)), "IDLE", false),
        (pre_staged(), "IDLE", false),
    ] {
        let node = Node::in_rollout("driver", record.clone());
        let expected = if is_asked { node_set("n1") } else { NodeSet::new() };
        assert_eq!(returned(&node.0.snapshot, &[slurm(state, "")]), expected, "{record:?} {state}");
    }
    let back = Node::in_rollout("driver", requested(pre_staged()));
    let back = back.agent(agent(NEW_BOOT).at(1, Phase::Updated).for_rollout("driver"));
    assert_eq!(step(&back), ended(Phase::Updated, None));
}

/// Returns the only step that is due.
fn step(node: &Node) -> Option<Step> {
    let mut steps = due(node.0.node("n1"));
    assert!(steps.len() < 2, "{steps:?}");
    steps.pop().map(|due| due.step)
}

#[test]
fn nodes_are_followed_up_until_they_are_settled() {
    // Progress, boot source; whether it is followed up at all, and whether it waits for a step of the controller.
    for (progress, boot, followed, urgent) in [
        (Progress::Staged, Boot::Unchanged, false, false),
        (SENDING, Boot::Unchanged, true, false),
        (Progress::Ordered, Boot::Unchanged, true, false),
        (Progress::Ordered, Boot::Changed, true, true),
        (Progress::Ordered, Boot::Restored, true, true),
        (Progress::Unreachable, Boot::Unchanged, true, false),
        (Progress::Unreachable, Boot::Changed, true, true),
        (Progress::Unreachable, Boot::Restored, true, true),
        (Progress::Lost, Boot::Unchanged, true, false),
        (HELD, Boot::Unchanged, true, false),
        (HELD, Boot::Changed, true, true),
        (Progress::Refused, Boot::Unchanged, false, false),
        // Refused, and its boot source is still the rollout's.
        (Progress::Refused, Boot::Changed, true, true),
        (Progress::Refused, Boot::Restored, false, false),
        (Progress::Superseded, Boot::Changed, true, true),
        (ROLLED_BACK, Boot::Changed, true, true),
        (ROLLED_BACK, Boot::Restored, false, false),
        (UPDATED, Boot::Changed, false, false),
        (Progress::Covered, Boot::Unchanged, false, false),
    ] {
        let node = Node::in_rollout("driver", record(progress).with_boot(boot));
        let found = |urgent| !nodes(node.snapshot(), 110_000, urgent).is_empty();
        assert_eq!((found(false), found(true)), (followed, urgent), "{progress:?} {boot:?}");
    }
    let volatile = NodeRecord { volatile: true, ..record(Progress::Ordered) };
    assert_eq!(nodes(Node::in_rollout("driver", volatile).snapshot(), 0, true), node_set("n1"));
    let pre_staged = Node::in_rollout("driver", record(Progress::Staged).pre_staged(1));
    assert_eq!(nodes(pre_staged.snapshot(), 0, false), node_set("n1"), "slurmd may have rebooted it");
    let later = Node::in_rollout("driver", record(Progress::Ordered)).and_in("next", LINK, record(UPDATED));
    assert_eq!(nodes(later.snapshot(), 0, false), node_set("n1"), "a later order hides no earlier one");
    let plain = Node::new().plain(record(Progress::Ordered));
    assert_eq!(nodes(plain.snapshot(), 110_000, false), node_set("n1"));
    assert!(nodes(plain.snapshot(), 100_001 + PLAIN_REBOOT_MS, false).is_empty(), "Slurm gave up long ago");
}

#[test]
fn evidence_decides_what_is_due() {
    use AfterRestoring as After;
    const LATE: &str = "the node was not back in time";
    const NOT_TAKEN: &str = "the order was not taken";
    const UNKNOWN: &str = "it has booted, and its agent knows nothing of the order";
    const OVERTAKEN: &str = "has had another order since: how this one ended was not seen";
    let (ordered, silent) = (Progress::Ordered, Progress::Unreachable);
    let this = |phase| Some(agent(NEW_BOOT).at(1, phase));
    let old = Some(agent(OLD_BOOT));
    let new = Some(agent(NEW_BOOT));
    let other = |boot| Some(agent(boot).at(7, Phase::Updated));
    let accepted = recorded(Outcome::Accepted { volatile: false });
    for (progress, boot, agent, now_s, due) in [
        // Silence: the node is booting. After its boot timeout of a minute its boot source is restored, whatever the
        // outcome of its order.
        (ordered, Boot::Changed, None, 160, None),
        (ordered, Boot::Changed, None, 161, back(LATE, After::TellSlurm)),
        (Progress::Lost, Boot::Changed, None, 161, back(LATE, After::TellSlurm)),
        (HELD, Boot::Changed, None, 161, back(LATE, After::TellSlurm)),
        (silent, Boot::Changed, None, 161, back(NOT_TAKEN, After::Nothing)),
        (KILLED, Boot::Changed, None, 161, back(NOT_TAKEN, After::Nothing)),
        (Progress::Refused, Boot::Changed, None, 161, back(NOT_TAKEN, After::Nothing)),
        (ordered, Boot::Restored, None, 161, None),
        (ordered, Boot::Unchanged, None, 161, None),
        // A process is at work on it.
        (SENDING, Boot::Changed, None, 110, None),
        (ordered, Boot::Claimed, None, 199, None),
        (ordered, Boot::Restoring, this(Phase::Undoing), 199, None),
        // Its claim is over: it was killed.
        (ordered, Boot::Restoring, this(Phase::Undoing), 200, back("nhc failed", After::TellAgent)),
        // The answer was lost, and the order was not.
        (silent, Boot::Changed, this(Phase::Rebooting), 110, accepted.clone()),
        (KILLED, Boot::Changed, this(Phase::Verifying), 110, accepted.clone()),
        (Progress::Lost, Boot::Unchanged, this(Phase::Verifying), 110, accepted),
        // Under way, and as it should be.
        (ordered, Boot::Changed, this(Phase::Rebooting), 110, None),
        (ordered, Boot::Changed, this(Phase::Verifying), 110, None),
        (ordered, Boot::Unchanged, this(Phase::Undoing), 110, None),
        // The agent waits for its boot source.
        (ordered, Boot::Changed, this(Phase::Undoing), 110, back("nhc failed", After::TellAgent)),
        (ordered, Boot::Restored, this(Phase::Undoing), 130, Some(Step::TellBootRestored)),
        // Ends are recorded first. Afterwards no boot source stays changed without a proof: M9.
        (ordered, Boot::Changed, this(Phase::Updated), 110, ended(Phase::Updated, None)),
        (silent, Boot::Unchanged, this(Phase::RolledBack), 110, ended(Phase::RolledBack, Some("nhc failed"))),
        (ordered, Boot::Changed, this(Phase::Held), 110, ended(Phase::Held, Some("nhc failed"))),
        (HELD, Boot::Changed, this(Phase::Held), 110, back("the node is held", After::Nothing)),
        (
            ROLLED_BACK,
            Boot::Changed,
            this(Phase::RolledBack),
            110,
            back("the node is rolled-back", After::Nothing),
        ),
        (HELD, Boot::Restored, this(Phase::Held), 130, None),
        (UPDATED, Boot::Changed, this(Phase::Updated), 110, None),
        (HELD, Boot::Restored, this(Phase::Updated), 130, ended(Phase::Updated, None)),
        (HELD, Boot::Restored, this(Phase::Applying), 130, recorded(Outcome::Retried)),
        // The agent answers and has another order, or none. It has not booted since: the order was not taken.
        (silent, Boot::Changed, old.clone(), 110, back(NOT_TAKEN, After::Nothing)),
        (KILLED, Boot::Changed, other(OLD_BOOT), 110, back(NOT_TAKEN, After::Nothing)),
        (Progress::Refused, Boot::Changed, other(OLD_BOOT), 110, back(NOT_TAKEN, After::Nothing)),
        (ordered, Boot::Changed, other(OLD_BOOT), 110, back("its agent has another order", After::Nothing)),
        // It has booted ours and knows nothing of it: reinstalled, or a gate that was opened by hand.
        (ordered, Boot::Changed, new.clone(), 110, back(UNKNOWN, After::StageAgain)),
        (silent, Boot::Changed, new.clone(), 110, back(UNKNOWN, After::Nothing)),
        (Progress::Superseded, Boot::Changed, new.clone(), 110, back(UNKNOWN, After::Nothing)),
        // No boot source is concerned.
        (ordered, Boot::Unchanged, old.clone(), 110, None),
        (
            ordered,
            Boot::Unchanged,
            new.clone(),
            110,
            recorded(Outcome::Lost { why: "its agent knows of no order: was the node reinstalled?".into() }),
        ),
        (ordered, Boot::Unchanged, other(OLD_BOOT), 110, superseded(OVERTAKEN)),
        (HELD, Boot::Restored, other(NEW_BOOT), 130, superseded(OVERTAKEN)),
        (silent, Boot::Unchanged, other(OLD_BOOT), 110, None),
        (silent, Boot::Unchanged, old, 110, None),
        (Progress::Lost, Boot::Unchanged, new, 110, None),
    ] {
        let what = format!("{progress:?} {boot:?} {agent:?} at {now_s} s");
        let node = Node::in_rollout("driver", record(progress).with_boot(boot)).at_s(now_s);
        let node = match agent {
            Some(agent) => node.agent(agent),
            None => node.silent(),
        };
        assert_eq!(step(&node), due, "{what}");
    }
}

#[test]
fn an_order_is_known_by_its_id_and_while_it_is_under_way_by_its_rollout() {
    let under_way = |number| recorded(Outcome::UnderWay { under_way: id(number), volatile: false });
    let twice = record(Progress::Unreachable).with_order(2).after_order(1);
    let again = record(Progress::Staged).ordered_at(90_000).with_boot(Boot::Changed);
    for (record, agent, due) in [
        // Ordered twice, and the agent has the first one: C2b.
        (twice.clone(), agent(NEW_BOOT).at(1, Phase::Verifying), under_way(1)),
        (twice.clone(), agent(NEW_BOOT).at(1, Phase::Updated), under_way(1)),
        // An order that no journal has: the journal could not be written.
        (twice.clone(), agent(NEW_BOOT).at(9, Phase::Verifying).for_rollout("driver"), under_way(9)),
        // It ended before, when it was another one's turn.
        (twice.clone(), agent(NEW_BOOT).at(9, Phase::Updated).for_rollout("driver"), None),
        (twice, agent(NEW_BOOT).at(9, Phase::Verifying).for_rollout("other"), None),
        // Staged again while the boot source is an earlier order's, which an older version allowed: a good end of that
        // order is no reason to restore it.
        (again.clone(), agent(NEW_BOOT).at(1, Phase::Updated), None),
        (again.clone(), agent(NEW_BOOT).at(1, Phase::Verifying), None),
        (
            again.clone(),
            agent(NEW_BOOT).at(1, Phase::Undoing),
            back("the rollout is undone", AfterRestoring::TellAgent),
        ),
        (
            again,
            agent(NEW_BOOT).at(1, Phase::RolledBack),
            back("the node is rolled-back", AfterRestoring::Nothing),
        ),
    ] {
        let node = Node::new().and_in("driver", LINK, record.clone()).agent(agent.clone());
        assert_eq!(step(&node), due, "{record:?} {agent:?}");
    }
}

#[test]
fn each_order_of_a_node_is_followed_up() {
    let both = Node::in_rollout("first", record(Progress::Ordered).with_boot(Boot::Changed))
        .and_in("next", LINK, record(Progress::Unreachable).with_order(2))
        .plain(record(Progress::Ordered).with_order(3))
        .agent(agent(NEW_BOOT).at(1, Phase::Updated).for_rollout("first"));
    let due: Vec<_> =
        due(both.0.node("n1")).into_iter().map(|due| (due.rollout, due.order, due.step)).collect();
    let overtaken = superseded("has had another order since: how this one ended was not seen");
    assert_eq!(
        due,
        [
            (Some("first".to_owned()), Some(id(1)), ended(Phase::Updated, None).unwrap()),
            (None, Some(id(3)), overtaken.unwrap()),
        ]
    );
}

#[test]
fn a_plain_reboot_ends_with_the_boot() {
    let plain = |progress| Node::new().plain(record(progress));
    let updated = ended(Phase::Updated, None);
    for (node, due) in [
        (plain(Progress::Ordered).agent(agent(NEW_BOOT)), updated.clone()),
        (plain(Progress::Ordered).agent(agent(OLD_BOOT)), None),
        (plain(Progress::Ordered).agent(agent(NEW_BOOT).at(1, Phase::Updated)), updated),
        (
            plain(Progress::Ordered).agent(agent(NEW_BOOT).at(1, Phase::Held)),
            ended(Phase::Held, Some("nhc failed")),
        ),
        // Slurm shows what became of it.
        (plain(Progress::Ordered).silent().at_s(3600), None),
        (plain(Progress::Covered).agent(agent(NEW_BOOT)), None),
    ] {
        assert_eq!(step(&node), due, "{node:?}");
    }
}

#[test]
fn a_rollout_that_another_one_was_staged_over_is_superseded() {
    let newer = superseded("next was staged after it");
    let next = record(Progress::Staged).staged_at(60_000);
    let over = |record| Node::new().and_in("driver", LINK, record).and_in("next", LINK, next.clone());
    let unreachable = record(Progress::Unreachable);
    for (node, due) in [
        (over(record(Progress::Staged)).silent(), newer.clone()),
        (over(record(Progress::Refused)).silent(), newer.clone()),
        // It may have been taken, until the agent answers that it was not.
        (over(unreachable.clone()).silent(), None),
        (over(record(Progress::Staged).pre_staged(1)).silent(), None),
        (over(unreachable.clone()).agent(agent(OLD_BOOT)), newer.clone()),
        (over(record(KILLED)).agent(agent(OLD_BOOT)), newer),
        (
            over(unreachable.clone()).agent(agent(NEW_BOOT).at(1, Phase::Verifying)),
            recorded(Outcome::Accepted { volatile: false }),
        ),
        // Its boot source comes first.
        (
            over(unreachable.with_boot(Boot::Changed)).agent(agent(OLD_BOOT)),
            back("the order was not taken", AfterRestoring::Nothing),
        ),
        // An order that was taken ends.
        (over(record(Progress::Ordered)).agent(agent(OLD_BOOT)), None),
    ] {
        assert_eq!(step(&node), due, "{node:?}");
    }
}

#[test]
fn a_node_that_does_not_come_back_is_lost() {
    let gave_up = "driver : reboot issued : reboot timed out";
    // 5 min to verify and 10 min to reboot, there and back, 5 min to register and 15 min to boot: 50 min.
    let limit_s = 100 + 50 * 60;
    let ordered = || Node::new().and_in("driver", LINK, record(Progress::Ordered));
    for (node, lost_at) in [
        (ordered().silent().slurm("DOWN+REBOOT_ISSUED", "driver : reboot issued"), Some(limit_s + 1)),
        (ordered().silent().slurm("DOWN", gave_up), Some(110)),
        (ordered().silent(), Some(limit_s + 1)),
        // It was not asked, or it answers.
        (ordered().slurm("DOWN", gave_up), None),
        (ordered().agent(agent(OLD_BOOT)).slurm("DOWN", gave_up), None),
        // Only an order that was accepted.
        (
            Node::new().and_in("driver", LINK, record(Progress::Unreachable)).silent().slurm("DOWN", gave_up),
            None,
        ),
        (Node::new().plain(record(Progress::Ordered)).silent().slurm("DOWN", gave_up), None),
    ] {
        let is_lost = |now_s| {
            let node = node.clone().at_s(now_s);
            matches!(step(&node), Some(Step::Record(Outcome::Lost { .. })))
        };
        let first = [110, limit_s, limit_s + 1].into_iter().find(|now_s| is_lost(*now_s));
        assert_eq!(first, lost_at, "{node:?}");
    }
}

#[test]
fn only_nodes_between_two_boots_are_on_their_way() {
    let on_its_way = |progress, boot, now_s: u64| {
        let record = record(progress).with_boot(boot);
        let snapshot =
            Snapshot { rollouts: vec![rollout("driver", IMAGE, &[("n1", record)])], ..Snapshot::default() };
        snapshot.records("n1").any(|of| is_on_its_way(of, now_s * 1000))
    };
    for (progress, boot, until_s) in [
        (Progress::Ordered, Boot::Changed, 160),
        (Progress::Unreachable, Boot::Changed, 160),
        (KILLED, Boot::Changed, 160),
        (Progress::Ordered, Boot::Restored, 180),
        (HELD, Boot::Restoring, 199),
        (SENDING, Boot::Changed, 160),
    ] {
        assert!(on_its_way(progress, boot, until_s), "{progress:?} {boot:?}");
        assert!(!on_its_way(progress, boot, until_s + 1), "{progress:?} {boot:?}");
    }
    assert!(!on_its_way(HELD, Boot::Restored, 110));
    assert!(!on_its_way(Progress::Ordered, Boot::Unchanged, 110), "it needs nothing of the controller");
}

#[test]
fn outcomes_are_lines_about_their_order() {
    let entry = |outcome: Outcome, order| outcome.entry(node_set("n1"), order);
    let why = || "why".to_owned();
    let (nodes, order) = (node_set("n1"), id(1));
    assert_eq!(
        entry(Outcome::UnderWay { under_way: id(2), volatile: true }, Some(id(1))),
        Some(Entry::UnderWay { nodes: nodes.clone(), order, under_way: Some(id(2)), volatile: true })
    );
    assert_eq!(entry(Outcome::Retried, None), None, "there is nothing that it could be about");
    assert_eq!(
        entry(Outcome::Superseded { why: why() }, None),
        Some(Entry::Superseded { nodes, order: None, why: why() }),
        "a rollout can be superseded before its first order"
    );
}
