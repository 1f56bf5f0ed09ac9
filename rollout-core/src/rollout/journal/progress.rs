//! Progress of a node in a rollout.

use crate::agent::phase::Phase;

/// Progress of a node in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Waits for Slurm to hand the node over.
    Staged,
    /// An order is being sent, until this time in milliseconds since 1970. Afterwards the outcome is unknown.
    Ordering { until_ms: u64 },
    /// The agent has the order.
    Ordered,
    /// The agent was carrying out an order that includes this plain reboot.
    Covered,
    /// The agent refused the order.
    Refused,
    /// The agent did not answer: the outcome is unknown.
    Unreachable,
    /// The agent reported this end, or a hold.
    Seen(Phase),
    /// The node accepted the order and did not come back.
    Lost,
    /// The node has moved on to a later order.
    Superseded,
}

impl Progress {
    /// Returns whether the node gets the order when Slurm hands it over now. A refusal or silence does not use up a
    /// staged rollout. Neither does a RebootProgram that died while it was sending.
    #[must_use]
    pub fn may_be_ordered(self, now_ms: u64) -> bool {
        match self {
            Self::Staged | Self::Refused | Self::Unreachable => true,
            Self::Ordering { until_ms } => until_ms <= now_ms,
            Self::Ordered | Self::Covered | Self::Seen(_) | Self::Lost | Self::Superseded => false,
        }
    }

    /// Returns whether the node is waiting for this rollout, or may be. Nothing else can be staged for it then. In
    /// contrast to [`Progress::may_be_ordered`] this includes an order that is being sent.
    #[must_use]
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Staged | Self::Refused | Self::Unreachable | Self::Ordering { .. })
    }

    /// Returns whether an order was sent and its outcome is unknown.
    #[must_use]
    pub fn is_outcome_unknown(self, now_ms: u64) -> bool {
        self == Self::Unreachable || matches!(self, Self::Ordering { until_ms } if until_ms <= now_ms)
    }
}
