//! The decisions of `retry` and `release`. A node is held by the order that its agent reports, whatever was staged
//! since.

use super::conduct::way_on;
use super::snapshot::RecordOf;
use super::view::NodeView;
use crate::agent::phase::Phase;
use crate::protocol::order::OrderId;
use crate::rollout::journal::Progress;

/// The order that holds a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hold {
    /// `None` for a plain reboot that failed.
    pub rollout: Option<String>,
    pub order: OrderId,
}

/// The decision of `retry` for one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retry {
    /// It is held: it carries out its order once more, at once.
    Held(Hold),
    /// It waits for the rollout once more.
    StageAgain { rollout: String },
    /// There is nothing to retry, for this reason.
    Nothing(String),
}

/// Returns the order that holds a node, by its agent, or by the journal if the agent is silent.
#[must_use]
pub fn hold(node: NodeView<'_>) -> Option<Hold> {
    if let Some(agent) = node.agent() {
        let report = agent.order.as_ref().filter(|order| order.phase == Phase::Held)?;
        // A record may name the rollout by an id that the agent's report had to cut.
        return Some(Hold { rollout: report.rollout.clone(), order: report.id.clone() });
    }
    let held = node.records().find(|of| of.record.progress == Progress::Seen(Phase::Held))?;
    Some(Hold { rollout: held.rollout_id().map(str::to_owned), order: held.record.order.clone()? })
}

/// Returns the decision for one node.
#[must_use]
pub fn retry(node: NodeView<'_>) -> Retry {
    if let Some(hold) = hold(node) {
        return match foreign_boot_owner(node, hold.rollout.as_deref()) {
            Some(why) => Retry::Nothing(why),
            None => Retry::Held(hold),
        };
    }
    let now_ms = node.now_ms();
    if let Some(of) = node.snapshot().pending(node.name) {
        let rollout = of.rollout_id().unwrap_or_default();
        return Retry::Nothing(match of.record.progress.may_be_ordered(now_ms) {
            true => match of.rollout {
                Some(state) => format!("still staged for {rollout}, {}", way_on(state, node.name)),
                None => format!("still staged for {rollout}"),
            },
            false => format!("its order for {rollout} is being sent"),
        });
    }
    if let Some(why) = foreign_boot_owner(node, None) {
        return Retry::Nothing(why);
    }
    let last = node.records().filter(|of| of.rollout.is_some()).max_by_key(|of| of.record.ordering_ms);
    let Some(last) = last else { return Retry::Nothing("no rollout has it".to_owned()) };
    let rollout = last.rollout_id().unwrap_or_default().to_owned();
    match ended(node, last) {
        Ok(true) => Retry::StageAgain { rollout },
        Ok(false) => Retry::Nothing("its agent does not answer".to_owned()),
        Err(phase) => Retry::Nothing(format!("{} in {rollout}, nothing to retry", phase.name())),
    }
}

/// Returns the reason for waiting if an order of a rollout other than `rollout` owns the node's boot source, or a
/// process is changing or restoring it. Two orders that change one boot source would each take the other's for the one
/// from before.
fn foreign_boot_owner(node: NodeView<'_>, rollout: Option<&str>) -> Option<String> {
    let mut owners = node.snapshot().boot_owners(node.name);
    let owner = owners.find(|of| of.rollout_id() != rollout || of.record.is_claimed(node.now_ms()))?;
    let owner = owner.rollout_id().unwrap_or_default();
    Some(format!("its boot source still belongs to {owner}; `slurm-rollout reconcile` settles that first"))
}

/// Returns whether a node's last order ended without the node having become what was staged, or else its phase.
fn ended(node: NodeView<'_>, of: RecordOf<'_>) -> Result<bool, Phase> {
    let has_ended = matches!(of.record.progress, Progress::Seen(_));
    if of.record.qualification_failure().is_some() || has_ended && of.record.hook_failure().is_some() {
        return Ok(true);
    }
    let reported = node.report_on(of).map(|report| report.phase);
    let recorded = match of.record.progress {
        Progress::Seen(phase) => Some(phase),
        _ => None,
    };
    match (reported.or(recorded), of.record.progress) {
        (Some(Phase::RolledBack | Phase::Released), _) => Ok(true),
        (Some(phase), _) => Err(phase),
        // The node is back without this order. One that awaits instructions is not back yet.
        (None, Progress::Lost | Progress::Superseded) => Ok(node.agent().is_some_and(|agent| !agent.awaits)),
        (None, _) => Ok(false),
    }
}

#[cfg(test)]
mod tests;
