//! Messages between the server, which faces the network, and the driver, which owns the state.

use rollout_core::agent::Agent;
use rollout_core::agent::changes_made::NodeChanges;
use rollout_core::protocol::answer::{AgentStatus, Answer};
use rollout_core::protocol::order::Order;
use tokio::sync::oneshot;

/// A genuine order, and the channel for its answer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) order: Order,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// State that the driver publishes for the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    /// The agent's part of its status.
    pub(crate) status: AgentStatus,
    pub(crate) changes_made: Vec<NodeChanges>,
    /// The reason why no order is taken at all.
    pub(crate) trouble: Option<String>,
}

impl Published {
    pub(crate) fn of(agent: &Agent) -> Self {
        Self { status: agent.status(), changes_made: agent.changes_made(), trouble: None }
    }
}
