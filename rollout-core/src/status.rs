//! Journal, agents and Slurm joined to the one line that a person is shown for a node.

use crate::agent_api::AgentStatus;
use crate::hostlist::NodeSet;
use crate::journal::{NodeRecord, Stand};
use crate::phase::Phase;
use crate::slurm::NodeInfo;
use serde::Serialize;
use std::collections::BTreeMap;

/// Where a node stands, in the words of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
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
    /// The agent refused the order.
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
    pub phase: Shown,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// Slurm's state, none if Slurm could not be asked.
    pub slurm_state: Option<String>,
    /// The node's boot id, none if its agent did not answer.
    pub boot_id: Option<String>,
    /// What a person should know: what failed, or what is being waited for.
    pub note: Option<String>,
}

impl Shown {
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

impl From<Phase> for Shown {
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
        phase: Shown::Staged,
        since_ms: record.since_ms,
        slurm_state: slurm.map(NodeInfo::state_text),
        boot_id: agent.and_then(Result::ok).map(|agent| agent.boot_id.clone()),
        note: record.why.clone(),
    };
    let answer = agent.and_then(Result::ok).and_then(|agent| agent.order.as_ref());
    // The agent knows best, as long as it speaks of the order that the journal speaks of. That it has the order also
    // holds where its answer to it was lost on the way.
    if let Some(order) = answer.filter(|order| record.order.as_ref() == Some(&order.id)) {
        status.phase = order.phase.into();
        status.since_ms = order.since_s * 1000;
        status.note.clone_from(&order.error);
        if let Phase::Undoing | Phase::RebootingBack | Phase::VerifyingOld = order.phase {
            status.note =
                Some(format!("going back: {}", order.error.as_deref().unwrap_or("no reason is known")));
        }
        return status;
    }
    let no_answer = agent.and_then(Result::err);
    match record.stand {
        Stand::Staged => {
            let requested = slurm.is_some_and(|node| node.has("REBOOT_REQUESTED"));
            status.phase = if requested { Shown::Draining } else { Shown::Staged };
            if booted_ms.is_some_and(|booted| booted > record.since_ms) {
                status.note = Some("not applied: the node rebooted without an order".to_owned());
            } else if let Some(why) = no_answer.filter(|_| !slurm.is_some_and(NodeInfo::is_handed_over)) {
                status.note = Some(format!("agent: {why}"));
            }
        }
        Stand::Refused => status.phase = Shown::Failed,
        Stand::Unreachable => status.phase = Shown::Unreachable,
        Stand::Seen(phase) => status.phase = phase.into(),
        Stand::Ordering { .. } | Stand::Ordered => {
            let gone = no_answer.is_some() && slurm.is_some_and(NodeInfo::is_handed_over);
            status.phase = if gone { Shown::Rebooting } else { Shown::Ordered };
            if let Some(why) = no_answer.filter(|_| !gone) {
                status.note = Some(format!("agent: {why}"));
            } else if answer.is_some() {
                status.note = Some("has had another order since: how this one ended was not seen".to_owned());
            } else if agent.is_some() {
                status.note = Some("its agent knows of no order: was the node reinstalled?".to_owned());
            }
        }
    }
    status
}

/// Nodes with the same rollout, phase and note, folded for a table in sinfo's manner.
#[must_use]
pub fn by_phase(nodes: &[NodeStatus]) -> Vec<(&str, Shown, NodeSet, Option<&str>)> {
    let mut groups: BTreeMap<(&str, Shown, Option<&str>), Vec<String>> = BTreeMap::new();
    for node in nodes {
        let key = (node.rollout.as_str(), node.phase, node.note.as_deref());
        groups.entry(key).or_default().push(node.node.clone());
    }
    let fold = |((rollout, phase, note), nodes): ((_, _, _), Vec<String>)| {
        (rollout, phase, NodeSet::from_iter(nodes), note)
    };
    groups.into_iter().map(fold).collect()
}
