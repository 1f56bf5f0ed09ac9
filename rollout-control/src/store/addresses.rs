//! NodeAddr of each node, as Slurm last said it: for when Slurm cannot be asked.

use super::{MODE, Store, StoreError};
use rollout_core::slurm::NodeInfo;
use rollout_host::durable;
use std::collections::BTreeMap;

/// NodeAddr by NodeName.
pub type Addresses = BTreeMap<String, String>;

impl Store {
    /// What Slurm last said. Empty where it never said anything; a file that cannot be read counts as that, since it
    /// only saves asking.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let bytes = std::fs::read(self.dir.join("addresses.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Keeps what Slurm says now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn learn_addresses(&self, nodes: &[NodeInfo]) -> Result<(), StoreError> {
        let path = self.dir.join("addresses.json");
        let known = self.addresses();
        let news = |node: &&NodeInfo| known.get(&node.name) != Some(&node.address);
        if !nodes.iter().any(|node| news(&node)) {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut known = self.addresses();
        known.extend(nodes.iter().map(|node| (node.name.clone(), node.address.clone())));
        let bytes = serde_json::to_vec(&known).unwrap_or_default();
        durable::replace(&path, &bytes, MODE).map_err(|source| StoreError::Io {
            path: path.clone(),
            what: "written",
            source,
        })?;
        self.give(&path)
    }
}
