//! Processes of the controllers: RebootProgram and `reconcile`, cut into steps at every read and write of something
//! shared (`rollout-control/src/{hand_over,follow_up,reconcile}.rs`, `boot/change.rs`).

use crate::scenario::ImageNumber;
use crate::store::Journal;
use rollout_core::controller::follow_up::AfterRestoring;
use rollout_core::controller::hand_over::HandedOver;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Order, OrderId};
use rollout_core::rollout::journal::{Booted, Entry};
use rollout_core::slurm::node::NodeInfo;
use std::collections::VecDeque;
use std::sync::Arc;

/// Time within which RebootProgram changes boot sources and sends its orders.
pub const SENT_BY_MS: u64 = 4_500;

/// Time for which it claims nodes.
pub const CLAIM_MS: u64 = 15_000;

/// Time within which boot sources are restored, and for which they are claimed.
pub const RESTORING_MS: u64 = 60_000;
pub const RESTORING_CLAIM_MS: u64 = 65_000;

/// A process.
#[derive(Debug, Clone, Default)]
pub struct Process {
    pub steps: VecDeque<Step>,
}

/// A claimed node, and its order.
#[derive(Debug, Clone)]
pub struct Claim {
    pub node: usize,
    pub journal: Journal,
    pub order: Arc<Order>,
    pub sent_by_ms: u64,
    /// The hand-over that it is for.
    pub issued_ms: u64,
}

/// A boot source that is restored.
#[derive(Debug, Clone)]
pub struct Restore {
    pub node: usize,
    pub rollout: usize,
    pub order: OrderId,
    pub why: String,
    pub then: AfterRestoring,
    /// The agent did not answer when this was decided.
    pub in_silence: bool,
    /// The boot source must not be restored, for this reason.
    pub needed: Option<&'static str>,
}

/// One step: one read or write of something shared.
#[derive(Debug, Clone)]
pub enum Step {
    /// RebootProgram: asks Slurm about these nodes. The times are those of `Request::handed_over_ms`.
    AskSlurm {
        nodes: Vec<(usize, Option<u64>)>,
    },
    Claim {
        handed: Vec<HandedOver>,
        sent_by_ms: u64,
    },
    AskAgent {
        claim: Claim,
    },
    ReadSource {
        claim: Claim,
        before: Booted,
    },
    SaveSource {
        claim: Claim,
        before: Booted,
        source: ImageNumber,
    },
    RecordChange {
        claim: Claim,
        before: Booted,
    },
    SetSource {
        claim: Claim,
    },
    Send {
        claim: Claim,
    },
    RecordAnswer {
        claim: Claim,
        outcome: Outcome,
    },
    TellSlurm {
        node: usize,
    },
    /// `reconcile`: asks the agents, and follows up with what Slurm and the journals held.
    Survey {
        snapshot: Arc<Snapshot>,
        slurm: Vec<NodeInfo>,
        silent: Option<usize>,
    },
    Record {
        journal: Journal,
        entry: Entry,
    },
    ClaimRestoring(Restore),
    PutBack {
        restore: Restore,
        until_ms: u64,
    },
    RecordRestored(Restore),
    AfterRestoring(Restore),
    Tell {
        node: usize,
        order: Arc<Order>,
    },
}

/// Outcome of sending one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Ordered { volatile: bool },
    UnderWay { under_way: Option<OrderId>, volatile: bool },
    Covered { by: Option<OrderId> },
    Refused(String),
    Unreachable(String),
}

impl Outcome {
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Unreachable(_))
    }

    pub fn entry(self, nodes: NodeSet, order: OrderId) -> Entry {
        match self {
            Self::Ordered { volatile } => Entry::Ordered { nodes, order, volatile },
            Self::UnderWay { under_way, volatile } => Entry::UnderWay { nodes, order, under_way, volatile },
            Self::Covered { by } => Entry::Covered { nodes, order, by },
            Self::Refused(why) => Entry::Refused { nodes, order, why },
            Self::Unreachable(why) => Entry::Unreachable { nodes, order, why },
        }
    }
}

impl Step {
    /// Returns a number for its kind.
    pub fn number(&self) -> u8 {
        match self {
            Self::AskSlurm { .. } => 0,
            Self::Claim { .. } => 1,
            Self::AskAgent { .. } => 2,
            Self::ReadSource { .. } => 3,
            Self::SaveSource { .. } => 4,
            Self::RecordChange { .. } => 5,
            Self::SetSource { .. } => 6,
            Self::Send { .. } => 7,
            Self::RecordAnswer { .. } => 8,
            Self::TellSlurm { .. } => 9,
            Self::Survey { .. } => 10,
            Self::Record { .. } => 11,
            Self::ClaimRestoring(_) => 12,
            Self::PutBack { .. } => 13,
            Self::RecordRestored(_) => 14,
            Self::AfterRestoring(_) => 15,
            Self::Tell { .. } => 16,
        }
    }
}
