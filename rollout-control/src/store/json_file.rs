//! The state directory's small JSON files: what Slurm last said, each replaced as a whole.

use super::{MODE, Store, StoreError};
use rollout_host::durable;
use serde::Serialize;
use serde::de::DeserializeOwned;

impl Store {
    /// What is in a file. A file that is not there or cannot be read is as an empty one.
    pub(super) fn read_json<T: DeserializeOwned + Default>(&self, name: &str) -> T {
        let bytes = std::fs::read(self.dir.join(name)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Replaces it. To be called with the lock held.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write_json(&self, name: &str, content: &impl Serialize) -> Result<(), StoreError> {
        let path = self.dir.join(name);
        let bytes = serde_json::to_vec(content).unwrap_or_default();
        durable::replace(&path, &bytes, MODE).map_err(|source| StoreError::Io {
            path: path.clone(),
            what: "written",
            source,
        })?;
        self.give(&path)
    }
}
