//! Visits of earlier rollouts, from their journals: what to expect of nodes that have not been out yet.

use rollout_core::agent::phase::Phase;
use rollout_core::rollout::journal::{Entry, Line};
use rollout_core::rollout::manifest::Manifest;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// The visits of an earlier rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    pub rollout: String,
    kinds: BTreeSet<&'static str>,
    pub visits: Vec<PastVisit>,
}

/// The time from the hand-over of a node until it was seen updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastVisit {
    pub node: String,
    pub took_ms: u64,
}

/// The time within which nine of ten nodes were back in earlier rollouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expected {
    pub takes_ms: u64,
    /// Number of visits that it is taken from.
    pub visits: usize,
    /// The node and the rollout whose visit took this long.
    pub node: String,
    pub rollout: String,
    /// These rollouts had the same kinds of changes. If none had, the nodes alone are the same.
    pub same_kinds: bool,
}

impl Past {
    /// Returns the visits in the journal of a rollout.
    ///
    /// Visits of nodes that were held, rolled back or called off are left out, since a person or the way back took part
    /// of the time. So are those that took longer than all time limits of the rollout together: such a node was not
    /// slow, but repaired, or seen late. A node that Slurm gave up, and that came back all the same, was slow.
    #[must_use]
    pub fn of(rollout: &str, manifest: &Manifest, lines: &[Line]) -> Self {
        let longest_ms = millis(manifest.desired.longest());
        let mut handed_over: HashMap<&str, u64> = HashMap::new();
        let mut visits = Vec::new();
        for Line { t_ms, entry, .. } in lines {
            for node in entry.nodes().iter() {
                match entry {
                    Entry::Ordering { .. } => drop(handed_over.insert(node, *t_ms)),
                    Entry::Seen { phase: Phase::Updated, .. } => {
                        let took_ms = handed_over.remove(node).and_then(|from_ms| t_ms.checked_sub(from_ms));
                        if let Some(took_ms) = took_ms.filter(|took_ms| *took_ms <= longest_ms) {
                            visits.push(PastVisit { node: node.to_owned(), took_ms });
                        }
                    }
                    Entry::Seen { .. }
                    | Entry::Retried { .. }
                    | Entry::Released { .. }
                    | Entry::Refused { .. }
                    | Entry::Covered { .. }
                    | Entry::Superseded { .. }
                    | Entry::Unstaged { .. } => drop(handed_over.remove(node)),
                    _ => {}
                }
            }
        }
        Self { rollout: rollout.to_owned(), kinds: kinds(manifest), visits }
    }
}

/// Returns whether the visits of one rollout tell about those of the other: the same kinds of changes, or some of the
/// same nodes.
#[must_use]
pub fn is_related(a: &Manifest, b: &Manifest) -> bool {
    kinds(a) == kinds(b) || a.nodes.iter().any(|node| b.nodes.contains(node))
}

/// Returns what to expect of the nodes of a rollout. Rollouts with the same kinds of changes count before all others,
/// of which only the same nodes do. `None` if there are no such visits.
#[must_use]
pub fn expected(manifest: &Manifest, past: &[Past]) -> Option<Expected> {
    let own = kinds(manifest);
    let all = || past.iter().flat_map(|past| past.visits.iter().map(move |visit| (visit, past)));
    let mut visits: Vec<_> = all().filter(|(_, past)| past.kinds == own).collect();
    let same_kinds = !visits.is_empty();
    if !same_kinds {
        visits = all().filter(|(visit, _)| manifest.nodes.contains(&visit.node)).collect();
    }
    visits.sort_by_key(|(visit, past)| (visit.took_ms, &past.rollout, &visit.node));
    let (visit, past) = nine_of_ten(&visits)?;
    Some(Expected {
        takes_ms: visit.took_ms,
        visits: visits.len(),
        node: visit.node.clone(),
        rollout: past.rollout.clone(),
        same_kinds,
    })
}

impl Expected {
    /// Returns the time as a duration.
    #[must_use]
    pub fn takes(&self) -> Duration {
        Duration::from_millis(self.takes_ms)
    }
}

/// Returns the value that nine of ten do not exceed. Of fewer than ten it is the largest. They must be sorted.
pub(crate) fn nine_of_ten<T>(sorted: &[T]) -> Option<&T> {
    sorted.get(sorted.len().saturating_mul(9).div_ceil(10).checked_sub(1)?)
}

fn kinds(manifest: &Manifest) -> BTreeSet<&'static str> {
    manifest.desired.changes.iter().map(|change| change.kind()).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
