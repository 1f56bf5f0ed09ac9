//! Everything that is known now: the state directory, Slurm and the agents.

use super::snapshot::{RecordOf, Snapshot};
use crate::protocol::answer::{AgentStatus, OrderStatus};
use crate::rollout::journal::NodeRecord;
use crate::slurm::node::NodeInfo;
use std::collections::BTreeMap;

/// Answers of agents by NodeName. An error says why there was no answer.
pub type AgentAnswers = BTreeMap<String, Result<AgentStatus, String>>;

/// A [`Snapshot`] with Slurm's state and the agents' answers, taken at the same time.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub snapshot: Snapshot,
    /// Nodes as Slurm shows them, by NodeName. Empty if Slurm was not asked or did not answer.
    pub slurm: BTreeMap<String, NodeInfo>,
    pub agents: AgentAnswers,
    /// The controller's clock after all agents had answered, in milliseconds since 1970. Their uptimes are those of
    /// this time.
    pub now_ms: u64,
}

/// One node in a [`View`].
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    pub name: &'a str,
    view: &'a View,
}

impl View {
    /// Returns one node.
    #[must_use]
    pub fn node<'a>(&'a self, name: &'a str) -> NodeView<'a> {
        NodeView { name, view: self }
    }
}

impl<'a> NodeView<'a> {
    /// Returns the answer of the node's agent. `None` if it was not asked or did not answer.
    #[must_use]
    pub fn agent(&self) -> Option<&'a AgentStatus> {
        self.answer()?.ok()
    }

    /// Returns the agent's answer, or the reason for its silence. `None` if it was not asked.
    #[must_use]
    pub fn answer(&self) -> Option<Result<&'a AgentStatus, &'a str>> {
        Some(self.view.agents.get(self.name)?.as_ref().map_err(String::as_str))
    }

    /// Returns the node as Slurm shows it.
    #[must_use]
    pub fn slurm(&self) -> Option<&'a NodeInfo> {
        self.view.slurm.get(self.name)
    }

    /// Returns the records of the node in all journals.
    pub fn records(&self) -> impl Iterator<Item = RecordOf<'a>> + use<'a> {
        self.view.snapshot.all_records(self.name)
    }

    /// Returns the snapshot that it is part of.
    #[must_use]
    pub fn snapshot(&self) -> &'a Snapshot {
        &self.view.snapshot
    }

    /// Returns the agent's report about the order of this record, if it has that one.
    #[must_use]
    pub fn report_on(&self, of: RecordOf<'_>) -> Option<&'a OrderStatus> {
        report_on(self.agent()?, of.rollout_id(), of.record)
    }

    /// Returns the time at which the node last booted, in milliseconds since 1970, by its agent or else by Slurm.
    #[must_use]
    pub fn booted_ms(&self) -> Option<u64> {
        let by_agent = self.agent().map(|agent| booted_ms(agent, self.view.now_ms));
        by_agent.or_else(|| Some(self.slurm()?.boot_s?.saturating_mul(1000)))
    }

    /// Returns the controller's clock, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.view.now_ms
    }
}

/// Error of a boot time, which is never too early: an agent reports its uptime in whole seconds, and so is the time
/// since its answer.
pub const ROUNDING_MS: u64 = 2_000;

/// Returns the time at which an agent's node booted, in milliseconds since 1970 by the controller's clock. It may be up
/// to [`ROUNDING_MS`] late.
#[must_use]
pub fn booted_ms(agent: &AgentStatus, now_ms: u64) -> u64 {
    now_ms.saturating_sub(agent.uptime_s.saturating_mul(1000))
}

/// Returns the agent's report about the order of a record, if it has that one.
///
/// The agent may have the rollout under an order whose answer was lost. If its id is unknown here, the rollout's name
/// is enough while the order is under way.
#[must_use]
pub fn report_on<'a>(
    agent: &'a AgentStatus,
    rollout: Option<&str>,
    record: &NodeRecord,
) -> Option<&'a OrderStatus> {
    let report = agent.order.as_ref()?;
    let same_rollout =
        rollout.is_some() && report.rollout.as_deref() == rollout && record.ordering_ms.is_some();
    (record.has_order(&report.id) || same_rollout && !report.phase.has_ended()).then_some(report)
}
