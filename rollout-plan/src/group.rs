//! Groups: nodes that go together, all or none.

use crate::node_sets::{Resolve, check_among, nodes_of};
use crate::value;
use rollout_core::hostlist::{self, NodeSet};
use rollout_core::rollout::manifest::ManifestError;
use serde::Deserialize;

/// Nodes that go together, such as those of a chassis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub nodes: NodeSet,
    /// The nodes in the order in which they come back: each set after the one before is back. Together they are all
    /// nodes of the group; those that `bring_up` does not name are the last set.
    pub bring_up: Vec<NodeSet>,
}

/// A group as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    name: String,
    nodes: String,
    #[serde(default)]
    bring_up: Vec<String>,
}

/// Checks the groups at `key`. If there is a set of `all` nodes, theirs must be among it.
pub(crate) fn check_all(
    key: &str,
    written: Vec<Written>,
    all: Option<&NodeSet>,
    resolve: Resolve<'_>,
) -> Result<Vec<Group>, ManifestError> {
    let mut groups: Vec<Group> = Vec::new();
    for (group, n) in written.into_iter().zip(1..) {
        let key = format!("{key}[{n}]");
        let group = group.check(&key, resolve)?;
        if let Some(all) = all {
            check_among(
                &format!("{key}.nodes"),
                &group.nodes,
                all,
                "the nodes of the rollout that may be touched",
            )?;
        }
        for other in &groups {
            if other.name == group.name {
                return Err(value(format!("{key}.name"), format!("a second group {}", group.name)));
            }
            let shared = group.nodes.intersection(&other.nodes);
            if !shared.is_empty() {
                let why = format!("{shared}: in the group {}, too; a node has one group at most", other.name);
                return Err(value(format!("{key}.nodes"), why));
            }
        }
        groups.push(group);
    }
    Ok(groups)
}

impl Written {
    fn check(self, key: &str, resolve: Resolve<'_>) -> Result<Group, ManifestError> {
        if let Err(error) = hostlist::check_name(&self.name) {
            return Err(value(format!("{key}.name"), error.to_string()));
        }
        let nodes = nodes_of(&format!("{key}.nodes"), &self.nodes, resolve)?;
        let (mut bring_up, mut rest) = (Vec::new(), nodes.clone());
        for (text, n) in self.bring_up.iter().zip(1..) {
            let key = format!("{key}.bring_up[{n}]");
            let set = nodes_of(&key, text, resolve)?;
            check_among(&key, &set, &nodes, "the nodes of the group")?;
            let twice = set.difference(&rest);
            if !twice.is_empty() {
                return Err(value(key, format!("{twice}: in the list twice")));
            }
            rest = rest.difference(&set);
            bring_up.push(set);
        }
        if !rest.is_empty() {
            bring_up.push(rest);
        }
        Ok(Group { name: self.name, nodes, bring_up })
    }
}
