use super::*;
use crate::agent::phase::Phase;
use crate::controller::snapshot::RolloutState;
use crate::controller::testing::{Boot, IMAGE, LINK, agent, id, record, rollout};
use crate::rollout::journal::{NodeRecord, NodeRecords};

/// Returns a record of order 1 at this time.
fn at((progress, ordering_ms): (Progress, u64)) -> NodeRecord {
    let record = record(progress);
    let ordering_ms = record.ordering_ms.map(|_| ordering_ms);
    NodeRecord { since_ms: 1, ordering_ms, ..record }
}

fn in_rollout(record: NodeRecord) -> RolloutState {
    rollout("r", LINK, &[("n1", record)])
}

fn in_plain(record: Option<NodeRecord>) -> NodeRecords {
    record.into_iter().map(|record| ("n1".to_owned(), record)).collect()
}

fn snapshot(rollouts: Vec<RolloutState>, plain_reboots: NodeRecords) -> Snapshot {
    Snapshot { rollouts, plain_reboots, ..Snapshot::default() }
}

/// Returns the node, handed over at 100 s if Slurm still shows that.
fn info(state: &str, issued: bool) -> NodeInfo {
    NodeInfo {
        name: "n1".into(),
        state: state.split('+').map(str::to_owned).collect(),
        reason: Some(if issued { "r : reboot issued" } else { "slurm-rollout r: not ordered" }.into()),
        reason_s: Some(100),
        ..NodeInfo::default()
    }
}

#[test]
fn only_orders_that_no_agent_answered_are_lost() {
    let now = 200_000;
    let ordering = |until_ms| Progress::Ordering { until_ms };
    let issued = "DOWN+REBOOT_ISSUED";
    // State, whether Slurm shows the time, progress and time of the last order; the time from which the node counts as
    // handed over.
    for (state, says_when, record, handed_over_ms) in [
        (issued, true, None, Some(100_000)),
        (issued, true, Some((Progress::Staged, 1)), Some(100_000)),
        (issued, true, Some((Progress::Ordered, 50_000)), Some(100_000)),
        (issued, true, Some((Progress::Seen(Phase::Updated), 50_000)), Some(100_000)),
        (issued, true, Some((Progress::Ordered, 100_000)), None),
        (issued, true, Some((Progress::Seen(Phase::Held), 100_500)), None),
        (issued, true, Some((Progress::Refused, 100_500)), None),
        (issued, true, Some((Progress::Covered, 100_500)), None),
        (issued, true, Some((Progress::Lost, 100_500)), None),
        (issued, true, Some((Progress::Unreachable, 100_500)), Some(100_000)),
        (issued, true, Some((ordering(now), 100_500)), Some(100_000)),
        (issued, true, Some((ordering(now + 1), 100_500)), None),
        (issued, false, None, None),
        (issued, false, Some((Progress::Ordered, 50_000)), None),
        (issued, false, Some((Progress::Unreachable, 150_000)), Some(150_000)),
        // Not, or no longer, handed over.
        ("IDLE+DRAIN+REBOOT_REQUESTED", true, None, None),
        ("DOWN+DRAIN", true, Some((Progress::Unreachable, 100_500)), None),
        ("ALLOCATED+POWERING_UP", true, None, None),
    ] {
        let node = info(state, says_when);
        let record = record.map(at);
        let of_rollout = snapshot(record.clone().map(in_rollout).into_iter().collect(), NodeRecords::new());
        let of_plain = snapshot(Vec::new(), in_plain(record.clone()));
        for snapshot in [of_rollout, of_plain] {
            let found = lost_orders(std::slice::from_ref(&node), &snapshot, now);
            let handed_over: Vec<u64> = found.iter().map(|lost| lost.handed_over_ms).collect();
            assert_eq!(handed_over.first().copied(), handed_over_ms, "{state} {says_when} {record:?}");
        }
    }
    let just_now = NodeInfo { reason_s: Some(190), ..info(issued, true) };
    assert!(
        lost_orders(&[just_now], &Snapshot::default(), now).is_empty(),
        "RebootProgram may be on its way"
    );
}

#[test]
fn the_order_that_went_unanswered_is_known_by_its_rollout() {
    let silent = at((Progress::Unreachable, 100_500));
    let killed = at((Progress::Ordering { until_ms: 110_000 }, 100_500));
    let before = at((Progress::Unreachable, 50_000));
    for (of_rollout, plain, rollout, order, known_silent) in [
        (silent, Some(before.clone()), Some("r"), Some(1), true),
        (before.clone(), Some(killed), None, Some(1), false),
        (before, None, None, None, false),
    ] {
        let snapshot = snapshot(vec![in_rollout(of_rollout)], in_plain(plain));
        let found = lost_orders(&[info("DOWN+REBOOT_ISSUED", true)], &snapshot, 200_000);
        let [lost] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((lost.rollout.as_deref(), lost.order.clone()), (rollout, order.map(id)));
        assert_eq!(lost.known_silent, known_silent);
    }
}

#[test]
fn a_pre_staged_order_is_known_by_its_id() {
    let pre_staged = |progress, ordering_ms| {
        let record = record(progress).pre_staged(7);
        snapshot(vec![in_rollout(NodeRecord { ordering_ms, ..record })], NodeRecords::new())
    };
    let not_ordered = NodeInfo {
        reason: Some(crate::slurm::reason::Reason::not_ordered("no agent", None).to_string()),
        ..info("DOWN+REBOOT_ISSUED", true)
    };
    for node in [info("DOWN+REBOOT_ISSUED", true), not_ordered] {
        for (snapshot, order, known_silent) in [
            (pre_staged(Progress::Staged, None), Some(Some(7)), false),
            // Silent at another hand-over, and at this one.
            (pre_staged(Progress::Unreachable, Some(50_000)), Some(Some(7)), false),
            (pre_staged(Progress::Unreachable, Some(100_500)), Some(Some(7)), true),
            // It is known to have been done before, or to be begun now.
            (pre_staged(Progress::Seen(Phase::Updated), None), Some(None), false),
            (pre_staged(Progress::Ordered, Some(100_500)), None, false),
        ] {
            let found = lost_orders(std::slice::from_ref(&node), &snapshot, 200_000);
            let orders = found.first().map(|lost| lost.order.clone());
            assert_eq!(orders, order.map(|order: Option<u128>| order.map(id)), "{snapshot:?}");
            assert!(found.iter().all(|lost| lost.known_silent == known_silent), "{snapshot:?}");
        }
    }
}

#[test]
fn a_boot_source_of_an_order_goes_before_a_lost_order() {
    let silent = at((Progress::Unreachable, 50_000)).with_boot(Boot::Changed);
    let ordered = at((Progress::Ordered, 50_000)).with_boot(Boot::Changed);
    let next = record(Progress::Staged).staged_at(60_000);
    let issued = [info("DOWN+REBOOT_ISSUED", true)];
    for (records, is_lost) in [
        // The owner's order is sent again.
        (vec![silent.clone()], true),
        // Otherwise it is settled first.
        (vec![silent, next.clone()], false),
        (vec![ordered.clone()], false),
        (vec![ordered, next], false),
    ] {
        let rollouts = records.iter().enumerate();
        let rollouts =
            rollouts.map(|(index, of)| rollout(&format!("r{index}"), IMAGE, &[("n1", of.clone())]));
        let found = lost_orders(&issued, &snapshot(rollouts.collect(), NodeRecords::new()), 200_000);
        assert_eq!(!found.is_empty(), is_lost, "{records:?}");
    }
}

fn up_for(uptime_s: u64, order: Option<u128>) -> AgentStatus {
    let agent = agent("").up_for(uptime_s);
    match order {
        Some(number) => agent.at(number, Phase::Updated),
        None => agent,
    }
}

#[test]
fn on_the_node_only_an_agent_that_has_nothing_to_do_is_ordered() {
    let in_phase = |phase, uptime_s, order| agent("").up_for(uptime_s).at(order, phase);
    // The pre-staged order, and the agent's answer.
    for (order, agent, due) in [
        (Some(1), None, None),
        (Some(1), Some(up_for(1000, None)), Some(Remedy::Order)),
        (None, Some(up_for(1000, None)), Some(Remedy::Order)),
        (None, Some(up_for(1000, Some(2))), Some(Remedy::Order)),
        (None, Some(in_phase(Phase::Held, 1000, 2)), Some(Remedy::Order)),
        // slurmd had it rebooted: it is on its way, or was there.
        (Some(1), Some(in_phase(Phase::Applying, 1000, 1)), Some(Remedy::Record)),
        (Some(1), Some(in_phase(Phase::Verifying, 5, 1)), Some(Remedy::Record)),
        (None, Some(in_phase(Phase::Rebooting, 1000, 2)), None),
        (None, Some(up_for(5, Some(2))), None),
        (None, Some(up_for(5, None)), None),
        // Carried out at an earlier hand-over: when that is written down, this one is a plain reboot.
        (Some(1), Some(up_for(1000, Some(1))), Some(Remedy::Record)),
    ] {
        let lost = LostOrder {
            node: "n1".into(),
            rollout: None,
            order: order.map(id),
            handed_over_ms: 100_000,
            known_silent: false,
        };
        assert_eq!(lost.remedy_on_the_node(agent.as_ref(), 200_000), due, "{order:?} {agent:?}");
    }
}

#[test]
fn the_agent_is_asked_before_it_is_ordered() {
    let now_ms = 200_000;
    // The order that went unanswered, whether that is known, and the agent's answer.
    for (order, known_silent, agent, due) in [
        (None, false, None, Remedy::Order),
        (Some(1), false, None, Remedy::Order),
        (Some(1), true, None, Remedy::Silent),
        (None, false, Some(up_for(1000, None)), Remedy::Order),
        (Some(1), true, Some(up_for(1000, None)), Remedy::Order),
        // Its orders before do not matter.
        (Some(1), true, Some(up_for(1000, Some(2))), Remedy::Order),
        (None, false, Some(up_for(1000, Some(1))), Remedy::Order),
        (Some(1), false, Some(up_for(1000, Some(1))), Remedy::Record),
        (Some(1), false, Some(up_for(5, Some(1))), Remedy::Record),
        // Up for as long as Slurm waits, give or take what is rounded.
        (None, false, Some(up_for(100, None)), Remedy::Order),
        (None, false, Some(up_for(98, None)), Remedy::Order),
        (None, false, Some(up_for(97, None)), Remedy::Booted),
        (Some(1), true, Some(up_for(5, Some(2))), Remedy::Booted),
    ] {
        let lost = LostOrder {
            node: "n1".into(),
            rollout: None,
            order: order.map(id),
            handed_over_ms: 100_000,
            known_silent,
        };
        assert_eq!(lost.remedy(agent.as_ref(), now_ms), due, "{order:?} {known_silent} {agent:?}");
    }
}
