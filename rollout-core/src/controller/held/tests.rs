use super::*;
use crate::controller::testing::{Boot, LINK, NEW_BOOT, Node, OLD_BOOT, agent, id, record};
use crate::rollout::journal::{ConductState, NodeRecord};

const HELD: Progress = Progress::Seen(Phase::Held);

fn of(rollout: Option<&str>, order: u128) -> Hold {
    Hold { rollout: rollout.map(str::to_owned), order: id(order) }
}

#[test]
fn a_node_is_held_by_the_order_that_its_agent_reports() {
    let held = || agent(NEW_BOOT).at(1, Phase::Held);
    // B was staged later, and refused: M5.
    let both = Node::new().and_in("A", LINK, record(HELD)).and_in(
        "B",
        LINK,
        record(Progress::Refused).with_order(2).ordered_at(109_000),
    );
    for (node, expected) in [
        (both.clone().agent(held().for_rollout("A")), Some(of(Some("A"), 1))),
        (both.clone().silent(), Some(of(Some("A"), 1))),
        (both.clone(), Some(of(Some("A"), 1))),
        // It was released or retried, and the journal does not have it yet.
        (both.clone().agent(agent(NEW_BOOT).at(1, Phase::Released)), None),
        (both.clone().agent(agent(NEW_BOOT).at(1, Phase::Applying)), None),
        (both.agent(agent(NEW_BOOT)), None),
        // No journal has it: a plain reboot, or an order by slurmd.
        (Node::new().agent(held()), Some(of(None, 1))),
        (Node::new().plain(record(HELD)).silent(), Some(of(None, 1))),
        (Node::new().silent(), None),
    ] {
        assert_eq!(hold(node.0.node("n1")), expected, "{node:?}");
    }
}

#[test]
fn a_retry_carries_out_the_hold_or_stages_the_last_rollout_again() {
    let nothing = |why: &str| Retry::Nothing(why.to_owned());
    let again = || Retry::StageAgain { rollout: "A".into() };
    let a = |record| Node::new().and_in("A", LINK, record);
    let rolled_back = record(Progress::Seen(Phase::RolledBack));
    let refused = record(Progress::Refused).with_order(2).ordered_at(109_000);
    let held_by_a = agent(NEW_BOOT).at(1, Phase::Held).for_rollout("A");
    for (node, expected) in [
        (a(record(HELD)).agent(held_by_a.clone()), Retry::Held(of(Some("A"), 1))),
        // The refusal of a later rollout does not hide the hold: M5.
        (a(record(HELD)).and_in("B", LINK, refused).agent(held_by_a), Retry::Held(of(Some("A"), 1))),
        (a(rolled_back.clone()).agent(agent(NEW_BOOT).at(1, Phase::RolledBack)), again()),
        (a(rolled_back.clone()).silent(), again()),
        (a(record(Progress::Seen(Phase::Released))).silent(), again()),
        (a(record(Progress::Ordered)).agent(agent(NEW_BOOT).at(1, Phase::RolledBack)), again()),
        (a(record(Progress::Seen(Phase::Updated))).silent(), nothing("updated in A, nothing to retry")),
        (
            a(record(Progress::Ordered)).agent(agent(NEW_BOOT).at(1, Phase::Verifying)),
            nothing("verifying in A, nothing to retry"),
        ),
        (a(record(Progress::Ordered)).silent(), nothing("its agent does not answer")),
        // It is back, and its order is gone.
        (a(record(Progress::Lost)).agent(agent(NEW_BOOT)), again()),
        (a(record(Progress::Superseded)).agent(agent(NEW_BOOT).at(7, Phase::Updated)), again()),
        (a(record(Progress::Lost)).silent(), nothing("its agent does not answer")),
        // It is not back until it is instructed.
        (a(record(Progress::Lost)).agent(agent(NEW_BOOT).awaiting()), nothing("its agent does not answer")),
        // It waits for a rollout.
        (a(record(Progress::Refused)).silent(), nothing("still staged for A, `scontrol reboot` it again")),
        (
            a(rolled_back).and_in("B", LINK, record(Progress::Staged).staged_at(60_000)),
            nothing("still staged for B, `scontrol reboot` it again"),
        ),
        (
            a(record(Progress::Ordering { until_ms: 120_000 })).silent(),
            nothing("its order for A is being sent"),
        ),
        (Node::new().plain(record(Progress::Ordered)), nothing("no rollout has it")),
    ] {
        assert_eq!(retry(node.0.node("n1")), expected, "{node:?}");
    }
}

#[test]
fn a_retry_waits_for_a_boot_source_that_is_another_orders() {
    let busy = |rollout: &str| {
        let why = "`slurm-rollout reconcile` settles that first";
        Retry::Nothing(format!("its boot source still belongs to {rollout}; {why}"))
    };
    let held = |boot| {
        let agent = agent(NEW_BOOT).at(1, Phase::Held).for_rollout("A");
        Node::in_rollout("A", record(HELD).with_boot(boot)).agent(agent)
    };
    let refused = |boot| record(Progress::Refused).with_order(2).with_boot(boot);
    for (node, expected) in [
        (held(Boot::Restored), Retry::Held(of(Some("A"), 1))),
        // A retry that could not be told has left it behind: M9. This one takes it over.
        (held(Boot::Changed), Retry::Held(of(Some("A"), 1))),
        (held(Boot::Claimed), busy("A")),
        (held(Boot::Restoring), busy("A")),
        (held(Boot::Restored).and_in("B", LINK, refused(Boot::Changed)), busy("B")),
        (held(Boot::Restored).and_in("B", LINK, refused(Boot::Restored)), Retry::Held(of(Some("A"), 1))),
        (
            Node::in_rollout("A", record(Progress::Lost).with_boot(Boot::Changed)).agent(agent(OLD_BOOT)),
            busy("A"),
        ),
    ] {
        assert_eq!(retry(node.0.node("n1")), expected, "{node:?}");
    }
}

#[test]
fn a_node_that_waits_is_told_how_it_gets_its_turn() {
    let (halted, paused) = (ConductState::Halted { why: "x".into() }, ConductState::Paused { why: None });
    for (state, cancelled, expected) in [
        (ConductState::NotStarted, false, "`scontrol reboot` it again"),
        (
            ConductState::Running,
            false,
            "which is running; if it got no order, `slurm-rollout resume A` requests it again",
        ),
        (
            ConductState::Running,
            true,
            "its reboot was cancelled in Slurm; `slurm-rollout resume A` requests it again",
        ),
        (paused, true, "which is paused; `slurm-rollout resume A`"),
        (halted, true, "which halted; `slurm-rollout resume A`"),
        (ConductState::Stopped, true, "which was stopped: it is being unstaged"),
    ] {
        let refused = NodeRecord { cancelled, ..record(Progress::Refused) };
        let mut node = Node::new().and_in("A", LINK, refused).silent();
        node.0.snapshot.rollouts[0].conduct.state = state;
        let expected = Retry::Nothing(format!("still staged for A, {expected}"));
        assert_eq!(retry(node.0.node("n1")), expected);
    }
}
