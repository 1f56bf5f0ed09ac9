//! The state directory: what shall be.
//!
//! ```text
//! lock                          taken (flock) by whoever writes, for milliseconds
//! rollouts/ID/manifest.toml     as the admin wrote it; never changed
//! rollouts/ID/boot-sources.json what its nodes booted from before; for SlurmUser only
//! rollouts/ID/journal           one JSON line an event, only ever appended to
//! plain-reboots                 the journal of nodes that had nothing staged
//! addresses.json                NodeAddr of each node, as Slurm last said it
//! drains.json                   drains that somebody else set
//! watch                         touched when nodes have to be looked after (slurm-rollout-reconcile.path)
//! ```
//!
//! Readers take no lock. A writer that dies leaves at most a torn last line, which readers pass over and the next
//! writer ends. flock works between the hosts of an NFS too (Linux turns it into a byte-range lock there), so two
//! controllers may share the directory.

mod addresses;
mod boot_sources;
mod claim;
mod drains;
mod journal_file;
mod json_file;
mod stage;

pub use claim::{Claim, Claims};
pub use drains::ChangedDrain;
pub use stage::{StageError, Staged};

use journal_file::JournalFile;
use nix::fcntl::{Flock, FlockArg};
use rollout_core::controller::follow_up::{Watched, watched};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, Line, NodeRecords, fold};
use rollout_core::rollout::manifest::{Manifest, ManifestError};
use rollout_host::clock;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a writer waits for another one. Each holds the lock for milliseconds.
const LOCK_LIMIT: Duration = Duration::from_secs(3);

/// Files of the state directory are read by everybody, as Slurm's own state of nodes is.
const MODE: u32 = 0o644;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or directory cannot be read or written.
    #[error("{path}: cannot be {what}: {source}", path = .path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// In the system's words.
        source: io::Error,
    },
    /// Somebody holds the lock for longer than anybody should.
    #[error("{path}: locked by another process for more than {} s", LOCK_LIMIT.as_secs(), path = .path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A stored manifest is no longer what was checked when it was staged.
    #[error("{path}: {source}", path = .path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// There is no such rollout.
    #[error("no rollout is named {0:?}; `slurm-rollout history` lists them")]
    NoSuchRollout(String),
}

/// The state directory.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    by: String,
}

/// One rollout as it is stored.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// Its name, followed by `@2`, `@3` … where the name was used before.
    pub id: String,
    /// As it was staged.
    pub manifest: Manifest,
    /// What has happened, oldest first.
    pub lines: Vec<Line>,
}

impl Rollout {
    /// Where each node stands.
    #[must_use]
    pub fn nodes(&self) -> NodeRecords {
        fold(&self.lines)
    }
}

/// Held while something is written.
struct Lock(#[allow(dead_code, reason = "held until it is dropped")] Flock<File>);

impl Store {
    /// The state directory at `dir`, made if it is not there. `by` names the writer in journals.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(dir: &Path, by: &str) -> Result<Self, StoreError> {
        let store = Self { dir: dir.to_owned(), by: by.to_owned() };
        store.make_dir(dir)?;
        store.make_dir(&store.rollouts_dir())?;
        Ok(store)
    }

    /// The state directory at `dir`, to be read only.
    #[must_use]
    pub fn read_only(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), by: String::new() }
    }

    /// The ids of all rollouts, oldest first.
    ///
    /// # Errors
    /// If the directory is there and cannot be read.
    pub fn ids(&self) -> Result<Vec<String>, StoreError> {
        let dir = self.rollouts_dir();
        let mut found = Vec::new();
        let entries = match std::fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(StoreError::Io { path: dir, what: "read", source }),
        };
        for entry in entries {
            let entry = entry.map_err(|source| StoreError::Io { path: dir.clone(), what: "read", source })?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What begins with a dot was being staged when something crashed.
            if !name.starts_with('.') {
                let staged_ms = self.lines(&name)?.first().map_or(0, |line| line.t_ms);
                found.push((staged_ms, name));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, name)| name).collect())
    }

    /// The newest rollout of this id or name: `driver` stands for `driver@2` where there are both, `driver@1` for the
    /// first one.
    ///
    /// # Errors
    /// If there is none.
    pub fn find(&self, name: &str) -> Result<String, StoreError> {
        let mut ids = self.ids()?;
        let exact = name.strip_suffix("@1").unwrap_or(name);
        if name.contains('@') && ids.iter().any(|id| id == exact) {
            return Ok(exact.to_owned());
        }
        ids.retain(|id| id == name || id.strip_prefix(name).is_some_and(|rest| rest.starts_with('@')));
        ids.pop().ok_or_else(|| StoreError::NoSuchRollout(name.to_owned()))
    }

    /// One rollout by its id.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn load(&self, id: &str) -> Result<Rollout, StoreError> {
        Ok(Rollout { id: id.to_owned(), manifest: self.manifest(id)?, lines: self.lines(id)? })
    }

    /// All rollouts, oldest first.
    ///
    /// # Errors
    /// The first one that cannot be read.
    pub fn load_all(&self) -> Result<Vec<Rollout>, StoreError> {
        self.ids()?.iter().map(|id| self.load(id)).collect()
    }

    /// The manifest as the admin wrote it.
    ///
    /// # Errors
    /// If there is no such rollout or it cannot be read.
    pub fn manifest_text(&self, id: &str) -> Result<String, StoreError> {
        let path = self.manifest_path(id);
        std::fs::read_to_string(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::NoSuchRollout(id.to_owned()),
            _ => StoreError::Io { path, what: "read", source },
        })
    }

    /// Writes what happened into the journal of a rollout, or of plain reboots.
    ///
    /// # Errors
    /// If it cannot be made to last; then nothing of it counts.
    pub fn record(&self, rollout: Option<&str>, entries: Vec<Entry>) -> Result<(), StoreError> {
        if entries.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.append(rollout, entries)
    }

    /// Has somebody look after nodes that have to be told more than once: a path unit sees this file change.
    ///
    /// # Errors
    /// If it cannot be written. The timer comes half a minute later.
    pub fn call_watcher(&self) -> Result<(), StoreError> {
        let path = self.dir.join("watch");
        let written = rollout_host::durable::replace(&path, b"", MODE);
        written.map_err(|source| StoreError::Io { path, what: "written", source })
    }

    /// The nodes that have to be looked after.
    ///
    /// # Errors
    /// If a journal cannot be read.
    pub fn watched(&self) -> Result<Vec<Watched>, StoreError> {
        Ok(watched(&self.folds()?, &fold(&self.plain_reboots()?)))
    }

    /// The journal of plain reboots.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn plain_reboots(&self) -> Result<Vec<Line>, StoreError> {
        self.journal(None).read()
    }

    fn append(&self, rollout: Option<&str>, entries: Vec<Entry>) -> Result<(), StoreError> {
        let t_ms = clock::now_ms();
        let line = |entry| Line { t_ms, by: self.by.clone(), entry };
        self.journal(rollout).append(&entries.into_iter().map(line).collect::<Vec<_>>())
    }

    fn lines(&self, id: &str) -> Result<Vec<Line>, StoreError> {
        self.journal(Some(id)).read()
    }

    fn manifest(&self, id: &str) -> Result<Manifest, StoreError> {
        let wrong = |source| StoreError::Manifest { path: self.manifest_path(id), source };
        Manifest::parse(&self.manifest_text(id)?).map_err(wrong)
    }

    fn manifest_path(&self, id: &str) -> PathBuf {
        self.rollout_dir(id).join("manifest.toml")
    }

    fn journal(&self, rollout: Option<&str>) -> JournalFile {
        JournalFile::at(match rollout {
            Some(id) => self.rollout_dir(id).join("journal"),
            None => self.dir.join("plain-reboots"),
        })
    }

    fn rollouts_dir(&self) -> PathBuf {
        self.dir.join("rollouts")
    }

    fn rollout_dir(&self, id: &str) -> PathBuf {
        self.rollouts_dir().join(id)
    }

    fn make_dir(&self, dir: &Path) -> Result<(), StoreError> {
        match DirBuilder::new().mode(0o755).create(dir) {
            Ok(()) if dir != self.dir => self.give(dir),
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(StoreError::Io { path: dir.to_owned(), what: "made", source }),
        }
    }

    /// OrderKind root's CLI makes must be writable for SlurmUser's RebootProgram.
    fn give(&self, path: &Path) -> Result<(), StoreError> {
        rollout_host::durable::give_to_owner_of_directory(path).map_err(|source| StoreError::Io {
            path: path.to_owned(),
            what: "given to the owner of the state directory",
            source,
        })
    }

    fn lock(&self) -> Result<Lock, StoreError> {
        let path = self.dir.join("lock");
        let open = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path);
        let mut file =
            open.map_err(|source| StoreError::Io { path: path.clone(), what: "opened", source })?;
        self.give(&path)?;
        let end = Instant::now() + LOCK_LIMIT;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Lock(lock)),
                Err((_, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() >= end => {
                    return Err(StoreError::Locked { path });
                }
                Err((back, nix::errno::Errno::EWOULDBLOCK | nix::errno::Errno::EINTR)) => {
                    file = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((_, error)) => {
                    return Err(StoreError::Io { path, what: "locked", source: error.into() });
                }
            }
        }
    }

    /// The folds of all journals, oldest rollout first.
    fn folds(&self) -> Result<Vec<(String, NodeRecords)>, StoreError> {
        self.ids()?.into_iter().map(|id| Ok((id.clone(), fold(&self.lines(&id)?)))).collect()
    }

    /// Of the nodes, those that are in one of these folds and armed.
    fn armed(fold: &NodeRecords, nodes: &NodeSet, now_ms: u64) -> NodeSet {
        let armed = |name: &&str| fold.get(*name).is_some_and(|node| node.progress.is_armed(now_ms));
        nodes.iter().filter(armed).map(str::to_owned).collect()
    }
}
