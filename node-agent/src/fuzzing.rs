//! Parts of the agent that face strangers and damaged files, for the fuzz targets.

use rollout_core::agent::pre_staged::PreStaged;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{GiveBack, LocalHandOver, Order, OrderId, PlainReboot};

pub use crate::config::Config;
pub use crate::server::fuzzing::{Served, connection};

/// Returns the orders that hand-overs by slurmd to node `me` become with this `staged.json`: for a reboot that applies
/// the pre-staged order, and for one that does not. `None` if the file is passed over.
#[must_use]
pub fn handed_over(staged: &[u8], me: &NodeSet) -> Option<[Order; 2]> {
    let content = PreStaged::parse(staged).ok()?;
    let order = |apply| {
        let plain =
            PlainReboot { give_back: GiveBack { resume_if_late: true, drained: None }, features: None };
        content.order_for(&LocalHandOver { apply, plain }, OrderId::from_random(1), me, &[])
    };
    Some([order(true), order(false)])
}
