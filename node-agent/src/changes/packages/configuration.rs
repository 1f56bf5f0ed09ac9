//! Configuration files of the packages that a change touches, and the units that those packages bring.
//!
//! A package manager keeps an admin's file or not, depending on the package and on the kind of transaction, and enables
//! or disables units in scriptlets. So both are recorded before a transaction and restored after an undo.

use super::ChangeError;
use super::undo_cache::UndoCache;
use rollout_host::durable;
use rollout_host::regular_file::{self, NO_LIMIT};
use rollout_host::run::Program;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The record's name in the cache.
const RECORD: &str = "configuration.json";

/// Name of the directory with the copies in the cache.
const COPIES: &str = "configuration";

/// Time limit for copying one file.
const COPY_LIMIT: Duration = Duration::from_secs(120);

/// Endings under which rpm and dpkg put the other version of a configuration file beside it.
const OTHER_VERSIONS: [&str; 8] =
    [".rpmsave", ".rpmnew", ".rpmorig", ".dpkg-dist", ".dpkg-old", ".dpkg-new", ".ucf-dist", ".ucf-old"];

/// Paths are those that the packages have, without the root directory.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Files with the names of their copies. `None` if the file was not there.
    files: BTreeMap<PathBuf, Option<String>>,
    /// Configuration files that the change brought.
    #[serde(default)]
    brought: BTreeSet<PathBuf>,
    /// Other versions that were there before.
    #[serde(default)]
    other_versions: BTreeSet<PathBuf>,
    /// Names of the units of all these packages.
    #[serde(default)]
    units: BTreeSet<String>,
    /// The manager's own files are among `files`, all that there were.
    #[serde(default)]
    has_own: bool,
}

/// The recorded configuration of a system.
pub(super) struct Configuration<'a> {
    cache: &'a UndoCache,
    root: &'a Path,
}

impl<'a> Configuration<'a> {
    pub(super) fn new(cache: &'a UndoCache, root: &'a Path) -> Self {
        Self { cache, root }
    }

    /// Records the present state of files, except of those that are recorded already.
    pub(super) fn record(&self, paths: &[PathBuf], units: &[String]) -> Result<(), ChangeError> {
        let mut record = self.load()?;
        let copies = self.cache.subdirectory(COPIES)?;
        for path in paths {
            if record.files.contains_key(path) {
                continue;
            }
            let copy = match self.kind_of(path)? {
                Kind::Absent => None,
                Kind::Other => continue,
                Kind::File | Kind::Link => {
                    let name = record.files.len().to_string();
                    copy(&self.on_host(path), &copies.join(&name))?;
                    Some(name)
                }
            };
            record.files.insert(path.clone(), copy);
            record.other_versions.extend(self.other_versions_of(path));
        }
        record.units.extend(units.iter().cloned());
        self.cache.write(RECORD, &record)
    }

    /// Records the package manager's own files, which it may change before the transaction. Only the first time: those
    /// that are there later may be new.
    pub(super) fn record_own(&self, paths: &[PathBuf]) -> Result<(), ChangeError> {
        if self.load()?.has_own {
            return Ok(());
        }
        self.record(paths, &[])?;
        self.cache.write(RECORD, &Record { has_own: true, ..self.load()? })
    }

    /// Removes those of the package manager's own files that were not there. `paths` are the present ones.
    pub(super) fn remove_new_own(&self, paths: &[PathBuf]) -> Result<(), ChangeError> {
        let record = self.load()?;
        for path in paths.iter().filter(|path| record.has_own && !record.files.contains_key(*path)) {
            if let Kind::File | Kind::Link = self.kind_of(path)? {
                remove(&self.on_host(path))?;
            }
        }
        Ok(())
    }

    /// Records configuration files and units that the change brought.
    pub(super) fn record_brought(&self, paths: &[PathBuf], units: &[String]) -> Result<(), ChangeError> {
        let mut record = self.load()?;
        let new = paths.iter().filter(|path| !record.files.contains_key(*path));
        record.brought.extend(new.cloned().collect::<Vec<_>>());
        record.units.extend(units.iter().cloned());
        self.cache.write(RECORD, &record)
    }

    /// Restores the files below a directory.
    pub(super) fn restore_below(&self, directory: &Path) -> Result<(), ChangeError> {
        let copies = self.cache.subdirectory(COPIES)?;
        for (path, kept) in self.load()?.files.iter().filter(|(path, _)| path.starts_with(directory)) {
            if self.is_restored(path, kept.as_deref(), &copies)? {
                continue;
            }
            let on_host = self.on_host(path);
            match kept {
                Some(name) => replace(&copies.join(name), &on_host)?,
                None => remove(&on_host)?,
            }
        }
        Ok(())
    }

    /// Removes the other versions of configuration files that came with the change or its undo. `known` are those that
    /// were there before.
    pub(super) fn remove_other_versions(&self, known: &BTreeSet<PathBuf>) -> Result<(), ChangeError> {
        let record = self.load()?;
        // No other version of a new file is known from before, except in /etc.
        let in_etc = record.brought.iter().filter(|path| path.starts_with("/etc"));
        for path in record.files.keys().chain(in_etc) {
            for other in self.other_versions_of(path) {
                if !known.contains(&other) && !record.other_versions.contains(&other) {
                    remove(&self.on_host(&other))?;
                }
            }
        }
        Ok(())
    }

    /// Returns the files that are not as recorded.
    pub(super) fn differing(&self) -> Result<Vec<String>, ChangeError> {
        let copies = self.cache.subdirectory(COPIES)?;
        let mut differing = Vec::new();
        for (path, kept) in self.load()?.files {
            if !self.is_restored(&path, kept.as_deref(), &copies)? {
                differing.push(path.display().to_string());
            }
        }
        Ok(differing)
    }

    /// Returns the names of the units of the touched packages.
    pub(super) fn units(&self) -> Result<BTreeSet<String>, ChangeError> {
        Ok(self.load()?.units)
    }

    fn load(&self) -> Result<Record, ChangeError> {
        Ok(self.cache.read(RECORD)?.unwrap_or_default())
    }

    fn on_host(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn kind_of(&self, path: &Path) -> Result<Kind, ChangeError> {
        let on_host = self.on_host(path);
        Kind::of(&on_host).map_err(ChangeError::file("looking at", &on_host))
    }

    fn other_versions_of(&self, path: &Path) -> Vec<PathBuf> {
        let other = |ending: &&str| {
            let mut name = OsString::from(path);
            name.push(ending);
            PathBuf::from(name)
        };
        OTHER_VERSIONS.iter().map(other).filter(|p| self.on_host(p).is_file()).collect()
    }

    fn is_restored(&self, path: &Path, kept: Option<&str>, copies: &Path) -> Result<bool, ChangeError> {
        let on_host = self.on_host(path);
        match kept {
            Some(name) => {
                is_same(&copies.join(name), &on_host).map_err(ChangeError::file("comparing", &on_host))
            }
            // A directory of the same name is nothing that a package manager makes of a file.
            None => Ok(!matches!(self.kind_of(path)?, Kind::File | Kind::Link)),
        }
    }
}

/// Returns all other versions of configuration files in /etc.
pub(super) fn other_versions_in_etc(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut directories = vec![root.join("etc")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                directories.push(path);
            } else if OTHER_VERSIONS
                .iter()
                .any(|ending| entry.file_name().to_string_lossy().ends_with(ending))
            {
                found.extend(path.strip_prefix(root).map(|path| Path::new("/").join(path)));
            }
        }
    }
    found
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Absent,
    File,
    Link,
    Other,
}

impl Kind {
    fn of(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(file) if file.is_file() => Ok(Self::File),
            Ok(file) if file.is_symlink() => Ok(Self::Link),
            Ok(_) => Ok(Self::Other),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Self::Absent)
            }
            Err(e) => Err(e),
        }
    }
}

/// Returns whether two paths are files of the same content, mode and owner, or links to the same target.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let kind = Kind::of(one)?;
    if kind != Kind::of(other)? {
        return Ok(false);
    }
    match kind {
        Kind::File => {
            let (a, b) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
            let alike = (a.mode(), a.uid(), a.gid(), a.len()) == (b.mode(), b.uid(), b.gid(), b.len());
            Ok(alike && regular_file::read(one, NO_LIMIT)? == regular_file::read(other, NO_LIMIT)?)
        }
        Kind::Link => Ok(fs::read_link(one)? == fs::read_link(other)?),
        Kind::Absent | Kind::Other => Ok(true),
    }
}

/// Copies a file or a link with its owner, mode, times, SELinux context and other attributes, and has a file on disk.
fn copy(from: &Path, to: &Path) -> Result<(), ChangeError> {
    let cp = Program::new("/usr/bin/cp", COPY_LIMIT).args(["-a", "--remove-destination", "-T", "--"]);
    cp.arg(from).arg(to).run().map_err(|error| {
        ChangeError::state(format!("copying {} to {}", from.display(), to.display()), error.to_string())
    })?;
    let synced = match Kind::of(to) {
        Ok(Kind::File) => fs::File::open(to).and_then(|file| file.sync_all()),
        other => other.map(drop),
    };
    synced.and_then(|()| durable::sync_parent(to)).map_err(ChangeError::file("writing", to))
}

/// Puts a copy in the place of a file, atomically.
fn replace(kept: &Path, path: &Path) -> Result<(), ChangeError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(ChangeError::file("making the directory", parent))?;
    }
    let mut temporary = OsString::from(path);
    temporary.push(".slurm-rollout");
    let temporary = PathBuf::from(temporary);
    copy(kept, &temporary)?;
    durable::rename(&temporary, path).map_err(ChangeError::file("restoring", path))
}

fn remove(path: &Path) -> Result<(), ChangeError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ChangeError::file("removing", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn own_files_of_a_manager_that_are_new_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (root, cache) = (dir.path().join("root"), UndoCache::in_dir(dir.path()));
        fs::create_dir_all(root.join("m")).unwrap();
        let write = |name: &str| durable::replace(&root.join(name), name.as_bytes(), 0o644).unwrap();
        let configuration = Configuration::new(&cache, &root);
        let [old, new, gone] = ["/m/old", "/m/new", "/m/gone"].map(PathBuf::from);
        write("m/new");
        // The record of an older agent does not tell which of them were there.
        configuration.remove_new_own(std::slice::from_ref(&new)).unwrap();
        fs::remove_file(root.join("m/new")).unwrap_or_else(|error| panic!("it was removed: {error}"));
        write("m/old");
        configuration.record_own(&[old.clone(), gone.clone()]).unwrap();
        write("m/new");
        write("m/gone");
        // The transaction itself comes after the streams were enabled.
        configuration.record_own(&[old.clone(), new.clone(), gone.clone()]).unwrap();
        for _ in 0..2 {
            configuration.restore_below(Path::new("/m")).unwrap();
            configuration.remove_new_own(&[old.clone(), new.clone(), gone.clone()]).unwrap();
        }
        let left: Vec<_> =
            fs::read_dir(root.join("m")).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, ["old"]);
        assert_eq!(configuration.differing().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn files_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let (root, cache) = (dir.path().join("root"), UndoCache::in_dir(dir.path()));
        fs::create_dir_all(root.join("etc/d")).unwrap();
        let write =
            |name: &str, text: &str| durable::replace(&root.join(name), text.as_bytes(), 0o640).unwrap();
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        write("etc/a", "admin");
        write("etc/a.rpmnew", "old");
        symlink("a", root.join("etc/link")).unwrap();
        let configuration = Configuration::new(&cache, &root);
        let paths = ["/etc/a", "/etc/link", "/etc/gone", "/etc/d"].map(PathBuf::from);
        let known = other_versions_in_etc(&root);
        configuration.record(&paths, &["a.service".to_owned()]).unwrap();

        write("etc/a", "package");
        configuration.record(&paths, &[]).unwrap();
        configuration.record_brought(&["/etc/new".into()], &["b.service".to_owned()]).unwrap();
        fs::remove_file(root.join("etc/link")).unwrap();
        for name in ["etc/gone", "etc/a.rpmsave", "etc/new.rpmsave", "etc/other.rpmsave"] {
            write(name, "came with the change");
        }
        assert_eq!(configuration.differing().unwrap(), ["/etc/a", "/etc/gone", "/etc/link"]);
        for _ in 0..2 {
            configuration.restore_below(Path::new("/")).unwrap();
            configuration.remove_other_versions(&known).unwrap();
        }
        assert_eq!(configuration.differing().unwrap(), Vec::<String>::new());
        assert_eq!((read("etc/a").as_str(), read("etc/a.rpmnew").as_str()), ("admin", "old"));
        assert_eq!(fs::metadata(root.join("etc/a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_link(root.join("etc/link")).unwrap(), Path::new("a"));
        let left: Vec<bool> = ["etc/gone", "etc/a.rpmsave", "etc/new.rpmsave", "etc/other.rpmsave"]
            .map(|name| root.join(name).exists())
            .to_vec();
        assert_eq!(left, [false, false, false, true]);
        assert_eq!(configuration.units().unwrap().len(), 2);
    }
}
