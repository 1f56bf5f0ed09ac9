use super::*;
use crate::agent::phase::Phase;
use crate::controller::closing::closable;
use crate::controller::freeze::Freeze;
use crate::controller::snapshot::Unreadable;
use crate::controller::testing::{Boot, LINK, ORDERED_MS, record, rollout};
use crate::rollout::journal::{
    AfterFailure, HookCall, HookCalls, HookFailure, Hooks, KeptOut, Moment, Outcome, Progress, Qualification,
    Request, Way,
};

const UPDATED: Progress = Progress::Seen(Phase::Updated);

fn paused() -> ConductState {
    ConductState::Paused { why: Some("noise".into()) }
}

fn halted() -> ConductState {
    ConductState::Halted { why: "2 nodes failed".into() }
}

/// Returns a rollout in this state, with these nodes, as the only one.
fn snapshot(state: ConductState, records: &[(&str, NodeRecord)]) -> Snapshot {
    let conduct = Conduct { state, since_ms: 60_000, by: "ann@ctl".into(), ..Conduct::default() };
    let rollout = RolloutState { conduct, ..rollout("driver", LINK, records) };
    Snapshot { rollouts: vec![rollout], ..Snapshot::default() }
}

/// Returns a rollout of which one node waits and one is updated.
fn under_way(state: ConductState) -> Snapshot {
    snapshot(state, &[("n1", record(Progress::Staged)), ("n2", record(UPDATED))])
}

fn over(state: ConductState) -> Snapshot {
    snapshot(state, &[("n1", record(UPDATED))])
}

fn frozen(snapshot: Snapshot) -> Snapshot {
    Snapshot { frozen: Some(Freeze { by: "bob@ctl".into(), why: None, since_ms: 1 }), ..snapshot }
}

/// Returns the decision as a line: the entries and the report, or the refusal.
fn line(decision: Result<Decision, Refusal>) -> String {
    match decision {
        Ok(Decision { entries, report }) => {
            let entries: Vec<_> = entries.iter().map(Entry::describe).collect();
            format!("[{}] {report}", entries.join(", "))
        }
        Err(refusal) => format!("refused: {refusal}"),
    }
}

const NOT_STARTED: &str = "refused: driver: is not started; `slurm-rollout start driver` has it run, `slurm-rollout \
                           unstage driver` calls it off";
const STOPPED: &str = "refused: driver: was stopped by ann@ctl; stage its manifest again";
const OVER: &str =
    "refused: driver: is over; stage its manifest again, or `slurm-rollout retry` failed nodes";
const NOTHING: &str = "refused: driver: none of its nodes waits for it; stage its manifest again, or `slurm-rollout retry` failed nodes";

#[test]
fn start_by_state() {
    for (state, expected) in [
        (ConductState::NotStarted, "[started] started for 1 node: n1"),
        (ConductState::Running, "[] is running already, by ann@ctl"),
        (paused(), "refused: driver: was paused by ann@ctl (noise); `slurm-rollout resume driver`"),
        (
            halted(),
            "refused: driver: halted: 2 nodes failed; see `slurm-rollout status driver`, fix the cause, then \
             `slurm-rollout resume driver`",
        ),
        (ConductState::Stopped, STOPPED),
    ] {
        assert_eq!(line(start(&under_way(state.clone()), "driver")), expected, "{state:?}");
    }
    for state in [ConductState::NotStarted, ConductState::Running, paused(), halted()] {
        assert_eq!(line(start(&over(state.clone()), "driver")), NOTHING, "{state:?}");
    }
    assert_eq!(line(start(&over(ConductState::Stopped), "driver")), STOPPED);
}

#[test]
fn a_rollout_is_started_if_one_of_its_nodes_waits() {
    for (progress, starts) in [
        (Progress::Staged, true),
        (Progress::Refused, true),
        (Progress::Unreachable, true),
        (Progress::Ordering { until_ms: u64::MAX }, true),
        (Progress::Ordered, false),
        (Progress::Lost, false),
        (Progress::Seen(Phase::Held), false),
        (Progress::Seen(Phase::RolledBack), false),
        (UPDATED, false),
        (Progress::Superseded, false),
    ] {
        let decision = start(&snapshot(ConductState::NotStarted, &[("n1", record(progress))]), "driver");
        assert_eq!(decision.is_ok(), starts, "{progress:?}");
        let running = start(&snapshot(ConductState::Running, &[("n1", record(progress))]), "driver");
        let settled = record(progress).is_settled();
        assert_eq!(running.is_err(), settled, "{progress:?}: it runs until its last node has ended");
    }
    let mut stolen = under_way(ConductState::NotStarted);
    stolen.rollouts.push(rollout("kernel", LINK, &[("n1", record(Progress::Staged).staged_at(90_000))]));
    assert_eq!(line(start(&stolen, "driver")), NOTHING, "its node belongs to a later rollout");
}

#[test]
fn a_rollout_that_cannot_be_read_is_not_started() {
    let mut newer = under_way(ConductState::NotStarted);
    newer.rollouts[0].manifest = Err("unknown key".into());
    assert_eq!(line(start(&newer, "driver")), "refused: driver: its manifest cannot be read: unknown key");
    let unreadable = Unreadable { id: "driver".into(), error: "torn".into(), nodes: NodeSet::new() };
    let torn = Snapshot { unreadable: vec![unreadable], ..Snapshot::default() };
    let expected = "refused: driver: its journal cannot be read: torn";
    for decision in [
        start(&torn, "driver"),
        pause(&torn, "driver", None),
        resume(&torn, "driver"),
        stop(&torn, "driver"),
        approve(&torn, "driver", 1),
    ] {
        assert_eq!(line(decision), expected);
    }
}

#[test]
fn pause_by_state() {
    let report = "paused: no more reboots are requested; nodes that Slurm is rebooting finish";
    for (state, why, expected) in [
        (ConductState::NotStarted, None, NOT_STARTED.to_owned()),
        (ConductState::Running, None, format!("[paused] {report}")),
        (ConductState::Running, Some("lunch"), format!("[paused: lunch] {report}")),
        (paused(), Some("lunch"), "[] is paused already, by ann@ctl: noise".to_owned()),
        (halted(), None, "[] is halted already: 2 nodes failed".to_owned()),
        (ConductState::Stopped, None, STOPPED.to_owned()),
    ] {
        let why = why.map(str::to_owned);
        assert_eq!(line(pause(&under_way(state.clone()), "driver", why)), expected, "{state:?}");
    }
    let over = over(ConductState::Running);
    assert_eq!(line(pause(&over, "driver", None)), "[] is over: there is nothing to pause");
}

#[test]
fn resume_by_state() {
    for (state, expected) in [
        (ConductState::NotStarted, NOT_STARTED),
        (ConductState::Running, "[] is running already"),
        (paused(), "[resumed] resumed"),
        (halted(), "[resumed] resumed, failures so far no longer count"),
        (ConductState::Stopped, STOPPED),
    ] {
        assert_eq!(line(resume(&under_way(state.clone()), "driver")), expected, "{state:?}");
    }
    for state in [ConductState::NotStarted, ConductState::Running, paused()] {
        assert_eq!(line(resume(&over(state.clone()), "driver")), OVER, "{state:?}");
    }
    let last = over(halted());
    assert_eq!(line(resume(&last, "driver")), "[resumed] resumed, failures so far no longer count");
}

#[test]
fn resume_lets_nodes_without_an_order_wait_again() {
    let requested = |progress, taken| {
        let request = Request { at_ms: 1, way: Way::Asap, taken, withdrawing: false, drained: None };
        NodeRecord { request: Some(request), ..record(progress) }
    };
    const AGAIN: &str =
        "[resumed] resumed, failures so far no longer count, requests n1 again if it got no order";
    const WAY_ON: &str =
        "which is running; if it got no order, `slurm-rollout resume driver` requests it again";
    const ALREADY: &str = "[] is running already";
    for (record, expected) in [
        (record(Progress::Refused), AGAIN),
        (record(Progress::Unreachable), AGAIN),
        (record(Progress::Ordering { until_ms: 1 }), AGAIN),
        (requested(Progress::Staged, true), AGAIN),
        (requested(Progress::Refused, true), AGAIN),
        (NodeRecord { forgiven: true, ..record(Progress::Refused) }, ALREADY),
        // It is about to be requested again.
        (requested(Progress::Refused, false), ALREADY),
        (requested(Progress::Staged, false), ALREADY),
        (record(Progress::Ordered), ALREADY),
        (record(Progress::Lost), ALREADY),
    ] {
        let records = [("n1", record.clone()), ("n2", self::record(Progress::Staged))];
        let running = snapshot(ConductState::Running, &records);
        assert_eq!(line(resume(&running, "driver")), expected, "{record:?}");
        let way_on = way_on(&running.rollouts[0], "n1");
        assert_eq!(way_on == WAY_ON, expected == AGAIN, "{record:?} {way_on}");
    }
    let refused = [("n1", record(Progress::Refused))];
    assert_eq!(line(resume(&snapshot(paused(), &refused), "driver")), "[resumed] resumed");
}

#[test]
fn resume_requests_cancelled_reboots_again() {
    let cancelled = NodeRecord { cancelled: true, ..record(Progress::Staged) };
    let records = [("n1", cancelled.clone()), ("n2", record(Progress::Staged)), ("n3", cancelled)];
    for (state, expected) in [
        (ConductState::Running, "[resumed] resumed, requests the cancelled reboots of n[1,3] again"),
        (paused(), "[resumed] resumed, requests the cancelled reboots of n[1,3] again"),
        (
            halted(),
            "[resumed] resumed, failures so far no longer count, requests the cancelled reboots of n[1,3] again",
        ),
        (ConductState::NotStarted, NOT_STARTED),
        (ConductState::Stopped, STOPPED),
    ] {
        assert_eq!(line(resume(&snapshot(state.clone(), &records), "driver")), expected, "{state:?}");
    }
}

#[test]
fn stop_by_state() {
    for (state, expected) in [
        (ConductState::NotStarted, NOT_STARTED),
        (ConductState::Running, "[stopped] stopped: nodes that Slurm is rebooting finish"),
        (paused(), "[stopped] stopped: nodes that Slurm is rebooting finish"),
        (halted(), "[stopped] stopped: nodes that Slurm is rebooting finish"),
        (ConductState::Stopped, "[] is stopped already, by ann@ctl"),
    ] {
        assert_eq!(line(stop(&under_way(state.clone()), "driver")), expected, "{state:?}");
    }
    assert_eq!(line(stop(&over(ConductState::Running), "driver")), "[] is over: there is nothing to stop");
}

/// An approval may come before the wave is through, but not before the rollout begins.
#[test]
fn approve_by_state() {
    for (state, expected) in [
        (ConductState::NotStarted, NOT_STARTED),
        (ConductState::Running, "[wave 2 approved] wave 2 approved"),
        (paused(), "[wave 2 approved] wave 2 approved; it is paused, `slurm-rollout resume driver`"),
        (
            halted(),
            "[wave 2 approved] wave 2 approved; it halted: 2 nodes failed; `slurm-rollout resume driver`",
        ),
        (ConductState::Stopped, STOPPED),
    ] {
        assert_eq!(line(approve(&under_way(state.clone()), "driver", 2)), expected, "{state:?}");
    }
    assert_eq!(line(approve(&over(ConductState::Running), "driver", 2)), OVER);
    let mut running = under_way(ConductState::Running);
    assert_eq!(line(approve(&running, "driver", 0)), "refused: driver: waves count from 1");
    running.rollouts[0].conduct.approved.insert(2);
    assert_eq!(line(approve(&running, "driver", 2)), "[] wave 2 is approved already");
    assert_eq!(line(approve(&running, "driver", 1)), "[wave 1 approved] wave 1 approved");
}

#[test]
fn a_closed_rollout_is_over() {
    let none = Snapshot::default();
    assert_eq!(line(start(&none, "driver")), OVER);
    assert_eq!(line(resume(&none, "driver")), OVER);
    assert_eq!(line(approve(&none, "driver", 1)), OVER);
    assert_eq!(line(pause(&none, "driver", None)), "[] is over: there is nothing to pause");
    assert_eq!(line(stop(&none, "driver")), "[] is over: there is nothing to stop");
}

#[test]
fn a_frozen_site_is_explained() {
    let freeze = "; but this site is frozen by bob@ctl: no reboot is requested before `slurm-rollout thaw`";
    let running = frozen(under_way(ConductState::Running));
    for (decision, expected) in [
        (start(&frozen(under_way(ConductState::NotStarted)), "driver"), "[started] started for 1 node: n1"),
        (start(&running, "driver"), "[] is running already, by ann@ctl"),
        (resume(&running, "driver"), "[] is running already"),
        (resume(&frozen(under_way(paused())), "driver"), "[resumed] resumed"),
        (approve(&running, "driver", 1), "[wave 1 approved] wave 1 approved"),
    ] {
        assert_eq!(line(decision), format!("{expected}{freeze}"));
    }
    let stopped = line(stop(&running, "driver"));
    assert_eq!(stopped, "[stopped] stopped: nodes that Slurm is rebooting finish");
}

#[test]
fn a_rollout_is_looked_after_while_it_acts_or_has_left_something_in_slurm() {
    let request = Some(Request { at_ms: 1, way: Way::Asap, taken: false, withdrawing: false, drained: None });
    let requested = NodeRecord { request, ..record(Progress::Staged) };
    let kept_out = NodeRecord { kept_out: Some(KeptOut { since_ms: 1, reason: None }), ..record(UPDATED) };
    // Record; whether the rollout is over, and needs the executor while it runs, and in other states.
    for (record, is_over, running, other) in [
        (record(Progress::Staged), false, true, false),
        (record(Progress::Refused), false, true, false),
        (record(Progress::Lost), false, true, false),
        (record(UPDATED), true, false, false),
        (record(Progress::Seen(Phase::RolledBack)), true, true, false),
        (record(Progress::Seen(Phase::RolledBack)).with_boot(Boot::Changed), false, true, false),
        (requested.clone(), false, true, true),
        (NodeRecord { progress: UPDATED, ..requested }, false, true, true),
        (kept_out.clone(), false, true, true),
        (NodeRecord { progress: Progress::Staged, ..kept_out }, false, true, true),
    ] {
        for (state, needed) in [
            (ConductState::NotStarted, other),
            (ConductState::Running, running),
            (paused(), other),
            (halted(), other),
            // Nodes that still wait are unstaged.
            (ConductState::Stopped, other || record.progress.is_pending()),
        ] {
            let is_over = is_over && state != halted();
            let rollout = snapshot(state.clone(), &[("n1", record.clone())]).rollouts.remove(0);
            assert_eq!(rollout.needs_executor(), needed, "{state:?} {record:?}");
            assert_eq!(rollout.is_over(), is_over, "{state:?} {record:?}");
        }
    }
}

#[test]
fn the_last_failures_halt_a_rollout_before_it_is_left_alone() {
    for (state, progress, forgiven, needed) in [
        (ConductState::Running, Progress::Ordered, false, true),
        (paused(), Progress::Ordered, false, true),
        (halted(), Progress::Ordered, false, false),
        (ConductState::Stopped, Progress::Ordered, false, false),
        (ConductState::NotStarted, Progress::Ordered, false, false),
        (ConductState::Running, Progress::Seen(Phase::Held), false, true),
        // An admin has seen it.
        (ConductState::Running, Progress::Seen(Phase::Held), true, false),
        (ConductState::Running, Progress::Seen(Phase::RolledBack), true, false),
    ] {
        let record = NodeRecord { forgiven, ..record(progress) };
        let rollout = snapshot(state.clone(), &[("n1", record)]).rollouts.remove(0);
        assert_eq!(rollout.needs_executor(), needed, "{state:?} {progress:?} {forgiven}");
    }
    let rolled_back = [("n1", record(Progress::Seen(Phase::RolledBack)))];
    let outcome = Some(Outcome { at_ms: ORDERED_MS, failure: Some("job 7 FAILED".to_owned()) });
    let qualification = Some(Qualification { wave: 1, since_ms: 0, runs: 1, run: None, outcome });
    let updated = NodeRecord { since_ms: 0, ..record(Progress::Seen(Phase::Updated)) };
    let not_qualified = [("n1", NodeRecord { qualification, ..updated })];
    for (state, after_ms, is_closed) in [
        (ConductState::Running, 60_000, false),
        (ConductState::Running, 60_001, true),
        (paused(), 60_000, false),
        (halted(), 60_001, false),
        (ConductState::Stopped, 0, true),
        (ConductState::NotStarted, 0, true),
    ] {
        let now_ms = ORDERED_MS + after_ms;
        for records in [&rolled_back, &not_qualified] {
            let closed = closable(&snapshot(state.clone(), records), &NodeSet::new(), now_ms);
            assert_eq!(!closed.is_empty(), is_closed, "{state:?} {after_ms} {records:?}");
        }
    }
}

#[test]
fn the_state_is_described() {
    let described =
        |snapshot: Snapshot| summary(&snapshot.rollouts[0]).map(|conduct| conduct.describe("noon"));
    for (state, under_way_text, over_text) in [
        (ConductState::NotStarted, None, None),
        (ConductState::Running, Some("running since noon, by ann@ctl"), Some("done")),
        (paused(), Some("paused since noon, by ann@ctl: noise"), Some("done")),
        (ConductState::Paused { why: None }, Some("paused since noon, by ann@ctl"), Some("done")),
        (halted(), Some("halted since noon: 2 nodes failed"), Some("halted since noon: 2 nodes failed")),
        (
            ConductState::Stopped,
            Some("stopped since noon, by ann@ctl"),
            Some("stopped since noon, by ann@ctl"),
        ),
    ] {
        assert_eq!(described(under_way(state.clone())).as_deref(), under_way_text, "{state:?}");
        assert_eq!(described(over(state.clone())).as_deref(), over_text, "{state:?}");
    }
}

#[test]
fn a_stopped_rollout_unstages_nodes_that_wait_and_are_not_requested() {
    let request = Some(Request { at_ms: 1, way: Way::Asap, taken: true, withdrawing: false, drained: None });
    let records = [
        ("n1", record(Progress::Staged)),
        ("n2", NodeRecord { request, ..record(Progress::Staged) }),
        (
            "n3",
            NodeRecord { kept_out: Some(KeptOut { since_ms: 1, reason: None }), ..record(Progress::Staged) },
        ),
        ("n4", record(Progress::Unreachable)),
        ("n5", record(Progress::Ordered)),
        ("n6", record(UPDATED)),
    ];
    for (state, expected) in [
        (ConductState::NotStarted, ""),
        (ConductState::Running, ""),
        (paused(), ""),
        (halted(), ""),
        (ConductState::Stopped, "n[1,4]"),
    ] {
        let rollout = snapshot(state.clone(), &records).rollouts.remove(0);
        assert_eq!(to_unstage(&rollout).to_string(), expected, "{state:?}");
    }
}

#[test]
fn a_rollout_that_goes_on_is_not_undone() {
    for (state, runs) in [
        (ConductState::NotStarted, false),
        (ConductState::Running, true),
        (paused(), false),
        (halted(), false),
        (ConductState::Stopped, false),
    ] {
        assert_eq!(still_runs(&under_way(state.clone()).rollouts[0]).is_some(), runs, "{state:?}");
        assert_eq!(still_runs(&over(state.clone()).rollouts[0]), None, "{state:?}");
    }
}

#[test]
fn resume_calls_the_hooks_of_failed_nodes_again() {
    let failure = HookFailure { error: "exit code 1".into(), then: AfterFailure::Fail };
    let call = HookCall { run: 1, attempt: 1, at_ms: 1, outcome: Some(Err(failure)) };
    let hooks: HookCalls = [((Moment::BeforeRequest, "move".to_owned()), call)].into();
    let records =
        [("n1", NodeRecord { hooks, ..record(Progress::Staged) }), ("n2", record(Progress::Staged))];
    let snapshot = snapshot(ConductState::Running, &records);
    let resumed = "[resumed] resumed, failures so far no longer count, calls the hooks of n1 again";
    assert_eq!(line(resume(&snapshot, "driver")), resumed);
    let rollout = &snapshot.rollouts[0];
    assert!(way_on(rollout, "n1").starts_with("a hook failed; `slurm-rollout resume driver`"));
}

#[test]
fn a_rollout_is_over_and_closed_once_its_hooks_are() {
    for (awaited, state, is_over) in [
        (false, ConductState::Running, true),
        (true, ConductState::Running, false),
        (true, ConductState::Stopped, false),
    ] {
        let mut snapshot = over(state);
        snapshot.rollouts[0].conduct.hooks.awaited = awaited;
        let rollout = &snapshot.rollouts[0];
        let is_closed = !closable(&snapshot, &NodeSet::default(), 500_000).is_empty();
        assert_eq!((rollout.is_over(), rollout.needs_executor(), is_closed), (is_over, awaited, is_over));
    }
}

#[test]
fn failures_of_hooks_are_part_of_the_summary() {
    let mut snapshot = over(ConductState::Running);
    for (failures, words) in
        [(1, "done; a hook failed: hook move: x"), (3, "done; 3 hooks failed, the last one: hook move: x")]
    {
        snapshot.rollouts[0].conduct.hooks =
            Hooks { failures, last_failure: Some("hook move: x".into()), ..Hooks::default() };
        let summary = summary(&snapshot.rollouts[0]).unwrap();
        assert_eq!(summary.describe("now"), words);
        assert_eq!(serde_json::to_value(&summary).unwrap()["hooks_failed"], failures);
    }
}
