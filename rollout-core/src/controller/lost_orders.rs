//! Orders that got lost between Slurm and a node.
//!
//! Slurm runs RebootProgram once for a hand-over, and marks the node first. It never asks again, whether the program
//! was killed with slurmctld, could not be started, or found the agent dead (22.05 to 26.05).

use super::hand_over::is_of;
use super::snapshot::{RecordOf, Snapshot};
use super::view::{ROUNDING_MS, booted_ms};
use crate::protocol::answer::AgentStatus;
use crate::protocol::order::OrderId;
use crate::rollout::journal::Progress;
use crate::slurm::node::NodeInfo;

/// Time for which RebootProgram may still be on its way to the nodes after a hand-over.
const ON_ITS_WAY_MS: u64 = 15_000;

/// A node that Slurm shows as being rebooted and that got no order, as far as the journals record it: RebootProgram
/// never ran or was killed, or the agent did not answer it. If slurmd runs RebootProgram on the node, no journal
/// records that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostOrder {
    /// NodeName.
    pub node: String,
    /// The rollout of the order. `None` for a plain reboot, and if there was no order.
    pub rollout: Option<String>,
    /// The order that went unanswered, or that was pre-staged.
    pub order: Option<OrderId>,
    /// Time of the hand-over, or a time by which it had happened, in milliseconds since 1970.
    pub handed_over_ms: u64,
    /// The agent's silence is in the journal, and Slurm was told.
    known_silent: bool,
}

/// The remedy for a lost order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Send the order.
    Order,
    /// Record that the agent has the order.
    Record,
    /// No remedy: the node has booted since. Slurm takes that for the boot it waits for and may start a job any moment.
    Booted,
    /// No remedy yet: the agent is as silent as before.
    Silent,
}

/// Returns the nodes whose orders got lost.
///
/// A refusal is an answer. If a node's Reason no longer tells when the node was handed over, only an unanswered last
/// order counts: otherwise nobody can tell whether it belonged to this hand-over. A node whose boot source belongs to
/// an earlier order is left to the follow-up of that order.
#[must_use]
pub fn lost_orders(slurm: &[NodeInfo], snapshot: &Snapshot, now_ms: u64) -> Vec<LostOrder> {
    let being_rebooted = slurm.iter().filter(|info| info.has("REBOOT_ISSUED"));
    being_rebooted.filter_map(|info| lost_order(info, snapshot, now_ms)).collect()
}

fn lost_order(info: &NodeInfo, snapshot: &Snapshot, now_ms: u64) -> Option<LostOrder> {
    let node = info.name.as_str();
    let armed = snapshot.armed(node, now_ms);
    for owner in snapshot.boot_owners(node) {
        armed.filter(|armed| armed.rollout_id() == owner.rollout_id())?;
    }
    let newest = snapshot.all_records(node).max_by_key(|of| of.record.ordering_ms);
    let unanswered = newest.filter(|of| of.record.progress.is_outcome_unknown(now_ms));
    let issued_ms = info.handed_over_s().map(|s| s.saturating_mul(1000));
    let is_silent = |of: RecordOf<'_>| of.record.progress == Progress::Unreachable;
    let (last, known_silent, handed_over_ms) = match (issued_ms, newest) {
        (Some(issued), Some(of)) if is_of(of.record, issued) => {
            let last = unanswered?;
            (Some(last), is_silent(last), issued)
        }
        (Some(issued), _) if issued.saturating_add(ON_ITS_WAY_MS) <= now_ms => {
            (armed.filter(|of| of.record.pre_staged), false, issued)
        }
        (Some(_), _) => return None,
        (None, _) => {
            let last = unanswered?;
            let by_ms = last.record.ordering_ms.unwrap_or(last.record.since_ms);
            (Some(last), is_silent(last), by_ms)
        }
    };
    Some(LostOrder {
        node: node.to_owned(),
        rollout: last.and_then(|of| of.rollout_id()).map(str::to_owned),
        order: last.and_then(|of| of.record.order.clone()),
        handed_over_ms,
        known_silent,
    })
}

impl LostOrder {
    /// Returns the remedy, by the present answer of the node's agent. `None` stands for silence.
    #[must_use]
    pub fn remedy(&self, agent: Option<&AgentStatus>, now_ms: u64) -> Remedy {
        let Some(agent) = agent else {
            return if self.known_silent { Remedy::Silent } else { Remedy::Order };
        };
        let carried_out = agent.order.as_ref().map(|order| &order.id);
        if carried_out.is_some() && carried_out == self.order.as_ref() {
            return Remedy::Record;
        }
        let last_ms = self.handed_over_ms.saturating_add(ROUNDING_MS);
        if booted_ms(agent, now_ms) > last_ms { Remedy::Booted } else { Remedy::Order }
    }

    /// Returns the remedy if slurmd runs RebootProgram on the node. The controller does not see these orders, so an
    /// agent that is silent, is carrying out something or has booted since is only doing what it should.
    #[must_use]
    pub fn remedy_on_the_node(&self, agent: Option<&AgentStatus>, now_ms: u64) -> Option<Remedy> {
        let agent = agent?;
        let under_way = agent.order.as_ref().is_some_and(|order| !order.phase.has_ended());
        match self.remedy(Some(agent), now_ms) {
            Remedy::Record => Some(Remedy::Record),
            Remedy::Order if !under_way => Some(Remedy::Order),
            Remedy::Order | Remedy::Booted | Remedy::Silent => None,
        }
    }
}

#[cfg(test)]
mod tests;
