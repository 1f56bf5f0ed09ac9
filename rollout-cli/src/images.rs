//! The table of images: staged, wanted and running.

use crate::table;
use rollout_core::controller::status::NodeStatus;

/// Returns the images of nodes whose rollouts change them, as a table below another one.
pub(crate) fn table(statuses: &[NodeStatus]) -> String {
    let or_dash = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
    let row = |status: &NodeStatus| {
        let images = status.images.as_ref()?;
        let names = [&images.staged, &images.wanted, &images.running].map(or_dash);
        Some([vec![status.node.clone(), status.rollout.clone()], names.to_vec()].concat())
    };
    let rows: Vec<_> = statuses.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    "\n".to_owned() + &table::layout(&["NODE", "ROLLOUT", "STAGED", "WANTED", "RUNNING"], &rows)
}
