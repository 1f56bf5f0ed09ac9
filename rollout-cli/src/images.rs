//! The table of images: staged, wanted and running.

use crate::table;
use rollout_core::controller::status::NodeStatus;

/// Prints the images of nodes whose rollouts change them.
pub(crate) fn print(statuses: &[NodeStatus]) {
    let or_dash = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
    let row = |status: &NodeStatus| {
        let images = status.images.as_ref()?;
        let names = [&images.staged, &images.wanted, &images.running].map(or_dash);
        Some([vec![status.node.clone(), status.rollout.clone()], names.to_vec()].concat())
    };
    let rows: Vec<_> = statuses.iter().filter_map(row).collect();
    if !rows.is_empty() {
        table::out("\n");
        table::print(&["NODE", "ROLLOUT", "STAGED", "WANTED", "RUNNING"], &rows);
    }
}
