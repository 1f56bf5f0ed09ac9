//! The lab's directory of bases and clusters, and the locks that keep concurrent tests apart.

use std::fs::{File, OpenOptions, create_dir_all};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{IoContext, Result};

/// Returns the directory `part` of the lab's state, which is made if necessary.
pub(crate) fn state_dir(part: &str) -> Result<PathBuf> {
    let state =
        std::env::var_os("ROLLOUT_LAB_DIR").map_or("/var/cache/slurm-rollout-lab".into(), PathBuf::from);
    let dir = state.join(part);
    create_dir_all(&dir).on("create", &dir)?;
    // Overlay options and a process's root both want the one absolute path without links.
    dir.canonicalize().on("resolve", &dir)
}

/// Opens a file for a lock and keeps its content.
pub(crate) fn lock_file(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.on("open", path)
}

/// Waits for the lock on `path`, which is released when it is dropped and when this process ends.
pub(crate) fn lock(path: &Path) -> Result<Flock<File>> {
    Flock::lock(lock_file(path)?, FlockArg::LockExclusive).map_err(|(_, e)| e).on("lock", path)
}

/// Takes the lock on `path` if it is free.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
    Ok(Flock::lock(lock_file(path)?, FlockArg::LockExclusiveNonblock).ok())
}
