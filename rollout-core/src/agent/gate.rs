//! The gate before slurmd, decided by the files alone: it must hold even if the daemon is not running.

use crate::agent::ledger::Ledger;
use crate::agent::phase::Phase;
use crate::slurm::reason;

/// Decision about a start of slurmd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// Waiting does not help: the order under way ends in a reboot, or the node is held. Holds the reason.
    Closed(String),
    /// Not yet: the node has booted and is being proven, or waits for its instructions.
    Wait,
}

/// Returns whether a ledger counts in this boot. On a volatile node, an order that was settled in an earlier boot shows
/// nothing about the state of this one.
#[must_use]
pub fn counts_in_boot(ledger: &Ledger, volatile: bool, boot_id: &str) -> bool {
    !volatile || !ledger.phase.is_settled() || ledger.boot_id == boot_id
}

/// Decides whether slurmd may start. `unsettled` is the content of `order.json`. `admitted` tells whether the agent has
/// admitted slurmd in this boot; `None` on nodes whose ledger survives boots, which need no admission.
#[must_use]
pub fn gate(unsettled: Option<&Ledger>, admitted: Option<bool>, boot_id: &str) -> Gate {
    let Some(ledger) = unsettled.filter(|ledger| counts_in_boot(ledger, admitted.is_some(), boot_id)) else {
        return if admitted == Some(false) { Gate::Wait } else { Gate::Open };
    };
    let closed = |why: &str| Gate::Closed(format!("{}: {why}", ledger.subject()));
    match ledger.phase {
        // slurmd's start is part of the proof. A boot since then needs a new proof before it.
        Phase::Registering if ledger.boot_id == boot_id => Gate::Open,
        Phase::Updated | Phase::RolledBack | Phase::Released if ledger.is_settled() => Gate::Open,
        Phase::Verifying | Phase::Registering | Phase::VerifyingOld => Gate::Wait,
        // A drain is kept first.
        Phase::Updated | Phase::RolledBack | Phase::Released => Gate::Wait,
        // The node has booted, and the agent has not noticed yet.
        Phase::Rebooting | Phase::RebootingBack if ledger.boot_id != boot_id => Gate::Wait,
        Phase::Applying | Phase::Undoing | Phase::Rebooting | Phase::RebootingBack => {
            closed(ledger.phase.name())
        }
        Phase::Held => closed(&reason::held(ledger.error.as_deref())),
    }
}

#[cfg(test)]
mod tests;
