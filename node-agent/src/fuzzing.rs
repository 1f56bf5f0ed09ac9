//! What strangers and damaged files reach of the agent, for the fuzz targets.

use crate::state::staged_file::StagedFile;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{GiveBack, LocalHandOver, Order, OrderId, PlainReboot};
use std::path::PathBuf;

pub use crate::config::Config;
pub use crate::server::fuzzing::{Served, connection};

/// What a hand-over by slurmd to node `me` becomes with this `staged.json`: of a reboot that applies what is staged, and of
/// one that does not. None if the file is passed over.
#[must_use]
pub fn handed_over(staged: &[u8], me: &NodeSet) -> Option<[Order; 2]> {
    let file = StagedFile::of(PathBuf::new(), staged).ok()?;
    let order = |apply| {
        let plain =
            PlainReboot { give_back: GiveBack { resume_if_late: true, drained: None }, features: None };
        file.order_for(&LocalHandOver { apply, plain }, OrderId::from_random(1), me, &[])
    };
    Some([order(true), order(false)])
}
