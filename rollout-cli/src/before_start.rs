//! Checks before the first node of a rollout is requested, for `start` and `plan`.

use crate::context::Context;
use crate::failure::Failure;
use rollout_core::controller::conduct::pending;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_plan::budget::{self, Doubt, Settings};
use rollout_plan::history::Expected;
use rollout_plan::strategy::{Strategy, check_known};

/// Returns the reason for not starting a rollout that would come after one that never was. Such a name is a typo: the
/// rollout would not wait for anything.
pub(crate) fn unknown_after(
    context: &Context,
    id: &str,
    strategy: &Strategy,
) -> Result<Option<String>, Failure> {
    let Some(after) = &strategy.after else { return Ok(None) };
    let unknown = check_known(after, id, &context.store.ids_ever()?).err();
    Ok(unknown.map(|unknown| unknown.to_string()))
}

/// Returns the doubts that Slurm waits long enough for the nodes that the rollout will request.
pub(crate) fn doubts(
    snapshot: &Snapshot,
    rollout: &RolloutState,
    strategy: &Strategy,
    settings: Option<Settings<'_>>,
    expected: Option<&Expected>,
) -> Vec<Doubt> {
    let Ok(manifest) = &rollout.manifest else { return Vec::new() };
    let nodes = pending(snapshot, rollout).intersection(&strategy.nodes);
    budget::doubts(&nodes, settings, expected, manifest.desired.longest())
}
