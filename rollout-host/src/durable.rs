//! Files that survive a power cut: readers find the old or the new content, complete.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Replaces a file atomically: temporary file, fsync, rename, fsync of the directory.
///
/// # Errors
/// If a system call fails. The old file is then unchanged, unless the fsync of the directory failed.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = temporary_path(path);
    let written = create(&temporary, mode).and_then(|mut file| {
        // Set explicitly because of the umask, which RebootProgram inherits from slurmctld.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&temporary, path)) {
        // The remains would only take space.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// Creates a symbolic link atomically, in place of a file, a different link or nothing.
///
/// # Errors
/// If a system call fails. The old file or link is then unchanged, unless the fsync of the directory failed.
pub fn replace_link(path: &Path, target: &Path) -> io::Result<()> {
    let temporary = temporary_path(path);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(target, &temporary)?;
    if let Err(error) = std::fs::rename(&temporary, path) {
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// Renames a file or directory, with fsync of the directory that gains it and of the one that loses it.
///
/// # Errors
/// If a system call fails.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_parent(to)?;
    if parent(from) == parent(to) { Ok(()) } else { sync_parent(from) }
}

/// Calls fsync on a file's directory, so that the names in it survive a power cut.
///
/// # Errors
/// If a system call fails.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

/// Gives a file to the owner of its directory if we run as root, and does nothing otherwise: root's CLI and
/// SlurmUser's RebootProgram write into one state directory. Does not follow a symbolic link: the owner of the
/// directory could point it at any file of root's.
///
/// # Errors
/// If a system call fails.
pub fn give_to_owner_of_directory(path: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = std::fs::metadata(parent(path))?;
    std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
}

/// Creates a file, after removing any file of this name. Root writes into directories of other users, who can guess the
/// name: a link placed there, for example to a file of root's, is removed and not followed.
fn create(path: &Path, mode: u32) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns `.name.PID.new` in the file's directory. Because of the PID two processes never write into one temporary
/// file.
fn temporary_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the files of a test need not survive a power cut")]
    fn a_link_that_waits_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, roots) = (dir.path().join("state"), dir.path().join("shadow"));
        std::fs::write(&roots, "secret").unwrap();
        std::os::unix::fs::symlink(&roots, temporary_path(&path)).unwrap();
        replace(&path, b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(&roots).unwrap(), b"secret");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn replaces_as_a_whole_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("is-a-directory");
        std::fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"x", 0o600).is_err());
        assert!(path.is_dir());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_link_is_given_away_and_not_what_it_points_to() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not run: needs root");
            return;
        }
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::chown(dir.path(), Some(12345), Some(12345)).unwrap();
        let (victim, link) = (elsewhere.path().join("shadow"), dir.path().join("lock"));
        File::create(&victim).unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        give_to_owner_of_directory(&link).unwrap();
        assert_eq!(std::fs::metadata(&victim).unwrap().uid(), 0);
        assert_eq!(std::fs::symlink_metadata(&link).unwrap().uid(), 12345);
    }
}
