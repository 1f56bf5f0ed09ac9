//! A node as Slurm reports it, and the meaning of Slurm's states to a rollout.
//!
//! The only module that depends on Slurm's wording of node states. Read against Slurm 22.05 to 26.05.

use crate::slurm::reason::{Classified, Reason};

pub mod parse;

/// A node as Slurm reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeInfo {
    pub name: String,
    /// NodeAddr, at which slurmctld reaches the node. Slurm's default is the NodeName.
    pub address: String,
    /// Arch, as printed by `uname -m`. `None` until the node has registered.
    pub arch: Option<String>,
    /// NodeHostName, the host's own name.
    pub host: String,
    /// The base state and the flags of `State=`, such as `DOWN`, `DRAIN`, `REBOOT_ISSUED`; without `*` and the like.
    pub state: Vec<String>,
    /// Names of the partitions that have the node.
    pub partitions: Vec<String>,
    /// `AvailableFeatures=`.
    pub features: Vec<String>,
    /// `NextState=`, if a reboot is pending.
    pub next_state: Option<String>,
    /// `Reason=` without the ` [user@time]` behind its first line. Lines end with a newline.
    pub reason: Option<String>,
    /// The user who set the Reason.
    pub reason_user: Option<String>,
    /// Time at which the Reason was set, in seconds since 1970.
    pub reason_s: Option<u64>,
    /// `BootTime=` in seconds since 1970. `None` if Slurm does not know it.
    pub boot_s: Option<u64>,
    /// `SlurmdStartTime=` in seconds since 1970, by the node's clock. `None` if Slurm does not know it.
    pub slurmd_start_s: Option<u64>,
    /// Version of Slurm on the node.
    pub version: Option<String>,
}

impl NodeInfo {
    /// Returns whether `State=` contains this word.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.state.iter().any(|word| word == flag)
    }

    /// Returns the state as `scontrol` prints it.
    #[must_use]
    pub fn state_text(&self) -> String {
        self.state.join("+")
    }

    /// Returns whether Slurm has handed the node over for a reboot: by `scontrol reboot` (REBOOT_ISSUED), or for a job
    /// with `--reboot` (POWERING_UP, up to 25.11 without REBOOT_ISSUED).
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.has("REBOOT_ISSUED") || self.has("POWERING_UP")
    }

    /// Returns whether the node is handed over for a job that will start on it (`sbatch --reboot`, or features that
    /// need a boot), and not by `scontrol reboot`, which leaves the node DOWN (`_do_reboot` in
    /// `src/slurmctld/job_scheduler.c`).
    #[must_use]
    pub fn is_rebooted_for_a_job(&self) -> bool {
        self.has("POWERING_UP") && !self.has("DOWN")
    }

    /// Returns whether Slurm itself puts the node back into service if it boots in time (`validate_node_specs`).
    /// NextState DOWN keeps it down, and without any NextState a DRAIN stays.
    #[must_use]
    pub fn returns_by_itself(&self) -> bool {
        match self.next_state.as_deref() {
            Some(next) => !next.split(['+', ',']).any(|word| word.trim_end_matches('*') == "DOWN"),
            None => !self.has("DRAIN"),
        }
    }

    /// Returns whether Slurm gave up waiting for a reboot of this node, and nobody has set a different Reason since.
    #[must_use]
    pub fn timed_out_waiting_for_our_reboot(&self) -> bool {
        self.has("DOWN")
            && !self.is_handed_over()
            && !self.has("INVALID_REG")
            && self.classified_reason().is_some_and(|reason| reason.is_of_a_timed_out_reboot())
    }

    /// Returns whether the node is out of service only because our agent drained it to hold it.
    #[must_use]
    pub fn is_drained_by_us(&self) -> bool {
        self.shows_our_reason() && self.has("DRAIN") && !self.has("DOWN") && !self.is_handed_over()
    }

    /// Returns the latest time at which Slurm may have handed the node over, in seconds since 1970, if its Reason
    /// tells: Slurm's own Reason, or that of a RebootProgram that could not order it ([`Reason::not_ordered`]).
    ///
    /// While a node has REBOOT_ISSUED, the hand-over is the last thing that Slurm has noted in its Reason, with a new
    /// time even if the note itself was there before.
    #[must_use]
    pub fn handed_over_s(&self) -> Option<u64> {
        let reason = self.classified_reason().filter(|_| self.has("REBOOT_ISSUED"))?;
        self.reason_s.filter(|_| reason.is_of_a_hand_over())
    }

    /// Returns whether slurm-rollout set the node's Reason.
    #[must_use]
    pub fn shows_our_reason(&self) -> bool {
        self.classified_reason().is_some_and(|reason| reason.is_ours())
    }

    pub(crate) fn classified_reason(&self) -> Option<Classified<'_>> {
        self.reason.as_deref().map(Reason::classify)
    }
}

#[cfg(test)]
mod tests {
    use super::parse::parse_nodes;
    use super::*;

    fn node(state: &str, reason: &str) -> NodeInfo {
        let line = format!("NodeName=n1 State={state} Reason={reason} [root@2026-11-01T10:05:00]");
        parse_nodes(&line).remove(0)
    }

    #[test]
    fn only_a_reason_that_shows_our_reboot_counts_as_late() {
        for (state, reason, late) in [
            ("DOWN+DRAIN", "t3 : reboot issued : reboot timed out", true),
            ("DOWN", "reboot issued : reboot timed out", true),
            ("DOWN", "t3 : reboot issued : reboot timed out : reboot complete", false),
            ("DOWN", "slurm-rollout r: held: nhc : reboot timed out : reboot issued", true),
            ("DOWN", "slurm-rollout r: rolling back: dnf failed : reboot timed out", true),
            ("DOWN", "bad DIMM", false),
            ("DOWN", "bad DIMM : reboot timed out by mistake", false),
            ("DOWN", "Not responding", false),
            ("DOWN+REBOOT_ISSUED", "t3 : reboot issued", false),
            ("DOWN+INVALID_REG", "t3 : reboot issued : reboot timed out", false),
            ("IDLE", "t3 : reboot issued : reboot timed out", false),
        ] {
            assert_eq!(node(state, reason).timed_out_waiting_for_our_reboot(), late, "{state} {reason}");
        }
    }

    #[test]
    fn a_reason_may_tell_by_when_the_node_was_handed_over() {
        let not_ordered = Reason::not_ordered("/run/slurm-rollout/agent.sock: connection refused", None);
        let unknown = "slurm-rollout RebootProgram: refused: held by driver";
        for (reason, tells) in [
            ("driver : reboot issued", true),
            (not_ordered.as_str(), true),
            (unknown, false),
            ("slurm-rollout driver: not ordered: no answer from its agent", false),
            // Of a second `scontrol reboot` without `reason=`: after a time-out, after `nextstate=down`, and in 22.05.
            ("driver : reboot issued : reboot timed out", true),
            ("driver : reboot issued : reboot complete", true),
            ("slurm-rollout driver: held: nhc : reboot issued : reboot timed out", true),
            ("reboot issued", true),
            ("bad DIMM", false),
        ] {
            let found = node("DOWN+REBOOT_ISSUED", reason).handed_over_s();
            assert_eq!(found, tells.then_some(1_793_527_500), "{reason}");
            for state in ["DOWN+DRAIN", "ALLOCATED+POWERING_UP"] {
                assert_eq!(node(state, reason).handed_over_s(), None, "{state} {reason}");
            }
        }
    }

    #[test]
    fn returns_by_itself_as_slurm_would() {
        for (state, next, returns) in [
            ("DOWN+DRAIN+REBOOT_ISSUED", Some("RESUME"), true),
            ("DOWN+DRAIN+REBOOT_ISSUED", Some("UNDRAIN"), true),
            ("DOWN+REBOOT_ISSUED", Some("DOWN"), false),
            ("DOWN+REBOOT_ISSUED", None, true),
            ("DOWN+DRAIN+REBOOT_ISSUED", None, false),
        ] {
            let mut node = node(state, "x");
            node.next_state = next.map(str::to_owned);
            assert_eq!(node.returns_by_itself(), returns, "{state} {next:?}");
        }
    }
}
