use super::*;
use crate::controller::snapshot::Unreadable;
use crate::controller::testing::{
    Boot, LINK, NEW_BOOT, Node, OLD_BOOT, agent, id, nodes, record, running, slurm,
};
use crate::protocol::order::OrderId;

const HELD: Progress = Progress::Seen(Phase::Held);
const KILLED: Progress = Progress::Ordering { until_ms: 105_000 };

/// Returns the instruction: its rollout, its order, its phase and its error. A reboot that no journal has is without an
/// order.
type Instructed = (Option<String>, Option<OrderId>, Phase, Option<String>);

fn instructed(node: &Node) -> Option<Instructed> {
    let due = due(node.0.node("n1"))?;
    let Step::Instruct(instruction) = due.step else { panic!("{:?}", due.step) };
    Some((due.rollout, due.order, instruction.phase, instruction.error))
}

#[test]
fn a_node_is_instructed_by_the_order_that_may_have_booted_it() {
    use {Boot as B, Phase as P};
    let (ordered, silent, refused) = (Progress::Ordered, Progress::Unreachable, Progress::Refused);
    let nhc = Some("nhc failed");
    // `None`: its gate stays shut. `Some(None)`: a plain reboot, which opens the gate. Otherwise it must prove itself.
    for (progress, boot, boot_id, expected) in [
        // It has booted since its boot source was changed: whatever the answer was, it may run the new image. C1.
        (ordered, B::Changed, NEW_BOOT, Some(Some((P::Rebooting, None)))),
        (silent, B::Changed, NEW_BOOT, Some(Some((P::Rebooting, None)))),
        (KILLED, B::Changed, NEW_BOOT, Some(Some((P::Rebooting, None)))),
        (refused, B::Changed, NEW_BOOT, Some(Some((P::Rebooting, None)))),
        (Progress::Lost, B::Changed, NEW_BOOT, Some(Some((P::Rebooting, None)))),
        (Progress::Superseded, B::Changed, NEW_BOOT, Some(Some((P::Rebooting, None)))),
        (Progress::Seen(P::RolledBack), B::Changed, NEW_BOOT, Some(Some((P::Rebooting, None)))),
        // An unknown boot may be any.
        (silent, B::Changed, "", Some(Some((P::Rebooting, None)))),
        // It has not booted since: its order may still come.
        (silent, B::Changed, OLD_BOOT, None),
        (ordered, B::Changed, OLD_BOOT, None),
        // A process is changing or restoring it.
        (ordered, B::Claimed, NEW_BOOT, None),
        (silent, B::Restoring, NEW_BOOT, None),
        // It goes back.
        (ordered, B::Restored, "boot-3", Some(Some((P::RebootingBack, nhc)))),
        (Progress::Lost, B::Restored, NEW_BOOT, Some(Some((P::RebootingBack, nhc)))),
        // Restored, perhaps too late for this boot.
        (silent, B::Restored, NEW_BOOT, Some(Some((P::RebootingBack, nhc)))),
        (KILLED, B::Restored, NEW_BOOT, Some(Some((P::RebootingBack, nhc)))),
        (refused, B::Restored, NEW_BOOT, Some(Some((P::RebootingBack, nhc)))),
        (silent, B::Restored, OLD_BOOT, Some(None)),
        // Held is held, whatever it runs.
        (HELD, B::Restored, "boot-4", Some(Some((P::Held, None)))),
        (HELD, B::Unchanged, "boot-4", Some(Some((P::Held, None)))),
        (HELD, B::Changed, "boot-4", Some(Some((P::Held, None)))),
        // Accepted, and the controller had nothing to change.
        (ordered, B::Unchanged, NEW_BOOT, Some(Some((P::Rebooting, None)))),
        (Progress::Lost, B::Unchanged, NEW_BOOT, Some(Some((P::Rebooting, None)))),
        // The image was never given to it, so the order cannot have been sent.
        (silent, B::Unchanged, NEW_BOOT, Some(None)),
        (KILLED, B::Unchanged, NEW_BOOT, Some(None)),
        (refused, B::Unchanged, NEW_BOOT, Some(None)),
        (Progress::Staged, B::Unchanged, NEW_BOOT, Some(None)),
        // It has come to its end.
        (Progress::Seen(P::Updated), B::Changed, NEW_BOOT, Some(None)),
        (Progress::Seen(P::RolledBack), B::Restored, NEW_BOOT, Some(None)),
        (Progress::Superseded, B::Restored, NEW_BOOT, Some(None)),
    ] {
        let node = Node::in_rollout("driver", record(progress).with_boot(boot))
            .agent(agent(boot_id).awaiting())
            .slurm("DOWN+REBOOT_ISSUED", "driver : reboot issued");
        let expected = expected.map(|of_rollout| match of_rollout {
            None => (None, None, Phase::Rebooting, None),
            Some((phase, error)) => (Some("driver".to_owned()), Some(id(1)), phase, error.map(str::to_owned)),
        });
        assert_eq!(instructed(&node), expected, "{progress:?} {boot:?} {boot_id:?}");
    }
}

#[test]
fn an_image_from_before_needs_no_proof_if_the_order_was_not_taken() {
    let node = |progress, version: Option<&str>| {
        let mut agent = agent(NEW_BOOT).awaiting();
        agent.running = version.map(running);
        Node::in_rollout("driver", record(progress).with_boot(Boot::Restored))
            .agent(agent)
            .slurm("DOWN+REBOOT_ISSUED", "")
    };
    for (progress, version, rollout) in [
        (Progress::Unreachable, Some("1"), None),
        (Progress::Refused, Some("1"), None),
        (Progress::Unreachable, Some("2"), Some("driver")),
        (Progress::Unreachable, None, Some("driver")),
        // Its order was taken, and is undone with a proof.
        (Progress::Ordered, Some("1"), Some("driver")),
    ] {
        let found = instructed(&node(progress, version)).unwrap().0;
        assert_eq!(found.as_deref(), rollout, "{progress:?} {version:?}");
    }
}

#[test]
fn an_unknown_order_that_agents_carry_out_by_themselves_is_proven() {
    let node = |record| {
        Node::new()
            .and_in("driver", LINK, record)
            .agent(agent(NEW_BOOT).awaiting())
            .slurm("DOWN+REBOOT_ISSUED", "")
    };
    for (record, rollout) in [
        (record(Progress::Unreachable), Some("driver")),
        (record(KILLED), Some("driver")),
        (record(Progress::Staged).pre_staged(1), Some("driver")),
        (record(Progress::Staged), None),
        (record(Progress::Refused), None),
    ] {
        let found = instructed(&node(record.clone())).unwrap().0;
        assert_eq!(found.as_deref(), rollout, "{record:?}");
    }
    // An order that was taken explains the boot better, although it is older.
    let taken = record(Progress::Ordered).ordered_at(1000);
    let both = Node::new()
        .and_in("taken", LINK, taken)
        .and_in("unknown", LINK, record(Progress::Unreachable).with_order(2))
        .agent(agent(NEW_BOOT).awaiting());
    assert_eq!(instructed(&both).unwrap().0.as_deref(), Some("taken"));
}

#[test]
fn a_second_change_of_the_boot_source_hides_no_boot_into_the_first() {
    let mut twice = record(Progress::Unreachable).with_boot(Boot::Changed);
    twice.boot_change.as_mut().unwrap().boot_id = NEW_BOOT.into();
    let node = Node::in_rollout("driver", twice).agent(agent(NEW_BOOT).awaiting());
    assert_eq!(instructed(&node).unwrap().2, Phase::Rebooting, "it runs the image of the first change");
}

#[test]
fn a_boot_source_that_outlived_its_order_is_proven_under_the_order_that_owns_it() {
    let again = record(Progress::Staged).with_boot(Boot::Changed);
    assert_eq!(again.order, None);
    let node = Node::in_rollout("driver", again).agent(agent(NEW_BOOT).awaiting());
    assert_eq!(instructed(&node), Some((Some("driver".into()), Some(id(1)), Phase::Rebooting, None)));
}

#[test]
fn a_plain_reboot_opens_the_gate_only_if_nothing_else_is_known() {
    let issued = |node: Node| node.slurm("DOWN+REBOOT_ISSUED", "r : reboot issued");
    let awaits = || Node::new().agent(agent(NEW_BOOT).awaiting());
    let plain = |progress| awaits().plain(record(progress));
    let unreadable = |nodes| Unreadable { id: "torn".into(), error: "torn".into(), nodes };
    let of_torn = |list: &str| {
        let mut node = issued(awaits());
        node.0.snapshot.unreadable.push(unreadable(nodes(list)));
        node
    };
    for (node, expected) in [
        (plain(Progress::Ordered), Some((Some(id(1)), Phase::Rebooting))),
        (plain(Progress::Unreachable), Some((Some(id(1)), Phase::Rebooting))),
        (plain(KILLED), Some((Some(id(1)), Phase::Rebooting))),
        (plain(HELD), Some((Some(id(1)), Phase::Held))),
        (plain(Progress::Ordering { until_ms: 200_000 }), None),
        // It has no order of its own: it was carrying out another one.
        (plain(Progress::Covered), None),
        (issued(plain(Progress::Covered)), Some((None, Phase::Rebooting))),
        (issued(plain(Progress::Seen(Phase::Updated))), Some((None, Phase::Rebooting))),
        // It was never ordered.
        (issued(awaits()), Some((None, Phase::Rebooting))),
        (awaits(), None),
        (awaits().slurm("IDLE", ""), None),
        // It may have an order of a rollout that cannot be read.
        (of_torn("n1"), None),
        (of_torn("n2"), Some((None, Phase::Rebooting))),
        // It does not await anything.
        (issued(Node::new().agent(agent(NEW_BOOT))), None),
        (issued(Node::new().silent()), None),
    ] {
        let found = instructed(&node).map(|(rollout, order, phase, _)| {
            assert_eq!(rollout, None, "{node:?}");
            (order, phase)
        });
        assert_eq!(found, expected, "{node:?}");
    }
}

#[test]
fn the_rollouts_order_goes_before_a_plain_one_that_came_later() {
    let ordered = || Node::in_rollout("driver", record(Progress::Ordered).with_boot(Boot::Changed));
    for progress in [Progress::Covered, Progress::Ordered, Progress::Unreachable, KILLED] {
        let later = record(progress).with_order(2).ordered_at(109_000);
        let node = ordered().plain(later).agent(agent(NEW_BOOT).awaiting()).slurm("DOWN+REBOOT_ISSUED", "");
        assert_eq!(instructed(&node).unwrap().1, Some(id(1)), "{progress:?}");
    }
}

#[test]
fn an_instruction_is_the_ledger_that_the_node_would_have_found() {
    let node = Node::in_rollout("driver", record(Progress::Ordered).with_boot(Boot::Changed))
        .agent(agent(NEW_BOOT).awaiting());
    let step = due(node.0.node("n1")).unwrap().step;
    let expected = Instruction {
        phase: Phase::Rebooting,
        error: None,
        boot_id: OLD_BOOT.into(),
        ordered_s: Some(99),
        running: Some(running("1")),
    };
    assert_eq!(step, Step::Instruct(expected));
}

#[test]
fn only_nodes_that_slurm_waits_or_waited_for_may_be_expected() {
    for (state, reason, expected) in [
        ("IDLE", "", false),
        ("DOWN+REBOOT_ISSUED", "driver : reboot issued", true),
        ("DOWN", "driver : reboot issued : reboot timed out", true),
        ("DOWN", "slurm-rollout driver: held: nhc", true),
        ("DOWN", "Not responding", false),
        ("IDLE+DRAIN", "bad disk", false),
        ("MIXED+POWERING_UP", "", false),
    ] {
        assert_eq!(may_be_expected(&slurm(state, reason)), expected, "{reason}");
    }
}
