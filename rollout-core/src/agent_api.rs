//! What an agent answers: to an order, and to the question where it stands. JSON over HTTP/1.1.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `POST /v1/order` | a MUNGE credential with an [`Order`](crate::order::Order); on the Unix socket the order itself | [`Answer`] |
//! | `POST /v1/hand-over` | on the Unix socket only: a [`HandOver`] | [`Answer`] |
//! | `GET /v1/status` | none | [`AgentStatus`] |
//! | `GET /v1/past` | none | a list of [`Past`](crate::undo::Past), oldest first |

use crate::image::Running;
use crate::order::OrderId;
use crate::phase::Phase;
use serde::{Deserialize, Serialize};

/// The agent's TCP port, next to slurmd's 6818 and slurmdbd's 6819.
pub const PORT: u16 = 6821;

/// Where orders are posted.
pub const ORDER_PATH: &str = "/v1/order";

/// Where a RebootProgram that slurmd runs says so.
pub const HAND_OVER_PATH: &str = "/v1/hand-over";

/// Where the status is asked for.
pub const STATUS_PATH: &str = "/v1/status";

/// Where it is asked what rollouts made of the node.
pub const PAST_PATH: &str = "/v1/past";

/// The agent's Unix socket.
pub const SOCKET: &str = "/run/slurm-rollout/agent.sock";

/// The largest body an agent reads. munged opens no credential of more than 1 MiB.
pub const MAX_BODY: usize = 1024 * 1024;

/// That slurmd ran RebootProgram on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The features that a job wants the node to boot with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
    /// Apply nothing, whatever is staged.
    #[serde(default)]
    pub plain: bool,
}

/// What an agent answers to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// The order is in the ledger, on disk, and will be carried out.
    Accepted {
        /// Whether that ledger is gone after the boot: the node has to be told once more what it should be.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        volatile: bool,
    },
    /// The node is carrying out an order already, and that one leads to what this one asks for.
    UnderWay {
        /// Where it stands.
        phase: Phase,
    },
    /// The order will not be carried out.
    Refused {
        /// One line for a person.
        why: String,
    },
}

/// Where an agent stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The agent's version.
    pub version: String,
    /// The node's NodeName.
    pub node: String,
    /// The kernel's `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Seconds since the kernel started.
    pub uptime_s: u64,
    /// The node's clock when it answered, in seconds since 1970. Older agents do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_s: Option<u64>,
    /// The order that is carried out, or was carried out last. None on a node that never had one, and on one in trouble.
    #[serde(default)]
    pub order: Option<OrderStatus>,
    /// The rollout that is applied when slurmd has the node rebooted, where slurmd runs RebootProgram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<String>,
    /// Why the agent takes no order at all, in one line: its ledger cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What the node says it is running. Older agents do not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// Whether its ledger is gone after a boot (`ledger = "volatile"`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volatile: bool,
    /// Whether it keeps slurmd down until it is told what it should be: it has booted, has no ledger, and Slurm shows the
    /// node as being rebooted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub awaits: bool,
}

/// Where an agent stands with an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderStatus {
    /// The order.
    pub id: OrderId,
    /// Its rollout; none for a plain reboot.
    #[serde(default)]
    pub rollout: Option<String>,
    /// Where the node stands.
    pub phase: Phase,
    /// When it came to this phase, in seconds since 1970 by the node's clock.
    pub since_s: u64,
    /// What failed, in one line.
    #[serde(default)]
    pub error: Option<String>,
    /// Whether the order altered anything on the node that has not been undone.
    #[serde(default)]
    pub changed: bool,
    /// How long it took from the order's acceptance to its end, in seconds by the node's clock. None while it is carried
    /// out, where an admin ended it, and from older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_s: Option<u64>,
}
