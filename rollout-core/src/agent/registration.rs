//! The last proof: Slurm accepts the node.
//!
//! slurmctld stores the start time that slurmd reports at every registration, before it examines the registration
//! (`validate_jobs_on_node`, `src/slurmctld/job_mgr.c`, 22.05 to 26.05). A different start time than before slurmd was
//! started therefore shows that it has registered since. The flags show the result: INVALID_REG of a node that differs
//! from slurm.conf, and REBOOT_ISSUED as long as Slurm waits for a boot (`validate_node_specs`,
//! `src/slurmctld/node_mgr.c`). The state alone shows neither: a node that Slurm gave up, or that is drained, registers
//! and stays DOWN.
//!
//! The node may have jobs once slurmd was started. So only an answer of Slurm's leads back from there, and silence does
//! not: slurmctld may be away, and the change may have broken scontrol alone.

use crate::agent::ledger::Ledger;
use crate::slurm::node::NodeInfo;
use crate::slurm::reason;
use crate::time_limit::TimeLimit;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Time for which slurmctld may be away before slurmd is started. Its upgrades and failovers take minutes. A node that
/// goes back for them has done so for nothing, and with it every other node that booted meanwhile.
pub const AWAY_LIMIT: Duration = Duration::from_secs(30 * 60);

/// Pauses between questions. They grow with the time that has passed: a node in time is seen at once, and a thousand
/// late ones ask slurmctld a hundred times a second.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Pause before slurmd is started again. Devices, plugins or MUNGE may come late in a boot.
const START_AGAIN: Duration = Duration::from_secs(5);
/// Pause before slurmd is restarted because Slurm refuses the node: it looks at the node's devices when it starts.
const RESTART: Duration = Duration::from_secs(20);

/// slurmd's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    Runs,
    /// Its job waits for other units, or systemd is about to restart it.
    Starts,
    /// It is down, for this reason.
    Down(String),
}

/// The next step of the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Accepted,
    Start,
    Restart,
    /// Look again after this pause.
    Wait(Duration),
    Failed(String),
}

/// Slurm's view of the node before slurmd was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeforeStart {
    /// SlurmdStartTime, of an earlier slurmd. `None` if slurmctld has not seen one since its own start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slurmd_start_s: Option<u64>,
    /// Slurm waited for the node's boot.
    #[serde(default)]
    handed_over: bool,
    /// Time of that hand-over, if it was known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    handed_over_s: Option<u64>,
}

impl From<&NodeInfo> for BeforeStart {
    fn from(info: &NodeInfo) -> Self {
        Self {
            slurmd_start_s: info.slurmd_start_s,
            handed_over: info.is_handed_over(),
            handed_over_s: info.handed_over_s(),
        }
    }
}

/// The proof so far.
#[derive(Debug, Clone)]
pub struct Registration {
    limit: TimeLimit,
    /// `None` if nobody could ask before slurmd ran, and in a ledger of an older agent.
    before: Option<BeforeStart>,
    /// Earliest time at which slurmd may have been started, by a clock that may have been set since. Only used without
    /// `before`.
    since_s: u64,
    /// Start of the time in which slurmd must register.
    counted_from: Duration,
    /// Slurm has answered since then, while slurmd ran.
    has_answered: bool,
    last_start: Duration,
}

impl Registration {
    /// Begins the proof that the order of this ledger needs, or goes on with it in a later agent.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        Self {
            limit: ledger.registration_timeout(),
            before: ledger.before_start,
            since_s: ledger.since_s.max(ledger.ordered_s.unwrap_or_default()),
            counted_from: Duration::ZERO,
            has_answered: false,
            last_start: Duration::ZERO,
        }
    }

    /// Decides after a look at slurmd's unit and, if that runs, at Slurm. `elapsed` is the time since slurmd was first
    /// started.
    pub fn look(&mut self, elapsed: Duration, unit: &Unit, slurm: Option<&Result<NodeInfo, String>>) -> Next {
        match (unit, slurm) {
            (Unit::Runs, Some(Ok(info))) => {
                if self.is_accepted(info) {
                    return Next::Accepted;
                }
                // slurmd gets its time from the first moment at which it could register.
                if !self.has_answered {
                    (self.has_answered, self.counted_from) = (true, elapsed);
                }
            }
            // slurmd cannot register meanwhile, or has, and nobody knows.
            (Unit::Runs, Some(Err(_))) => {
                (self.has_answered, self.counted_from) = (false, elapsed);
                return Next::Wait(pause(elapsed));
            }
            _ => {}
        }
        let limit = self.counted_from + self.limit.get();
        if elapsed >= limit {
            return Next::Failed(self.failure(elapsed, unit, slurm));
        }
        let since_start = elapsed.saturating_sub(self.last_start);
        let next = match (unit, slurm) {
            (Unit::Down(_), _) if since_start >= START_AGAIN => Next::Start,
            (Unit::Runs, Some(Ok(info))) if self.is_refused(info) && since_start >= RESTART => Next::Restart,
            _ => return Next::Wait(pause(elapsed).min(limit - elapsed)),
        };
        self.last_start = elapsed;
        next
    }

    /// Returns whether Slurm has accepted the node. It is asked once more after slurmd is stopped at the time limit:
    /// jobs may have started in between.
    #[must_use]
    pub fn is_accepted(&self, info: &NodeInfo) -> bool {
        let waits_for_boot = info.is_handed_over() && !self.is_handed_over_again(info);
        self.has_registered(info) && !info.has("INVALID_REG") && !waits_for_boot
    }

    /// Returns whether Slurm has handed the node over since slurmd was started. It hands over no node for which it
    /// waits already, so it had stopped waiting for the boot of this order.
    fn is_handed_over_again(&self, info: &NodeInfo) -> bool {
        let Some(before) = self.before else { return false };
        let later = before.handed_over_s.zip(info.handed_over_s()).is_some_and(|(first, now)| now > first);
        !before.handed_over || later
    }

    fn is_refused(&self, info: &NodeInfo) -> bool {
        self.has_registered(info) && info.has("INVALID_REG")
    }

    /// Returns whether slurmd has registered since its start: Slurm shows another start than before. Without a record
    /// of that, the node's clock is all there is.
    fn has_registered(&self, info: &NodeInfo) -> bool {
        let Some(start_s) = info.slurmd_start_s else { return false };
        self.before.map_or(start_s >= self.since_s, |before| before.slurmd_start_s != Some(start_s))
    }

    fn failure(&self, elapsed: Duration, unit: &Unit, slurm: Option<&Result<NodeInfo, String>>) -> String {
        let within = format!("within {}", TimeLimit::from_secs(elapsed.as_secs()));
        match (unit, slurm) {
            (Unit::Down(why), _) => format!("slurmd does not stay up {within}: {why}"),
            (Unit::Starts, _) => {
                format!(
                    "slurmd was not started {within}: `systemctl list-jobs` shows the units that it waits for"
                )
            }
            (Unit::Runs, Some(Ok(info))) if self.is_refused(info) => {
                let why = reason::cause(info.reason.as_deref());
                format!("Slurm refuses the node's registration (INVALID_REG) {within}: {why}")
            }
            (Unit::Runs, Some(Ok(info))) if self.has_registered(info) => {
                let state = info.state_text();
                format!("slurmd registered, and Slurm still waits for a boot {within}: {state}")
            }
            (Unit::Runs, _) => format!("slurmd runs and did not register with slurmctld {within}"),
        }
    }
}

/// Returns the pause before the next look, after this time of looking.
#[must_use]
pub fn pause(elapsed: Duration) -> Duration {
    (elapsed / 3).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
