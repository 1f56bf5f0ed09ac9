//! The freeze of the whole site.

use super::{MODE, StoreError, StoreWriter};
use rollout_core::controller::freeze::Freeze;
use rollout_host::{clock, durable};
use std::io;

/// The result of freezing or thawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The freeze before. `None` if there was none.
    pub before: Option<Freeze>,
    /// The freeze now. The first one counts, until it is thawed.
    pub now: Option<Freeze>,
}

impl StoreWriter {
    /// Keeps all rollouts from requesting nodes, from the next look at the state directory on.
    ///
    /// # Errors
    /// Fails if nothing can be written.
    pub fn freeze(&self, why: Option<String>) -> Result<Changed, StoreError> {
        let lock = self.lock()?;
        if let Some(before) = self.frozen() {
            return Ok(Changed { before: Some(before.clone()), now: Some(before) });
        }
        let freeze = Freeze { by: self.by.clone(), why, since_ms: clock::now_ms() };
        lock.replace_json(&self.freeze_path(), &freeze, MODE)?;
        Ok(Changed { before: None, now: Some(freeze) })
    }

    /// Ends the freeze, also one that cannot be read.
    ///
    /// # Errors
    /// Fails if its file cannot be removed.
    pub fn thaw(&self) -> Result<Changed, StoreError> {
        let _lock = self.lock()?;
        let (before, path) = (self.frozen(), self.freeze_path());
        let removed = std::fs::remove_file(&path).and_then(|()| durable::sync_parent(&path));
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io(&path, "removed")(error))
            }
            _ => Ok(Changed { before, now: None }),
        }
    }
}
