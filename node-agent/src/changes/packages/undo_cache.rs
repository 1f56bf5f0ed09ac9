//! Files for an undo: the packages that a change replaces, which a mirror may have dropped, and a note of the packages
//! that a transaction affects, until the transaction is known to have succeeded.
//!
//! This module only knows the directory. The manager decides which packages go there and whether they are genuine.

use super::ChangeError;
use rollout_host::durable;
use rollout_host::regular_file::{self, NO_LIMIT};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The cache's name in the agent's state directory.
const NAME: &str = "undo";

/// The note's name in the cache.
const UNFINISHED: &str = "unfinished";

#[derive(Debug, Clone)]
pub(super) struct UndoCache {
    directory: PathBuf,
}

impl UndoCache {
    pub(super) fn in_dir(state_dir: &Path) -> Self {
        Self { directory: state_dir.join(NAME) }
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
        let mut packages = self.unfinished()?.unwrap_or_default();
        packages.extend(affected.iter().cloned());
        packages.sort_unstable();
        packages.dedup();
        let path = self.directory.join(UNFINISHED);
        let text: String = packages.iter().map(|package| format!("{package}\n")).collect();
        durable::replace(&path, text.as_bytes(), 0o644).map_err(ChangeError::file("writing", &path))
    }

    /// Returns the packages of a transaction that was begun and is not known to have succeeded.
    pub(super) fn unfinished(&self) -> Result<Option<Vec<String>>, ChangeError> {
        let path = self.directory.join(UNFINISHED);
        match regular_file::read_text(&path, NO_LIMIT) {
            Ok(text) => Ok(Some(text.lines().map(str::to_owned).collect())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ChangeError::file("reading", &path)(e)),
        }
    }

    /// Removes the note: the transaction succeeded.
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
        cache.end().unwrap();
        assert_eq!(cache.unfinished().unwrap(), None);
        assert!(cache.files_dir().unwrap().join("partial").is_dir());
        cache.remove().unwrap();
        cache.remove().unwrap();
        assert!(!dir.path().join("undo").exists());
    }
}
