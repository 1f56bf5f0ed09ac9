//! The instruction for a node that has booted, keeps no ledger, and holds slurmd down until it learns which system it must be.
//!
//! The default is no instruction: the gate stays shut. A plain one, which opens the gate without a proof, is given only if nothing
//! that is known allows that the node booted from a rollout's image.

use super::FollowUp;
use super::Step;
use crate::agent::phase::Phase;
use crate::controller::snapshot::RecordOf;
use crate::controller::view::NodeView;
use crate::protocol::answer::AgentStatus;
use crate::protocol::order::OrderId;
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
    rollouts.sort_by_key(|of| std::cmp::Reverse(of.record.ordering_ms));
    for of in rollouts {
        match for_rollout(of.record, agent, node.now_ms()) {
            Expected::Nothing => {}
            Expected::Unknown => return None,
            Expected::Instruction(instruction) => {
                return Some(follow_up(of, of.record.order.clone(), instruction));
            }
        }
    }
    plain(node)
}

fn follow_up(of: RecordOf<'_>, order: Option<OrderId>, instruction: Instruction) -> FollowUp {
    FollowUp { rollout: of.rollout_id().map(str::to_owned), order, step: Step::Instruct(instruction) }
}

/// The expectation of one rollout of a node that has booted.
enum Expected {
    /// It expects nothing of this boot.
    Nothing,
    /// Something, but not yet known what: the gate stays shut.
    Unknown,
    Instruction(Instruction),
}

fn for_rollout(record: &NodeRecord, agent: &AgentStatus, now_ms: u64) -> Expected {
    let instruct = |phase, error| Expected::Instruction(Instruction::of(record, phase, error));
    let under_way = matches!(record.progress, Progress::Ordered | Progress::Lost);
    if record.progress == Progress::Seen(Phase::Held) {
        return instruct(Phase::Held, record.why.clone());
    }
    let Some(change) = &record.boot_change else {
        return if under_way { instruct(Phase::Rebooting, None) } else { Expected::Nothing };
    };
    match &change.restoration {
        // It has booted since, so it runs the rollout's image, or may: proof decides.
        Restoration::No | Restoration::Claimed { .. } if change.has_booted_since(&agent.boot_id) => {
            instruct(Phase::Rebooting, None)
        }
        // It has not booted since. The order may still come.
        Restoration::No | Restoration::Claimed { .. } => Expected::Unknown,
        Restoration::Done { why, .. } if under_way => instruct(Phase::RebootingBack, Some(why.clone())),
        Restoration::Done { why, .. } if record.progress.is_outcome_unknown(now_ms) => {
            let as_before = change.before.running.is_some() && change.before.running == agent.running;
            match as_before || !change.has_booted_since(&agent.boot_id) {
                true => Expected::Nothing,
                // Restored too late for this boot, or it is unknown.
                false => instruct(Phase::RebootingBack, Some(why.clone())),
            }
        }
        Restoration::Done { .. } => Expected::Nothing,
    }
}

/// Returns the instruction to open the gate after a plain reboot.
fn plain(node: NodeView<'_>) -> Option<FollowUp> {
    let plain = node.records().find(|of| of.rollout.is_none() && !of.record.is_settled());
    let ordered = plain.filter(|of| of.record.ordering_ms.is_some());
    if ordered.is_none() && !node.slurm().is_some_and(may_be_expected) {
        return None;
    }
    let order = ordered.and_then(|of| of.record.order.clone());
    let of_order = |of: RecordOf<'_>| Instruction::of(of.record, Phase::Rebooting, None);
    let instruction = ordered.map_or_else(Instruction::unknown_reboot, of_order);
    Some(FollowUp { rollout: None, order, step: Step::Instruct(instruction) })
}

/// Returns whether a node that has booted and has no ledger may have had an order, by its state in Slurm: Slurm waits for its reboot,
/// gave up waiting, or shows a Reason of ours. Otherwise nothing is expected of it.
#[must_use]
pub fn may_be_expected(info: &NodeInfo) -> bool {
    info.has("REBOOT_ISSUED")
        || info.timed_out_waiting_for_our_reboot()
        || (info.shows_our_reason() && info.has("DOWN"))
}
