//! The table and the address of each node.

use super::config::{PowerConfig, is_path};
use super::credentials::SlurmIds;
use super::provider::{Programs, provider};
use super::{Address, Power, Target};
use crate::template;
use rollout_core::hostlist::NodeSet;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;

/// A table `[[power]]` with its nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerTable {
    /// `None` stands for all nodes.
    pub nodes: Option<NodeSet>,
    pub config: PowerConfig,
}

/// A node whose power can be switched.
#[derive(Clone)]
pub struct Assigned {
    pub target: Target,
    pub power: Arc<dyn Power>,
    /// Time within which a change must show.
    pub time_limit: Duration,
}

/// A value of a node by its key, from the site's file of nodes.
pub type Values<'a> = &'a dyn Fn(&str, &str) -> Option<String>;

/// Returns each of the nodes with its provider, by the first table that has it. For all others the reason.
#[must_use]
pub fn assign(
    tables: &[PowerTable],
    nodes: &NodeSet,
    values: Values<'_>,
    programs: &Programs,
    slurm: Option<SlurmIds>,
) -> (Vec<Assigned>, BTreeMap<String, String>) {
    let mut assigned = Vec::new();
    let mut failed = BTreeMap::new();
    for (targets, table) in targets(tables, nodes, values) {
        let power = match table {
            Some(table) if targets.values().any(Result::is_ok) => Some(provider(table, programs, slurm)),
            _ => None,
        };
        let time_limit = table.map(|table| table.time_limit().get()).unwrap_or_default();
        for (node, target) in targets {
            match (target, &power) {
                (Ok(target), Some(Ok(power))) => {
                    assigned.push(Assigned { target, power: Arc::clone(power), time_limit });
                }
                (Ok(_), Some(Err(why))) => drop(failed.insert(node, why.clone())),
                (Ok(_), None) => {}
                (Err(why), _) => drop(failed.insert(node, why)),
            }
        }
    }
    (assigned, failed)
}

/// The nodes of a table with their targets, or the reasons for which these are not known.
pub type Targets = BTreeMap<String, Result<Target, String>>;

/// Returns the nodes by their tables, in the order of these. The last ones have none.
#[must_use]
pub fn targets<'a>(
    tables: &'a [PowerTable],
    nodes: &NodeSet,
    values: Values<'_>,
) -> Vec<(Targets, Option<&'a PowerConfig>)> {
    let mut left = nodes.clone();
    let mut found = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let (of_table, all) = match &table.nodes {
            Some(all) => (left.intersection(all), all.clone()),
            None => (left.clone(), left.clone()),
        };
        // Nodes of an earlier table are none of this one.
        let earlier = tables.iter().take(index).filter_map(|table| table.nodes.as_ref());
        let all = earlier.fold(all, |all, earlier| all.difference(earlier));
        left = left.difference(&of_table);
        found.push((of_one_table(&table.config, &of_table, &all, values), Some(&table.config)));
    }
    let none = "no table [[power]] in controller.toml has it";
    let none = left.iter().map(|node| (node.to_owned(), Err(none.to_owned()))).collect();
    found.push((none, None));
    found
}

/// Returns the targets of these nodes. Two nodes of `all` that cannot be told apart have none: one would be switched in
/// the place of the other.
fn of_one_table(config: &PowerConfig, nodes: &NodeSet, all: &NodeSet, values: Values<'_>) -> Targets {
    if nodes.is_empty() {
        return Targets::new();
    }
    let mut targets: Targets = Targets::new();
    let mut first: BTreeMap<(Address, Option<String>), String> = BTreeMap::new();
    let mut shared: BTreeMap<String, String> = BTreeMap::new();
    for node in all.iter() {
        let target = target(config, node, values);
        if let Ok(target) = &target {
            match first.entry((target.address.clone(), target.system.clone())) {
                Entry::Vacant(entry) => drop(entry.insert(node.to_owned())),
                Entry::Occupied(entry) => {
                    let other = entry.get().clone();
                    let address = &target.address;
                    let why =
                        |other: &str| format!("has the same address for its power as {other}: {address}");
                    shared.insert(node.to_owned(), why(&other));
                    shared.insert(other, why(node));
                }
            }
        }
        if nodes.contains(node) {
            targets.insert(node.to_owned(), target);
        }
    }
    for (node, why) in shared {
        targets.entry(node).and_modify(|target| *target = Err(why));
    }
    targets
}

fn target(config: &PowerConfig, node: &str, values: Values<'_>) -> Result<Target, String> {
    let value = |key: &str| if key == "node" { Some(node.to_owned()) } else { values(node, key) };
    let fill = |key: &str, text: &str| {
        template::fill(text, value)
            .map_err(|name| format!("{key} of its power: {{{name}}} is not known: give it in nodes.toml"))
    };
    let address = Address::try_from(fill("address", config.address())?)
        .map_err(|error| format!("address of its power: {error}"))?;
    let system = config.system().map(|system| fill("system", system)).transpose()?;
    if let Some(system) = system.as_ref().filter(|system| !is_path(system)) {
        return Err(format!("system of its power: {system:?} is no path in Redfish"));
    }
    Ok(Target { node: node.to_owned(), address, system })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(nodes: Option<&str>, rest: &str) -> PowerTable {
        let nodes = nodes.map(|nodes| NodeSet::parse(nodes).unwrap());
        PowerTable { nodes, config: toml::from_str(rest).unwrap() }
    }

    fn value(node: &str, key: &str) -> Option<String> {
        match (node, key) {
            ("cn1" | "cn2", "bmc") => Some(format!("10.0.0.{}", &node[2..])),
            ("cn3" | "cn4", "bmc") => Some("10.0.0.9".to_owned()),
            ("cn5", "bmc") => Some("10.0.0.5 -x".to_owned()),
            _ => None,
        }
    }

    fn found(tables: &[PowerTable], nodes: &str) -> BTreeMap<String, Result<String, String>> {
        let nodes = NodeSet::parse(nodes).unwrap();
        let found = targets(tables, &nodes, &value).into_iter().flat_map(|(targets, _)| targets);
        found
            .map(|(node, target)| {
                let shown =
                    |target: Target| format!("{}{}", target.address, target.system.unwrap_or_default());
                (node, target.map(shown))
            })
            .collect()
    }

    #[test]
    fn the_first_table_with_a_node_counts() {
        let tables = [
            table(Some("cn[1-2]"), "via = 'powerman'\naddress = 'rack-{node}'"),
            table(Some("cn[2-3]"), "via = 'ipmi'\naddress = '{node}-bmc:6230'\ncredentials_file = '/c'"),
        ];
        let found = found(&tables, "cn[1-4]");
        assert_eq!(found["cn1"], Ok("rack-cn1".to_owned()));
        assert_eq!(found["cn2"], Ok("rack-cn2".to_owned()));
        assert_eq!(found["cn3"], Ok("cn3-bmc:6230".to_owned()));
        assert_eq!(found["cn4"], Err("no table [[power]] in controller.toml has it".to_owned()));
    }

    #[test]
    fn values_of_the_file_of_nodes_are_addresses_or_errors() {
        let all = table(None, "via = 'ipmi'\naddress = '{bmc}'\ncredentials_file = '/c'");
        let found = found(&[all], "cn[1-2,5-6]");
        assert_eq!(found["cn1"], Ok("10.0.0.1".to_owned()));
        assert!(found["cn5"].as_ref().unwrap_err().contains("is no address"));
        assert!(found["cn6"].as_ref().unwrap_err().contains("{bmc} is not known: give it in nodes.toml"));
    }

    #[test]
    fn no_node_is_switched_in_the_place_of_another() {
        let redfish = "via = 'redfish'\ncredentials_file = '/c'\n";
        for (nodes, rest, asked, is_refused) in [
            (None, "address = '{bmc}'", "cn[3-4]", true),
            // The other one was not asked for.
            (Some("cn[1-4]"), "address = '{bmc}'", "cn3", true),
            (Some("cn[1-2]"), "address = 'chassis'", "cn1", true),
            (Some("cn1"), "address = 'chassis'", "cn1", false),
            (Some("cn[1-2]"), "address = 'chassis'\nsystem = '/redfish/v1/Systems/{node}'", "cn1", false),
        ] {
            let found = found(&[table(nodes, &format!("{redfish}{rest}"))], asked);
            for (node, target) in found {
                assert_eq!(target.is_err(), is_refused, "{rest}: {node}: {target:?}");
                assert!(target.err().is_none_or(|why| why.contains("the same address for its power as cn")));
            }
        }
        // A node of an earlier table is not in the way.
        let tables = [
            table(Some("cn4"), "via = 'powerman'"),
            table(Some("cn[1-4]"), &format!("{redfish}address = '{{bmc}}'")),
        ];
        assert!(found(&tables, "cn3")["cn3"].is_ok());
    }
}
