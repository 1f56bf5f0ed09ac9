//! Properties of [`rollout_core::agent::Agent`], the object that the daemon drives, on a node whose disk, boots and
//! changes are values. Orders, failures, crashes and power cuts come at any point and in any order. After each write to
//! the disk and each answer, the rules in `rules.rs` are checked.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

mod life;
mod rules;
mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rollout_core::agent::phase::Phase;
use std::cell::RefCell;
use std::collections::BTreeSet;
use world::{Fault, Node, Op, Wanted};

fn wanted() -> impl Strategy<Value = Wanted> {
    let (rollout, hold) = (0..2_u8, any::<bool>());
    prop_oneof![
        4 => (rollout.clone(), hold).prop_map(|(rollout, hold)| Wanted::Links { rollout, hold }),
        4 => (rollout.clone(), hold).prop_map(|(rollout, hold)| Wanted::Image { rollout, hold }),
        4 => (rollout.clone(), hold).prop_map(|(rollout, hold)| Wanted::Firmware { rollout, hold }),
        2 => Just(Wanted::Reboot),
        2 => Just(Wanted::Retry),
        1 => Just(Wanted::Release),
        2 => (rollout.clone(), hold).prop_map(|(rollout, hold)| Wanted::PreStage { rollout, hold }),
        1 => rollout.prop_map(|rollout| Wanted::DropPreStaged { rollout }),
        2 => Just(Wanted::UpdateDrain),
        3 => any::<bool>().prop_map(|apply| Wanted::HandOver { apply }),
        1 => Just(Wanted::Restore),
        1 => Just(Wanted::Foreign),
        2 => any::<usize>().prop_map(Wanted::Again),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => Just(Op::Proceed),
        3 => Just(Op::Fail),
        3 => Just(Op::Crash),
        2 => Just(Op::PowerCut),
        1 => Just(Op::DiskFull),
        2 => proptest::option::of(0..2_u8).prop_map(Op::Drain),
        8 => wanted().prop_map(Op::Order),
    ]
}

fn op_with_bad_disk() -> impl Strategy<Value = Op> {
    prop_oneof![9 => op(), 1 => any::<usize>().prop_map(Op::DiskFromBackup)]
}

/// Runs many lives and returns the phases that they went through: properties of lives that never happen prove nothing.
fn many_lives(ops: impl Strategy<Value = Op>, volatile: bool) -> BTreeSet<Phase> {
    let phases = RefCell::new(BTreeSet::new());
    let cases = Config::default().cases.max(2000);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&vec(ops, 0..60), |script| {
        let mut node = Node::new(script, volatile);
        node.live();
        phases.borrow_mut().append(&mut node.phases);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    phases.into_inner()
}

#[test]
fn crashes_and_orders_at_any_point_break_no_rule() {
    assert_eq!(many_lives(op(), false), Phase::ALL.into_iter().collect());
}

#[test]
fn a_node_that_keeps_no_ledger_breaks_no_rule() {
    assert_eq!(many_lives(op(), true), Phase::ALL.into_iter().collect());
}

#[test]
fn a_disk_that_comes_back_old_opens_no_gate_and_ends_no_hold() {
    assert_eq!(many_lives(op_with_bad_disk(), false), Phase::ALL.into_iter().collect());
}

struct Life {
    order: Wanted,
    volatile: bool,
    fault: Option<Fault>,
}

fn end(life: &Life, script: Vec<Op>) -> (Option<Phase>, Vec<String>, usize) {
    let mut node = Node::new(script, life.volatile);
    node.fault = life.fault;
    node.live();
    let [a, b] = node.links;
    (
        node.disk.ledger.map(|ledger| ledger.phase),
        vec![a, b, node.running, node.boots, format!("{:?}", node.firmware)],
        node.points,
    )
}

/// The same life, cut off at each of its points in turn, by a crash, a power cut or a full disk, ends in the same
/// place.
#[test]
fn a_cut_at_any_single_point_ends_where_the_undisturbed_order_ends() {
    let links = |hold| Wanted::Links { rollout: 1, hold };
    let image = |hold| Wanted::Image { rollout: 1, hold };
    let firmware = |hold| Wanted::Firmware { rollout: 1, hold };
    let mut cuts = 0;
    for (order, volatile, fault) in [
        (links(false), false, None),
        (links(false), false, Some(Fault::SecondChange)),
        (links(true), false, Some(Fault::Verify)),
        (firmware(false), false, None),
        (firmware(false), false, Some(Fault::SecondChange)),
        (firmware(true), false, Some(Fault::Verify)),
        (Wanted::Reboot, false, None),
        (Wanted::Reboot, true, None),
        (image(false), false, None),
        (image(false), false, Some(Fault::Verify)),
        (image(true), false, Some(Fault::Verify)),
        (image(false), true, None),
        (image(false), true, Some(Fault::Verify)),
    ] {
        let life = Life { order, volatile, fault };
        let start = || vec![Op::Proceed, Op::Order(life.order.clone())];
        let proceed = |count| vec![Op::Proceed; count];
        let (phase, state, points) = end(&life, [start(), proceed(40)].concat());
        for at in 0..points.min(40) {
            for cut in [Op::Crash, Op::PowerCut, Op::DiskFull] {
                let script = [start(), proceed(at), vec![cut], proceed(40)].concat();
                let (cut_phase, cut_state, _) = end(&life, script.clone());
                // A node that boots before its image is recorded may run the new one already. It goes back.
                let early = matches!(life.order, Wanted::Image { .. })
                    && fault.is_none()
                    && cut_phase == Some(Phase::RolledBack);
                let never_taken = cut_phase.is_none();
                let expected = early || never_taken || (cut_phase, &cut_state) == (phase, &state);
                assert!(expected, "{cut_phase:?} {cut_state:?}, not {phase:?} {state:?}: {script:?}");
                cuts += 1;
            }
        }
    }
    assert!(cuts > 300, "{cuts}");
}

#[test]
fn the_same_order_again_changes_nothing_however_often_it_comes() {
    let mut script = vec![Op::Order(Wanted::Reboot)];
    for _ in 0..8 {
        script.extend([Op::Order(Wanted::Again(0)), Op::Proceed, Op::Order(Wanted::Again(0)), Op::Crash]);
    }
    let mut node = Node::new(script, false);
    node.live();
    assert_eq!(node.boot, 2, "one order, one boot");
    assert_eq!(node.accepted.len(), 1);
}

/// An admin releases a node whose image is neither proven nor undone. Its next order fails, and it boots meanwhile: it
/// is as it was before that order, so it needs no other boot.
#[test]
fn a_node_that_was_released_unproven_goes_back_to_what_the_admin_released() {
    let image = || Op::Order(Wanted::Image { rollout: 1, hold: false });
    let proceed = |count| vec![Op::Proceed; count];
    // The proof fails, and then the boot source is not restored.
    let held = [vec![image()], proceed(7), vec![Op::Fail], proceed(3), vec![Op::Fail]].concat();
    let again = vec![Op::Order(Wanted::Release), image(), Op::Proceed, Op::Proceed, Op::Fail, Op::PowerCut];
    let mut node = Node::new([held, again].concat(), false);
    node.live();
    assert_eq!((node.running.as_str(), node.boots.as_str(), node.boot), ("i2", "i0", 3));
    assert_eq!(node.disk.ledger.unwrap().phase, Phase::RolledBack);
    let passed = [Phase::Held, Phase::Released, Phase::Undoing, Phase::RolledBack];
    assert!(passed.iter().all(|phase| node.phases.contains(phase)), "{:?}", node.phases);
}

#[test]
fn firmware_that_needs_two_boots_gets_them_in_one_visit() {
    for (rollout, boots) in [(0, 2), (1, 3)] {
        let script = vec![Op::Order(Wanted::Firmware { rollout, hold: false })];
        let mut node = Node::new([script, vec![Op::Proceed; 40]].concat(), false);
        node.live();
        let ledger = node.disk.ledger.unwrap();
        assert_eq!((node.firmware.active, node.boot), (2 * rollout + 2, boots));
        assert_eq!((ledger.phase, ledger.further_boots), (Phase::Updated, boots - 2));
    }
}

#[test]
fn a_pre_staged_order_is_carried_out_once_however_often_slurmd_hands_over() {
    let hand_over = || Op::Order(Wanted::HandOver { apply: true });
    let pre_stage = Op::Order(Wanted::PreStage { rollout: 1, hold: false });
    // The crash comes between the ledger and the removal of the pre-staged order.
    let script = vec![pre_stage, Op::Drain(Some(1)), Op::Order(Wanted::UpdateDrain), hand_over(), Op::Crash];
    let mut node = Node::new([script, vec![Op::Proceed; 40], vec![hand_over()]].concat(), false);
    node.live();
    assert_eq!(node.links, ["/v1", "/w1"]);
    assert_eq!(node.boot, 3, "the second hand-over is a plain reboot");
    let ledger = node.disk.ledger.unwrap();
    assert_eq!((ledger.order.rollout(), ledger.all_changes_made().len()), (None, 1));
}
