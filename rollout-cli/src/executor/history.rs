//! Visits of earlier rollouts, from the state directory.
//!
//! They are read once for each rollout, since they are only a start: once nodes of the rollout itself are back, these
//! tell. Whatever cannot be read is left out.

use rollout_control::store::StoreReader;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::rollout::manifest::Manifest;
use rollout_plan::history::{Expected, Past, expected, is_related};
use std::collections::BTreeMap;

/// Numbers of rollouts whose manifests and whose journals are read, the newest first. The executor holds its lease
/// meanwhile.
const MAX_MANIFESTS: usize = 200;
const MAX_JOURNALS: usize = 50;

/// Returns what to expect of the nodes of these rollouts, by their ids, if earlier ones with the same kinds of changes
/// or the same nodes tell.
#[must_use]
pub fn read(
    store: &StoreReader,
    snapshot: &Snapshot,
    rollouts: &[&RolloutState],
) -> BTreeMap<String, Expected> {
    let with_manifest = |rollout: &&RolloutState| Some((rollout.id.clone(), rollout.manifest.clone().ok()?));
    let wanted: Vec<(String, Manifest)> = rollouts.iter().filter_map(with_manifest).collect();
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    let tells = |manifest: &Manifest| wanted.iter().any(|(_, wanted)| is_related(wanted, manifest));
    let closed = store.closed().unwrap_or_default();
    let open = snapshot.rollouts.iter().rev().map(|rollout| rollout.id.as_str());
    let newest_first = open.chain(closed.iter().rev().map(|(id, _)| id.as_str()));
    let past: Vec<Past> = newest_first
        .take(MAX_MANIFESTS)
        .filter_map(|id| Some((id, Manifest::parse(&store.manifest_text(id).ok()?).ok()?)))
        .filter(|(_, manifest)| tells(manifest))
        .take(MAX_JOURNALS)
        .filter_map(|(id, manifest)| Some(Past::of(id, &manifest, &store.rollout(id).ok()?.lines)))
        .collect();
    let found = wanted.into_iter().filter_map(|(id, manifest)| Some((id, expected(&manifest, &past)?)));
    found.collect()
}
