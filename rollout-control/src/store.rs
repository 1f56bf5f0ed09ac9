//! The state directory.
//!
//! ```text
//! lock                          taken (flock) by every writer, for milliseconds
//! rollouts/ID/manifest.toml     as the admin wrote it; never changed
//! rollouts/ID/boot-sources.json previous boot sources of its nodes; for SlurmUser only
//! rollouts/ID/journal           one JSON line for each event, only ever appended to
//! rollouts/ID/hooks/RUN         output of a hook; for SlurmUser only
//! closed/ID                     a rollout that is over; no hand-over reads it, however many there are
//! closed/ID/summary.json        its nodes and their ends
//! archive/ID                    a closed rollout that is only kept
//! plain-reboots                 the journal of nodes that had nothing staged
//! addresses.json                NodeAddr of each node, as Slurm last reported it
//! drains.json                   drains set by others
//! left-by-reboots.json          nodes with a DRAIN of an earlier reboot, or of ours
//! used-limits.json              parts of their time limits that jobs used, seen while a rollout ran
//! controllers.json              hosts of slurmctld, recorded by one of them
//! freeze.json                   the freeze of the site, while there is one
//! lease.json                    the process that looks after started rollouts
//! watch                         touched when nodes need a follow-up (slurm-rollout-reconcile.path)
//! ```
//!
//! A [`StoreReader`] takes no lock. A [`StoreWriter`] writes nothing but through its lock guard, [`Locked`]. A writer
//! that dies leaves at most a torn last line; readers skip it and the next writer ends it. flock works between the
//! hosts of an NFS as well (Linux turns it into a byte-range lock there), so two controllers may share the directory.
//!
//! Each rollout stands for itself: one that cannot be read keeps nothing else from being read or written.

mod archive;
mod boot_sources;
mod claim;
mod conduct;
mod freeze;
mod hook_output;
mod journal_file;
mod learned;
mod lease;
mod lock;
mod plain_reboots;
mod read;
mod stage;

pub use archive::Archived;
pub use claim::{Claim, Claims};
pub use conduct::{ConductError, RolloutLine, Unwritten};
pub use freeze::Changed;
pub use lease::this_process;
pub use lock::Locked;
pub use read::{Rollout, StoreReader};
pub use stage::{StageError, Staged};

use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
use rollout_core::rollout::journal::Entry;
use rollout_core::rollout::manifest::ManifestError;
use rollout_host::clock;
use std::fs::DirBuilder;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Mode of the state directory's files. Everybody may read them, as everybody may read Slurm's state of nodes.
const MODE: u32 = 0o644;

/// An error of the state directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or directory cannot be read or written.
    #[error("{path}: cannot be {what}: {source}", path = .path.display())]
    Io { path: PathBuf, what: &'static str, source: io::Error },
    /// Another process holds the lock for longer than any should.
    #[error("{path}: locked by another process for more than {} s", lock::LIMIT.as_secs(), path = .path.display())]
    Locked { path: PathBuf },
    /// A stored manifest is no longer as it was checked when it was staged.
    #[error("{path}: {source}", path = .path.display())]
    Manifest { path: PathBuf, source: ManifestError },
    /// The state directory is missing, and root must not create it: it would be root's.
    #[error(
        "{path}: there is no state directory; create it for SlurmUser: `install -d -o slurm -g slurm -m 755 {path}`",
        path = .0.display()
    )]
    NoDirectory(PathBuf),
    #[error("no rollout is named {0:?}; `slurm-rollout history` lists them")]
    NoSuchRollout(String),
}

impl StoreError {
    fn io(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, what, source }
    }
}

/// The state directory, to be written. It reads as a [`StoreReader`] does.
#[derive(Debug, Clone)]
pub struct StoreWriter {
    reader: StoreReader,
    by: String,
}

impl Deref for StoreWriter {
    type Target = StoreReader;

    fn deref(&self) -> &StoreReader {
        &self.reader
    }
}

impl StoreWriter {
    /// Opens the state directory at `dir`. `by` names the writer in journals.
    ///
    /// Root acts on all files as the owner of the directory from then on, in this thread and in those that it starts.
    /// SlurmUser creates the directory if it is missing.
    ///
    /// # Errors
    /// Fails if it is missing and cannot be created.
    pub fn open(dir: &Path, by: &str) -> Result<Self, StoreError> {
        let store = Self { reader: StoreReader::new(dir), by: by.to_owned() };
        match geteuid().is_root() {
            true => act_as_owner_of(dir)?,
            false => store.make_dir(dir)?,
        }
        store.make_dir(&store.rollouts_dir())?;
        Ok(store)
    }

    /// Returns the same directory for a writer of another name.
    #[must_use]
    pub fn by(&self, by: &str) -> Self {
        Self { reader: self.reader.clone(), by: by.to_owned() }
    }

    /// Appends events to the journal of a rollout, or of plain reboots.
    ///
    /// # Errors
    /// Fails if they cannot be written; then none of them counts. Fails as well if they cannot be made to last.
    pub fn record(&self, rollout: Option<&str>, entries: Vec<Entry>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let lock = self.lock()?;
        let appended = lock.append_at(rollout, entries, clock::now_ms())?;
        drop(lock);
        appended.sync()
    }

    /// Starts the follow-up of nodes: a path unit watches this file, which holds nothing.
    ///
    /// # Errors
    /// Fails if it cannot be written. The timer comes half a minute later.
    pub fn call_follow_up(&self) -> Result<(), StoreError> {
        let path = self.dir().join("watch");
        rollout_host::durable::replace(&path, b"", MODE).map_err(StoreError::io(&path, "written"))?;
        self.give(&path)
    }

    fn make_dir(&self, dir: &Path) -> Result<(), StoreError> {
        match DirBuilder::new().mode(0o755).create(dir) {
            Ok(()) => self.give(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(StoreError::io(dir, "made")(error)),
        }
    }

    /// Gives a file that root made to the owner of the directory: SlurmUser's RebootProgram must be able to write
    /// it.
    fn give(&self, path: &Path) -> Result<(), StoreError> {
        rollout_host::durable::give_to_owner_of_directory(path)
            .map_err(StoreError::io(path, "given to the owner of the state directory"))
    }
}

/// Makes root act on files as the owner of the directory. The owner can place links and directories anywhere in it,
/// which must not lead root to other files. A file system that takes root for nobody (root_squash of NFS) lets it write
/// there as well.
fn act_as_owner_of(dir: &Path) -> Result<(), StoreError> {
    let owner = match std::fs::metadata(dir) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::NoDirectory(dir.to_owned()));
        }
        Err(error) => return Err(StoreError::io(dir, "opened")(error)),
    };
    setfsgid(Gid::from_raw(owner.gid()));
    setfsuid(Uid::from_raw(owner.uid()));
    // Both calls report the former id, whether they succeed or not.
    let (uid, gid) = (setfsuid(Uid::from_raw(owner.uid())), setfsgid(Gid::from_raw(owner.gid())));
    if (uid.as_raw(), gid.as_raw()) == (owner.uid(), owner.gid()) {
        Ok(())
    } else {
        Err(StoreError::io(dir, "opened as its owner")(io::ErrorKind::PermissionDenied.into()))
    }
}
