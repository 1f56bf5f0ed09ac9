//! Journal, agents and Slurm joined to the one line that a person is shown for a node.

use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::protocol::answer::AgentStatus;
use crate::rollout::image::{Image, Running};
use crate::rollout::journal::{NodeRecord, Progress};
use crate::slurm::node::NodeInfo;
use crate::slurm::reason;
use serde::Serialize;
use std::collections::BTreeMap;

/// Where a node stands, in the words of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisplayPhase {
    /// To be applied when Slurm hands the node over.
    Staged,
    /// Staged, and Slurm waits for the node's jobs.
    Draining,
    /// The order is being sent, or was taken and nothing more is known.
    Ordered,
    /// The changes are being made, or undone.
    Applying,
    /// On its way down or up.
    Rebooting,
    /// Up again, being proven.
    Verifying,
    /// Out of service until an admin says `retry` or `release`.
    Held,
    /// The agent refused the order, or takes none at all.
    Failed,
    /// The agent did not answer.
    Unreachable,
    /// Given back as it was before.
    RolledBack,
    /// Given back on an admin's word.
    Released,
    /// What was staged, and given back.
    Updated,
}

/// One node of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// NodeName.
    pub node: String,
    /// The rollout.
    pub rollout: String,
    /// Where it stands.
    pub phase: DisplayPhase,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Slurm's state, none if Slurm could not be asked.
    pub slurm_state: Option<String>,
    /// The node's boot id, none if its agent did not answer.
    pub boot_id: Option<String>,
    /// What a person should know: what failed, or what is being waited for.
    pub note: Option<String>,
    /// Its images, where the rollout changes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
}

/// The images of a node in a rollout, as people name them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Images {
    /// What it gets when Slurm hands it over; none once it has been ordered.
    pub staged: Option<String>,
    /// What it should be running now, as far as that is known.
    pub wanted: Option<String>,
    /// What it says it is running; none if its agent did not answer.
    pub running: Option<String>,
}

impl Images {
    /// Of a node whose journal and agent say this.
    #[must_use]
    pub fn of(image: &Image, record: &NodeRecord, agent: Option<&AgentStatus>) -> Self {
        let armed = matches!(record.progress, Progress::Staged | Progress::Refused | Progress::Unreachable);
        let before = record.boot_source.as_ref().and_then(|source| source.before.running.as_ref());
        let gone_back = matches!(record.progress, Progress::Seen(Phase::RolledBack | Phase::Held))
            || record.boot_source.as_ref().is_some_and(|source| source.put_back.is_some());
        let running = agent.and_then(|agent| agent.running.as_ref()).map(Running::name);
        let wanted = match (armed, gone_back) {
            (true, _) => before.map(Running::name).or_else(|| running.clone()),
            (false, true) => before.map(Running::name),
            (false, false) => Some(image.name()),
        };
        Self { staged: armed.then(|| image.name()), wanted, running }
    }
}

impl DisplayPhase {
    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Draining => "draining",
            Self::Ordered => "ordered",
            Self::Applying => "applying",
            Self::Rebooting => "rebooting",
            Self::Verifying => "verifying",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::RolledBack => "rolled-back",
            Self::Released => "released",
            Self::Updated => "updated",
        }
    }

    /// Whether an admin has to look at the node.
    #[must_use]
    pub fn needs_attention(self) -> bool {
        matches!(self, Self::Held | Self::Failed | Self::Unreachable | Self::RolledBack)
    }
}

impl From<Phase> for DisplayPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Applying | Phase::Undoing => Self::Applying,
            Phase::Rebooting | Phase::RebootingBack => Self::Rebooting,
            Phase::Verifying | Phase::VerifyingOld => Self::Verifying,
            Phase::Held => Self::Held,
            Phase::Updated => Self::Updated,
            Phase::RolledBack => Self::RolledBack,
            Phase::Released => Self::Released,
        }
    }
}

/// Joins what is known of a node.
///
/// `agent` is none where it was not asked, an error where it did not answer. `booted_ms` is when the node last
/// booted, as far as Slurm or the agent say, in milliseconds since 1970.
#[must_use]
pub fn join(
    node: &str,
    rollout: &str,
    record: &NodeRecord,
    agent: Option<Result<&AgentStatus, &str>>,
    slurm: Option<&NodeInfo>,
    booted_ms: Option<u64>,
) -> NodeStatus {
    let mut status = NodeStatus {
        node: node.to_owned(),
        rollout: rollout.to_owned(),
        phase: DisplayPhase::Staged,
        since_ms: record.since_ms,
        slurm_state: slurm.map(NodeInfo::state_text),
        boot_id: agent.and_then(Result::ok).map(|agent| agent.boot_id.clone()),
        note: record.why.clone(),
        images: None,
    };
    let answer = agent.and_then(Result::ok).and_then(|agent| agent.order.as_ref());
    // The agent knows best, as long as it speaks of the order that the journal speaks of. That it has the order also
    // holds where its answer to it was lost on the way.
    if let Some(order) = answer.filter(|order| record.order.as_ref() == Some(&order.id)) {
        status.phase = order.phase.into();
        status.since_ms = order.since_s.saturating_mul(1000);
        status.note.clone_from(&order.error);
        if let Phase::Undoing | Phase::RebootingBack | Phase::VerifyingOld = order.phase {
            status.note = Some(reason::going_back(order.error.as_deref()));
        }
        // Proven by us, and still not what slurm.conf says of it: less memory, another GPU. Slurm never takes it back.
        if let Some(info) = slurm.filter(|info| order.phase == Phase::Updated && info.has("INVALID_REG")) {
            let why = reason::cause(info.reason.as_deref());
            status.phase = DisplayPhase::Failed;
            status.note = Some(format!("Slurm refuses its registration: {why}"));
        }
        return status;
    }
    // It refuses every order, and its gate is shut.
    if let Some(trouble) = agent.and_then(Result::ok).and_then(|agent| agent.trouble.as_ref()) {
        status.phase = match record.progress {
            Progress::Seen(phase) => phase.into(),
            _ => DisplayPhase::Failed,
        };
        status.note = Some(format!("agent: {trouble}"));
        return status;
    }
    let no_answer = agent.and_then(Result::err);
    match record.progress {
        Progress::Staged => {
            let requested = slurm.is_some_and(|node| node.has("REBOOT_REQUESTED"));
            status.phase = if requested { DisplayPhase::Draining } else { DisplayPhase::Staged };
            if booted_ms.is_some_and(|booted| booted > record.since_ms) {
                status.note = Some("not applied: the node rebooted without an order".to_owned());
            } else if agent.and_then(Result::ok).is_some_and(|agent| agent.staged.as_deref() == Some(rollout))
            {
                status.note = Some("its agent has it".to_owned());
            } else if record.delivered && no_answer.is_none() && agent.is_some() {
                status.note = Some("its agent no longer has it".to_owned());
            } else if let Some(why) = no_answer.filter(|_| !slurm.is_some_and(NodeInfo::is_handed_over)) {
                status.note = Some(format!("agent: {why}"));
            }
        }
        Progress::Refused => status.phase = DisplayPhase::Failed,
        Progress::Unreachable => status.phase = DisplayPhase::Unreachable,
        Progress::Seen(phase) => status.phase = phase.into(),
        Progress::Ordering { .. } | Progress::Ordered => {
            let gone = no_answer.is_some() && slurm.is_some_and(NodeInfo::is_handed_over);
            status.phase = if gone { DisplayPhase::Rebooting } else { DisplayPhase::Ordered };
            if let Some(why) = no_answer.filter(|_| !gone) {
                status.note = Some(format!("agent: {why}"));
            } else if answer.is_some() {
                status.note = Some("has had another order since: how this one ended was not seen".to_owned());
            } else if matches!(agent, Some(Ok(agent)) if agent.awaits) {
                status.phase = DisplayPhase::Rebooting;
                status.note = Some("has booted, and waits to be told what it should be".to_owned());
            } else if matches!(agent, Some(Ok(_))) {
                status.note = Some("its agent knows of no order: was the node reinstalled?".to_owned());
            }
        }
    }
    status
}

/// Nodes with the same rollout, phase and note, folded for a table in sinfo's manner.
#[must_use]
pub fn by_phase(nodes: &[NodeStatus]) -> Vec<(&str, DisplayPhase, NodeSet, Option<&str>)> {
    let mut groups: BTreeMap<(&str, DisplayPhase, Option<&str>), Vec<String>> = BTreeMap::new();
    for node in nodes {
        let key = (node.rollout.as_str(), node.phase, node.note.as_deref());
        groups.entry(key).or_default().push(node.node.clone());
    }
    let fold = |((rollout, phase, note), nodes): ((_, _, _), Vec<String>)| {
        (rollout, phase, NodeSet::from_iter(nodes), note)
    };
    groups.into_iter().map(fold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::answer::OrderStatus;
    use crate::protocol::order::OrderId;

    /// What the agent says.
    #[derive(Debug, Clone, Copy)]
    enum Agent {
        NotAsked,
        Silent,
        /// It never had an order.
        Idle,
        /// Of the order that the journal speaks of.
        At(Phase),
        /// Of another one.
        Other,
    }

    fn record(progress: Progress) -> NodeRecord {
        let order = (progress != Progress::Staged).then(|| OrderId::from_random(1));
        let why = match progress {
            Progress::Refused => Some("busy".to_owned()),
            Progress::Unreachable => Some("silence".to_owned()),
            Progress::Seen(Phase::Held) => Some("nhc".to_owned()),
            _ => None,
        };
        NodeRecord { order, why, ..NodeRecord::new(progress, 5000) }
    }

    fn agent(order: Option<(u128, Phase)>) -> AgentStatus {
        let order = order.map(|(id, phase)| OrderStatus {
            id: OrderId::from_random(id),
            rollout: Some("driver".to_owned()),
            phase,
            since_s: 7,
            error: (phase == Phase::Held || phase == Phase::Undoing).then(|| "nhc said no".to_owned()),
            changed: true,
            took_s: None,
        });
        AgentStatus {
            version: "0.1.0".into(),
            node: "n1".into(),
            boot_id: "boot-2".into(),
            uptime_s: 60,
            clock_s: None,
            order,
            ..AgentStatus::default()
        }
    }

    fn slurm(state: &str) -> NodeInfo {
        let state = state.split('+').map(str::to_owned).collect();
        NodeInfo { name: "n1".to_owned(), state, ..NodeInfo::default() }
    }

    fn joined(progress: Progress, by: Agent, state: &str, booted_ms: Option<u64>) -> NodeStatus {
        let answer = match by {
            Agent::NotAsked => None,
            Agent::Silent => Some(Err("timed out")),
            Agent::Idle => Some(Ok(agent(None))),
            Agent::At(phase) => Some(Ok(agent(Some((1, phase))))),
            Agent::Other => Some(Ok(agent(Some((2, Phase::Updated))))),
        };
        let slurm = (!state.is_empty()).then(|| slurm(state));
        let answer = answer.as_ref().map(|answer| answer.as_ref().map_err(|why| *why));
        join("n1", "driver", &record(progress), answer, slurm.as_ref(), booted_ms)
    }

    const REINSTALLED: &str = "its agent knows of no order: was the node reinstalled?";
    const BAD_REGISTRATION: &str = "Slurm refuses its registration: no reason is known";
    const OVERTAKEN: &str = "has had another order since: how this one ended was not seen";

    #[test]
    fn each_source_is_believed_where_it_knows_best() {
        use {Agent as A, DisplayPhase as W, Progress as S};
        let sending = S::Ordering { until_ms: 6000 };
        for (progress, agent, state, phase, note) in [
            // Staged: Slurm says whether the node drains.
            (S::Staged, A::NotAsked, "", W::Staged, ""),
            (S::Staged, A::Idle, "IDLE", W::Staged, ""),
            (S::Staged, A::Idle, "ALLOCATED+DRAIN+REBOOT_REQUESTED", W::Draining, ""),
            (S::Staged, A::Other, "IDLE", W::Staged, ""),
            (S::Staged, A::Silent, "IDLE", W::Staged, "agent: timed out"),
            (S::Staged, A::Silent, "", W::Staged, "agent: timed out"),
            (S::Staged, A::Silent, "DOWN+REBOOT_ISSUED", W::Staged, ""),
            // Sent or taken: the agent says where it stands.
            (sending, A::At(Phase::Applying), "DOWN+REBOOT_ISSUED", W::Applying, ""),
            (sending, A::Silent, "DOWN+REBOOT_ISSUED", W::Rebooting, ""),
            (sending, A::Idle, "DOWN+REBOOT_ISSUED", W::Ordered, REINSTALLED),
            (sending, A::NotAsked, "DOWN+REBOOT_ISSUED", W::Ordered, ""),
            (S::Ordered, A::NotAsked, "", W::Ordered, ""),
            (S::Ordered, A::Silent, "DOWN+DRAIN+REBOOT_ISSUED", W::Rebooting, ""),
            (S::Ordered, A::Silent, "IDLE", W::Ordered, "agent: timed out"),
            (S::Ordered, A::Silent, "", W::Ordered, "agent: timed out"),
            (S::Ordered, A::Idle, "IDLE", W::Ordered, REINSTALLED),
            (S::Ordered, A::Other, "IDLE", W::Ordered, OVERTAKEN),
            (S::Ordered, A::At(Phase::Applying), "DOWN", W::Applying, ""),
            (S::Ordered, A::At(Phase::Rebooting), "DOWN", W::Rebooting, ""),
            (S::Ordered, A::At(Phase::Verifying), "DOWN", W::Verifying, ""),
            (S::Ordered, A::At(Phase::Undoing), "DOWN", W::Applying, "going back: nhc said no"),
            (S::Ordered, A::At(Phase::RebootingBack), "DOWN", W::Rebooting, "going back: no reason is known"),
            (S::Ordered, A::At(Phase::VerifyingOld), "DOWN", W::Verifying, "going back: no reason is known"),
            (S::Ordered, A::At(Phase::Held), "IDLE+DRAIN", W::Held, "nhc said no"),
            (S::Ordered, A::At(Phase::Updated), "IDLE", W::Updated, ""),
            (
                S::Ordered,
                A::At(Phase::Updated),
                "DOWN+REBOOT_ISSUED+INVALID_REG",
                W::Failed,
                BAD_REGISTRATION,
            ),
            (S::Ordered, A::At(Phase::RolledBack), "IDLE", W::RolledBack, ""),
            (S::Ordered, A::At(Phase::Released), "IDLE", W::Released, ""),
            // The answer was lost on the way, and the order was not.
            (S::Unreachable, A::At(Phase::Applying), "DOWN+REBOOT_ISSUED", W::Applying, ""),
            (S::Unreachable, A::Silent, "DOWN+REBOOT_ISSUED", W::Unreachable, "silence"),
            (S::Unreachable, A::Idle, "DOWN+REBOOT_ISSUED", W::Unreachable, "silence"),
            (S::Refused, A::Other, "DOWN+REBOOT_ISSUED", W::Failed, "busy"),
            (S::Refused, A::Silent, "", W::Failed, "busy"),
            // Seen before; the agent may know more by now, or nothing any longer.
            (S::Seen(Phase::Updated), A::NotAsked, "", W::Updated, ""),
            (S::Seen(Phase::Updated), A::Silent, "DOWN", W::Updated, ""),
            (S::Seen(Phase::Updated), A::Other, "IDLE", W::Updated, ""),
            (S::Seen(Phase::Updated), A::Idle, "IDLE", W::Updated, ""),
            (S::Seen(Phase::Held), A::Silent, "DOWN", W::Held, "nhc"),
            (S::Seen(Phase::Held), A::At(Phase::Applying), "DOWN", W::Applying, ""),
            (S::Seen(Phase::RolledBack), A::Other, "IDLE", W::RolledBack, ""),
        ] {
            let status = joined(progress, agent, state, Some(4000));
            let what = format!("{progress:?} {agent:?} {state:?}");
            assert_eq!((status.phase, status.note.as_deref().unwrap_or("")), (phase, note), "{what}");
            assert_eq!(status.slurm_state.as_deref().unwrap_or(""), state, "{what}");
            let answered = matches!(agent, A::Idle | A::At(_) | A::Other);
            assert_eq!(status.boot_id.as_deref(), answered.then_some("boot-2"), "{what}");
            let since_ms = if matches!(agent, A::At(_)) { 7000 } else { 5000 };
            assert_eq!(status.since_ms, since_ms, "{what}");
            assert_eq!((status.node.as_str(), status.rollout.as_str()), ("n1", "driver"));
        }
    }

    #[test]
    fn a_node_that_rebooted_on_its_own_is_told_of() {
        for (agent, booted_ms, note) in [
            (Agent::Idle, Some(5001), Some("not applied: the node rebooted without an order")),
            (Agent::Silent, Some(5001), Some("not applied: the node rebooted without an order")),
            (Agent::Idle, Some(5000), None),
            (Agent::Idle, None, None),
        ] {
            let status = joined(Progress::Staged, agent, "IDLE", booted_ms);
            assert_eq!(
                (status.phase, status.note.as_deref()),
                (DisplayPhase::Staged, note),
                "{agent:?} {booted_ms:?}"
            );
        }
        assert_eq!(
            joined(Progress::Ordered, Agent::NotAsked, "IDLE", Some(9000)).note,
            None,
            "its order has it boot"
        );
    }

    #[test]
    fn a_foreign_clock_does_no_harm() {
        let mut odd = agent(Some((1, Phase::Updated)));
        odd.order.as_mut().unwrap().since_s = u64::MAX;
        let status = join("n1", "driver", &record(Progress::Ordered), Some(Ok(&odd)), None, None);
        assert_eq!(status.since_ms, u64::MAX);
    }

    #[test]
    fn an_agent_that_takes_no_order_is_shown_with_the_reason() {
        let trouble = AgentStatus { trouble: Some("order.json: is torn".to_owned()), ..agent(None) };
        for (progress, phase) in [
            (Progress::Staged, DisplayPhase::Failed),
            (Progress::Ordered, DisplayPhase::Failed),
            (Progress::Unreachable, DisplayPhase::Failed),
            (Progress::Seen(Phase::Updated), DisplayPhase::Updated),
        ] {
            let status = join("n1", "driver", &record(progress), Some(Ok(&trouble)), None, None);
            assert_eq!((status.phase, status.note.as_deref()), (phase, Some("agent: order.json: is torn")));
        }
    }

    #[test]
    fn nodes_with_the_same_fate_share_a_row() {
        let row = |node: &str, rollout: &str, phase, note: Option<&str>| NodeStatus {
            node: node.to_owned(),
            rollout: rollout.to_owned(),
            phase,
            since_ms: 0,
            slurm_state: None,
            boot_id: None,
            note: note.map(str::to_owned),
            images: None,
        };
        let nodes = [
            row("n10", "a", DisplayPhase::Updated, None),
            row("n1", "b", DisplayPhase::Held, None),
            row("n2", "a", DisplayPhase::Updated, None),
            row("n3", "a", DisplayPhase::Held, Some("nhc")),
            row("n4", "a", DisplayPhase::Held, Some("disk full")),
            row("n5", "a", DisplayPhase::Staged, None),
            row("n6", "a", DisplayPhase::Held, Some("nhc")),
        ];
        let rows: Vec<_> = by_phase(&nodes)
            .into_iter()
            .map(|(rollout, phase, nodes, note)| {
                format!("{rollout} {} {nodes} {}", phase.name(), note.unwrap_or("-"))
            })
            .collect();
        let expected = [
            "a staged n5 -",
            "a held n4 disk full",
            "a held n[3,6] nhc",
            "a updated n[2,10] -",
            "b held n1 -",
        ];
        assert_eq!(rows, expected);
        assert!(by_phase(&[]).is_empty());
    }

    #[test]
    fn words_are_the_same_in_tables_and_json() {
        let attention =
            [DisplayPhase::Held, DisplayPhase::Failed, DisplayPhase::Unreachable, DisplayPhase::RolledBack];
        for shown in [
            DisplayPhase::Staged,
            DisplayPhase::Draining,
            DisplayPhase::Ordered,
            DisplayPhase::Applying,
            DisplayPhase::Rebooting,
            DisplayPhase::Verifying,
            DisplayPhase::Held,
            DisplayPhase::Failed,
            DisplayPhase::Unreachable,
            DisplayPhase::RolledBack,
            DisplayPhase::Released,
            DisplayPhase::Updated,
        ] {
            assert_eq!(serde_json::to_string(&shown).unwrap(), format!("\"{}\"", shown.name()));
            assert_eq!(shown.needs_attention(), attention.contains(&shown), "{shown:?}");
        }
    }
}
