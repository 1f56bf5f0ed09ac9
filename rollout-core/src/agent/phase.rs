//! Where an agent stands with its order, and [`step`]: what each event leads to. The whole table is printed in
//! `tests/transitions.txt`, so that a change of behaviour is a change of that file.
//!
//! ```text
//! Ordered ─ Applying ─ Rebooting ─(boot)─ Verifying ──────────────────────────────── Updated
//!              └───────────┬──────────────────┘ failed
//!                       Undoing ─ RebootingBack ─(boot)─ VerifyingOld ─┬──────────── RolledBack
//!                          └────────────── not proven ─────────────────┴─ Held ───── Released
//! ```

use serde::{Deserialize, Serialize};

/// Where an agent stands with its order. The last three are settled: nothing is left to do, slurmd may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The changes are being made.
    Applying,
    /// The node is on its way down, to come up changed.
    Rebooting,
    /// The node is up again and is being proven to be what was staged.
    Verifying,
    /// Something failed; the changes are being undone.
    Undoing,
    /// The node is on its way down, to come up as it was.
    RebootingBack,
    /// The node is being proven to be what it was before the order.
    VerifyingOld,
    /// Out of service until an admin says `retry` or `release`.
    Held,
    /// The node is what was staged, and is given back. Also the end of a plain reboot.
    Updated,
    /// The node is what it was before the order, and is given back.
    RolledBack,
    /// A held node, given back on an admin's word.
    Released,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// An order to apply changes was accepted.
    OrderedToApply,
    /// An order for a plain reboot was accepted.
    OrderedToReboot,
    /// An admin wants a held node's order carried out once more.
    OrderedToRetry,
    /// An admin wants a held node given back as it is.
    OrderedToRelease,
    /// The agent started and found this ledger.
    Started {
        /// Whether the kernel is another one than when the phase began.
        rebooted: bool,
    },
    /// All changes are made.
    Applied,
    /// A change could not be made.
    ApplyFailed,
    /// The node cannot be rebooted, not even by force.
    RebootFailed,
    /// The node is what was staged.
    Verified,
    /// It is not.
    VerifyFailed,
    /// All changes are undone.
    Undone {
        /// Whether the node must boot again to be as it was, or because Slurm waits for a boot.
        reboot_due: bool,
    },
    /// A change could not be undone.
    UndoFailed,
    /// The node is what it was before the order.
    OldProven {
        /// Whether the manifest wants it held all the same (`on_failure = "hold"`).
        hold: bool,
    },
    /// It is not.
    OldNotProven,
}

/// What is to be done next, once the new phase is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Stop slurmd, then make the changes that are not made yet.
    Apply,
    /// Reboot the node, by force if it has not happened by the order's time limit.
    Reboot,
    /// Prove that the node is what was staged.
    Verify,
    /// Undo in reverse order what was changed.
    Undo,
    /// Prove that the node is what it was before the order.
    VerifyOld,
    /// Keep slurmd down and tell Slurm why.
    Hold,
    /// Let slurmd start, and see that Slurm takes the node back.
    OpenGate,
}

/// This event has no place in this phase; nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} has no place in phase {phase:?}")]
pub struct Refused {
    /// The phase, none if the node has no order.
    pub phase: Option<Phase>,
    /// What came.
    pub event: Event,
}

impl Phase {
    /// All phases, for tables.
    pub const ALL: [Self; 10] = [
        Self::Applying,
        Self::Rebooting,
        Self::Verifying,
        Self::Undoing,
        Self::RebootingBack,
        Self::VerifyingOld,
        Self::Held,
        Self::Updated,
        Self::RolledBack,
        Self::Released,
    ];

    /// Whether nothing is left to do for this order and slurmd may run.
    #[must_use]
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Updated | Self::RolledBack | Self::Released)
    }

    /// Whether the agent does nothing more for this order by itself.
    #[must_use]
    pub fn has_ended(self) -> bool {
        self.is_settled() || self == Self::Held
    }

    /// The phase's name as people read it, `rolled-back`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Applying => "applying",
            Self::Rebooting => "rebooting",
            Self::Verifying => "verifying",
            Self::Undoing => "undoing",
            Self::RebootingBack => "rebooting-back",
            Self::VerifyingOld => "verifying-old",
            Self::Held => "held",
            Self::Updated => "updated",
            Self::RolledBack => "rolled-back",
            Self::Released => "released",
        }
    }
}

impl Event {
    /// All events, for tables.
    pub const ALL: [Self; 17] = [
        Self::OrderedToApply,
        Self::OrderedToReboot,
        Self::OrderedToRetry,
        Self::OrderedToRelease,
        Self::Started { rebooted: false },
        Self::Started { rebooted: true },
        Self::Applied,
        Self::ApplyFailed,
        Self::RebootFailed,
        Self::Verified,
        Self::VerifyFailed,
        Self::Undone { reboot_due: false },
        Self::Undone { reboot_due: true },
        Self::UndoFailed,
        Self::OldProven { hold: false },
        Self::OldProven { hold: true },
        Self::OldNotProven,
    ];
}

/// What an event leads to: the next phase and what to do once it is on disk. `phase` is none where no order is known.
///
/// # Errors
/// [`Refused`] where the event has no place in the phase.
pub fn step(phase: Option<Phase>, event: Event) -> Result<(Phase, Action), Refused> {
    use {Action as A, Event as E, Phase as P};
    let next = match (event, phase) {
        // A new order is taken where nothing is under way. A held node is taken out of its hold first, by name.
        (E::OrderedToApply, None) => Some((P::Applying, A::Apply)),
        (E::OrderedToApply, Some(at)) => at.is_settled().then_some((P::Applying, A::Apply)),
        (E::OrderedToReboot, None) => Some((P::Rebooting, A::Reboot)),
        (E::OrderedToReboot, Some(at)) => at.is_settled().then_some((P::Rebooting, A::Reboot)),
        (E::OrderedToRetry, at) => (at == Some(P::Held)).then_some((P::Applying, A::Apply)),
        (E::OrderedToRelease, at) => (at == Some(P::Held)).then_some((P::Released, A::OpenGate)),

        // The way forward.
        (E::Applied, at) => (at == Some(P::Applying)).then_some((P::Rebooting, A::Reboot)),
        (E::Verified, at) => (at == Some(P::Verifying)).then_some((P::Updated, A::OpenGate)),

        // The way back.
        (E::ApplyFailed, at) => (at == Some(P::Applying)).then_some((P::Undoing, A::Undo)),
        (E::VerifyFailed, at) => (at == Some(P::Verifying)).then_some((P::Undoing, A::Undo)),
        (E::Undone { reboot_due: true }, at) => {
            (at == Some(P::Undoing)).then_some((P::RebootingBack, A::Reboot))
        }
        (E::Undone { reboot_due: false }, at) => {
            (at == Some(P::Undoing)).then_some((P::VerifyingOld, A::VerifyOld))
        }
        (E::OldProven { hold: false }, at) => {
            (at == Some(P::VerifyingOld)).then_some((P::RolledBack, A::OpenGate))
        }

        // Not proven, or not wanted back.
        (E::OldProven { hold: true } | E::OldNotProven, at) => {
            (at == Some(P::VerifyingOld)).then_some((P::Held, A::Hold))
        }
        (E::UndoFailed, at) => (at == Some(P::Undoing)).then_some((P::Held, A::Hold)),
        (E::RebootFailed, at) => {
            matches!(at, Some(P::Rebooting | P::RebootingBack)).then_some((P::Held, A::Hold))
        }

        // The agent came back, after a crash of its own or after a boot: it goes on where it was.
        (E::Started { .. }, None) => None,
        (E::Started { rebooted }, Some(at)) => Some(match at {
            P::Applying => (P::Applying, A::Apply),
            P::Rebooting if rebooted => (P::Verifying, A::Verify),
            P::RebootingBack if rebooted => (P::VerifyingOld, A::VerifyOld),
            P::Rebooting | P::RebootingBack => (at, A::Reboot),
            P::Verifying => (P::Verifying, A::Verify),
            P::Undoing => (P::Undoing, A::Undo),
            P::VerifyingOld => (P::VerifyingOld, A::VerifyOld),
            P::Held => (P::Held, A::Hold),
            P::Updated | P::RolledBack | P::Released => (at, A::OpenGate),
        }),
    };
    next.ok_or(Refused { phase, event })
}
