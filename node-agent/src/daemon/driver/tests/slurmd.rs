//! slurmd and Slurm at the end of an order.

use super::*;
use crate::daemon::fake_node::State;

#[test]
fn a_node_that_slurm_does_not_accept_goes_back() {
    type Fault = fn(&mut State);
    for (fault, cause, minutes) in [
        (
            (|state| state.slurmd_dies_with = Some("/new-a")) as Fault,
            "slurmd does not stay up within 5m: exit code 1",
            5,
        ),
        (
            |state| state.slurm_sets = "INVALID_REG",
            "Slurm refuses the node's registration (INVALID_REG) within 5m",
            5,
        ),
        (|state| state.slurm_sets = "REBOOT_ISSUED", "Slurm still waits for a boot within 5m", 5),
        // slurmd is not even started. The limit is longer: this may be the controller's fault.
        (|state| state.slurmctld_away = true, "Slurm could not be asked about this node within 30m", 30),
        // Slurm answers in the end, and has not accepted it.
        (
            |state| {
                state.slurmd_dies_with = Some("/new-a");
                state.silent_after_start = Some(Duration::from_secs(3600));
            },
            "slurmd does not stay up within 5m: exit code 1",
            60,
        ),
    ] {
        let rig = Rig::new();
        fault(&mut rig.node.state());
        rig.life(&[apply(1, LINKS)]);
        rig.live_on();
        let ledger = rig.ledger();
        assert_eq!((ledger.phase, rig.links()), (Phase::RolledBack, vec!["/old-a".into(), "/old-b".into()]));
        assert!(ledger.reason().contains(cause), "{:?}", ledger.error);
        assert!(rig.node.state().slurmd_runs, "{cause}");
        assert_eq!(rig.node.state().paused.as_secs() / 60, minutes, "{cause}");
        assert_eq!(rig.node.state().boot, 3, "{cause}");
    }
    // One that is accepted in the last moment may have a job.
    let rig = Rig::new();
    rig.node.state().registers_last = true;
    rig.life(&[apply(1, LINKS)]);
    rig.live_on();
    assert_eq!((rig.ledger().phase, rig.node.state().slurmd_runs), (Phase::Updated, true));
    assert_eq!(rig.node.state().boot, 2);
}

#[test]
fn a_node_on_which_only_slurmd_lets_anybody_ask_loses_no_time() {
    let rig = Rig::new();
    rig.node.state().commands_need_slurmd = true;
    rig.life(&[apply(1, LINKS)]);
    rig.live_on();
    assert_eq!((rig.ledger().phase, rig.node.state().boot), (Phase::Updated, 2));
    assert!(rig.node.state().paused < Duration::from_secs(5), "{:?}", rig.node.state().paused);
    // Its slurmd does not come up, and nobody can ever ask.
    let rig = Rig::new();
    (rig.node.state().commands_need_slurmd, rig.node.state().slurmd_dies_with) = (true, Some("/new-a"));
    rig.life(&[apply(1, LINKS)]);
    rig.live_on();
    assert_eq!(rig.ledger().phase, Phase::RolledBack, "{:?}", rig.ledger().error);
    assert_eq!(rig.node.state().paused.as_secs() / 60, 5);
}

#[test]
fn a_node_that_may_have_jobs_waits_for_slurms_answer() {
    // The change has broken scontrol, or slurmctld is away, and the node may have been accepted meanwhile.
    for hours in [1, 24] {
        let rig = Rig::new();
        rig.node.state().silent_after_start = Some(Duration::from_secs(hours * 3600));
        rig.life(&[apply(1, LINKS)]);
        rig.live_on();
        let state = rig.node.state();
        assert_eq!((rig.ledger().phase, state.slurmd_runs, state.boot), (Phase::Updated, true, 2));
        assert_eq!(state.used.iter().filter(|used| *used == "undo").count(), 0);
        assert_eq!(state.used.iter().filter(|used| *used == "stop slurmd").count(), 1, "before the change");
    }
}

#[test]
fn a_drain_that_is_set_while_the_node_registers_is_kept() {
    let rig = Rig::new();
    (rig.node.state().starts_that_fail, rig.node.state().drained_at_start) = (1, Some("bad fan"));
    rig.life(&[apply(1, LINKS)]);
    rig.live_on();
    assert_eq!(rig.ledger().phase, Phase::Updated);
    assert_eq!(rig.node.state().drain_kept.as_deref(), Some("bad fan"));
    assert_eq!(rig.used("take back"), 0, "Slurm must not resume it");
    // slurmd stays down until Slurm has recorded the drain, and the node is not given up for that.
    let rig = Rig::new();
    (rig.node.state().starts_that_fail, rig.node.state().drained_at_start) = (1, Some("bad fan"));
    rig.node.state().silent_after_start = Some(Duration::from_secs(60));
    rig.node.state().keeps_drains_from = Duration::from_secs(100);
    rig.life(&[apply(1, LINKS)]);
    rig.live_on();
    assert_eq!(rig.ledger().phase, Phase::Updated);
    assert_eq!(rig.node.state().drain_kept.as_deref(), Some("bad fan"));
}

#[test]
fn an_agent_that_is_restarted_while_the_node_registers_goes_on() {
    let rig = Rig::new();
    rig.life(&[apply(1, LINKS)]);
    rig.node.state().silent_after_start = Some(Duration::from_secs(600));
    for _ in 0..5 {
        let used = rig.node.state().used.len();
        // The start of slurmd is the eighth use after the boot, and the first one of a later agent.
        let start = if rig.ledger().phase == Phase::Registering { 1 } else { 8 };
        rig.node.state().dies_at = Some((used + start, true));
        assert_eq!(rig.life(&[]).0, End::Died);
        assert_eq!(rig.ledger().phase, Phase::Registering, "{:?}", rig.node.state().used);
    }
    rig.live_on();
    assert_eq!((rig.ledger().phase, rig.node.state().boot), (Phase::Updated, 2));
    assert_eq!(rig.used("undo"), 0);
}

#[test]
fn slurmd_comes_back_as_it_was_before_the_order() {
    // Running and enabled before, enabled after the change; running and enabled in the end.
    for (before, enabled_after, after) in [
        ((true, true), true, (true, true)),
        // A package that was removed and installed again.
        ((true, true), false, (true, true)),
        // A script of the site starts it.
        ((true, false), false, (true, false)),
        ((false, true), true, (true, true)),
        // There is none here, or an admin has taken it out of use.
        ((false, false), false, (false, false)),
    ] {
        for broken in [None, Some("verify node")] {
            let rig = Rig::new();
            (rig.node.state().slurmd_runs, rig.node.state().slurmd_enabled) = before;
            rig.node.state().broken.extend(broken);
            rig.life(&[apply(1, LINKS)]);
            rig.node.state().slurmd_enabled = enabled_after;
            rig.live_on();
            let phase = if broken.is_some() { Phase::RolledBack } else { Phase::Updated };
            assert_eq!(rig.ledger().phase, phase);
            let state = rig.node.state();
            assert_eq!((state.slurmd_runs, state.slurmd_enabled), after, "{before:?} {broken:?}");
        }
    }
}

#[test]
fn a_slurmd_that_the_gate_did_not_hold_is_stopped_and_reported() {
    let rig = Rig::new();
    rig.life(&[apply(1, LINKS)]);
    rig.node.state().slurmd_runs = true;
    rig.node.state().used.clear();
    rig.live_on();
    let ledger = rig.ledger();
    let note = ledger.notes.first().unwrap();
    assert!(note.starts_with("slurmd was running before the node was proven"), "{note}");
    assert_eq!((ledger.phase, ledger.error.as_deref()), (Phase::Updated, None));
    assert_eq!(ledger.status().notes, std::slice::from_ref(note));
    let state = rig.node.state();
    assert_eq!(
        state.used[..3],
        ["stop slurmd".to_owned(), format!("reason r1: {note}"), "verify".to_owned()]
    );
    assert!(state.slurmd_runs, "it is proven now");
}

#[test]
fn a_node_whose_drain_cannot_be_kept_stays_out_of_service() {
    for tool in ["look for a drain", "keep drained"] {
        let rig = Rig::new();
        rig.node.state().broken.insert(tool);
        let mut order = apply(1, LINKS);
        if let OrderKind::Apply(apply) = &mut order.kind {
            apply.give_back.drained = Some("bad disk".to_owned());
        }
        rig.life(&[order]);
        rig.live_on();
        assert_eq!((rig.ledger().phase, rig.node.state().slurmd_runs), (Phase::Held, false), "{tool}");
        // Not even an admin's word makes Slurm forget the drain.
        rig.life(&[super::order(2, OrderKind::Release)]);
        let unsettled = LedgerFile::in_dir(rig.dir.path()).unsettled().unwrap();
        assert_eq!(unsettled.map(|ledger| ledger.phase), Some(Phase::Released), "{tool}");
        assert!(!rig.node.state().slurmd_runs, "{tool}");
        rig.node.state().broken.clear();
        rig.live_on();
        assert_eq!(rig.node.state().drain_kept.as_deref(), Some("bad disk"), "{tool}");
        assert!(
            rig.node.state().slurmd_runs && LedgerFile::in_dir(rig.dir.path()).unsettled().unwrap().is_none()
        );
    }
}

#[test]
fn a_released_node_is_given_back_once_slurm_keeps_its_drain() {
    let rig = Rig::new();
    rig.node.state().broken.extend(["reboot", "keep drained"]);
    let mut order = apply(1, LINKS);
    if let OrderKind::Apply(apply) = &mut order.kind {
        apply.give_back.drained = Some("bad disk".to_owned());
    }
    rig.life(&[order]);
    assert_eq!(rig.ledger().phase, Phase::Held);
    // slurmctld comes back long after the release, and the agent is not started anew.
    let (end, answers) = rig.run(|send| {
        let released = ask(&send, &super::order(2, OrderKind::Release));
        while rig.used("keep drained") < 3 {
            std::thread::yield_now();
        }
        let unsettled = LedgerFile::in_dir(rig.dir.path()).unsettled().unwrap();
        assert!(unsettled.is_some() && !rig.node.state().slurmd_runs);
        rig.node.state().broken.remove("keep drained");
        while LedgerFile::in_dir(rig.dir.path()).unsettled().unwrap().is_some() {
            std::thread::yield_now();
        }
        // Orders wait until the node is given back.
        (released, ask(&send, &super::order(3, OrderKind::Probe)))
    });
    assert_eq!((end, answers), (End::Idle, (Some(accepted(1)), Some(accepted(3)))));
    assert_eq!(rig.node.state().drain_kept.as_deref(), Some("bad disk"));
    assert!(rig.node.state().slurmd_runs);
    assert_eq!(rig.ledger().reason(), "reboot is broken", "and nothing of the attempts is left");
}
