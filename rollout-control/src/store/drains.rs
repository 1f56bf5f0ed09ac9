//! `drains.json`: drains that somebody else set, as they were last seen before a reboot was asked for.

use super::{Store, StoreError};
use rollout_core::drains::{Drains, observe};
use rollout_core::slurm::NodeInfo;

const FILE: &str = "drains.json";

impl Store {
    /// What was last seen. Empty where nothing was; a file that cannot be read counts as that.
    #[must_use]
    pub fn drains(&self) -> Drains {
        self.read_json(FILE)
    }

    /// Keeps what Slurm says of these nodes now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn learn_drains(&self, nodes: &[NodeInfo]) -> Result<(), StoreError> {
        let next = |known: Drains| {
            let seen = observe(&known, nodes);
            let mut next = known;
            next.retain(|name, _| !nodes.iter().any(|node| node.name == *name));
            next.extend(seen);
            next
        };
        let known = self.drains();
        if next(known.clone()) == known {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.write_json(FILE, &next(self.drains()))
    }
}
