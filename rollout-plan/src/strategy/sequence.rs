//! The order in which nodes are taken.

use crate::group::Group;
use rollout_core::hostlist::{self, NodeSet};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The order of the nodes within a wave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Nodes that are likely free soonest come first.
    #[default]
    SoonestFree,
    /// The order of `nodes` in the manifest.
    AsWritten,
    /// The order of the groups, then nodes without a group.
    ByGroup,
}

/// Returns the nodes in the order in which they are written, or first in that of their groups.
pub(super) fn of(order: Order, written: &str, nodes: &NodeSet, groups: &[Group]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let names = hostlist::expand(written).unwrap_or_default();
    let names = names.into_iter().chain(nodes.iter().map(str::to_owned));
    let mut sequence: Vec<String> =
        names.filter(|name| nodes.contains(name) && seen.insert(name.clone())).collect();
    if order == Order::ByGroup {
        let nodes = |(group, n): (&'_ Group, usize)| {
            group.nodes.iter().map(|node| (node.to_owned(), n)).collect::<Vec<_>>()
        };
        let rank: BTreeMap<String, usize> = groups.iter().zip(0..).flat_map(nodes).collect();
        sequence.sort_by_key(|name| rank.get(name).copied().unwrap_or(usize::MAX));
    }
    sequence
}
