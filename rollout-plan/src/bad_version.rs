//! Bad versions: changes that failed are not started again on the same kind of hardware, unless an admin asks for it.
//!
//! A kind is what Slurm shows about a node and no rollout changes: its architecture and its available features. A node
//! of which Slurm does not show them may be of any kind.

use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Line, NodeRecords, Progress, replay_line};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::node::NodeInfo;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Ends of nodes in earlier rollouts with the same changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ends {
    failures: Vec<Failure>,
    /// Nodes that were updated, and the times, in milliseconds since 1970.
    updates: Vec<(String, u64)>,
}

/// The failure of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub rollout: String,
    pub node: String,
    /// Time at which it was seen, in milliseconds since 1970.
    pub at_ms: u64,
    /// `rolled-back`, `held` or `lost`.
    pub end: &'static str,
    pub error: Option<String>,
}

/// Nodes on whose kind of hardware the changes failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadVersion {
    /// Nodes that wait for the changes. They are all of one kind.
    pub nodes: NodeSet,
    /// Their kind. `None` if it is not known.
    pub kind: Option<Kind>,
    /// The last failure that counts for them.
    pub failed: Failure,
    /// The kind of the failed node is known.
    pub is_kind_known: bool,
}

/// A kind of hardware.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kind {
    pub arch: String,
    pub features: BTreeSet<String>,
}

/// Returns whether failures of an earlier rollout count for this one: their changes are equal. An undo is always
/// possible.
#[must_use]
pub fn has_same_changes(manifest: &Manifest, earlier: &Manifest) -> bool {
    let is_undo = manifest.desired.image().is_some_and(|image| image.restores.is_some());
    !is_undo && manifest.desired.changes == earlier.desired.changes
}

impl Ends {
    /// Adds the ends in the journal of a rollout.
    ///
    /// The failure of a node that was held counts as well if it was released, or tried again and not updated.
    pub fn add(&mut self, rollout: &str, lines: &[Line]) {
        let mut records = NodeRecords::new();
        let (mut failures, mut updates) = (BTreeMap::new(), BTreeMap::new());
        for line in lines {
            // It passes over late news.
            replay_line(&mut records, line);
            for node in line.entry.nodes().iter() {
                let Some(record) = records.get(node) else { continue };
                let end = match record.progress {
                    Progress::Seen(Phase::Updated) => {
                        updates.insert(node, record.since_ms);
                        continue;
                    }
                    Progress::Seen(phase @ (Phase::RolledBack | Phase::Held)) => phase.name(),
                    Progress::Lost => "lost",
                    _ => continue,
                };
                failures.insert(node, (record.since_ms, end, record.why.clone()));
            }
        }
        let failure = |(node, (at_ms, end, error)): (&str, _)| Failure {
            rollout: rollout.to_owned(),
            node: node.to_owned(),
            at_ms,
            end,
            error,
        };
        self.failures.extend(failures.into_iter().map(failure));
        self.updates.extend(updates.into_iter().map(|(node, at_ms)| (node.to_owned(), at_ms)));
    }

    /// Returns whether nothing failed.
    #[must_use]
    pub fn is_without_failure(&self) -> bool {
        self.failures.is_empty()
    }
}

/// Returns the nodes on whose kind of hardware the changes failed, by their kinds.
///
/// A failure counts for nodes that may be of the same kind as the failed one. It no longer does once a node of that
/// kind was updated later: the cause is gone.
#[must_use]
pub fn bad_versions(nodes: &NodeSet, ends: &Ends, slurm: &BTreeMap<String, NodeInfo>) -> Vec<BadVersion> {
    let kind_of = |node: &str| slurm.get(node).and_then(Kind::of);
    let mut kinds: BTreeMap<Option<Kind>, Vec<String>> = BTreeMap::new();
    for node in nodes.iter() {
        kinds.entry(kind_of(node)).or_default().push(node.to_owned());
    }
    let (mut by_node, mut by_kind) = (BTreeMap::<&str, u64>::new(), BTreeMap::<Kind, u64>::new());
    let latest = |known: &mut u64, at_ms: u64| *known = at_ms.max(*known);
    for (node, at_ms) in &ends.updates {
        latest(by_node.entry(node).or_default(), *at_ms);
        if let Some(kind) = kind_of(node) {
            latest(by_kind.entry(kind).or_default(), *at_ms);
        }
    }
    let failures = ends.failures.iter().map(|failure| (failure, kind_of(&failure.node)));
    let failures: Vec<(&Failure, Option<Kind>)> = failures.collect();
    let counts = |failure: &Failure, failed: Option<&Kind>, kind: Option<&Kind>| {
        let may_be_same = failed.zip(kind).is_none_or(|(failed, kind)| failed == kind);
        let of_kinds = [failed, kind].into_iter().flatten().filter_map(|kind| by_kind.get(kind));
        let mut updated_ms = by_node.get(failure.node.as_str()).into_iter().chain(of_kinds);
        may_be_same && updated_ms.all(|updated_ms| *updated_ms <= failure.at_ms)
    };
    let bad_version = |(kind, nodes): (Option<Kind>, Vec<String>)| {
        let counting =
            failures.iter().filter(|(failure, failed)| counts(failure, failed.as_ref(), kind.as_ref()));
        let (failed, of) = counting.max_by_key(|(failure, _)| failure.at_ms)?;
        let (nodes, failed) = (NodeSet::from_iter(nodes), (*failed).clone());
        Some(BadVersion { nodes, failed, is_kind_known: of.is_some(), kind })
    };
    kinds.into_iter().filter_map(bad_version).collect()
}

impl Kind {
    /// Returns the kind of a node. `None` if Slurm does not know its architecture.
    fn of(node: &NodeInfo) -> Option<Self> {
        Some(Self { arch: node.arch.clone()?, features: node.features.iter().cloned().collect() })
    }
}

/// In one line, as in `x86_64 a100,ib`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arch)?;
        for (index, feature) in self.features.iter().enumerate() {
            write!(f, "{}{feature}", if index == 0 { " " } else { "," })?;
        }
        Ok(())
    }
}

impl BadVersion {
    /// Returns it as one line, with the remedies. `at` is the time of the failure as the reader writes times.
    #[must_use]
    pub fn text(&self, at: &str) -> String {
        let Self { nodes, kind, failed: Failure { rollout, node, end, error, .. }, is_kind_known } = self;
        let error = error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let kind = match kind {
            Some(kind) if *is_kind_known => format!("{node} is of the same kind of hardware ({kind})"),
            Some(_) => {
                format!("Slurm does not show the kind of hardware of {node}, so this counts for all kinds")
            }
            None => "Slurm does not show their kind of hardware, so each failure counts".to_owned(),
        };
        format!(
            "{nodes}: the same changes failed in {rollout}: {node} {end} at {at}{error}; {kind}; correct the cause \
             and start it with --again, or leave {nodes} out (`slurm-rollout unstage`)"
        )
    }
}

#[cfg(test)]
mod tests;
