//! Orders that got lost: which nodes Slurm shows as being rebooted that nobody told so, and whether it is still time to.
//!
//! Slurm runs RebootProgram once for a node, marks the node first, and never asks again (22.05 to 26.05). What is decided
//! here may be acted on long after that, so the agent is asked before it is told.

use crate::controller::hand_over::is_of;
use crate::protocol::answer::AgentStatus;
use crate::protocol::order::OrderId;
use crate::rollout::journal::{NodeRecord, NodeRecords, Progress};
use crate::slurm::node::NodeInfo;

/// How long after a hand-over RebootProgram may still be on its way to the nodes.
const ON_ITS_WAY_MS: u64 = 15_000;

/// By so much a boot may seem later than it was: an agent tells its uptime in whole seconds, and Slurm its times.
const ROUNDING_MS: u64 = 1_000;

/// A node that Slurm shows as being rebooted and that nobody told so, as far as journals know: RebootProgram never ran or
/// was killed, or the agent did not answer it. Where slurmd runs it on the node, no journal knows that it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostOrder {
    /// NodeName.
    pub node: String,
    /// The rollout of the order; none where it was a plain reboot, or there was no order.
    pub rollout: Option<String>,
    /// The order that went unanswered, or that its agent was given beforehand.
    pub order: Option<OrderId>,
    /// When Slurm handed the node over, or by when it had, in milliseconds since 1970.
    pub handed_over_ms: u64,
    /// Whether it is written down, and was told to Slurm, that the agent does not answer.
    known_silent: bool,
}

/// What is to be done about a node whose order got lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is to be ordered.
    Order,
    /// Its agent has the order, and only that is not written down yet.
    WriteDown,
    /// Nothing, it has booted since: Slurm takes that for the boot it waits for, and may start a job there any moment.
    Booted,
    /// Nothing new, the agent is as silent as it was.
    Silent,
}

/// The nodes whose orders got lost.
///
/// A node that refused its order was told. Of a node whose Reason no longer says when it was handed over, only one
/// whose last order went unanswered is taken: for all others nobody knows whether this hand-over was theirs.
#[must_use]
pub fn lost(
    slurm: &[NodeInfo],
    rollouts: &[(String, NodeRecords)],
    plain: &NodeRecords,
    now_ms: u64,
) -> Vec<LostOrder> {
    let being_rebooted = slurm.iter().filter(|info| info.has("REBOOT_ISSUED"));
    let lost = being_rebooted.filter_map(|info| {
        let records = || rollouts.iter().filter_map(|(id, nodes)| Some((Some(id), nodes.get(&info.name)?)));
        let all = records().chain(plain.get(&info.name).map(|record| (None, record)));
        let newest = all.max_by_key(|(_, record)| record.ordering_ms);
        let unanswered = newest.filter(|(_, record)| went_unanswered(record, now_ms));
        let given = || records().rfind(|(_, record)| record.delivered && record.progress.is_armed(now_ms));
        let issued_ms = info.handed_over_s().map(|s| s.saturating_mul(1000));
        let (last, known_silent, handed_over_ms) = match (issued_ms, newest) {
            (Some(issued), Some((_, record))) if is_of(record, issued) => {
                let last = unanswered?;
                (Some(last), last.1.progress == Progress::Unreachable, issued)
            }
            (Some(issued), _) if issued.saturating_add(ON_ITS_WAY_MS) <= now_ms => (given(), false, issued),
            (Some(_), _) => return None,
            (None, _) => {
                let last = unanswered?;
                let by_ms = last.1.ordering_ms.unwrap_or(last.1.since_ms);
                (Some(last), last.1.progress == Progress::Unreachable, by_ms)
            }
        };
        Some(LostOrder {
            node: info.name.clone(),
            rollout: last.and_then(|(rollout, _)| rollout.cloned()),
            order: last.and_then(|(_, record)| record.order.clone()),
            handed_over_ms,
            known_silent,
        })
    });
    lost.collect()
}

fn went_unanswered(record: &NodeRecord, now_ms: u64) -> bool {
    match record.progress {
        Progress::Unreachable => true,
        Progress::Ordering { until_ms } => until_ms <= now_ms,
        Progress::Staged | Progress::Ordered | Progress::Refused | Progress::Seen(_) => false,
    }
}

impl LostOrder {
    /// What is due, by what the node's agent says now; none if it says nothing.
    #[must_use]
    pub fn due(&self, agent: Option<&AgentStatus>, now_ms: u64) -> Due {
        let Some(agent) = agent else {
            return if self.known_silent { Due::Silent } else { Due::Order };
        };
        let carried_out = agent.order.as_ref().map(|order| &order.id);
        if carried_out.is_some() && carried_out == self.order.as_ref() {
            return Due::WriteDown;
        }
        let booted_ms = now_ms.saturating_sub(agent.uptime_s.saturating_mul(1000));
        if booted_ms > self.handed_over_ms.saturating_add(ROUNDING_MS) { Due::Booted } else { Due::Order }
    }

    /// The same where slurmd runs RebootProgram on the node. There an order comes without our knowing, so that an agent
    /// that is silent, is carrying out something or has booted since only does what it should: nothing is due.
    #[must_use]
    pub fn due_on_the_node(&self, agent: Option<&AgentStatus>, now_ms: u64) -> Option<Due> {
        let agent = agent?;
        let under_way = agent.order.as_ref().is_some_and(|order| !order.phase.has_ended());
        match self.due(Some(agent), now_ms) {
            Due::WriteDown => Some(Due::WriteDown),
            Due::Order if !under_way => Some(Due::Order),
            Due::Order | Due::Booted | Due::Silent => None,
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert!(
            lost(&[just_now], &[], &NodeRecords::new(), now).is_empty(),
            "RebootProgram may be on its way"
        );
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
            let record = NodeRecord { order, ordering_ms, delivered: true, ..NodeRecord::new(progress, 1) };
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
            (Some(1), Some(agent(1000, None)), Some(Due::Order)),
            (None, Some(agent(1000, None)), Some(Due::Order)),
            (None, Some(agent(1000, Some(2))), Some(Due::Order)),
            (None, Some(in_phase(Phase::Held, 1000, 2)), Some(Due::Order)),
            // slurmd had it rebooted: it is on its way, or was there.
            (Some(1), Some(in_phase(Phase::Applying, 1000, 1)), Some(Due::WriteDown)),
            (Some(1), Some(in_phase(Phase::Verifying, 5, 1)), Some(Due::WriteDown)),
            (None, Some(in_phase(Phase::Rebooting, 1000, 2)), None),
            (None, Some(agent(5, Some(2))), None),
            (None, Some(agent(5, None)), None),
            // Carried out at an earlier hand-over: when that is written down, this one is a plain reboot.
            (Some(1), Some(agent(1000, Some(1))), Some(Due::WriteDown)),
        ] {
            let lost = LostOrder {
                node: "n1".into(),
                rollout: None,
                order: order.map(id),
                handed_over_ms: 100_000,
                known_silent: false,
            };
            assert_eq!(lost.due_on_the_node(agent.as_ref(), 200_000), due, "{order:?} {agent:?}");
        }
    }

    #[test]
    fn the_agent_is_asked_before_it_is_told() {
        let now_ms = 200_000;
        // The order that went unanswered, whether that is known; what the agent says.
        for (order, known_silent, agent, due) in [
            (None, false, None, Due::Order),
            (Some(1), false, None, Due::Order),
            (Some(1), true, None, Due::Silent),
            (None, false, Some(agent(1000, None)), Due::Order),
            (Some(1), true, Some(agent(1000, None)), Due::Order),
            // What it did before does not matter.
            (Some(1), true, Some(agent(1000, Some(2))), Due::Order),
            (None, false, Some(agent(1000, Some(1))), Due::Order),
            (Some(1), false, Some(agent(1000, Some(1))), Due::WriteDown),
            (Some(1), false, Some(agent(5, Some(1))), Due::WriteDown),
            // Up for as long as Slurm waits, give or take what is rounded.
            (None, false, Some(agent(100, None)), Due::Order),
            (None, false, Some(agent(99, None)), Due::Order),
            (None, false, Some(agent(98, None)), Due::Booted),
            (Some(1), true, Some(agent(5, Some(2))), Due::Booted),
        ] {
            let lost = LostOrder {
                node: "n1".into(),
                rollout: None,
                order: order.map(id),
                handed_over_ms: 100_000,
                known_silent,
            };
            assert_eq!(lost.due(agent.as_ref(), now_ms), due, "{order:?} {known_silent} {agent:?}");
        }
    }
}
