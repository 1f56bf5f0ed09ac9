use super::*;
use crate::agent::phase::Phase;
use crate::agent::test_orders;

const LIMIT: u64 = 60;

fn node(state: &str, start_s: Option<u64>) -> NodeInfo {
    NodeInfo {
        name: "n1".to_owned(),
        state: state.split('+').map(str::to_owned).collect(),
        reason: Some("Low RealMemory".to_owned()),
        slurmd_start_s: start_s,
        ..NodeInfo::default()
    }
}

fn begun(before: Option<&NodeInfo>, since_s: u64) -> Registration {
    let ledger = test_orders::ledger(Phase::Registering);
    let before_start = before.map(BeforeStart::from);
    Registration {
        limit: TimeLimit::from_secs(LIMIT),
        ..Registration::of(&Ledger { before_start, since_s, ..ledger })
    }
}

/// Slurm showed a start at 50; the phase began at 100.
fn registration() -> Registration {
    begun(Some(&issued(Some(50), 90)), 100)
}

/// A node that Slurm handed over at this time.
fn issued(start_s: Option<u64>, at_s: u64) -> NodeInfo {
    let reason = Some("Reboot ASAP : reboot issued".to_owned());
    NodeInfo { reason, reason_s: Some(at_s), ..node("DOWN+DRAIN+REBOOT_ISSUED", start_s) }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn only_a_registration_since_the_start_that_slurm_accepts_counts() {
    for (state, start_s, accepted) in [
        ("IDLE", Some(101), true),
        ("MIXED", Some(101), true),
        // Drained by somebody else, `nextstate=down`, or given up: the agent sees to the return later.
        ("IDLE+DRAIN", Some(101), true),
        ("DOWN", Some(101), true),
        // The clock was set back since the phase began.
        ("IDLE", Some(70), true),
        ("IDLE", Some(50), false),
        ("IDLE", None, false),
        ("DOWN+DRAIN+REBOOT_ISSUED", Some(101), false),
        ("IDLE+INVALID_REG", Some(101), false),
        ("DOWN+INVALID_REG+REBOOT_ISSUED", Some(101), false),
        ("ALLOCATED+POWERING_UP", Some(101), false),
    ] {
        assert_eq!(registration().is_accepted(&node(state, start_s)), accepted, "{state} {start_s:?}");
        let next = registration().look(at(1), &Unit::Runs, Some(&Ok(node(state, start_s))));
        assert_eq!(next == Next::Accepted, accepted, "{state} {start_s:?}: {next:?}");
    }
    assert!(!registration().is_accepted(&issued(Some(101), 90)), "it waits for a boot");
    assert!(registration().is_accepted(&issued(Some(101), 102)), "it waits for the next boot");
    let kept = begun(Some(&node("IDLE+DRAIN", Some(50))), 100);
    assert!(kept.is_accepted(&issued(Some(101), 102)));
}

#[test]
fn a_registration_is_seen_whatever_the_clock_shows() {
    // The clock was ahead when the phase began and was set back, or is behind the start of the slurmd before.
    for since_s in [0, 100, 9000] {
        for (before, now, registered) in [
            (Some(50), Some(101), true),
            (Some(50), Some(40), true),
            (Some(50), Some(50), false),
            (Some(50), None, false),
            // slurmctld was restarted, and has not seen slurmd since.
            (None, Some(50), true),
            (None, None, false),
        ] {
            let proof = begun(Some(&node("DOWN", before)), since_s);
            assert_eq!(proof.is_accepted(&node("IDLE", now)), registered, "{since_s} {before:?} {now:?}");
        }
    }
    // The order is from 10. An older agent recorded nothing.
    for (since_s, start_s, registered) in [(100, 101, true), (100, 99, false), (5, 9, false), (5, 10, true)] {
        let proof = begun(None, since_s);
        assert_eq!(proof.is_accepted(&node("IDLE", Some(start_s))), registered, "{since_s} {start_s}");
    }
    let Registration { before, .. } = registration();
    let text = serde_json::to_string(&before.unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<BeforeStart>(&text).unwrap(), before.unwrap());
    assert_eq!(serde_json::from_str::<BeforeStart>("{}").unwrap(), BeforeStart::default());
}

#[test]
fn a_node_in_time_is_seen_within_half_a_second() {
    for accepted_ms in (0..1500).step_by(7) {
        let (mut proof, mut elapsed) = (registration(), Duration::ZERO);
        let (mut asked, accepted) = (0, Duration::from_millis(accepted_ms));
        loop {
            asked += 1;
            let start_s = if elapsed >= accepted { 101 } else { 50 };
            match proof.look(elapsed, &Unit::Runs, Some(&Ok(node("IDLE", Some(start_s))))) {
                Next::Wait(pause) => elapsed += pause,
                next => break assert_eq!(next, Next::Accepted),
            }
        }
        assert!(elapsed - accepted <= Duration::from_millis(500), "{accepted_ms}: {elapsed:?}");
        assert!(asked <= 12, "{asked} questions");
    }
}

/// Lives with a constant view and returns the end, its time, and the numbers of starts, restarts and looks.
fn live(unit: &Unit, slurm: Option<Result<NodeInfo, String>>) -> (String, u64, [u32; 3]) {
    let (mut proof, mut elapsed, mut done) = (registration(), Duration::ZERO, [0; 3]);
    loop {
        done[2] += 1;
        assert!(done[2] < 1000, "it never ends");
        match proof.look(elapsed, unit, slurm.as_ref()) {
            Next::Start => done[0] += 1,
            Next::Restart => done[1] += 1,
            Next::Wait(pause) => elapsed += pause,
            Next::Failed(why) => return (why, elapsed.as_secs(), done),
            Next::Accepted => panic!("accepted"),
        }
    }
}

#[test]
fn every_wait_ends_with_its_cause() {
    let issued = node("DOWN+REBOOT_ISSUED", Some(101));
    for (unit, slurm, cause, end, starts) in [
        (Unit::Down("exit code 1".into()), None, "does not stay up within 1m: exit code 1", 60, 7..12),
        (Unit::Starts, None, "was not started within 1m", 60, 0..1),
        (Unit::Runs, Some(Ok(node("IDLE", Some(50)))), "did not register", 60, 0..1),
        (Unit::Runs, Some(Ok(issued)), "still waits for a boot within 1m: DOWN+REBOOT_ISSUED", 60, 0..1),
    ] {
        let (why, seconds, done) = live(&unit, slurm);
        assert!(why.contains(cause), "{why}");
        assert_eq!(seconds, end, "{why}");
        assert!(starts.contains(&done[0]) && done[1] == 0, "{why}: {done:?}");
    }
    let (why, seconds, [_, restarts, looks]) =
        live(&Unit::Runs, Some(Ok(node("IDLE+INVALID_REG", Some(101)))));
    assert!(why.contains("INVALID_REG) within 1m: Low RealMemory"), "{why}");
    assert_eq!((seconds, restarts), (60, 2), "devices may come late: slurmd looks at them when it starts");
    assert!(looks < 40, "{looks} questions to slurmctld");
}

#[test]
fn silence_leads_nowhere() {
    let (mut proof, mut elapsed, mut looks) = (registration(), Duration::ZERO, 0);
    let away = Some(Err("connection refused".to_owned()));
    while elapsed < at(7 * 24 * 3600) {
        let Next::Wait(pause) = proof.look(elapsed, &Unit::Runs, away.as_ref()) else {
            panic!("{elapsed:?}")
        };
        (elapsed, looks) = (elapsed + pause, looks + 1);
    }
    assert!(looks < 70_000, "{looks} questions in a week");
    // slurmd restarts itself: it still has its time.
    assert!(matches!(proof.look(elapsed, &Unit::Down("exit code 1".into()), None), Next::Start));
    assert!(matches!(proof.look(elapsed + at(49), &Unit::Starts, None), Next::Wait(_)));
    assert_eq!(proof.look(elapsed, &Unit::Runs, Some(&Ok(node("IDLE", Some(101))))), Next::Accepted);
}

#[test]
fn slurmd_has_its_time_once_slurmctld_is_back() {
    let mut proof = registration();
    let away = Some(Err("connection refused".to_owned()));
    assert!(matches!(proof.look(at(1200), &Unit::Runs, away.as_ref()), Next::Wait(_)));
    let back = Some(Ok(node("DOWN+REBOOT_ISSUED", Some(50))));
    assert!(matches!(proof.look(at(1201), &Unit::Runs, back.as_ref()), Next::Wait(_)));
    assert!(matches!(proof.look(at(1260), &Unit::Runs, back.as_ref()), Next::Wait(_)));
    assert!(matches!(proof.look(at(1261), &Unit::Runs, back.as_ref()), Next::Failed(_)));
    assert_eq!(proof.look(at(1262), &Unit::Runs, Some(&Ok(node("IDLE", Some(101))))), Next::Accepted);
    // It has answered before it was away.
    let mut proof = registration();
    assert!(matches!(proof.look(at(1), &Unit::Runs, back.as_ref()), Next::Wait(_)));
    assert!(matches!(proof.look(at(2), &Unit::Runs, away.as_ref()), Next::Wait(_)));
    assert!(matches!(proof.look(at(400), &Unit::Runs, back.as_ref()), Next::Wait(_)));
    assert!(matches!(proof.look(at(460), &Unit::Runs, back.as_ref()), Next::Failed(_)));
}
