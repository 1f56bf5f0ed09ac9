//! The lock of the state directory. Every write goes through its guard.

use super::journal_file::{Appended, JournalFile};
use super::{MODE, StoreError, StoreWriter};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::rollout::journal::{Entry, Line};
use rollout_host::{clock, durable};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for another writer. Each holds the lock for milliseconds.
pub(super) const LIMIT: Duration = Duration::from_secs(3);

const TRY_AGAIN: Duration = Duration::from_millis(5);

/// The state directory while this process alone may write it.
#[derive(Debug)]
pub struct Locked<'a> {
    pub(super) store: &'a StoreWriter,
    _flock: Flock<File>,
}

impl StoreWriter {
    /// Takes the lock.
    ///
    /// # Errors
    /// Fails if it cannot be had within `LIMIT`.
    pub fn lock(&self) -> Result<Locked<'_>, StoreError> {
        self.lock_within(LIMIT)
    }

    /// Takes the lock if it can be had within a time limit.
    pub(super) fn lock_within(&self, limit: Duration) -> Result<Locked<'_>, StoreError> {
        let path = self.dir().join("lock");
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path);
        let mut file = open.map_err(StoreError::io(&path, "opened"))?;
        self.give(&path)?;
        let end = Instant::now() + limit;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(flock) => return Ok(Locked { store: self, _flock: flock }),
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= end => {
                    return Err(StoreError::Locked { path });
                }
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                    file = back;
                    std::thread::sleep(TRY_AGAIN);
                }
                Err((_, error)) => return Err(StoreError::io(&path, "locked")(error.into())),
            }
        }
    }
}

impl StoreWriter {
    /// Takes the lock and reads everything about rollouts that are not closed. Most of it is read and parsed before.
    pub(super) fn lock_with_snapshot(&self) -> Result<(Locked<'_>, Snapshot), StoreError> {
        let early = self.read_early();
        let lock = self.lock()?;
        let snapshot = self.snapshot_after(early)?;
        Ok((lock, snapshot))
    }
}

impl Locked<'_> {
    /// Appends events to the journal of a rollout, or of plain reboots.
    ///
    /// # Errors
    /// Fails if they cannot be written; then none of them counts. Fails as well if they cannot be made to last.
    pub fn append(&self, rollout: Option<&str>, entries: Vec<Entry>) -> Result<(), StoreError> {
        self.append_at(rollout, entries, clock::now_ms())?.sync()
    }

    /// Appends events that were not made to last yet.
    pub(super) fn append_at(
        &self,
        rollout: Option<&str>,
        entries: Vec<Entry>,
        t_ms: u64,
    ) -> Result<Appended, StoreError> {
        let line = |entry| Line { t_ms, by: self.store.by.clone(), entry };
        self.journal(rollout).append(&entries.into_iter().map(line).collect::<Vec<_>>())
    }

    pub(super) fn journal(&self, rollout: Option<&str>) -> JournalFile {
        self.store.journal(rollout)
    }

    /// Replaces a file of the state directory.
    pub(super) fn replace(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
        durable::replace(path, content, mode).map_err(StoreError::io(path, "written"))?;
        self.store.give(path)
    }

    /// Replaces a JSON file of the state directory.
    pub(super) fn replace_json(
        &self,
        path: &Path,
        content: &impl Serialize,
        mode: u32,
    ) -> Result<(), StoreError> {
        let bytes =
            serde_json::to_vec(content).map_err(|error| StoreError::io(path, "written")(error.into()))?;
        self.replace(path, &bytes, mode)
    }
}
