//! Closing rollouts that are over, and moving old ones out of the way.

use super::lock::Locked;
use super::read::SUMMARY;
use super::{MODE, StoreError, StoreWriter};
use rollout_core::controller::closing::{ClosedRollout, Retention, closable, expired};
use rollout_core::hostlist::NodeSet;
use rollout_host::{clock, durable};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The result of archiving.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Archived {
    /// Rollouts that were archived.
    pub archived: Vec<String>,
    /// Rollouts that were deleted from the archive.
    pub deleted: Vec<String>,
    /// Rollouts that could not be moved or deleted, with the error. They stay as they are.
    pub failed: Vec<String>,
}

impl StoreWriter {
    /// Closes the rollouts whose nodes are all settled, except those of nodes that Slurm still shows as `handed_over`.
    /// Returns their ids.
    ///
    /// # Errors
    /// Fails if the state directory cannot be read or written.
    pub fn close_settled(&self, handed_over: &NodeSet) -> Result<Vec<String>, StoreError> {
        if closable(&self.snapshot()?, handed_over, clock::now_ms()).is_empty() {
            return Ok(Vec::new());
        }
        let (lock, snapshot) = self.lock_with_snapshot()?;
        let closable = closable(&snapshot, handed_over, clock::now_ms());
        self.make_dir(&self.closed_dir())?;
        let (mut closed, mut failed) = (Vec::new(), None);
        for (id, summary) in closable {
            match lock.close(&id, &summary) {
                Ok(()) => closed.push(id),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(closed), Err)
    }

    /// Archives the closed rollouts whose retention is over, and deletes archived ones that are older than
    /// `delete_after`.
    ///
    /// # Errors
    /// Fails if the state directory cannot be read or written.
    pub fn archive_expired(
        &self,
        retention: Retention,
        delete_after: Option<Duration>,
    ) -> Result<Archived, StoreError> {
        let expired = expired(&self.closed()?, retention, clock::now_ms());
        let mut archived = self.archive(&expired)?;
        if let Some(age) = delete_after {
            self.delete_archived(age, &mut archived)?;
        }
        Ok(archived)
    }

    /// Archives those of these rollouts that are closed: `archive/ID` keeps manifest and journal, and no verb reads it
    /// any more.
    ///
    /// # Errors
    /// Fails if the state directory cannot be written.
    pub fn archive(&self, ids: &[String]) -> Result<Archived, StoreError> {
        let mut archived = Archived::default();
        if ids.is_empty() {
            return Ok(archived);
        }
        let lock = self.lock()?;
        self.make_dir(&self.archive_dir())?;
        let closed = self.closed_ids()?;
        for id in ids.iter().filter(|id| closed.contains(*id)) {
            match lock.move_rollout(&self.closed_dir(), &self.archive_dir(), id) {
                Ok(()) => archived.archived.push(id.clone()),
                Err(error) => archived.failed.push(error.to_string()),
            }
        }
        Ok(archived)
    }

    fn delete_archived(&self, age: Duration, archived: &mut Archived) -> Result<(), StoreError> {
        for id in self.names_in(&self.archive_dir())? {
            let path = self.archive_dir().join(&id);
            if is_older(&path, age) {
                match std::fs::remove_dir_all(&path).map_err(StoreError::io(&path, "deleted")) {
                    Ok(()) => archived.deleted.push(id),
                    Err(error) => archived.failed.push(error.to_string()),
                }
            }
        }
        Ok(())
    }
}

impl Locked<'_> {
    fn close(&self, id: &str, summary: &ClosedRollout) -> Result<(), StoreError> {
        let store = self.store;
        self.replace_json(&store.rollouts_dir().join(id).join(SUMMARY), summary, MODE)?;
        // 0.1.0 does not know closed rollouts and uses their names again.
        if store.closed_dir().join(id).exists() {
            store.make_dir(&store.archive_dir())?;
            self.move_rollout(&store.closed_dir(), &store.archive_dir(), id)?;
        }
        self.move_rollout(&store.rollouts_dir(), &store.closed_dir(), id)
    }

    /// Makes a closed rollout open again.
    pub(super) fn reopen(&self, id: &str) -> Result<(), StoreError> {
        match self.store.is_closed(id) {
            true => self.move_rollout(&self.store.closed_dir(), &self.store.rollouts_dir(), id),
            false => Ok(()),
        }
    }

    fn move_rollout(&self, from: &Path, to: &Path, id: &str) -> Result<(), StoreError> {
        let (from, to) = (from.join(id), to.join(id));
        durable::rename(&from, &to).map_err(StoreError::io(&from, "moved"))
    }
}

/// Returns whether a rollout's journal was last written longer ago. Unknown counts as young. If there is no journal, a
/// crash came in the middle of deleting the rollout.
fn is_older(dir: &Path, age: Duration) -> bool {
    let journal = std::fs::metadata(dir.join("journal")).or_else(|_| std::fs::metadata(dir));
    let written = journal.and_then(|file| file.modified());
    let age_now = written.ok().and_then(|written| SystemTime::now().duration_since(written).ok());
    age_now.is_some_and(|now| now > age)
}
