//! The tables `[[power]]` with their nodes, and the nodes' values for them.

use crate::failure::Failure;
use rollout_cli::groups::SiteGroups;
use rollout_control::boot::NodesFile;
use rollout_control::config::Config;
use rollout_control::power::config::power_tables;
use rollout_control::power::{PowerConfig, PowerTable};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::addresses::Addresses;
use std::collections::BTreeMap;

/// Resolves the nodes of a table. `None` stands for all nodes.
pub(crate) fn nodes_of(groups: &SiteGroups<'_>, config: &PowerConfig) -> Option<Result<NodeSet, String>> {
    let resolve = |text| groups.resolve(text).map_err(|error| format!("nodes {text:?}: {error}"));
    config.nodes().map(resolve)
}

/// Returns the tables with their nodes.
///
/// A table whose nodes cannot be determined may have any node, and the table that counts would be unknown.
pub(crate) fn tables(config: &Config) -> Result<Vec<PowerTable>, Failure> {
    let configs = power_tables(config.power.as_ref()).map_err(|wrong| {
        let wrong: Vec<&str> = wrong.iter().map(|mistake| mistake.why.as_str()).collect();
        Failure(format!("controller.toml: power: {}", wrong.join("; ")))
    })?;
    if configs.is_empty() {
        return Err(Failure(
            "controller.toml has no table [[power]]: slurm-rollout-controller.toml(5) has examples"
                .to_owned(),
        ));
    }
    let groups = SiteGroups::new(config);
    let table = |(index, config): (usize, &PowerConfig)| {
        let nodes = nodes_of(&groups, config).transpose();
        let nodes =
            nodes.map_err(|why| Failure(format!("controller.toml: power: table {}: {why}", index + 1)))?;
        Ok(PowerTable { nodes, config: config.clone() })
    };
    configs.iter().enumerate().map(table).collect()
}

/// The values of nodes in the site's file of nodes.
pub(crate) struct NodeValues(BTreeMap<String, BTreeMap<String, String>>);

impl NodeValues {
    /// Reads the values of these nodes and of those of the tables.
    pub(crate) fn read(config: &Config, tables: &[PowerTable], nodes: &NodeSet) -> Result<Self, String> {
        let file = NodesFile::load(&config.nodes_file).map_err(|error| error.to_string())?;
        let of_tables = tables.iter().filter_map(|table| table.nodes.as_ref());
        let all = of_tables.fold(nodes.clone(), |all, nodes| all.union(nodes));
        let values = file.nodes(&all, &Addresses::default()).into_iter().map(|node| (node.name, node.values));
        Ok(Self(values.collect()))
    }

    /// Returns a value of a node.
    pub(crate) fn of(&self, node: &str, key: &str) -> Option<String> {
        self.0.get(node)?.get(key).cloned()
    }
}
