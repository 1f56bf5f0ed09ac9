//! Exclusive sets: of their members, only so many may be out at once. xCAT calls them mutex.

use crate::group::Group;
use crate::node_sets::{Resolve, nodes_of, sequence_of};
use crate::value;
use rollout_core::hostlist::{self, NodeSet};
use rollout_core::rollout::manifest::ManifestError;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// A set of members of which only so many may be out at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExclusiveSet {
    /// The set as messages name it: its groups or nodes.
    pub label: String,
    /// The members: groups, and nodes without a group. They have no node in common. A group is out while one of its nodes
    /// reboots, a single node while it is out of service.
    pub members: Vec<NodeSet>,
    /// Maximum number of members that are out, at least 1.
    pub at_once: usize,
}

/// An exclusive set as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    groups: Option<Vec<String>>,
    nodes: Option<String>,
    pairs: Option<Vec<String>>,
    at_once: Option<u32>,
}

/// Checks the exclusive sets at `key`. A set with `pairs` becomes one for each pair.
pub(crate) fn check_all(
    key: &str,
    written: Vec<Written>,
    groups: &[Group],
    resolve: Resolve<'_>,
) -> Result<Vec<ExclusiveSet>, ManifestError> {
    let mut sets = Vec::new();
    for (set, n) in written.into_iter().zip(1..) {
        sets.extend(set.check(&format!("{key}[{n}]"), groups, resolve)?);
    }
    Ok(sets)
}

impl Written {
    fn check(
        self,
        key: &str,
        groups: &[Group],
        resolve: Resolve<'_>,
    ) -> Result<Vec<ExclusiveSet>, ManifestError> {
        let Some(at_once) = NonZeroU32::new(self.at_once.unwrap_or(1)) else {
            return Err(value(format!("{key}.at_once"), "0: none of them could ever go; write 1 or more"));
        };
        let at_once = usize::try_from(at_once.get()).unwrap_or(usize::MAX);
        let set = |label: String, members| ExclusiveSet { label, members, at_once };
        match (self.groups, self.nodes, self.pairs) {
            (Some(names), None, None) => {
                let members = named(&format!("{key}.groups"), &names, groups)?;
                Ok(vec![set(names.join(","), members)])
            }
            (None, Some(text), None) => {
                let nodes = nodes_of(&format!("{key}.nodes"), &text, resolve)?;
                let members = members_of(nodes.iter(), groups);
                Ok(vec![set(nodes.to_string(), members)])
            }
            (None, None, Some(lists)) => {
                let pairs = pairs(&format!("{key}.pairs"), &lists, resolve)?;
                let sets = pairs.into_iter().map(|pair| {
                    let members = members_of(pair.iter().map(String::as_str), groups);
                    if members.len() < pair.len() {
                        let why =
                            format!("{}: two of them are in one group, which goes together", pair.join(","));
                        return Err(value(format!("{key}.pairs"), why));
                    }
                    Ok(set(pair.join(","), members))
                });
                sets.collect()
            }
            (None, None, None) => Err(value(key, "exclusive of what? write one of groups, nodes and pairs")),
            _ => Err(value(key, "more than one of groups, nodes and pairs: write an exclusive set for each")),
        }
    }
}

/// Returns the nodes of the groups with these names, in which ranges stand for several.
fn named(key: &str, names: &[String], groups: &[Group]) -> Result<Vec<NodeSet>, ManifestError> {
    let mut seen = BTreeSet::new();
    let mut members = Vec::new();
    for (text, n) in names.iter().zip(1..) {
        let key = format!("{key}[{n}]");
        let names = hostlist::expand(text).map_err(|error| value(&key, error.to_string()))?;
        for name in names {
            let Some(group) = groups.iter().find(|group| group.name == name) else {
                let known: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
                let known = if known.is_empty() { "there is none".to_owned() } else { known.join(", ") };
                return Err(value(key, format!("no group is named {name}: {known}")));
            };
            if !seen.insert(name) {
                return Err(value(key, format!("the group {} twice", group.name)));
            }
            members.push(group.nodes.clone());
        }
    }
    if members.is_empty() { Err(value(key, "no group: name two or more")) } else { Ok(members) }
}

/// Returns the members that these nodes stand for: their groups, and themselves if they have none.
fn members_of<'a>(names: impl Iterator<Item = &'a str>, groups: &'a [Group]) -> Vec<NodeSet> {
    let nodes = |group: &'a Group| group.nodes.iter().map(move |node| (node, group));
    let group_of: BTreeMap<&str, &Group> = groups.iter().flat_map(nodes).collect();
    let mut seen = BTreeSet::new();
    let members = names.filter_map(|name| match group_of.get(name) {
        Some(group) => seen.insert((true, group.name.as_str())).then(|| group.nodes.clone()),
        None => seen.insert((false, name)).then(|| [name.to_owned()].into_iter().collect()),
    });
    members.collect()
}

/// Returns the first nodes of all lists together, then the second ones, and so on.
fn pairs(key: &str, lists: &[String], resolve: Resolve<'_>) -> Result<Vec<Vec<String>>, ManifestError> {
    let sequences = lists.iter().zip(1..).map(|(text, n)| sequence_of(&format!("{key}[{n}]"), text, resolve));
    let sequences: Vec<Vec<String>> = sequences.collect::<Result<_, _>>()?;
    let Some((first, others)) = sequences.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Err(value(key, "write two or more lists: their first nodes exclude each other, and so on"));
    };
    for (other, n) in others.iter().zip(2..) {
        if other.len() != first.len() {
            let why = format!(
                "{} nodes, but the first list has {}; write lists of one length",
                other.len(),
                first.len()
            );
            return Err(value(format!("{key}[{n}]"), why));
        }
    }
    let pair =
        |n: usize| sequences.iter().filter_map(|sequence| sequence.get(n).cloned()).collect::<Vec<_>>();
    let pairs: Vec<Vec<String>> = (0..first.len()).map(pair).collect();
    let has_twice = |pair: &&Vec<String>| pair.iter().collect::<BTreeSet<_>>().len() < pair.len();
    match pairs.iter().find(has_twice) {
        Some(pair) => Err(value(key, format!("{}: a node cannot exclude itself", pair.join(",")))),
        None => Ok(pairs),
    }
}
