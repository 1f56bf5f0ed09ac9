//! Checks before the first node of a rollout is requested, for `start` and `plan`.

use crate::context::Context;
use crate::failure::Failure;
use crate::table::{local_time, one_line};
use rollout_core::controller::conduct::pending;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::slurm::node::NodeInfo;
use rollout_plan::bad_version::{BadVersion, Ends, bad_versions};
use rollout_plan::budget::{self, Doubt, Settings};
use rollout_plan::history::Expected;
use rollout_plan::strategy::{Strategy, check_known};
use std::collections::BTreeMap;

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

/// Returns the nodes that the rollout will request although its changes failed on their kind of hardware.
pub(crate) fn failed_before(
    snapshot: &Snapshot,
    rollout: &RolloutState,
    strategy: &Strategy,
    ends: &Ends,
    slurm: &BTreeMap<String, NodeInfo>,
) -> Vec<BadVersion> {
    bad_versions(&pending(snapshot, rollout).intersection(&strategy.nodes), ends, slurm)
}

/// Returns a bad version as one line, with local time.
pub(crate) fn text_of(bad: &BadVersion) -> String {
    one_line(&bad.text(&local_time(bad.failed.at_ms)))
}
