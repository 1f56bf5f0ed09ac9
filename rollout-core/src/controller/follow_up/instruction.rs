//! The instruction for a node that has booted, keeps no ledger, and holds slurmd down until it learns which system it
//! must be.
//!
//! The default is no instruction: the gate stays shut. A plain one, which opens the gate without a proof, is given only
//! if nothing that is known allows that the node booted from a rollout's image.

use super::FollowUp;
use super::Step;
use crate::agent::phase::Phase;
use crate::controller::snapshot::RecordOf;
use crate::controller::view::NodeView;
use crate::protocol::answer::AgentStatus;
use crate::rollout::image::Running;
use crate::rollout::journal::{NodeRecord, Progress, Restoration};
use crate::slurm::node::NodeInfo;

/// The ledger that the node would have found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// `rebooting`, `rebooting-back` or `held`.
    pub phase: Phase,
    pub error: Option<String>,
    /// The kernel's boot id before the boot. Empty if unknown.
    pub boot_id: String,
    /// Time of the order, in seconds since 1970.
    pub ordered_s: Option<u64>,
    /// The system that the node was running at that time.
    pub running: Option<Running>,
}

impl Instruction {
    /// A reboot of which nothing is known.
    fn unknown_reboot() -> Self {
        Self { phase: Phase::Rebooting, error: None, boot_id: String::new(), ordered_s: None, running: None }
    }

    fn of(record: &NodeRecord, phase: Phase, error: Option<String>) -> Self {
        let change = record.boot_change.as_ref();
        Self {
            phase,
            error,
            boot_id: change.map(|change| change.boot_id.clone()).unwrap_or_default(),
            ordered_s: record.ordering_ms.map(|ms| ms / 1000),
            running: change.and_then(|change| change.before.running.clone()),
        }
    }
}

/// Returns the instruction that is due for a node.
pub(super) fn due(node: NodeView<'_>) -> Option<FollowUp> {
    let agent = node.agent().filter(|agent| agent.awaits)?;
    if node.records().any(|of| of.record.is_claimed(node.now_ms())) {
        return None;
    }
    if node.snapshot().is_in_unreadable(node.name) {
        return None;
    }
    let mut rollouts: Vec<RecordOf<'_>> =
        node.records().filter(|of| of.rollout.is_some() && !of.record.is_settled()).collect();
    // An order that was taken, or changed the boot source, explains the boot better than one of an unknown outcome.
    let is_known = |record: &NodeRecord| is_under_way(record) || record.boot_change.is_some();
    rollouts.sort_by_key(|of| std::cmp::Reverse((is_known(of.record), of.record.ordering_ms)));
    for of in rollouts {
        match for_rollout(of, agent, node.now_ms()) {
            Expected::Nothing => {}
            Expected::Unknown => return None,
            Expected::Instruction(instruction) => {
                let change = of.record.boot_change.as_ref();
                let order = of.record.order.clone().or_else(|| Some(change?.order.clone()));
                let rollout = of.rollout_id().map(str::to_owned);
                return Some(FollowUp { rollout, order, step: Step::Instruct(instruction) });
            }
        }
    }
    plain(node)
}

/// The expectation of one rollout of a node that has booted.
enum Expected {
    /// It expects nothing of this boot.
    Nothing,
    /// Something, but not yet known what: the gate stays shut.
    Unknown,
    Instruction(Instruction),
}

/// Returns whether the agent is known to have taken the order.
fn is_under_way(record: &NodeRecord) -> bool {
    matches!(record.progress, Progress::Ordered | Progress::Lost | Progress::Seen(Phase::Held))
}

fn for_rollout(of: RecordOf<'_>, agent: &AgentStatus, now_ms: u64) -> Expected {
    let record = of.record;
    let instruct = |phase, error| Expected::Instruction(Instruction::of(record, phase, error));
    if record.progress == Progress::Seen(Phase::Held) {
        return instruct(Phase::Held, record.why.clone());
    }
    let Some(change) = &record.boot_change else {
        return match is_under_way(record) || may_have_changed_the_node(of, now_ms) {
            true => instruct(Phase::Rebooting, None),
            false => Expected::Nothing,
        };
    };
    match &change.restoration {
        // It has booted since, so it runs the rollout's image, or may: proof decides.
        Restoration::No | Restoration::Claimed { .. } if change.may_be_running(&agent.boot_id) => {
            instruct(Phase::Rebooting, None)
        }
        // It has not booted since. The order may still come.
        Restoration::No | Restoration::Claimed { .. } => Expected::Unknown,
        Restoration::Done { why, .. } => {
            let as_before = change.before.running.is_some() && change.before.running == agent.running;
            match !is_under_way(record) && (as_before || !change.may_be_running(&agent.boot_id)) {
                true => Expected::Nothing,
                // It goes back, or it was restored too late for this boot, or that is unknown.
                false => instruct(Phase::RebootingBack, Some(why.clone())),
            }
        }
    }
}

/// Returns whether the agent may have taken an order that changes the node without the controller's help. A boot source
/// is changed in the journal before its order is sent.
fn may_have_changed_the_node(of: RecordOf<'_>, now_ms: u64) -> bool {
    let record = of.record;
    let may_be_taken = record.progress.is_outcome_unknown(now_ms)
        || record.progress == Progress::Staged && record.pre_staged;
    may_be_taken
        && of.rollout.and_then(|rollout| rollout.image()).is_none_or(|image| !image.via.is_on_controller())
}

/// Returns the instruction to open the gate after a plain reboot.
fn plain(node: NodeView<'_>) -> Option<FollowUp> {
    let plain = node.records().find(|of| of.rollout.is_none() && !of.record.is_settled());
    let ordered = plain.filter(|of| of.record.ordering_ms.is_some());
    if ordered.is_none() && !node.slurm().is_some_and(may_be_expected) {
        return None;
    }
    let order = ordered.and_then(|of| of.record.order.clone());
    let of_order = |of: RecordOf<'_>| match of.record.progress {
        Progress::Seen(Phase::Held) => Instruction::of(of.record, Phase::Held, of.record.why.clone()),
        _ => Instruction::of(of.record, Phase::Rebooting, None),
    };
    let instruction = ordered.map_or_else(Instruction::unknown_reboot, of_order);
    Some(FollowUp { rollout: None, order, step: Step::Instruct(instruction) })
}

/// Returns whether a node that has booted and has no ledger may have had an order, by its state in Slurm: Slurm waits
/// for its reboot, gave up waiting, or shows a Reason of ours. Otherwise nothing is expected of it.
#[must_use]
pub fn may_be_expected(info: &NodeInfo) -> bool {
    info.has("REBOOT_ISSUED")
        || info.timed_out_waiting_for_our_reboot()
        || (info.shows_our_reason() && info.has("DOWN"))
}

#[cfg(test)]
mod tests;
