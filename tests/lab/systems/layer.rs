//! Packages that are installed once and then shared: on top of a base, one more lower layer of every node's root.
//!
//! Made with the base's own package manager, offline. The last few of each kind are kept, beside the bases.

use std::fs::{File, FileTimes, create_dir, read_dir, remove_dir_all, rename};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{IoContext, Result};
use crate::packages::format::Format;
use crate::packages::package::copy_into;
use crate::processes::run::in_own_mounts;
use crate::state_dir::{lock, lock_file, state_dir, try_lock};
use crate::systems::base::{Base, Hash};

/// Script that mounts the base and installs, run as `sh -ec SETUP setup BASE DIRECTORY FORMAT INSTALL`.
const SETUP: &str = include_str!("layer_setup.sh");
/// Script for the root, run as `sh -ec INSTALL install FORMAT`.
const INSTALL: &str = include_str!("layer_install.sh");
/// An installation takes seconds; this much is for a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
/// Number of layers of a base and a format that are kept: for both roles, of two states of the source, with some room.
const STAY: usize = 8;

/// Package files of the host's, for nodes that have them from the start.
#[derive(Debug, Clone, Default)]
pub struct Preinstalled {
    pub format: Format,
    /// The files. Without any, nodes for RPM still have `lab-base`.
    pub files: Vec<PathBuf>,
}

/// A layer in use, which is not removed meanwhile.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Goes on top of the base.
    pub(crate) directory: PathBuf,
    _used: Flock<File>,
}

impl Preinstalled {
    /// Returns the layer with these packages on this base, which is made if necessary.
    pub(crate) fn prepare(&self, base: Base) -> Result<Option<Layer>> {
        if self.files.is_empty() && self.format == Format::Deb {
            return Ok(None);
        }
        let root = base.prepare()?;
        let layers = state_dir("layers")?;
        let kind = format!("{}-{}-", base.name(), self.format.name());
        let layer = layers.join(format!("{kind}{:016x}", self.hash(&root)?));
        let _making = lock(&layers.join(format!(".{kind}lock")))?;
        if !layer.exists() {
            let unfinished = layers.join(format!(".{kind}unfinished"));
            if unfinished.exists() {
                remove_dir_all(&unfinished).on("remove", &unfinished)?;
            }
            self.install(&root, &unfinished)?;
            rename(&unfinished, &layer).on("rename to", &layer)?;
        }
        let used = lock_file(&layer.join("used"))?;
        used.set_times(FileTimes::new().set_modified(SystemTime::now())).on("touch", &layer)?;
        let used = Flock::lock(used, FlockArg::LockShared).map_err(|(_, e)| e).on("lock", &layer)?;
        sweep(&layers, &kind)?;
        Ok(Some(Layer { directory: layer.join("upper"), _used: used }))
    }

    fn hash(&self, base: &Path) -> Result<u64> {
        let mut hash = Hash::default();
        hash.add(SETUP.as_bytes()).add(INSTALL.as_bytes()).add(base.as_os_str().as_encoded_bytes());
        for file in &self.files {
            hash.add(&std::fs::read(file).on("read", file)?);
        }
        Ok(hash.value())
    }

    fn install(&self, base: &Path, directory: &Path) -> Result<()> {
        let packages = directory.join("packages");
        create_dir(directory).on("create", directory)?;
        copy_into(&packages, &self.files)?;
        let (base, target) = (base.display().to_string(), directory.display().to_string());
        let setup = ["sh", "-ec", SETUP, "setup", &base, &target, self.format.name(), INSTALL];
        in_own_mounts(&setup).limit(LIMIT).run().map(drop)
    }
}

/// Removes the least recently used layers of a kind that are not in use.
fn sweep(layers: &Path, kind: &str) -> Result<()> {
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in read_dir(layers).on("list", layers)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(kind) {
            let used = entry.path().join("used");
            let modified = used.metadata().and_then(|metadata| metadata.modified());
            found.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
    }
    found.sort_unstable();
    let surplus = found.len().saturating_sub(STAY);
    for (_, layer) in found.iter().take(surplus) {
        if try_lock(&layer.join("used"))?.is_some() {
            remove_dir_all(layer).on("remove", layer)?;
        }
    }
    Ok(())
}
