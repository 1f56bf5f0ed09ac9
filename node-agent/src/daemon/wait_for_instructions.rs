//! Asking Slurm whether a node that has booted without a ledger will get instructions.
//!
//! Agents never ask the controller for instructions; it sends them. But Slurm knows whether the node is being rebooted
//! at all, and a node that came back by itself must not wait for instructions that will never come.

use crate::config::{Config, OnGateTimeout};
use crate::log;
use crate::slurm::node::SlurmNode;
use rollout_core::controller::follow_up::may_be_expected;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit of one question to Slurm.
const ASKING_SLURM: Duration = Duration::from_secs(10);

/// Pauses between questions. While Slurm does not answer, munge or the network may still be coming up. Once it has
/// answered, only a canceled reboot changes the answer, and a thousand nodes may be asking.
const AGAIN_UNANSWERED: Duration = Duration::from_secs(1);
const AGAIN_ANSWERED: Duration = Duration::from_secs(30);

/// Subject of the Reason.
const SUBJECT: &str = "gate";

/// Waits until slurmd may start without instructions, and returns the reason. Returns `None` soon after `instructed` is
/// set.
pub(crate) fn until_nothing_is_expected(
    config: &Config,
    slurm: &SlurmNode,
    instructed: &AtomicBool,
) -> Option<String> {
    let end = Instant::now() + config.gate_timeout.get();
    let mut held = false;
    loop {
        let answer = slurm.info_within(ASKING_SLURM);
        if instructed.load(Ordering::SeqCst) {
            return None;
        }
        match &answer {
            Ok(info) if !may_be_expected(info) => {
                return Some("Slurm expects nothing of this node".to_owned());
            }
            Ok(_) => {}
            Err(error) => log::warning(&format!("Slurm cannot be asked about this node: {error}")),
        }
        let over = Instant::now() >= end;
        let late = format!("nobody said within {} what this node should be", config.gate_timeout);
        match config.on_gate_timeout {
            OnGateTimeout::Open if over => return Some(late),
            OnGateTimeout::Hold if over && !held => {
                held = true;
                let what =
                    format!("held: {late}: is slurm-rollout-reconcile.timer running on the controller?");
                log::error(&what);
                slurm.give_reason(SUBJECT, &what);
            }
            OnGateTimeout::Open | OnGateTimeout::Hold => {}
        }
        let again = if answer.is_ok() { AGAIN_ANSWERED } else { AGAIN_UNANSWERED };
        let left = end.saturating_duration_since(Instant::now());
        thread::sleep(if left.is_zero() { again } else { again.min(left) });
    }
}
