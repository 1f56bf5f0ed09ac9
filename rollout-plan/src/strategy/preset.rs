//! Presets: the settings of other systems' rolling updates. Keys that are written beside a preset win.

use super::waves::WaveText;
use crate::amount::Amount;
use crate::value;
use rollout_core::rollout::manifest::ManifestError;
use serde::Deserialize;

/// The name of a preset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Preset {
    /// HPE CRUS: batches of `step` nodes, each of which must be over before the next one begins. It halts after a batch
    /// with failures, which CRUS does not.
    Crus,
    /// Dolphin: one node at a time.
    OneAtATime,
    /// The `updateall` of xCAT's rollupdate: at most `step` nodes at a time, as they become free.
    Updateall,
}

/// The settings of a preset.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) max_out: usize,
    pub(super) waves: Vec<WaveText>,
}

impl Settings {
    /// Returns the settings for a rollout of this many nodes.
    pub(super) fn of(
        preset: Option<Preset>,
        step: Option<Amount>,
        total: usize,
    ) -> Result<Self, ManifestError> {
        let step = step.map(|step| step.limit_of(total));
        let (max_out, waves) = match (preset, step) {
            (Some(Preset::Crus), Some(step)) => (step, batches(step, total)),
            (Some(Preset::Updateall), Some(step)) => (step, Vec::new()),
            (Some(Preset::OneAtATime) | None, None) => (1, Vec::new()),
            (Some(Preset::Crus | Preset::Updateall), None) => {
                return Err(value(
                    "strategy.step",
                    "missing: the preset needs the number of nodes to take at a time",
                ));
            }
            (Some(Preset::OneAtATime) | None, Some(_)) => {
                let why =
                    "only for the presets crus and updateall; write max_out, or one of them as the preset";
                return Err(value("strategy.step", why));
            }
        };
        Ok(Self { max_out, waves })
    }
}

/// Returns waves of `step` nodes each.
fn batches(step: usize, total: usize) -> Vec<WaveText> {
    let ends = (1..=total.div_ceil(step.max(1))).map(|n| n.saturating_mul(step).min(total));
    ends.filter_map(|end| u32::try_from(end).ok()).map(|end| WaveText::Amount(Amount::Count(end))).collect()
}
