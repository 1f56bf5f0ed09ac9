//! The steps that are due for nodes whose order was sent: recording how it goes, restoring boot sources, and
//! instructing nodes that kept no ledger over their boot.
//!
//! Agents only answer, so the controller has to look. Evidence decides: the order that the agent reports, its boot id,
//! and whether it awaits instructions. The journal's last line only says which orders may be out there. If neither is
//! conclusive, no gate is opened.

mod instruction;

pub use instruction::{Instruction, may_be_expected};

use super::lost_nodes;
use super::snapshot::{RecordOf, Snapshot};
use super::view::{NodeView, booted_ms};
use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::protocol::answer::{AgentStatus, OrderStatus};
use crate::protocol::order::OrderId;
use crate::rollout::image::DEFAULT_BOOT_TIMEOUT_S;
use crate::rollout::journal::{BootChange, Entry, NodeRecord, Progress, Restoration};
use crate::slurm::node::NodeInfo;

/// Time for which a plain reboot is followed up. Slurm gives up on it by itself.
const PLAIN_REBOOT_MS: u64 = 60 * 60 * 1000;

/// One step that is due for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FollowUp {
    /// `None` for a plain reboot.
    pub rollout: Option<String>,
    /// The order that the step refers to. `None` only in an instruction that no journal knows.
    pub order: Option<OrderId>,
    pub step: Step,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Record an outcome.
    Record(Outcome),
    /// Restore the boot source.
    RestoreBoot { why: String, then: AfterRestoring },
    /// Tell the agent, which waits for it, that its boot source is restored.
    TellBootRestored,
    /// Instruct the agent, which awaits it.
    Instruct(Instruction),
}

/// An outcome of an order. Nodes with the same outcome share a line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The agent has the order, although its answer was lost.
    Accepted { volatile: bool },
    /// The agent has the rollout under an earlier order, whose answer was lost.
    UnderWay { under_way: OrderId, volatile: bool },
    /// The agent carries out the order of a held node once more.
    Retried,
    /// The order ended, or the agent holds the node.
    Ended { phase: Phase, error: Option<String>, notes: Vec<String> },
    /// The node did not come back.
    Lost { why: String },
    /// The node has moved on.
    Superseded { why: String },
}

/// The step after a boot source is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AfterRestoring {
    Nothing,
    /// The agent waits for it.
    TellAgent,
    /// The node did not come back, and only Slurm can show it.
    TellSlurm,
    /// The order is not carried out: the node waits for the rollout as before.
    StageAgain,
}

impl Outcome {
    /// Returns the outcome for a report about an order that has ended, or is held.
    #[must_use]
    pub fn ended(report: &OrderStatus) -> Self {
        Self::Ended { phase: report.phase, error: report.error.clone(), notes: report.notes.clone() }
    }

    /// Returns the line of the journal. `None` if the outcome is of an order, and there was none.
    #[must_use]
    pub fn entry(self, nodes: NodeSet, order: Option<OrderId>) -> Option<Entry> {
        let Some(order) = order else {
            // A rollout can be superseded before its first order.
            let Self::Superseded { why } = self else { return None };
            return Some(Entry::Superseded { nodes, order: None, why });
        };
        Some(match self {
            Self::Accepted { volatile } => Entry::Ordered { nodes, order, volatile },
            Self::UnderWay { under_way, volatile } => {
                Entry::UnderWay { nodes, order, under_way: Some(under_way), volatile }
            }
            Self::Retried => Entry::Retried { nodes, order },
            Self::Ended { phase, error, notes } => Entry::Seen { nodes, order, phase, error, notes },
            Self::Lost { why } => Entry::Lost { nodes, order, why },
            Self::Superseded { why } => Entry::Superseded { nodes, order: Some(order), why },
        })
    }
}

/// Returns the nodes whose agents must be asked. With `urgent`, only nodes that wait for a step of the controller: the
/// others are merely observed.
#[must_use]
pub fn nodes(snapshot: &Snapshot, now_ms: u64, urgent: bool) -> NodeSet {
    let wanted = |name: &str| {
        let mut records = snapshot.all_records(name);
        records.any(|of| needs_follow_up(snapshot, name, of, now_ms) && (!urgent || is_urgent(of.record)))
    };
    let all = snapshot.nodes();
    all.iter().filter(|name| wanted(name)).map(str::to_owned).collect()
}

/// Returns the nodes that have an order and, as Slurm reports, are back from their reboot: it has likely ended. A node
/// whose agent holds the order in advance may have it once Slurm no longer shows its request.
#[must_use]
pub fn returned(snapshot: &Snapshot, slurm: &[NodeInfo]) -> NodeSet {
    let may_have_order = |info: &&NodeInfo| {
        let mut records = snapshot.all_records(&info.name);
        let is_requested = info.has("REBOOT_REQUESTED");
        records.any(|RecordOf { record, .. }| {
            record.progress == Progress::Ordered
                || record.pre_staged && record.request.is_some() && !is_requested
        })
    };
    let back = slurm.iter().filter(|info| !info.is_handed_over() && !info.has("DOWN"));
    back.filter(may_have_order).map(|info| info.name.clone()).collect()
}

/// Returns whether the node needs steps of the controller before its order can end.
#[must_use]
pub fn is_urgent(record: &NodeRecord) -> bool {
    record.volatile || record.boot_change.is_some()
}

fn needs_follow_up(snapshot: &Snapshot, node: &str, of: RecordOf<'_>, now_ms: u64) -> bool {
    let record = of.record;
    if of.rollout.is_none() && record.since_ms.saturating_add(PLAIN_REBOOT_MS) < now_ms {
        return false;
    }
    let open = match record.progress {
        Progress::Ordered | Progress::Lost | Progress::Seen(Phase::Held) => true,
        Progress::Unreachable | Progress::Ordering { .. } => true,
        // slurmd may have had the node rebooted, with an order that the controller never sent.
        Progress::Staged if record.pre_staged => true,
        Progress::Staged | Progress::Refused => newer_owner(snapshot, node, of).is_some(),
        Progress::Covered | Progress::Seen(_) | Progress::Superseded => false,
    };
    open || record.unsettled_boot_change().is_some()
}

/// Returns whether the node is on its way, so that a look in a moment is worth it.
#[must_use]
pub fn is_on_its_way(of: RecordOf<'_>, now_ms: u64) -> bool {
    let record = of.record;
    let since_ms = match record.boot_change.as_ref().map(|change| &change.restoration) {
        Some(Restoration::Done { at_ms, .. }) => (*at_ms).max(record.since_ms),
        _ => record.since_ms,
    };
    let under_way = record.progress == Progress::Ordered || record.progress.is_outcome_unknown(now_ms);
    is_urgent(record)
        && (under_way && now_ms <= since_ms.saturating_add(boot_timeout_ms(of)) || record.is_claimed(now_ms))
}

/// Returns the steps that are due for a node whose agent was asked.
#[must_use]
pub fn due(node: NodeView<'_>) -> Vec<FollowUp> {
    let now_ms = node.now_ms();
    let step = |of: RecordOf<'_>| {
        let step = due_for(node, of)?;
        Some(FollowUp { rollout: of.rollout_id().map(str::to_owned), order: of.record.order.clone(), step })
    };
    let open = |of: &RecordOf<'_>| needs_follow_up(node.snapshot(), node.name, *of, now_ms);
    let mut due: Vec<FollowUp> = node.records().filter(open).filter_map(step).collect();
    // Another step about the same node comes first: it may change the instruction.
    if due.is_empty() {
        due.extend(instruction::due(node));
    }
    due
}

fn due_for(node: NodeView<'_>, of: RecordOf<'_>) -> Option<Step> {
    if of.record.is_claimed(node.now_ms()) {
        return None;
    }
    if let Some(why) = superseded_by_staging(node, of) {
        return Some(Step::Record(Outcome::Superseded { why }));
    }
    let Some(agent) = node.agent() else { return due_in_silence(node, of) };
    // An agent that reports an order from before one whose end is recorded has lost its ledger.
    let ended = matches!(of.record.progress, Progress::Seen(_) | Progress::Superseded);
    let report = node.report_on(of).filter(|report| !ended || of.record.order.as_ref() == Some(&report.id));
    match report {
        Some(report) => due_by_report(of, agent, report),
        None if agent.awaits => None,
        None => due_without_report(node, of, agent),
    }
}

/// A rollout over which another one was staged never applies again. An order that may have been taken still ends.
fn superseded_by_staging(node: NodeView<'_>, of: RecordOf<'_>) -> Option<String> {
    let record = of.record;
    let newer = newer_owner(node.snapshot(), node.name, of)?;
    let never_taken = match record.progress {
        Progress::Staged => !record.pre_staged,
        Progress::Refused => true,
        _ => false,
    };
    let superseded = record.progress.is_pending()
        && record.unsettled_boot_change().is_none()
        && node.report_on(of).is_none()
        && (never_taken || node.agent().is_some_and(|agent| !agent.awaits));
    superseded.then(|| format!("{newer} was staged after it"))
}

/// Returns the rollout that was staged for the node after this one.
fn newer_owner<'a>(snapshot: &'a Snapshot, node: &'a str, of: RecordOf<'_>) -> Option<&'a str> {
    of.rollout?;
    snapshot.owner(node)?.rollout_id().filter(|owner| Some(*owner) != of.rollout_id())
}

fn due_in_silence(node: NodeView<'_>, of: RecordOf<'_>) -> Option<Step> {
    let (record, now_ms) = (of.record, node.now_ms());
    let overdue = |change: &&BootChange| now_ms > change.since_ms.saturating_add(boot_timeout_ms(of));
    if record.unsettled_boot_change().filter(overdue).is_some() {
        return Some(match record.progress {
            Progress::Ordered | Progress::Lost | Progress::Seen(Phase::Held) => {
                restore_boot("the node was not back in time", AfterRestoring::TellSlurm)
            }
            // The agent may have taken the order and hang in the boot. In that case it stays unproven, and its gate
            // shut.
            _ => restore_boot("the order was not taken", AfterRestoring::Nothing),
        });
    }
    lost_nodes::lost(node, of).map(|why| Step::Record(Outcome::Lost { why }))
}

fn due_by_report(of: RecordOf<'_>, agent: &AgentStatus, report: &OrderStatus) -> Option<Step> {
    let record = of.record;
    let volatile = agent.volatile;
    if record.order.is_none() {
        return due_for_boot_owner(record, report);
    }
    if record.order.as_ref() != Some(&report.id) {
        let under_way = report.id.clone();
        return Some(Step::Record(Outcome::UnderWay { under_way, volatile }));
    }
    if report.phase.has_ended() {
        return due_at_end(record, report);
    }
    match record.progress {
        // It had come to rest, and goes on.
        Progress::Seen(Phase::Held) | Progress::Superseded => {
            return Some(Step::Record(Outcome::Retried));
        }
        Progress::Seen(_) => return None,
        Progress::Ordered => {}
        _ => return Some(Step::Record(Outcome::Accepted { volatile })),
    }
    match (report.phase, &record.boot_change) {
        (Phase::Undoing, Some(_)) if record.unsettled_boot_change().is_some() => {
            let why = report.error.as_deref().unwrap_or("the rollout is undone");
            Some(restore_boot(why, AfterRestoring::TellAgent))
        }
        (Phase::Undoing, Some(_)) => Some(Step::TellBootRestored),
        _ => None,
    }
}

/// Returns the step for a node that waits for the rollout again, while its boot source still belongs to an earlier
/// order. An image that this order has proven is left to the next one.
fn due_for_boot_owner(record: &NodeRecord, report: &OrderStatus) -> Option<Step> {
    record.unsettled_boot_change().filter(|change| change.order == report.id)?;
    match report.phase {
        Phase::Undoing => Some(restore_boot("the rollout is undone", AfterRestoring::TellAgent)),
        Phase::Held | Phase::RolledBack | Phase::Released => {
            Some(restore_boot(&format!("the node is {}", report.phase.name()), AfterRestoring::Nothing))
        }
        _ => None,
    }
}

fn due_at_end(record: &NodeRecord, report: &OrderStatus) -> Option<Step> {
    let phase = report.phase;
    if record.progress != Progress::Seen(phase) && !record.has_settled_order() {
        return Some(Step::Record(Outcome::ended(report)));
    }
    // Every change of a boot source ends proven or restored.
    record.unsettled_boot_change()?;
    Some(restore_boot(&format!("the node is {}", phase.name()), AfterRestoring::Nothing))
}

fn due_without_report(node: NodeView<'_>, of: RecordOf<'_>, agent: &AgentStatus) -> Option<Step> {
    const UNKNOWN: &str = "it has booted, and its agent knows nothing of the order";
    let record = of.record;
    let under_way = matches!(record.progress, Progress::Ordered | Progress::Lost);
    if let Some(change) = record.unsettled_boot_change() {
        return Some(match change.has_booted_since(&agent.boot_id) {
            true if under_way => restore_boot(UNKNOWN, AfterRestoring::StageAgain),
            true => restore_boot(UNKNOWN, AfterRestoring::Nothing),
            false if under_way => restore_boot("its agent has another order", AfterRestoring::Nothing),
            false => restore_boot("the order was not taken", AfterRestoring::Nothing),
        });
    }
    if !under_way && record.progress != Progress::Seen(Phase::Held) {
        return None;
    }
    if agent.order.is_some() {
        let why = "has had another order since: how this one ended was not seen".to_owned();
        return Some(Step::Record(Outcome::Superseded { why }));
    }
    let booted = record.ordering_ms.is_some_and(|ordered_ms| booted_ms(agent, node.now_ms()) > ordered_ms);
    match (of.rollout, record.progress) {
        // Its ledger had the order until it booted, and its gate has opened without us.
        (None, Progress::Ordered) if booted => {
            Some(Step::Record(Outcome::Ended { phase: Phase::Updated, error: None, notes: Vec::new() }))
        }
        (Some(_), Progress::Ordered) if booted => {
            let why = "its agent knows of no order: was the node reinstalled?".to_owned();
            Some(Step::Record(Outcome::Lost { why }))
        }
        _ => None,
    }
}

fn restore_boot(why: &str, then: AfterRestoring) -> Step {
    Step::RestoreBoot { why: why.to_owned(), then }
}

/// Returns the time that the node's boot may take.
fn boot_timeout_ms(of: RecordOf<'_>) -> u64 {
    let limit = of.rollout.and_then(|rollout| rollout.image()).map(|image| image.boot_timeout.get());
    limit.map_or(DEFAULT_BOOT_TIMEOUT_S * 1000, |limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
