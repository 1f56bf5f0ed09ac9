//! NodeAddr of each node, as Slurm last said it: for when Slurm cannot be asked.

use super::{Store, StoreError};
use rollout_core::slurm::node::NodeInfo;
use std::collections::BTreeMap;

const FILE: &str = "addresses.json";

/// NodeAddr by NodeName.
pub type Addresses = BTreeMap<String, String>;

impl Store {
    /// What Slurm last said. Empty where it never said anything; a file that cannot be read counts as that, since it
    /// only saves asking.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.read_json(FILE)
    }

    /// Keeps what Slurm says now.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn learn_addresses(&self, nodes: &[NodeInfo]) -> Result<(), StoreError> {
        let known = self.addresses();
        let news = |node: &&NodeInfo| known.get(&node.name) != Some(&node.address);
        if !nodes.iter().any(|node| news(&node)) {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut known = self.addresses();
        known.extend(nodes.iter().map(|node| (node.name.clone(), node.address.clone())));
        self.write_json(FILE, &known)
    }
}
