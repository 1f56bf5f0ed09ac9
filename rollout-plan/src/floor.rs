//! Floors: how much of a part of the cluster must be able to accept jobs.

use crate::amount::Amount;
use crate::node_sets::{Resolve, nodes_of};
use crate::value;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::manifest::ManifestError;
use serde::Deserialize;

/// No node is requested if fewer nodes than this would be able to accept jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    pub of: Part,
    /// Of the nodes of the part; [`Amount::floor_of`] rounds it up.
    pub available: Amount,
}

/// A part of the cluster. Its nodes need not belong to the rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A partition of Slurm, by its name.
    Partition(String),
    /// The nodes with this feature.
    Feature(String),
    Nodes(NodeSet),
}

/// A floor as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Written {
    partition: Option<String>,
    feature: Option<String>,
    nodes: Option<String>,
    available: Amount,
}

/// Checks the floors at `key`.
pub(crate) fn check_all(
    key: &str,
    written: Vec<Written>,
    resolve: Resolve<'_>,
) -> Result<Vec<Floor>, ManifestError> {
    let floors = written.into_iter().zip(1..);
    floors.map(|(floor, n)| floor.check(&format!("{key}[{n}]"), resolve)).collect()
}

impl Written {
    fn check(self, key: &str, resolve: Resolve<'_>) -> Result<Floor, ManifestError> {
        let of = match (self.partition, self.feature, self.nodes) {
            (Some(name), None, None) => Part::Partition(checked_name(&format!("{key}.partition"), name)?),
            (None, Some(name), None) => Part::Feature(checked_name(&format!("{key}.feature"), name)?),
            (None, None, Some(text)) => Part::Nodes(nodes_of(&format!("{key}.nodes"), &text, resolve)?),
            (None, None, None) => {
                return Err(value(key, "a floor of what? write one of partition, feature and nodes"));
            }
            _ => {
                let why = "more than one of partition, feature and nodes: write a floor for each";
                return Err(value(key, why));
            }
        };
        if let (Part::Nodes(nodes), Amount::Count(count)) = (&of, self.available)
            && self.available.floor_of(nodes.len()) > nodes.len()
        {
            let why = format!("{count} of {} nodes can never be available; write fewer", nodes.len());
            return Err(value(format!("{key}.available"), why));
        }
        Ok(Floor { of, available: self.available })
    }
}

/// Refuses names that Slurm cannot have: its lists are separated by commas.
fn checked_name(key: &str, name: String) -> Result<String, ManifestError> {
    if name.is_empty() || name.contains([',', '|', '&']) || name.contains(char::is_whitespace) {
        return Err(value(key, format!("{name:?}: write one name; for several, write a floor for each")));
    }
    Ok(name)
}
