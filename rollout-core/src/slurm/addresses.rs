//! NodeAddr of nodes, as Slurm reports it.

use super::node::NodeInfo;
use crate::hostlist::NodeSet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// NodeAddr of nodes, by NodeName.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses(BTreeMap<String, String>);

impl Addresses {
    /// Returns the NodeAddr of a node. Slurm's default is the NodeName.
    #[must_use]
    pub fn of<'a>(&'a self, node: &'a str) -> &'a str {
        self.0.get(node).map_or(node, String::as_str)
    }

    /// Adds the addresses that Slurm reports now, which replace older ones.
    pub fn learn<'a>(&mut self, nodes: impl IntoIterator<Item = &'a NodeInfo>) {
        self.0.extend(nodes.into_iter().map(|node| (node.name.clone(), node.address.clone())));
    }

    /// Returns whether the address that Slurm reports of this node is known already.
    #[must_use]
    pub fn has(&self, node: &NodeInfo) -> bool {
        self.0.get(&node.name) == Some(&node.address)
    }

    /// Returns the nodes whose addresses are known.
    #[must_use]
    pub fn nodes(&self) -> NodeSet {
        self.0.keys().cloned().collect()
    }

    /// Returns whether no address is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<const N: usize> From<[(String, String); N]> for Addresses {
    fn from(addresses: [(String, String); N]) -> Self {
        Self(addresses.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_address_is_reached_by_its_name() {
        let node = |name: &str, address: &str| NodeInfo {
            name: name.to_owned(),
            address: address.to_owned(),
            ..NodeInfo::default()
        };
        let mut addresses = Addresses::from([("n1".to_owned(), "10.0.0.1".to_owned())]);
        assert_eq!((addresses.of("n1"), addresses.of("n2")), ("10.0.0.1", "n2"));
        let now = [node("n1", "10.0.0.9"), node("n2", "10.0.0.2")];
        assert!(!addresses.has(&now[0]));
        addresses.learn(&now);
        assert_eq!((addresses.of("n1"), addresses.of("n2")), ("10.0.0.9", "10.0.0.2"));
        assert!(now.iter().all(|node| addresses.has(node)));
        assert_eq!(addresses.nodes().to_string(), "n[1-2]");
    }
}
