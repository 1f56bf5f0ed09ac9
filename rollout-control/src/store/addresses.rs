//! NodeAddr of each node, as Slurm last said it: for when Slurm cannot be asked.

use super::{Store, StoreError};
use crate::agents::address::Addresses;
use rollout_core::slurm::node::NodeInfo;

const FILE: &str = "addresses.json";

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
        if nodes.iter().all(|node| known.has(node)) {
            return Ok(());
        }
        let _lock = self.lock()?;
        let mut known = self.addresses();
        known.learn(nodes);
        self.write_json(FILE, &known)
    }
}
