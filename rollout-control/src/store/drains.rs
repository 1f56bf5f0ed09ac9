//! `drains.json`: drains that somebody else set, as they were last seen before a reboot was asked for.

use super::{MODE, Store, StoreError};
use rollout_core::drains::{Drains, observe};
use rollout_core::slurm::NodeInfo;
use rollout_host::durable;

impl Store {
    /// What was last seen. Empty where nothing was; a file that cannot be read counts as that.
    #[must_use]
    pub fn drains(&self) -> Drains {
        let bytes = std::fs::read(self.dir.join("drains.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
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
        let path = self.dir.join("drains.json");
        let bytes = serde_json::to_vec(&next(self.drains())).unwrap_or_default();
        durable::replace(&path, &bytes, MODE).map_err(|source| StoreError::Io {
            path: path.clone(),
            what: "written",
            source,
        })?;
        self.give(&path)
    }
}
