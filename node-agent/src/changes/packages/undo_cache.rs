//! What a rollback needs and a mirror may have dropped: the package files of the versions that a change replaces, and
//! a note of which packages a transaction is about to touch, as long as it is not known to have ended well.
//!
//! This only knows the directory. Which packages go there, and whether their files are genuine, is the manager's part.

use super::ChangeError;
use rollout_host::durable;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The note's name.
const UNFINISHED: &str = "unfinished";

/// The directory.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    directory: PathBuf,
}

impl Kept {
    /// The node's.
    pub(super) fn of_node() -> Self {
        Self::at(Path::new("/var/lib/slurm-rollout-agent/undo"))
    }

    pub(super) fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Where the files are; there from now on.
    pub(super) fn files(&self) -> Result<PathBuf, ChangeError> {
        let files = self.directory.join("files");
        // apt wants `partial` in it.
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(files.join("partial"));
        made.map_err(ChangeError::file("making the directory", &files))?;
        Ok(files)
    }

    /// Notes what a transaction is about to touch. A note of before is kept: that transaction did not end well.
    pub(super) fn begin(&self, touched: &[String]) -> Result<(), ChangeError> {
        self.files()?;
        let mut packages = self.unfinished()?.unwrap_or_default();
        packages.extend(touched.iter().cloned());
        packages.sort_unstable();
        packages.dedup();
        let path = self.directory.join(UNFINISHED);
        let text: String = packages.iter().map(|package| format!("{package}\n")).collect();
        durable::replace(&path, text.as_bytes(), 0o644).map_err(ChangeError::file("writing", &path))
    }

    /// What a transaction touched that was begun and is not known to have ended well.
    pub(super) fn unfinished(&self) -> Result<Option<Vec<String>>, ChangeError> {
        let path = self.directory.join(UNFINISHED);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.lines().map(str::to_owned).collect())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ChangeError::file("reading", &path)(e)),
        }
    }

    /// The transaction ended well.
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

    /// Removes all of it.
    pub(super) fn forget(&self) -> Result<(), ChangeError> {
        match std::fs::remove_dir_all(&self.directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(ChangeError::file("removing", &self.directory)(e))
            }
            _ => Ok(()),
        }
    }
}

/// The kept file of a package, by the name that apt gives it.
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
        let kept = Kept::at(&dir.path().join("undo"));
        assert_eq!(kept.unfinished().unwrap(), None);
        kept.end().unwrap();
        kept.begin(&["b".to_owned()]).unwrap();
        kept.begin(&["a".to_owned(), "b".to_owned()]).unwrap();
        assert_eq!(kept.unfinished().unwrap(), Some(vec!["a".to_owned(), "b".to_owned()]));
        kept.end().unwrap();
        assert_eq!(kept.unfinished().unwrap(), None);
        assert!(kept.files().unwrap().join("partial").is_dir());
        kept.forget().unwrap();
        kept.forget().unwrap();
        assert!(!dir.path().join("undo").exists());
    }
}
