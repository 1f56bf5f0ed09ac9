//! Phases of an order on its node, and [`step`], which leads from one to the next. `tests/transitions.txt` has the
//! whole table, so that a change of behavior is a change of that file.
//!
//! ```text
//!              ┌────── another boot due ──────┐
//! Ordered ─ Applying ─ Rebooting ─(boot)─ Verifying ─ Registering ────────────────── Updated
//!              └───────────┬──────────────────┴────────────┘ failed
//!                       Undoing ─ RebootingBack ─(boot)─ VerifyingOld ─┬──────────── RolledBack
//!                          └────────────── not proven ─────────────────┴─ Held ───── Released
//! ```

pub(crate) mod keys;

use serde::{Deserialize, Serialize};

/// Phase of an order. The last three are settled: the work is done and slurmd may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The changes are being made.
    Applying,
    /// The node is going down and will come up changed.
    Rebooting,
    /// The node is up again. The agent proves that it is in the staged state.
    Verifying,
    /// The node is in the staged state, and slurmd may start in this boot. The agent proves that Slurm accepts the
    /// node. Written as `verifying` with a key of its own (`keys`), for older agents and controllers.
    #[serde(rename(serialize = "verifying"))]
    Registering,
    /// Something failed. The changes are being undone.
    Undoing,
    /// The node is going down and will come up in its old state.
    RebootingBack,
    /// The agent proves that the node is in its state from before the order.
    VerifyingOld,
    /// Out of service until an admin orders `retry` or `release`.
    Held,
    /// The node is in the staged state and given back. Also the end of a plain reboot.
    Updated,
    /// The node is in its state from before the order and given back.
    RolledBack,
    /// A held node that an admin gave back.
    Released,
}

/// Input of [`step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// An order to apply changes was accepted.
    OrderedToApply,
    /// An order for a plain reboot was accepted.
    OrderedToReboot,
    /// An admin has a held node's order carried out once more.
    OrderedToRetry,
    /// An admin gives a held node back as it is.
    OrderedToRelease,
    /// The agent started and found this ledger.
    Started {
        /// The node has booted since the phase began.
        rebooted: bool,
    },
    /// All changes are made.
    Applied,
    /// A change could not be made.
    ApplyFailed,
    /// The node cannot be rebooted, not even by force.
    RebootFailed,
    /// The node is in the staged state.
    Verified {
        /// slurmd belongs on this node, so Slurm must accept the node as well.
        register: bool,
    },
    /// Slurm has accepted the node.
    Registered,
    /// The node is not in the staged state, or Slurm does not accept it.
    VerifyFailed,
    /// A change needs another boot before the node can be in the staged state.
    AnotherBootDue,
    /// All changes are undone.
    Undone {
        /// The node must boot once more, to be in its old state or because Slurm waits for a boot.
        reboot_due: bool,
    },
    /// A change could not be undone.
    UndoFailed,
    /// The node is in its old state.
    OldProven {
        /// The manifest has it held all the same (`on_failure = "hold"`).
        hold: bool,
    },
    /// The node is not in its old state.
    OldNotProven,
}

/// Work that follows a step, once the new phase is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// Stop slurmd, then make the changes that are not made yet.
    Apply,
    /// Reboot the node, by force if it is still up at the order's time limit.
    Reboot,
    /// Prove that the node is in the staged state.
    Verify,
    /// Start slurmd, and prove that Slurm accepts the node.
    Register,
    /// Undo the changes in reverse order.
    Undo,
    /// Prove that the node is in its old state.
    VerifyOld,
    /// Keep slurmd down and give Slurm the reason.
    Hold,
    /// Let slurmd start, and make sure that Slurm takes the node back.
    OpenGate,
}

/// An event that has no place in its phase. Nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} has no place in phase {phase:?}")]
pub struct Refused {
    /// `None` if the node has no order.
    pub phase: Option<Phase>,
    pub event: Event,
}

impl Phase {
    /// All phases, for tables.
    pub const ALL: [Self; 11] = [
        Self::Applying,
        Self::Rebooting,
        Self::Verifying,
        Self::Registering,
        Self::Undoing,
        Self::RebootingBack,
        Self::VerifyingOld,
        Self::Held,
        Self::Updated,
        Self::RolledBack,
        Self::Released,
    ];

    /// Returns whether the order is finished and slurmd may run.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Updated | Self::RolledBack | Self::Released)
    }

    /// Returns whether the agent does nothing more for the order by itself.
    #[must_use]
    pub fn has_ended(self) -> bool {
        self.is_settled() || self == Self::Held
    }

    /// Returns its name for people, such as `rolled-back`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Applying => "applying",
            Self::Rebooting => "rebooting",
            Self::Verifying => "verifying",
            Self::Registering => "registering",
            Self::Undoing => "undoing",
            Self::RebootingBack => "rebooting-back",
            Self::VerifyingOld => "verifying-old",
            Self::Held => "held",
            Self::Updated => "updated",
            Self::RolledBack => "rolled-back",
            Self::Released => "released",
        }
    }

    /// Returns the event that ends its work with a failure. `None` if there is no work that could fail.
    #[must_use]
    pub fn failure(self) -> Option<Event> {
        match self {
            Self::Applying => Some(Event::ApplyFailed),
            Self::Rebooting | Self::RebootingBack => Some(Event::RebootFailed),
            Self::Verifying | Self::Registering => Some(Event::VerifyFailed),
            Self::Undoing => Some(Event::UndoFailed),
            Self::VerifyingOld => Some(Event::OldNotProven),
            Self::Held | Self::Updated | Self::RolledBack | Self::Released => None,
        }
    }
}

impl Event {
    /// All events, for tables.
    pub const ALL: [Self; 20] = [
        Self::OrderedToApply,
        Self::OrderedToReboot,
        Self::OrderedToRetry,
        Self::OrderedToRelease,
        Self::Started { rebooted: false },
        Self::Started { rebooted: true },
        Self::Applied,
        Self::ApplyFailed,
        Self::RebootFailed,
        Self::Verified { register: false },
        Self::Verified { register: true },
        Self::Registered,
        Self::VerifyFailed,
        Self::AnotherBootDue,
        Self::Undone { reboot_due: false },
        Self::Undone { reboot_due: true },
        Self::UndoFailed,
        Self::OldProven { hold: false },
        Self::OldProven { hold: true },
        Self::OldNotProven,
    ];
}

/// Returns the phase that an event leads to, and the action once that phase is on disk. `phase` is `None` for a node
/// without an order.
///
/// # Errors
/// Returns [`Refused`] if the event has no place in the phase.
pub fn step(phase: Option<Phase>, event: Event) -> Result<(Phase, Action), Refused> {
    use {Action as A, Event as E, Phase as P};
    let next = match (event, phase) {
        // A new order is accepted if no other is under way. A held node must be retried or released first.
        (E::OrderedToApply, None) => Some((P::Applying, A::Apply)),
        (E::OrderedToApply, Some(at)) => at.is_settled().then_some((P::Applying, A::Apply)),
        (E::OrderedToReboot, None) => Some((P::Rebooting, A::Reboot)),
        (E::OrderedToReboot, Some(at)) => at.is_settled().then_some((P::Rebooting, A::Reboot)),
        (E::OrderedToRetry, at) => (at == Some(P::Held)).then_some((P::Applying, A::Apply)),
        (E::OrderedToRelease, at) => (at == Some(P::Held)).then_some((P::Released, A::OpenGate)),

        // The way forward.
        (E::Applied, at) => (at == Some(P::Applying)).then_some((P::Rebooting, A::Reboot)),
        (E::Verified { register: true }, at) => {
            (at == Some(P::Verifying)).then_some((P::Registering, A::Register))
        }
        (E::Verified { register: false }, at) => {
            (at == Some(P::Verifying)).then_some((P::Updated, A::OpenGate))
        }
        (E::AnotherBootDue, at) => (at == Some(P::Verifying)).then_some((P::Applying, A::Apply)),
        (E::Registered, at) => (at == Some(P::Registering)).then_some((P::Updated, A::OpenGate)),

        // The way back.
        (E::ApplyFailed, at) => (at == Some(P::Applying)).then_some((P::Undoing, A::Undo)),
        (E::VerifyFailed, at) => {
            matches!(at, Some(P::Verifying | P::Registering)).then_some((P::Undoing, A::Undo))
        }
        (E::Undone { reboot_due: true }, at) => {
            (at == Some(P::Undoing)).then_some((P::RebootingBack, A::Reboot))
        }
        (E::Undone { reboot_due: false }, at) => {
            (at == Some(P::Undoing)).then_some((P::VerifyingOld, A::VerifyOld))
        }
        (E::OldProven { hold: false }, at) => {
            (at == Some(P::VerifyingOld)).then_some((P::RolledBack, A::OpenGate))
        }

        // Not proven, or to be held.
        (E::OldProven { hold: true } | E::OldNotProven, at) => {
            (at == Some(P::VerifyingOld)).then_some((P::Held, A::Hold))
        }
        (E::UndoFailed, at) => (at == Some(P::Undoing)).then_some((P::Held, A::Hold)),
        (E::RebootFailed, at) => {
            matches!(at, Some(P::Rebooting | P::RebootingBack)).then_some((P::Held, A::Hold))
        }

        // The agent is back after its own crash or after a boot. It continues at the same point.
        (E::Started { .. }, None) => None,
        (E::Started { rebooted }, Some(at)) => Some(match at {
            P::Applying => (P::Applying, A::Apply),
            P::Rebooting if rebooted => (P::Verifying, A::Verify),
            P::RebootingBack if rebooted => (P::VerifyingOld, A::VerifyOld),
            P::Rebooting | P::RebootingBack => (at, A::Reboot),
            P::Verifying => (P::Verifying, A::Verify),
            // The proof was of the boot before.
            P::Registering if rebooted => (P::Verifying, A::Verify),
            P::Registering => (P::Registering, A::Register),
            P::Undoing => (P::Undoing, A::Undo),
            P::VerifyingOld => (P::VerifyingOld, A::VerifyOld),
            P::Held => (P::Held, A::Hold),
            P::Updated | P::RolledBack | P::Released => (at, A::OpenGate),
        }),
    };
    next.ok_or(Refused { phase, event })
}
