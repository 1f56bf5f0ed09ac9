//! Slurm's side of one node, as far as a reboot goes (`validate_node_specs` and `check_reboot_nodes`, 22.05 to 26.05).

use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::Reason;

/// Slurm's view of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlurmNode {
    pub state: State,
    /// Start of the latest hand-over.
    pub issued_ms: u64,
    pub reason: ReasonOf,
    pub reason_ms: u64,
    /// RebootProgram has yet to be started for the latest hand-over.
    pub program_due: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Jobs may start.
    InService,
    /// DOWN and REBOOT_ISSUED.
    Issued,
    /// DOWN: Slurm gave up waiting for the boot.
    TimedOut,
}

/// The author of the node's Reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonOf {
    Nobody,
    /// Slurm, at the hand-over.
    HandOver,
    /// slurm-rollout, on a controller or on the node.
    Ours,
}

impl SlurmNode {
    pub fn new() -> Self {
        Self {
            state: State::InService,
            issued_ms: 0,
            reason: ReasonOf::Nobody,
            reason_ms: 0,
            program_due: false,
        }
    }

    /// Hands the node over: `scontrol reboot ASAP nextstate=resume`, once it is idle or DOWN.
    pub fn hand_over(&mut self, now_ms: u64) {
        *self = Self {
            state: State::Issued,
            issued_ms: now_ms,
            reason: ReasonOf::HandOver,
            reason_ms: now_ms,
            program_due: true,
        };
    }

    /// Sets one of our Reasons. Slurm erases it on a node that is in service.
    pub fn give_reason(&mut self, now_ms: u64) {
        if self.state != State::InService {
            (self.reason, self.reason_ms) = (ReasonOf::Ours, now_ms);
        }
    }

    /// Takes the node back.
    pub fn resume(&mut self) {
        self.state = State::InService;
        self.reason = ReasonOf::Nobody;
    }

    /// Returns the node as `scontrol show node` shows it.
    pub fn info(&self, name: &str) -> NodeInfo {
        let words: &[&str] = match self.state {
            State::InService => &["IDLE"],
            State::Issued => &["DOWN", "DRAIN", "REBOOT_ISSUED"],
            State::TimedOut => &["DOWN"],
        };
        let mut reason = match self.reason {
            ReasonOf::Nobody => None,
            ReasonOf::HandOver => Some("Reboot ASAP : reboot issued".to_owned()),
            ReasonOf::Ours => Some(Reason::ours("rollout", "not ordered").to_string()),
        };
        if let (State::TimedOut, Some(reason)) = (self.state, &mut reason) {
            reason.push_str(" : reboot timed out");
        }
        NodeInfo {
            name: name.to_owned(),
            address: name.to_owned(),
            state: words.iter().map(|word| (*word).to_owned()).collect(),
            next_state: (self.state == State::Issued).then(|| "RESUME".to_owned()),
            reason_s: reason.as_ref().map(|_| self.reason_ms / 1000),
            reason,
            ..NodeInfo::default()
        }
    }
}
