//! Earlier rollouts, from the state directory: the time that their nodes took, and changes that failed.
//!
//! They are read once for each rollout. Times are only a start: once nodes of the rollout itself are back, these tell.
//! Failures matter before the first node is requested. Whatever cannot be read is left out.

use rollout_control::store::{Rollout, StoreReader};
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::rollout::manifest::Manifest;
use rollout_plan::bad_version::{Ends, has_same_changes};
use rollout_plan::history::{Expected, Past, expected, is_related};
use std::collections::BTreeMap;

/// Numbers of rollouts whose manifests and whose journals are read, the newest first. The executor holds its lease
/// meanwhile.
const MAX_MANIFESTS: usize = 200;
const MAX_JOURNALS: usize = 50;

/// Findings in earlier rollouts about one rollout.
#[derive(Debug, Default)]
pub struct Findings {
    /// The time to expect of its nodes, if earlier rollouts with the same kinds of changes or the same nodes tell.
    pub expected: Option<Expected>,
    /// Ends of nodes in earlier rollouts with the same changes.
    pub ends: Ends,
}

/// Returns the findings about these rollouts, by their ids.
#[must_use]
pub fn read(
    store: &StoreReader,
    snapshot: &Snapshot,
    rollouts: &[&RolloutState],
) -> BTreeMap<String, Findings> {
    let with_manifest = |rollout: &&RolloutState| Some((rollout.id.clone(), rollout.manifest.clone().ok()?));
    let wanted: Vec<(String, Manifest)> = rollouts.iter().filter_map(with_manifest).collect();
    if wanted.is_empty() {
        return BTreeMap::new();
    }
    let tells = |manifest: &Manifest| wanted.iter().any(|(_, wanted)| is_related(wanted, manifest));
    let closed = store.closed().unwrap_or_default();
    let open = snapshot.rollouts.iter().rev().map(|rollout| rollout.id.as_str());
    let newest_first = open.chain(closed.iter().rev().map(|(id, _)| id.as_str()));
    let earlier = newest_first
        .take(MAX_MANIFESTS)
        .filter_map(|id| Some((id, Manifest::parse(&store.manifest_text(id).ok()?).ok()?)))
        .filter(|(_, manifest)| tells(manifest))
        .take(MAX_JOURNALS);
    let mut past = Vec::new();
    let mut ends: BTreeMap<&str, Ends> = BTreeMap::new();
    for (id, manifest) in earlier {
        let Ok(Rollout { lines, .. }) = store.rollout(id) else { continue };
        past.push(Past::of(id, &manifest, &lines));
        let is_other = |of: &&(String, Manifest)| of.0 != id && has_same_changes(&of.1, &manifest);
        for (of, _) in wanted.iter().filter(is_other) {
            ends.entry(of).or_default().add(id, &lines);
        }
    }
    let findings = |(id, manifest): &(String, Manifest)| {
        let ends = ends.remove(id.as_str()).unwrap_or_default();
        (id.clone(), Findings { expected: expected(manifest, &past), ends })
    };
    wanted.iter().map(findings).collect()
}
