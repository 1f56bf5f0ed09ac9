//! Nodes that have to be told more than once: those that keep no ledger over their boot, and those whose boot source was
//! changed, which only the controller's side can put back.
//!
//! Nothing flows backwards, so the controller's side looks where such a node stands until its order is settled. Here is
//! decided which nodes those are, and what is due for one of them by what its agent says.

use crate::agent::phase::Phase;
use crate::protocol::answer::AgentStatus;
use crate::rollout::journal::{BootSource, Booted, NodeRecord, NodeRecords, Progress};
use crate::slurm::node::NodeInfo;
use std::collections::BTreeMap;

/// A node that is to be looked at until its order is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// NodeName.
    pub node: String,
    /// The rollout whose journal has the order; none for a plain reboot.
    pub rollout: Option<String>,
    /// What its journal says.
    pub record: NodeRecord,
}

/// What is due for a watched node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// It is on its way, or nothing can be done.
    Nothing,
    /// Its agent has the order, though that was not written down.
    Ordered,
    /// It has booted and has no ledger: it is to be told what it would find there.
    Expect {
        /// Where it stood.
        phase: Phase,
        /// OrderKind had failed.
        error: Option<String>,
    },
    /// What it booted from before is to be put back.
    PutBack {
        /// Why.
        why: String,
        /// What is to be done once it is.
        then: Then,
    },
    /// Its agent is done, or holds the node: this is to be written down.
    Seen {
        /// Where it stands.
        phase: Phase,
        /// What has failed.
        error: Option<String>,
    },
}

/// What is to be done once a boot source is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Its agent waits to be told so.
    TellAgent,
    /// Slurm is to show that the node did not come back: nobody else knows.
    TellSlurm,
    /// Nobody carries the order out: the rollout is staged for the node as before.
    StageAgain,
    /// That was written down before.
    Nothing,
}

/// The nodes to be looked at. A held one is among them, so that it is held again should it boot.
#[must_use]
pub fn watched(rollouts: &[(String, NodeRecords)], plain: &NodeRecords) -> Vec<Watched> {
    let of = |rollout: Option<&String>, fold: &NodeRecords| -> Vec<Watched> {
        let all = fold.iter().map(|(node, record)| Watched {
            node: node.clone(),
            rollout: rollout.cloned(),
            record: record.clone(),
        });
        all.collect()
    };
    let all = rollouts.iter().flat_map(|(id, fold)| of(Some(id), fold)).chain(of(None, plain));
    let mut newest: BTreeMap<String, Watched> = BTreeMap::new();
    for one in all.filter(|one| one.record.ordering_ms.is_some()) {
        match newest.get(&one.node) {
            Some(known) if known.record.ordering_ms >= one.record.ordering_ms => {}
            _ => drop(newest.insert(one.node.clone(), one)),
        }
    }
    newest.into_values().filter(Watched::is_to_be_looked_at).collect()
}

impl Watched {
    fn is_to_be_looked_at(&self) -> bool {
        let boots_ours = self.record.boots_ours().is_some();
        match self.record.progress {
            Progress::Ordered => self.record.volatile || self.record.boot_source.is_some(),
            Progress::Seen(Phase::Held) => self.record.volatile,
            // Not under way: it must not boot ours.
            Progress::Staged | Progress::Refused | Progress::Unreachable | Progress::Ordering { .. } => {
                boots_ours
            }
            Progress::Seen(_) => false,
        }
    }

    /// Whether it is on its way, so that it is worth looking again in a moment.
    #[must_use]
    pub fn is_on_its_way(&self, now_ms: u64, boot_timeout_ms: u64) -> bool {
        let put_back = self.record.boot_source.as_ref().and_then(|source| source.put_back.as_ref());
        let since_ms = put_back.map_or(self.record.since_ms, |(at_ms, _)| *at_ms);
        self.record.progress == Progress::Ordered && now_ms <= since_ms.saturating_add(boot_timeout_ms)
    }

    /// What is due, by what its agent says now; none if it says nothing. `boot_timeout_ms` is the manifest's.
    #[must_use]
    pub fn due(&self, agent: Option<&AgentStatus>, now_ms: u64, boot_timeout_ms: u64) -> Due {
        let record = &self.record;
        if matches!(record.progress, Progress::Ordering { until_ms } if until_ms > now_ms) {
            return Due::Nothing;
        }
        let put_back = |why: &str, then| Due::PutBack { why: why.to_owned(), then };
        let under_way = matches!(record.progress, Progress::Ordered | Progress::Seen(Phase::Held));
        let Some(agent) = agent else {
            let late = |source: &&BootSource| now_ms > source.since_ms.saturating_add(boot_timeout_ms);
            return match record.boots_ours().filter(late) {
                Some(_) if under_way => put_back("the node was not back in time", Then::TellSlurm),
                // Its agent may have taken the order: only it knows, and it has had the time.
                Some(_) => put_back("the order was not taken", Then::Nothing),
                None => Due::Nothing,
            };
        };
        match agent.order.as_ref().filter(|order| Some(&order.id) == record.order.as_ref()) {
            Some(_) if !under_way => Due::Ordered,
            Some(order) if order.phase == Phase::Undoing && record.boot_source.is_some() => {
                put_back(order.error.as_deref().unwrap_or("the rollout is undone"), Then::TellAgent)
            }
            Some(order) if order.phase.is_settled() || order.phase == Phase::Held => {
                match record.progress == Progress::Seen(order.phase) {
                    true => Due::Nothing,
                    false => Due::Seen { phase: order.phase, error: order.error.clone() },
                }
            }
            Some(_) => Due::Nothing,
            None if under_way && agent.awaits => self.expectation(),
            // Its ledger had the order until it booted, and its gate has opened without us.
            None if record.progress == Progress::Ordered
                && self.rollout.is_none()
                && agent.order.is_none() =>
            {
                Due::Seen { phase: Phase::Updated, error: None }
            }
            None if record.progress == Progress::Ordered && self.has_booted(agent) => {
                put_back("it has booted, and its agent knows nothing of the order", Then::StageAgain)
            }
            None if !under_way && record.boots_ours().is_some() => {
                put_back("the order was not taken", Then::Nothing)
            }
            None => Due::Nothing,
        }
    }

    /// Where a node stood that has no ledger any more.
    fn expectation(&self) -> Due {
        let put_back = self.record.boot_source.as_ref().and_then(|source| source.put_back.clone());
        match (self.record.progress, put_back) {
            (Progress::Seen(Phase::Held), _) => {
                Due::Expect { phase: Phase::Held, error: self.record.why.clone() }
            }
            (_, Some((_, why))) => Due::Expect { phase: Phase::RebootingBack, error: Some(why) },
            (_, None) => Due::Expect { phase: Phase::Rebooting, error: None },
        }
    }

    fn has_booted(&self, agent: &AgentStatus) -> bool {
        let before = self.record.boot_source.as_ref().map(|source| &source.before);
        before.is_some_and(|Booted { boot_id, .. }| !boot_id.is_empty() && *boot_id != agent.boot_id)
    }
}

/// Whether a node that has booted and has no ledger may have been told something before, by what Slurm says of it: Slurm
/// waits for its reboot, gave up waiting, or shows a Reason of ours. Otherwise nobody expects anything of it.
#[must_use]
pub fn may_be_expected(info: &NodeInfo) -> bool {
    info.has("REBOOT_ISSUED")
        || info.timed_out_waiting_for_our_reboot()
        || (info.shows_our_reason() && info.has("DOWN"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::answer::OrderStatus;
    use crate::protocol::order::OrderId;

    const TIMEOUT: u64 = 60_000;

    fn id(number: u128) -> OrderId {
        OrderId::from_random(number)
    }

    /// Ordered at 100 s, its boot source changed a moment before where `source` says so: 'o' is ours, 'b' was put back.
    fn node(progress: Progress, volatile: bool, source: char) -> Watched {
        let before = Booted { running: None, boot_id: "boot-1".into() };
        let put_back = (source == 'b').then(|| (120_000, "nhc said no".to_owned()));
        let boot_source = (source != '-').then_some(BootSource { since_ms: 100_000, before, put_back });
        let new = NodeRecord::new(progress, 100_000);
        let record =
            NodeRecord { order: Some(id(1)), ordering_ms: Some(99_000), volatile, boot_source, ..new };
        Watched { node: "n1".into(), rollout: Some("driver".into()), record }
    }

    fn agent(boot: &str, order: Option<(u128, Phase)>, awaits: bool) -> AgentStatus {
        let order = order.map(|(number, phase)| OrderStatus {
            id: id(number),
            rollout: None,
            phase,
            since_s: 0,
            error: Some("why".into()),
            changed: false,
            took_s: None,
        });
        AgentStatus { boot_id: boot.into(), order, awaits, ..AgentStatus::default() }
    }

    #[test]
    fn the_newest_order_of_each_node_is_looked_at_until_it_is_settled() {
        let fold = |watched: Watched| NodeRecords::from([(watched.node, watched.record)]);
        for (progress, volatile, source, looked_at) in [
            (Progress::Ordered, true, '-', true),
            (Progress::Ordered, false, 'o', true),
            (Progress::Ordered, false, 'b', true),
            (Progress::Ordered, false, '-', false),
            (Progress::Seen(Phase::Held), true, '-', true),
            (Progress::Seen(Phase::Held), false, 'o', false),
            (Progress::Seen(Phase::Updated), true, 'o', false),
            (Progress::Unreachable, false, 'o', true),
            (Progress::Unreachable, true, 'b', false),
            (Progress::Refused, false, 'o', true),
        ] {
            let all =
                watched(&[("driver".into(), fold(node(progress, volatile, source)))], &NodeRecords::new());
            assert_eq!(!all.is_empty(), looked_at, "{progress:?} {volatile} {source}");
        }
        let mut later = node(Progress::Seen(Phase::Updated), true, '-');
        later.record.ordering_ms = Some(200_000);
        let both =
            [("driver".into(), fold(node(Progress::Ordered, true, 'o'))), ("next".into(), fold(later))];
        assert_eq!(watched(&both, &NodeRecords::new()), []);
    }

    #[test]
    fn what_is_due() {
        let expect = |phase, error: Option<&str>| Due::Expect { phase, error: error.map(str::to_owned) };
        let back = |why: &str, then| Due::PutBack { why: why.into(), then };
        let seen = |phase| Due::Seen { phase, error: Some("why".into()) };
        let (ordered, held, silent) = (Progress::Ordered, Progress::Seen(Phase::Held), Progress::Unreachable);
        let ours = |phase| agent("boot-2", Some((1, phase)), false);
        for (progress, source, agent, now_s, due) in [
            (ordered, 'o', None, 110, Due::Nothing),
            (ordered, 'o', None, 161, back("the node was not back in time", Then::TellSlurm)),
            (ordered, 'b', None, 161, Due::Nothing),
            (ordered, '-', None, 161, Due::Nothing),
            (silent, 'o', None, 110, Due::Nothing),
            (silent, 'o', None, 161, back("the order was not taken", Then::Nothing)),
            (
                silent,
                'o',
                Some(agent("boot-1", None, false)),
                110,
                back("the order was not taken", Then::Nothing),
            ),
            (silent, 'o', Some(ours(Phase::Rebooting)), 110, Due::Ordered),
            (ordered, 'o', Some(agent("boot-1", Some((1, Phase::Rebooting)), false)), 110, Due::Nothing),
            (ordered, 'o', Some(ours(Phase::Verifying)), 110, Due::Nothing),
            (ordered, 'o', Some(ours(Phase::Undoing)), 110, back("why", Then::TellAgent)),
            (ordered, 'b', Some(ours(Phase::Undoing)), 130, back("why", Then::TellAgent)),
            (ordered, '-', Some(ours(Phase::Undoing)), 130, Due::Nothing),
            (ordered, 'o', Some(ours(Phase::Updated)), 110, seen(Phase::Updated)),
            (ordered, 'o', Some(ours(Phase::Held)), 110, seen(Phase::Held)),
            (held, 'b', Some(ours(Phase::Held)), 110, Due::Nothing),
            (held, 'b', Some(ours(Phase::Updated)), 110, seen(Phase::Updated)),
            (ordered, 'o', Some(agent("boot-2", None, true)), 110, expect(Phase::Rebooting, None)),
            (
                ordered,
                '-',
                Some(agent("boot-2", Some((7, Phase::Updated)), true)),
                110,
                expect(Phase::Rebooting, None),
            ),
            (
                ordered,
                'b',
                Some(agent("boot-3", None, true)),
                130,
                expect(Phase::RebootingBack, Some("nhc said no")),
            ),
            (held, 'b', Some(agent("boot-4", None, true)), 130, expect(Phase::Held, None)),
            (ordered, 'o', Some(agent("boot-1", None, false)), 110, Due::Nothing),
            (
                ordered,
                'o',
                Some(agent("boot-2", None, false)),
                110,
                back("it has booted, and its agent knows nothing of the order", Then::StageAgain),
            ),
        ] {
            let node = node(progress, true, source);
            assert_eq!(
                node.due(agent.as_ref(), now_s * 1000, TIMEOUT),
                due,
                "{progress:?} {source} {agent:?}"
            );
        }
        let plain = Watched { rollout: None, ..node(ordered, true, '-') };
        let up = agent("boot-2", None, false);
        let due = plain.due(Some(&up), 110_000, TIMEOUT);
        assert_eq!(
            due,
            Due::Seen { phase: Phase::Updated, error: None },
            "a plain reboot, and nobody was waited for"
        );
        let claimed = node(Progress::Ordering { until_ms: 120_000 }, true, 'o');
        assert_eq!(claimed.due(None, 110_000, 0), Due::Nothing, "somebody is sending the order");
        assert_eq!(claimed.due(None, 170_000, TIMEOUT), back("the order was not taken", Then::Nothing));
    }

    #[test]
    fn who_is_on_its_way() {
        let on_its_way =
            |progress, source, now_s: u64| node(progress, true, source).is_on_its_way(now_s * 1000, TIMEOUT);
        assert!(on_its_way(Progress::Ordered, 'o', 160) && !on_its_way(Progress::Ordered, 'o', 161));
        assert!(on_its_way(Progress::Ordered, 'b', 180) && !on_its_way(Progress::Ordered, 'b', 181));
        assert!(!on_its_way(Progress::Seen(Phase::Held), 'b', 110));
    }

    #[test]
    fn of_whom_something_may_be_expected() {
        for (state, reason, expected) in [
            ("IDLE", "", false),
            ("DOWN+REBOOT_ISSUED", "driver : reboot issued", true),
            ("DOWN", "driver : reboot issued : reboot timed out", true),
            ("DOWN", "slurm-rollout driver: held: nhc", true),
            ("DOWN", "Not responding", false),
            ("IDLE+DRAIN", "bad disk", false),
            ("MIXED+POWERING_UP", "", false),
        ] {
            let state = state.split('+').map(str::to_owned).collect();
            let info = NodeInfo { state, reason: Some(reason.to_owned()), ..NodeInfo::default() };
            assert_eq!(may_be_expected(&info), expected, "{reason}");
        }
    }
}
