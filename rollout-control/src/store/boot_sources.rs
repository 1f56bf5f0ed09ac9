//! What nodes booted from before a rollout changed it, in the words of its provider: for SlurmUser only, as it may hold what
//! a service gives to nodes in confidence.

use super::{Store, StoreError};
use crate::boot::Saved;
use rollout_core::rollout::journal::fold;
use std::collections::BTreeMap;

const FILE: &str = "boot-sources.json";
const MODE: u32 = 0o600;

impl Store {
    /// Keeps what nodes boot from, before a rollout changes it. Of a node that boots what the rollout gave it, what is
    /// known from before stays.
    ///
    /// # Errors
    /// If it cannot be read or written; then nothing may be changed.
    pub fn save_boot_sources(&self, id: &str, now: BTreeMap<String, Saved>) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let fold = fold(&self.lines(id)?);
        let ours = |node: &String| fold.get(node).is_some_and(|record| record.boots_ours().is_some());
        let mut saved = self.boot_sources(id)?;
        for (node, source) in now {
            if !(ours(&node) && saved.contains_key(&node)) {
                saved.insert(node, source);
            }
        }
        let path = self.rollout_dir(id).join(FILE);
        let error = |source| StoreError::Io { path: path.clone(), what: "written", source };
        let text = serde_json::to_vec(&saved).map_err(|source| error(source.into()))?;
        rollout_host::durable::replace(&path, &text, MODE).map_err(error)?;
        self.give(&path)
    }

    /// What nodes booted from before a rollout, by NodeName.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn boot_sources(&self, id: &str) -> Result<BTreeMap<String, Saved>, StoreError> {
        let path = self.rollout_dir(id).join(FILE);
        let error = |source| StoreError::Io { path: path.clone(), what: "read", source };
        match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| error(source.into())),
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(source) => Err(error(source)),
        }
    }
}
