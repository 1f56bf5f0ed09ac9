//! Files for an undo: the packages that a change replaces, which a mirror may have dropped, the state around them, and
//! a note of the packages that a transaction affects, until the transaction is known to have succeeded.
//!
//! This module only knows the directory. The manager decides which packages go there and whether they are genuine.

use super::ChangeError;
use rollout_core::agent::record::After;
use rollout_host::durable;
use rollout_host::regular_file::{self, NO_LIMIT};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The cache's name in the agent's state directory.
const NAME: &str = "undo";

/// The note's name in the cache.
const UNFINISHED: &str = "unfinished";

/// Name of the list of packages that transactions of this order may have changed.
const TOUCHED: &str = "touched";

/// Name of the list of installed packages before the transaction, if it is not the one that was observed.
const START: &str = "start";

/// Name of the list of scriptlets that failed on the way back.
const FAILED: &str = "failed-scriptlets";

/// Name of the record of a transaction that succeeded.
const AFTER: &str = "after.json";

#[derive(Debug, Clone)]
pub(super) struct UndoCache {
    directory: PathBuf,
}

impl UndoCache {
    pub(super) fn in_dir(state_dir: &Path) -> Self {
        Self { directory: state_dir.join(NAME) }
    }

    /// Returns the directory of the cache, which need not exist.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Creates the directory of the package files, and returns it.
    pub(super) fn files_dir(&self) -> Result<PathBuf, ChangeError> {
        let files = self.directory.join("files");
        // apt requires `partial` in it.
        let created = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(files.join("partial"));
        created.map_err(ChangeError::file("making the directory", &files))?;
        Ok(files)
    }

    /// Notes the packages that a transaction affects. An earlier note stays: its transaction did not succeed.
    pub(super) fn begin(&self, affected: &[String]) -> Result<(), ChangeError> {
        self.files_dir()?;
        self.touch(affected)?;
        self.add(UNFINISHED, affected)
    }

    /// Records packages that a transaction may change. They stay recorded until the order is over.
    pub(super) fn touch(&self, packages: &[String]) -> Result<(), ChangeError> {
        self.files_dir()?;
        self.add(TOUCHED, packages)
    }

    /// Returns the packages that transactions may have changed, or `None` if no transaction was begun.
    pub(super) fn touched(&self) -> Result<Option<Vec<String>>, ChangeError> {
        self.list(TOUCHED)
    }

    /// Records the packages that are installed before the transaction.
    pub(super) fn record_start(&self, packages: &[String]) -> Result<(), ChangeError> {
        self.files_dir()?;
        self.replace(START, lines(packages).as_bytes())
    }

    /// Returns the packages that were installed before the transaction, if others had changed them after they were
    /// observed.
    pub(super) fn start(&self) -> Result<Option<Vec<String>>, ChangeError> {
        self.list(START)
    }

    /// Records scriptlets that failed on the way back.
    pub(super) fn add_failed(&self, scriptlets: &[String]) -> Result<(), ChangeError> {
        if scriptlets.is_empty() {
            return Ok(());
        }
        self.add(FAILED, scriptlets)
    }

    /// Returns the scriptlets that failed on the way back.
    pub(super) fn failed(&self) -> Result<Vec<String>, ChangeError> {
        Ok(self.list(FAILED)?.unwrap_or_default())
    }

    fn add(&self, name: &str, more: &[String]) -> Result<(), ChangeError> {
        let mut packages = self.list(name)?.unwrap_or_default();
        packages.extend(more.iter().cloned());
        packages.sort_unstable();
        packages.dedup();
        self.replace(name, lines(&packages).as_bytes())
    }

    fn list(&self, name: &str) -> Result<Option<Vec<String>>, ChangeError> {
        Ok(self.text(name)?.map(|text| text.lines().map(str::to_owned).collect()))
    }

    fn text(&self, name: &str) -> Result<Option<String>, ChangeError> {
        let path = self.directory.join(name);
        match regular_file::read_text(&path, NO_LIMIT) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ChangeError::file("reading", &path)(e)),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ChangeError> {
        let path = self.directory.join(name);
        durable::replace(&path, bytes, 0o600).map_err(ChangeError::file("writing", &path))
    }

    /// Writes a record.
    pub(super) fn write<T: Serialize>(&self, name: &str, record: &T) -> Result<(), ChangeError> {
        self.files_dir()?;
        let text = serde_json::to_vec(record)
            .map_err(|error| ChangeError::file("writing", &self.directory.join(name))(error.into()))?;
        self.replace(name, &text)
    }

    /// Reads a record, if it is there.
    pub(super) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ChangeError> {
        let text = self.text(name)?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        parsed.map_err(|error| ChangeError::file("reading", &self.directory.join(name))(error.into()))
    }

    /// Returns a directory of the cache, created if need be.
    pub(super) fn subdirectory(&self, name: &str) -> Result<PathBuf, ChangeError> {
        let path = self.directory.join(name);
        let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        created.map_err(ChangeError::file("making the directory", &path))?;
        Ok(path)
    }

    /// Returns the packages of a transaction that was begun and is not known to have succeeded.
    pub(super) fn unfinished(&self) -> Result<Option<Vec<String>>, ChangeError> {
        self.list(UNFINISHED)
    }

    /// Records the outcome of a transaction that succeeded.
    pub(super) fn succeeded(&self, after: &After) -> Result<(), ChangeError> {
        self.write(AFTER, after)?;
        self.end()
    }

    /// Returns the outcome of the transaction, if it is known to have succeeded.
    pub(super) fn after(&self) -> Result<Option<After>, ChangeError> {
        self.read(AFTER)
    }

    /// Removes the note: the transaction, or its undo, succeeded.
    pub(super) fn end(&self) -> Result<(), ChangeError> {
        let path = self.directory.join(UNFINISHED);
        match std::fs::remove_file(&path) {
            Ok(()) => {
                durable::sync_parent(&path).map_err(ChangeError::file("writing the directory of", &path))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(ChangeError::file("removing", &path)(e)),
        }
    }

    /// Removes the cache.
    pub(super) fn remove(&self) -> Result<(), ChangeError> {
        match std::fs::remove_dir_all(&self.directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(ChangeError::file("removing", &self.directory)(e))
            }
            _ => Ok(()),
        }
    }
}

fn lines(packages: &[String]) -> String {
    packages.iter().map(|package| format!("{package}\n")).collect()
}

/// Returns the cached file of a package, by the name that apt gives it.
pub(super) fn deb_file(directory: &Path, package: &str) -> Option<PathBuf> {
    let (id, version) = package.split_once('=')?;
    let (name, arch) = id.split_once(':')?;
    let version = version.replace('%', "%25").replace('_', "%5f").replace(':', "%3a");
    let path = directory.join(format!("{name}_{version}_{arch}.deb"));
    path.is_file().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deb_files_have_the_names_that_apt_gives_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a_1%3a1.0~rc1_amd64.deb");
        std::fs::File::create(&path).unwrap();
        assert_eq!(deb_file(dir.path(), "a:amd64=1:1.0~rc1"), Some(path));
        assert_eq!(deb_file(dir.path(), "a:amd64=1.0~rc1"), None);
    }

    #[test]
    fn a_note_lasts_until_its_transaction_ends_well() {
        let dir = tempfile::tempdir().unwrap();
        let cache = UndoCache::in_dir(dir.path());
        assert_eq!(cache.unfinished().unwrap(), None);
        cache.end().unwrap();
        cache.begin(&["b".to_owned()]).unwrap();
        cache.begin(&["a".to_owned(), "b".to_owned()]).unwrap();
        assert_eq!(cache.unfinished().unwrap(), Some(vec!["a".to_owned(), "b".to_owned()]));
        cache.succeeded(&After { changed: true, ..After::default() }).unwrap();
        assert_eq!(cache.unfinished().unwrap(), None);
        assert_eq!(cache.touched().unwrap(), Some(vec!["a".to_owned(), "b".to_owned()]));
        assert!(cache.after().unwrap().unwrap().changed);
        assert!(cache.files_dir().unwrap().join("partial").is_dir());
        cache.remove().unwrap();
        cache.remove().unwrap();
        assert!(!dir.path().join("undo").exists());
    }
}
