use super::*;
use crate::agent::phase::Phase;
use crate::protocol::answer::OrderStatus;

fn id(number: u128) -> OrderId {
    OrderId::from_random(number)
}

fn fold(record: Option<(Progress, u64)>) -> NodeRecords {
    let node = |(progress, since_ms)| {
        let ordering_ms = (progress != Progress::Staged).then_some(since_ms);
        let order = ordering_ms.map(|_| id(1));
        let record = NodeRecord { order, ordering_ms, ..NodeRecord::new(progress, since_ms) };
        ("n1".to_owned(), record)
    };
    record.map(node).into_iter().collect()
}

/// Handed over at 100 s where Slurm still says so.
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
fn only_nodes_that_nobody_told_are_lost() {
    let now = 200_000;
    let ordering = |until_ms| Progress::Ordering { until_ms };
    let issued = "DOWN+REBOOT_ISSUED";
    // What came of the last order, and when it was sent; since when the node is taken to be handed over.
    for (state, says_when, record, handed_over_ms) in [
        (issued, true, None, Some(100_000)),
        (issued, true, Some((Progress::Staged, 1)), Some(100_000)),
        (issued, true, Some((Progress::Ordered, 50_000)), Some(100_000)),
        (issued, true, Some((Progress::Seen(Phase::Updated), 50_000)), Some(100_000)),
        (issued, true, Some((Progress::Ordered, 100_000)), None),
        (issued, true, Some((Progress::Seen(Phase::Held), 100_500)), None),
        (issued, true, Some((Progress::Refused, 100_500)), None),
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
        let of_rollout = (vec![("r".to_owned(), fold(record))], NodeRecords::new());
        let of_plain = (vec![("r".to_owned(), NodeRecords::new())], fold(record));
        for (rollouts, plain) in [of_rollout, of_plain] {
            let found = lost(std::slice::from_ref(&node), &rollouts, &plain, now);
            let handed_over: Vec<u64> = found.iter().map(|lost| lost.handed_over_ms).collect();
            assert_eq!(handed_over.first().copied(), handed_over_ms, "{state} {says_when} {record:?}");
        }
    }
    let just_now = NodeInfo { reason_s: Some(190), ..info(issued, true) };
    assert!(lost(&[just_now], &[], &NodeRecords::new(), now).is_empty(), "RebootProgram may be on its way");
}

#[test]
fn the_order_that_went_unanswered_is_known_by_its_rollout() {
    let silent = fold(Some((Progress::Unreachable, 100_500)));
    let killed = fold(Some((Progress::Ordering { until_ms: 110_000 }, 100_500)));
    let before = fold(Some((Progress::Unreachable, 50_000)));
    for (rollouts, plain, rollout, order, known_silent) in [
        (vec![("r".to_owned(), silent.clone())], before.clone(), Some("r"), Some(1), true),
        (vec![("r".to_owned(), before.clone())], killed, None, Some(1), false),
        (vec![("r".to_owned(), before)], NodeRecords::new(), None, None, false),
    ] {
        let found = lost(&[info("DOWN+REBOOT_ISSUED", true)], &rollouts, &plain, 200_000);
        let [lost] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((lost.rollout.as_deref(), lost.order.clone()), (rollout, order.map(id)));
        assert_eq!(lost.known_silent, known_silent);
    }
}

#[test]
fn what_an_agent_was_given_is_known_by_its_order() {
    let given = |progress, ordering_ms| {
        let order = Some(id(7));
        let record = NodeRecord { order, ordering_ms, pre_staged: true, ..NodeRecord::new(progress, 1) };
        vec![("r".to_owned(), NodeRecords::from([("n1".to_owned(), record)]))]
    };
    let not_ordered = NodeInfo {
        reason: Some(crate::slurm::reason::Reason::not_ordered("no agent").to_string()),
        ..info("DOWN+REBOOT_ISSUED", true)
    };
    for node in [info("DOWN+REBOOT_ISSUED", true), not_ordered] {
        for (rollouts, order, known_silent) in [
            (given(Progress::Staged, None), Some(Some(7)), false),
            // Silent at another hand-over, and at this one.
            (given(Progress::Unreachable, Some(50_000)), Some(Some(7)), false),
            (given(Progress::Unreachable, Some(100_500)), Some(Some(7)), true),
            // It is known to have been done before, or to be begun now.
            (given(Progress::Seen(Phase::Updated), None), Some(None), false),
            (given(Progress::Ordered, Some(100_500)), None, false),
        ] {
            let found = lost(std::slice::from_ref(&node), &rollouts, &NodeRecords::new(), 200_000);
            let orders = found.first().map(|lost| lost.order.clone());
            assert_eq!(orders, order.map(|order: Option<u128>| order.map(id)), "{rollouts:?}");
            assert!(found.iter().all(|lost| lost.known_silent == known_silent), "{rollouts:?}");
        }
    }
}

fn agent(uptime_s: u64, order: Option<u128>) -> AgentStatus {
    AgentStatus {
        version: String::new(),
        node: "n1".into(),
        boot_id: String::new(),
        uptime_s,
        clock_s: None,
        order: order.map(|number| OrderStatus {
            id: id(number),
            rollout: None,
            phase: Phase::Updated,
            since_s: 0,
            error: None,
            changed: false,
            took_s: None,
        }),
        ..AgentStatus::default()
    }
}

#[test]
fn on_the_node_only_an_agent_that_has_nothing_to_do_is_told() {
    let in_phase = |phase, uptime_s, order| {
        let mut agent = agent(uptime_s, Some(order));
        agent.order.iter_mut().for_each(|order| order.phase = phase);
        agent
    };
    // What the agent was given, and what it says.
    for (order, agent, due) in [
        (Some(1), None, None),
        (Some(1), Some(agent(1000, None)), Some(Remedy::Order)),
        (None, Some(agent(1000, None)), Some(Remedy::Order)),
        (None, Some(agent(1000, Some(2))), Some(Remedy::Order)),
        (None, Some(in_phase(Phase::Held, 1000, 2)), Some(Remedy::Order)),
        // slurmd had it rebooted: it is on its way, or was there.
        (Some(1), Some(in_phase(Phase::Applying, 1000, 1)), Some(Remedy::Record)),
        (Some(1), Some(in_phase(Phase::Verifying, 5, 1)), Some(Remedy::Record)),
        (None, Some(in_phase(Phase::Rebooting, 1000, 2)), None),
        (None, Some(agent(5, Some(2))), None),
        (None, Some(agent(5, None)), None),
        // Carried out at an earlier hand-over: when that is written down, this one is a plain reboot.
        (Some(1), Some(agent(1000, Some(1))), Some(Remedy::Record)),
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
fn the_agent_is_asked_before_it_is_told() {
    let now_ms = 200_000;
    // The order that went unanswered, whether that is known; what the agent says.
    for (order, known_silent, agent, due) in [
        (None, false, None, Remedy::Order),
        (Some(1), false, None, Remedy::Order),
        (Some(1), true, None, Remedy::Silent),
        (None, false, Some(agent(1000, None)), Remedy::Order),
        (Some(1), true, Some(agent(1000, None)), Remedy::Order),
        // What it did before does not matter.
        (Some(1), true, Some(agent(1000, Some(2))), Remedy::Order),
        (None, false, Some(agent(1000, Some(1))), Remedy::Order),
        (Some(1), false, Some(agent(1000, Some(1))), Remedy::Record),
        (Some(1), false, Some(agent(5, Some(1))), Remedy::Record),
        // Up for as long as Slurm waits, give or take what is rounded.
        (None, false, Some(agent(100, None)), Remedy::Order),
        (None, false, Some(agent(99, None)), Remedy::Order),
        (None, false, Some(agent(98, None)), Remedy::Booted),
        (Some(1), true, Some(agent(5, Some(2))), Remedy::Booted),
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
