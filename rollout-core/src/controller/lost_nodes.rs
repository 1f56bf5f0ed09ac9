//! Nodes that accepted their order and did not come back.

use super::snapshot::RecordOf;
use super::view::NodeView;
use crate::rollout::image::DEFAULT_BOOT_TIMEOUT_S;
use crate::rollout::journal::Progress;

/// Returns the reason if a node accepted its order and did not come back: its agent is silent, and Slurm has given up
/// on it or its time is over.
#[must_use]
pub fn lost(node: NodeView<'_>, of: RecordOf<'_>) -> Option<String> {
    let record = of.record;
    let silent = node.answer().is_some_and(|answer| answer.is_err());
    if record.progress != Progress::Ordered || of.rollout.is_none() || !silent {
        return None;
    }
    let limit_ms = time_limit_ms(of);
    if node.slurm().is_some_and(|info| info.timed_out_waiting_for_our_reboot()) {
        return Some("Slurm gave up waiting for its reboot, and its agent does not answer".to_owned());
    }
    let overdue = node.now_ms() > record.since_ms.saturating_add(limit_ms);
    overdue.then(|| format!("its agent has been silent for more than {} min", limit_ms / 60_000))
}

/// Returns the time after which a silent node counts as lost.
fn time_limit_ms(of: RecordOf<'_>) -> u64 {
    let desired = of.rollout.and_then(|rollout| Some(&rollout.manifest.as_ref().ok()?.desired));
    let limit = desired.map_or(0, |desired| u64::try_from(desired.longest().as_millis()).unwrap_or(u64::MAX));
    limit.saturating_add(DEFAULT_BOOT_TIMEOUT_S * 1000)
}
