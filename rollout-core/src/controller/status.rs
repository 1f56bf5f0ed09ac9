//! The status of a node for display: journal, agents and Slurm joined to one line.

use super::lost_nodes;
use super::snapshot::RecordOf;
use super::view::{NodeView, ROUNDING_MS};
use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::protocol::answer::{AgentStatus, OrderStatus};
use crate::rollout::image::{Image, Running};
use crate::rollout::journal::{NodeRecord, Progress, Qualification, Restoration};
use crate::slurm::node::NodeInfo;
use crate::slurm::reason;
use crate::text::with_notes;
use serde::Serialize;
use std::collections::BTreeMap;

/// Phase of a node, in the words of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DisplayPhase {
    /// Waits for Slurm to hand the node over.
    Staged,
    /// Staged, and Slurm waits for the node's jobs.
    Draining,
    /// The order is being sent, or was accepted and nothing more is known.
    Ordered,
    /// The changes are being made or undone.
    Applying,
    /// On its way down or up.
    Rebooting,
    /// Up again, being proven.
    Verifying,
    /// Proven; slurmd starts, and Slurm has to accept the node.
    Registering,
    /// Out of service until an admin says `retry` or `release`.
    Held,
    /// The agent refused the order, or takes none at all.
    Failed,
    /// The agent did not answer.
    Unreachable,
    /// Accepted the order and did not come back.
    Lost,
    /// Given back as it was before.
    RolledBack,
    /// Given back on an admin's word.
    Released,
    /// Has moved on to a later order; the end of this one was not seen.
    Superseded,
    /// Given back as it was staged.
    Updated,
}

/// One node of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// NodeName.
    pub node: String,
    pub rollout: String,
    pub phase: DisplayPhase,
    /// Start of the phase, in milliseconds since 1970.
    pub since_ms: u64,
    /// `None` if Slurm could not be asked.
    pub slurm_state: Option<String>,
    /// `None` if its agent did not answer.
    pub boot_id: Option<String>,
    /// The failure, or the event being waited for.
    pub note: Option<String>,
    /// State of the rollout. `None` if it was not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conduct: Option<&'static str>,
    /// `None` unless the rollout changes an image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Images>,
}

/// Images of a node in a rollout, as people name them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Images {
    /// The image that it gets at the hand-over. `None` once it has been ordered.
    pub staged: Option<String>,
    /// The image that it should be running now, if known.
    pub wanted: Option<String>,
    /// The image that it reports. `None` if its agent did not answer.
    pub running: Option<String>,
}

impl Images {
    /// Returns the images of a node, by its journal and its agent.
    #[must_use]
    pub fn of(image: &Image, record: &NodeRecord, agent: Option<&AgentStatus>) -> Self {
        let change = record.boot_change.as_ref();
        let armed = matches!(record.progress, Progress::Staged | Progress::Refused | Progress::Unreachable);
        let before = change.and_then(|change| change.before.running.as_ref());
        let gone_back = matches!(record.progress, Progress::Seen(Phase::RolledBack | Phase::Held))
            || change.is_some_and(|change| matches!(change.restoration, Restoration::Done { .. }));
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
    /// Returns the word for people and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Draining => "draining",
            Self::Ordered => "ordered",
            Self::Applying => "applying",
            Self::Rebooting => "rebooting",
            Self::Verifying => "verifying",
            Self::Registering => "registering",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
            Self::RolledBack => "rolled-back",
            Self::Lost => "lost",
            Self::Released => "released",
            Self::Superseded => "superseded",
            Self::Updated => "updated",
        }
    }

    /// Returns whether an admin has to look at the node.
    #[must_use]
    pub fn needs_attention(self) -> bool {
        matches!(self, Self::Held | Self::Failed | Self::Unreachable | Self::Lost | Self::RolledBack)
    }
}

impl From<Phase> for DisplayPhase {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Applying | Phase::Undoing => Self::Applying,
            Phase::Rebooting | Phase::RebootingBack => Self::Rebooting,
            Phase::Verifying | Phase::VerifyingOld => Self::Verifying,
            Phase::Registering => Self::Registering,
            Phase::Held => Self::Held,
            Phase::Updated => Self::Updated,
            Phase::RolledBack => Self::RolledBack,
            Phase::Released => Self::Released,
        }
    }
}

/// Returns the status of a node in a rollout.
#[must_use]
pub fn of_node(node: NodeView<'_>, of: RecordOf<'_>) -> NodeStatus {
    let record = of.record;
    let mut status = NodeStatus {
        node: node.name.to_owned(),
        rollout: of.rollout_id().unwrap_or_default().to_owned(),
        phase: recorded_phase(record),
        since_ms: record.since_ms,
        slurm_state: node.slurm().map(NodeInfo::state_text),
        boot_id: node.agent().map(|agent| agent.boot_id.clone()),
        note: record.note(),
        conduct: of.rollout.and_then(|rollout| rollout.conduct.state.name()),
        images: of.rollout.and_then(|rollout| Some(Images::of(rollout.image()?, record, node.agent()))),
    };
    // The agent knows best about the order that the journal is about, even if its answer to that order was lost.
    if let Some(report) = node.report_on(of) {
        by_report(&mut status, report);
    } else if let Some(trouble) = node.agent().and_then(|agent| agent.trouble.as_ref()) {
        // It refuses every order, and its gate is shut.
        if !matches!(record.progress, Progress::Seen(_)) {
            status.phase = DisplayPhase::Failed;
        }
        status.note = Some(format!("agent: {trouble}"));
    } else {
        match record.progress {
            Progress::Staged => of_staged(&mut status, node, of),
            Progress::Ordering { .. } | Progress::Ordered => of_ordered(&mut status, node, of),
            _ => {}
        }
    }
    // It is proven, and still differs from slurm.conf: less memory, another GPU. Slurm never takes it back.
    let is_refused = |info: &&NodeInfo| status.phase == DisplayPhase::Updated && info.has("INVALID_REG");
    if let Some(info) = node.slurm().filter(is_refused) {
        let why = reason::cause(info.reason.as_deref());
        status.phase = DisplayPhase::Failed;
        status.note = Some(format!("Slurm refuses its registration: {why}"));
    }
    let of_qualification = record.qualification.as_ref().and_then(Qualification::note);
    for note in of_qualification.into_iter().chain(record.hook_note()) {
        status.note = Some(match status.note {
            Some(before) => format!("{before}; {note}"),
            None => note,
        });
    }
    if let Some(drain) = node.snapshot().drains.get(node.name) {
        let by = drain.by.as_deref().unwrap_or("somebody");
        let fate = match drain.cleared_by_reboot {
            true => "until a reboot with nextstate=resume",
            false => "and stays so",
        };
        let drained = format!("drained by {by}, {fate}: {}", drain.reason);
        status.note = Some(status.note.map_or(drained.clone(), |note| format!("{note}; {drained}")));
    }
    status
}

/// Returns whether the node's agent may know of another phase than the journal: an order may be under way, or its answer
/// was lost. With slurmd as the caller of RebootProgram, an agent that has the order beforehand begins on its own.
#[must_use]
pub fn may_have_moved_on(record: &NodeRecord) -> bool {
    match record.progress {
        Progress::Staged => record.pre_staged || record.ordering_ms.is_some(),
        Progress::Seen(phase) => !phase.is_settled(),
        Progress::Superseded | Progress::Covered => false,
        Progress::Ordering { .. }
        | Progress::Ordered
        | Progress::Refused
        | Progress::Unreachable
        | Progress::Lost => true,
    }
}

/// Returns the phase that the journal alone gives.
#[must_use]
pub fn recorded_phase(record: &NodeRecord) -> DisplayPhase {
    match record.progress {
        Progress::Staged => DisplayPhase::Staged,
        Progress::Ordering { .. } | Progress::Ordered | Progress::Covered => DisplayPhase::Ordered,
        Progress::Refused => DisplayPhase::Failed,
        Progress::Unreachable => DisplayPhase::Unreachable,
        Progress::Seen(phase) => phase.into(),
        Progress::Lost => DisplayPhase::Lost,
        Progress::Superseded => DisplayPhase::Superseded,
    }
}

fn by_report(status: &mut NodeStatus, report: &OrderStatus) {
    status.phase = report.phase.into();
    status.since_ms = report.since_s.saturating_mul(1000);
    let failure = match report.phase {
        Phase::Undoing | Phase::RebootingBack | Phase::VerifyingOld => {
            Some(reason::going_back(report.error.as_deref()))
        }
        _ => report.error.clone(),
    };
    status.note = with_notes(failure.as_deref(), &report.notes);
}

fn of_staged(status: &mut NodeStatus, node: NodeView<'_>, of: RecordOf<'_>) {
    if node.slurm().is_some_and(|info| info.has("REBOOT_REQUESTED")) {
        status.phase = DisplayPhase::Draining;
    }
    let silence = node.answer().and_then(Result::err);
    let holds_it = node.agent().is_some_and(|agent| agent.staged.as_deref() == of.rollout_id());
    if node.booted_ms().is_some_and(|booted| booted > of.record.since_ms.saturating_add(ROUNDING_MS)) {
        status.note = Some("not applied: the node rebooted without an order".to_owned());
    } else if of.record.cancelled {
        status.note = of.rollout.map(|rollout| {
            let id = &rollout.id;
            format!("its reboot was cancelled in Slurm; `slurm-rollout resume {id}` requests it again")
        });
    } else if of.record.kept_out.is_some() {
        status.note = Some("drained until it is updated".to_owned());
    } else if of.record.reserved && of.record.request.is_some() {
        status.note = Some("reserved from the end of its jobs".to_owned());
    } else if holds_it {
        status.note = Some("its agent has it".to_owned());
    } else if of.record.pre_staged && node.agent().is_some() {
        status.note = Some("its agent no longer has it".to_owned());
    } else if let Some(why) = silence.filter(|_| !node.slurm().is_some_and(NodeInfo::is_handed_over)) {
        status.note = Some(format!("agent: {why}"));
    }
}

fn of_ordered(status: &mut NodeStatus, node: NodeView<'_>, of: RecordOf<'_>) {
    match node.answer() {
        None => {}
        Some(Err(why)) => {
            if let Some(why) = lost_nodes::lost(node, of) {
                (status.phase, status.note) = (DisplayPhase::Lost, Some(why));
            } else if node.slurm().is_some_and(NodeInfo::is_handed_over) {
                status.phase = DisplayPhase::Rebooting;
            } else {
                status.note = Some(format!("agent: {why}"));
            }
        }
        Some(Ok(agent)) if agent.order.is_some() => {
            status.note = Some("has had another order since: how this one ended was not seen".to_owned());
        }
        Some(Ok(agent)) if agent.awaits => {
            status.phase = DisplayPhase::Rebooting;
            status.note = Some("has booted, and waits to be told what it should be".to_owned());
        }
        Some(Ok(_)) => {
            status.note = Some("its agent knows of no order: was the node reinstalled?".to_owned());
        }
    }
}

/// Groups nodes by rollout, phase and note, for a table in sinfo's manner.
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
mod tests;
