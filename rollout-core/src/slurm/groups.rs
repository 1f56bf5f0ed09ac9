//! Groups of nodes that Slurm knows: by partition, feature and state.

use super::node::NodeInfo;
use crate::hostlist::NodeSet;
use std::collections::BTreeSet;

/// Number of partitions or features that an error lists.
const LISTED: usize = 12;

/// States and flags in the output of `scontrol` (`node_states` and `node_state_flags` in
/// `src/common/slurm_protocol_defs.c`, 22.05 to 26.05). A node may show others, of later versions.
const STATES: [&str; 28] = [
    "ALLOCATED",
    "BLOCKED",
    "CLOUD",
    "COMPLETING",
    "DOWN",
    "DRAIN",
    "DYNAMIC_FUTURE",
    "DYNAMIC_NORM",
    "ERROR",
    "EXTERNAL",
    "FAIL",
    "FUTURE",
    "IDLE",
    "INVALID_REG",
    "MAINTENANCE",
    "MIXED",
    "NOT_RESPONDING",
    "PERFCTRS",
    "PLANNED",
    "POWERED_DOWN",
    "POWERING_DOWN",
    "POWERING_UP",
    "POWER_DOWN",
    "POWER_UP",
    "REBOOT_ISSUED",
    "REBOOT_REQUESTED",
    "RESERVED",
    "UNKNOWN",
];

/// Other names of states, as `sinfo` prints and takes them.
const ALIASES: [(&str, &str); 10] = [
    ("ALLOC", "ALLOCATED"),
    ("COMP", "COMPLETING"),
    ("FUTR", "FUTURE"),
    ("MAINT", "MAINTENANCE"),
    ("MIX", "MIXED"),
    ("NO_RESPOND", "NOT_RESPONDING"),
    ("PLND", "PLANNED"),
    ("REBOOT", "REBOOT_ISSUED"),
    ("RESV", "RESERVED"),
    ("UNK", "UNKNOWN"),
];

/// The property by which nodes are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeProperty {
    Partition,
    /// AvailableFeatures, which do not depend on what a node has booted.
    Feature,
    State,
}

impl NodeProperty {
    /// Returns the property that a source of groups stands for. ClusterShell's example configuration has other names
    /// for two of them (`conf/groups.conf.d/slurm.conf.example`).
    #[must_use]
    pub fn of_source(source: &str) -> Option<Self> {
        match source {
            "partition" | "slurmpart" | "sp" => Some(Self::Partition),
            "feature" => Some(Self::Feature),
            "state" | "slurmstate" | "st" => Some(Self::State),
            _ => None,
        }
    }

    /// Returns the nodes with this value. A state may have none.
    ///
    /// # Errors
    /// If Slurm has no such partition, feature or state.
    pub fn nodes(self, value: &str, nodes: &[NodeInfo]) -> Result<NodeSet, String> {
        match self {
            Self::Partition => with_value("partition", value, nodes, |node| &node.partitions),
            Self::Feature => with_value("feature", value, nodes, |node| &node.features),
            Self::State => in_state(value, nodes),
        }
    }

    /// Returns all nodes that have the property.
    #[must_use]
    pub fn all(self, nodes: &[NodeInfo]) -> NodeSet {
        let has = |node: &&NodeInfo| match self {
            Self::Partition => !node.partitions.is_empty(),
            Self::Feature => !node.features.is_empty(),
            Self::State => true,
        };
        names(nodes.iter().filter(has))
    }
}

fn names<'a>(nodes: impl Iterator<Item = &'a NodeInfo>) -> NodeSet {
    nodes.map(|node| node.name.clone()).collect()
}

fn with_value(
    what: &str,
    value: &str,
    nodes: &[NodeInfo],
    values: impl Fn(&NodeInfo) -> &Vec<String>,
) -> Result<NodeSet, String> {
    let has = |node: &&NodeInfo| values(node).iter().any(|other| other == value);
    let found = names(nodes.iter().filter(has));
    if !found.is_empty() {
        return Ok(found);
    }
    let known: BTreeSet<&str> =
        nodes.iter().flat_map(|node| values(node).iter().map(String::as_str)).collect();
    let listed = known.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    Err(match known.len() {
        0 => format!("no node in Slurm has a {what}"),
        number if number > LISTED => format!("no node in Slurm has this {what}; there are {listed}, …"),
        _ => format!("no node in Slurm has this {what}; there are {listed}"),
    })
}

/// Returns the nodes that `sinfo -t STATE` shows: those with the state or flag, whatever else they show, and for
/// `allocated` those with any job (`_filter_node_state` in `src/sinfo/sinfo.c`, 26.05).
fn in_state(state: &str, nodes: &[NodeInfo]) -> Result<NodeSet, String> {
    let asked = state.to_uppercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == asked);
    let word = alias.map_or(asked.as_str(), |(_, word)| word);
    let has_jobs = |node: &NodeInfo| ["ALLOCATED", "MIXED", "COMPLETING"].iter().any(|word| node.has(word));
    let is_in = |node: &&NodeInfo| match word {
        "ALLOCATED" => node.has("ALLOCATED") || node.has("MIXED"),
        "DRAINING" | "DRNG" => node.has("DRAIN") && has_jobs(node),
        "DRAINED" => node.has("DRAIN") && !has_jobs(node),
        word => node.has(word),
    };
    let found = names(nodes.iter().filter(is_in));
    let is_known = STATES.contains(&word) || matches!(word, "DRAINING" | "DRNG" | "DRAINED");
    if is_known || !found.is_empty() {
        Ok(found)
    } else {
        Err("Slurm has no such state of nodes; see `sinfo --help`, and write it as in idle, mixed, drained"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm::node::parse::parse_nodes;

    fn nodes() -> Vec<NodeInfo> {
        parse_nodes(
            "NodeName=n1 AvailableFeatures=a100,ib ActiveFeatures=ib State=IDLE Partitions=main,gpu \n\
             NodeName=n2 AvailableFeatures=ib ActiveFeatures=ib State=MIXED+DRAIN Partitions=main \n\
             NodeName=n3 AvailableFeatures=(null) ActiveFeatures=(null) State=ALLOCATED Partitions=gpu \n\
             NodeName=n4 State=IDLE+DRAIN+NEW_FLAG \n",
        )
    }

    #[test]
    fn nodes_are_found_by_partition_feature_and_state() {
        for (source, value, list) in [
            ("partition", "main", "n[1-2]"),
            ("sp", "gpu", "n[1,3]"),
            ("slurmpart", "gpu", "n[1,3]"),
            ("feature", "a100", "n1"),
            ("feature", "ib", "n[1-2]"),
            ("state", "idle", "n[1,4]"),
            ("st", "ALLOC", "n[2-3]"),
            ("slurmstate", "mix", "n2"),
            ("state", "drain", "n[2,4]"),
            ("state", "drained", "n4"),
            ("state", "draining", "n2"),
            ("state", "new_flag", "n4"),
            ("state", "down", ""),
        ] {
            let found = NodeProperty::of_source(source).unwrap().nodes(value, &nodes());
            assert_eq!(found.unwrap().to_string(), list, "@{source}:{value}");
        }
        for (property, list) in [
            (NodeProperty::Partition, "n[1-3]"),
            (NodeProperty::Feature, "n[1-2]"),
            (NodeProperty::State, "n[1-4]"),
        ] {
            assert_eq!(property.all(&nodes()).to_string(), list);
        }
        assert_eq!(NodeProperty::of_source("slurmjob"), None);
    }

    #[test]
    fn an_unknown_value_is_an_error_that_lists_the_known_ones() {
        for (source, value, error) in [
            ("partition", "typo", "no node in Slurm has this partition; there are gpu, main"),
            ("feature", "A100", "no node in Slurm has this feature; there are a100, ib"),
            (
                "state",
                "typo",
                "Slurm has no such state of nodes; see `sinfo --help`, and write it as in idle, mixed, drained",
            ),
        ] {
            let found = NodeProperty::of_source(source).unwrap().nodes(value, &nodes());
            assert_eq!(found, Err(error.to_owned()), "@{source}:{value}");
        }
        assert_eq!(
            NodeProperty::Partition.nodes("x", &[]),
            Err("no node in Slurm has a partition".to_owned())
        );
    }
}
