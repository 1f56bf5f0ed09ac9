//! Node sets in strategies and limits.

use crate::value;
use rollout_core::hostlist::{self, NodeSet};
use rollout_core::rollout::manifest::ManifestError;

/// Returns the nodes of a hostlist or node set, or the reason for having none.
///
/// A strategy is expanded when it is staged, so it needs [`NodeSet::parse`] alone. Site-wide limits are expanded when
/// they are read.
pub type Resolve<'a> = &'a dyn Fn(&str) -> Result<NodeSet, String>;

/// Resolves node sets as hostlists.
pub(crate) fn hostlist(text: &str) -> Result<NodeSet, String> {
    NodeSet::parse(text).map_err(|error| error.to_string())
}

/// Returns the nodes of the text at `key`.
pub(crate) fn nodes_of(key: &str, text: &str, resolve: Resolve<'_>) -> Result<NodeSet, ManifestError> {
    resolve(text).map_err(|reason| value(key, reason))
}

/// Returns the nodes of the text at `key` in the order in which they are written. Those of a node set are sorted.
pub(crate) fn sequence_of(key: &str, text: &str, resolve: Resolve<'_>) -> Result<Vec<String>, ManifestError> {
    match hostlist::expand(text) {
        Ok(names) => Ok(names),
        Err(_) => Ok(nodes_of(key, text, resolve)?.iter().map(str::to_owned).collect()),
    }
}

/// Refuses nodes at `key` that are not among `all`, which the message calls `whose`.
pub(crate) fn check_among(
    key: &str,
    nodes: &NodeSet,
    all: &NodeSet,
    whose: &str,
) -> Result<(), ManifestError> {
    let others = nodes.difference(all);
    if others.is_empty() {
        return Ok(());
    }
    Err(value(key, format!("{others}: not among {whose}; remove them here, or add them there")))
}
