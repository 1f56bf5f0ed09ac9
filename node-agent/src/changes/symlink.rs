//! A symbolic link switched to another target, as a whole: whoever follows it meets the old target or the new one.
//!
//! Only the link itself is ever written. Its directory must be there, and a real file or directory in its place is an
//! error: it may be somebody's data.

use super::ChangeError;
use rollout_core::rollout::manifest::Symlink;
use rollout_host::durable;
use std::io;
use std::path::{Path, PathBuf};

pub(super) fn is_already_so(link: &Symlink) -> Result<bool, ChangeError> {
    // A right link to nowhere is not so: apply then refuses it before the node is rebooted for nothing.
    Ok(read(Path::new(&link.path))? == link.target && check_target(link).is_ok())
}

pub(super) fn observe(link: &Symlink) -> Result<rollout_core::agent::record::Before, ChangeError> {
    Ok(rollout_core::agent::record::Before::Symlink { target: read(Path::new(&link.path))? })
}

pub(super) fn apply(
    link: &Symlink,
    before: Option<&str>,
) -> Result<rollout_core::agent::record::After, ChangeError> {
    let path = Path::new(&link.path);
    match &link.target {
        Some(target) => {
            check_target(link)?;
            check_directory(path)?;
            switch(path, target)?;
        }
        None => remove(path)?,
    }
    let changed = before != link.target.as_deref();
    Ok(rollout_core::agent::record::After { changed, added: Vec::new(), removed: Vec::new() })
}

pub(super) fn verify(link: &Symlink) -> Result<(), ChangeError> {
    expect(Path::new(&link.path), link.target.as_deref())?;
    check_target(link)
}

pub(super) fn undo(link: &Symlink, before: Option<&str>) -> Result<(), ChangeError> {
    let path = Path::new(&link.path);
    match before {
        Some(target) => switch(path, target),
        None => remove(path),
    }
}

fn remove(path: &Path) -> Result<(), ChangeError> {
    remove_left_over(path)?;
    if read(path)?.is_some() {
        std::fs::remove_file(path).map_err(ChangeError::file("removing the link", path))?;
        durable::sync_parent(path).map_err(ChangeError::file("writing the directory of", path))?;
    }
    Ok(())
}

pub(super) fn verify_old(link: &Symlink, before: Option<&str>) -> Result<(), ChangeError> {
    expect(Path::new(&link.path), before)
}

/// Where the link points; none if nothing is there.
fn read(path: &Path) -> Result<Option<String>, ChangeError> {
    let target = match std::fs::read_link(path) {
        Ok(target) => target,
        // ENOTDIR: something above it is no directory. There is no link then, either; apply says what is wrong.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
            let problem =
                "a file or directory stands there that is no link; it is never touched: move it away first";
            return Err(ChangeError::state(format!("reading the link {}", path.display()), problem));
        }
        Err(e) => return Err(ChangeError::file("reading the link", path)(e)),
    };
    let problem = "its target is no UTF-8 text and could not be restored";
    let text = target.into_os_string().into_string();
    text.map(Some).map_err(|_| ChangeError::state(format!("reading the link {}", path.display()), problem))
}

fn expect(path: &Path, wanted: Option<&str>) -> Result<(), ChangeError> {
    let found = read(path)?;
    if found.as_deref() == wanted {
        return Ok(());
    }
    let say = |target: Option<&str>| target.map_or("absent".to_owned(), |target| format!("-> {target}"));
    let problem = format!("it is {}, not {}", say(found.as_deref()), say(wanted));
    Err(ChangeError::state(format!("verifying the link {}", path.display()), problem))
}

fn check_target(link: &Symlink) -> Result<(), ChangeError> {
    let Some(target) = &link.target else { return Ok(()) };
    match std::fs::metadata(target) {
        Ok(_) => Ok(()),
        Err(e) => {
            let problem = format!("its target {target} cannot be reached: {e}");
            Err(ChangeError::state(format!("pointing the link {} to it", link.path), problem))
        }
    }
}

fn check_directory(path: &Path) -> Result<(), ChangeError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => {
            let problem = format!("{} is no directory", directory.display());
            Err(ChangeError::state(format!("making the link {}", path.display()), problem))
        }
        Err(e) => Err(ChangeError::file("making a link in the directory", directory)(e)),
    }
}

/// Puts the link there, in place of another link or of nothing.
fn switch(path: &Path, target: &str) -> Result<(), ChangeError> {
    remove_left_over(path)?;
    if read(path)?.as_deref() != Some(target) {
        let temporary = temporary(path);
        std::os::unix::fs::symlink(target, &temporary)
            .map_err(ChangeError::file("making the link", &temporary))?;
        // rename(2) would also replace a file that came since the look above; the node is drained and we are its
        // only writer there.
        std::fs::rename(&temporary, path).map_err(ChangeError::file("replacing the link", path))?;
    }
    // Also where the link is right: the crash may have come between the rename and this.
    durable::sync_parent(path).map_err(ChangeError::file("writing the directory of", path))
}

/// A crash may leave the temporary name behind. Only a link is removed.
fn remove_left_over(path: &Path) -> Result<(), ChangeError> {
    let temporary = temporary(path);
    match read(&temporary)? {
        Some(_) => {
            std::fs::remove_file(&temporary).map_err(ChangeError::file("removing the link", &temporary))
        }
        None => Ok(()),
    }
}

/// The same name each time, so that nothing piles up.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.slurm-rollout"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::agent::record::Before;
    use std::os::unix::fs::symlink;

    struct Tree(tempfile::TempDir);

    impl Tree {
        /// `old/` and `new/`, no link.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("old")).unwrap();
            std::fs::create_dir(dir.path().join("new")).unwrap();
            Self(dir)
        }

        fn path(&self, name: &str) -> String {
            self.0.path().join(name).display().to_string()
        }

        fn link(&self) -> Symlink {
            Symlink { path: self.path("current"), target: Some(self.path("new")), absent: false }
        }

        fn point(&self, name: &str, target: &str) {
            symlink(self.path(target), self.path(name)).unwrap();
        }

        fn names(&self) -> Vec<String> {
            let names = std::fs::read_dir(self.0.path()).unwrap();
            let mut names: Vec<_> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    fn target(before: Before) -> Option<String> {
        match before {
            Before::Symlink { target } => target,
            Before::Packages { .. } | Before::InImage | Before::Image { .. } => {
                panic!("not a symlink's record")
            }
        }
    }

    #[test]
    fn there_and_back_from_another_link_from_none_and_from_a_dangling_one() {
        for old in [Some("old"), None, Some("gone")] {
            let tree = Tree::new();
            if let Some(old) = old {
                tree.point("current", old);
            }
            let names = tree.names();
            let link = tree.link();
            assert!(!is_already_so(&link).unwrap());
            let before = target(observe(&link).unwrap());
            assert_eq!(before, old.map(|old| tree.path(old)));
            for _ in 0..2 {
                assert!(apply(&link, before.as_deref()).unwrap().changed);
                verify(&link).unwrap();
                assert!(is_already_so(&link).unwrap());
                assert!(verify_old(&link, before.as_deref()).is_err());
            }
            for _ in 0..2 {
                undo(&link, before.as_deref()).unwrap();
                verify_old(&link, before.as_deref()).unwrap();
                assert!(verify(&link).is_err());
                assert_eq!(tree.names(), names);
            }
        }
    }

    #[test]
    fn what_a_crash_left_does_not_stand_in_the_way() {
        let tree = Tree::new();
        tree.point("current", "old");
        tree.point(".current.slurm-rollout", "new");
        apply(&tree.link(), Some("old")).unwrap();
        assert_eq!(tree.names(), ["current", "new", "old"]);
        tree.point(".current.slurm-rollout", "old");
        undo(&tree.link(), None).unwrap();
        assert_eq!(tree.names(), ["new", "old"]);
    }

    #[test]
    fn a_file_or_directory_is_never_touched() {
        for is_dir in [true, false] {
            let tree = Tree::new();
            let path = tree.path("current");
            if is_dir {
                std::fs::create_dir(&path).unwrap();
            } else {
                std::fs::File::create(&path).unwrap();
            }
            let link = tree.link();
            let errors = [
                is_already_so(&link).map(drop).unwrap_err(),
                observe(&link).map(drop).unwrap_err(),
                apply(&link, None).map(drop).unwrap_err(),
                verify(&link).unwrap_err(),
                undo(&link, None).unwrap_err(),
                undo(&link, Some("/old")).unwrap_err(),
            ];
            for error in errors {
                let error = error.to_string();
                assert!(error.contains(&path) && error.contains("move it away"), "{error}");
            }
            assert_eq!(std::fs::metadata(&path).unwrap().is_dir(), is_dir);
            assert_eq!(tree.names(), ["current", "new", "old"]);
        }
    }

    #[test]
    fn refuses_before_it_does_anything() {
        let tree = Tree::new();
        tree.point("current", "old");
        let nowhere =
            Symlink { path: tree.path("current"), target: Some(tree.path("nowhere")), absent: false };
        let error = apply(&nowhere, None).unwrap_err().to_string();
        assert!(error.contains("nowhere cannot be reached"), "{error}");
        assert_eq!(read(Path::new(&nowhere.path)).unwrap(), Some(tree.path("old")));

        let inside =
            Symlink { path: tree.path("absent/current"), target: Some(tree.path("new")), absent: false };
        assert_eq!(target(observe(&inside).unwrap()), None);
        let error = apply(&inside, None).unwrap_err().to_string();
        assert!(error.contains("absent: No such file"), "{error}");
        assert!(!tree.names().contains(&"absent".to_owned()), "the directory is not made");

        std::fs::File::create(tree.path("file")).unwrap();
        let below =
            Symlink { path: tree.path("file/current"), target: Some(tree.path("new")), absent: false };
        let error = apply(&below, None).unwrap_err().to_string();
        assert!(error.contains("no directory"), "{error}");
    }

    #[test]
    fn a_link_to_nowhere_is_not_what_was_staged() {
        let tree = Tree::new();
        apply(&tree.link(), None).unwrap();
        std::fs::remove_dir(tree.path("new")).unwrap();
        let error = verify(&tree.link()).unwrap_err().to_string();
        assert!(error.contains("cannot be reached"), "{error}");
    }

    #[test]
    fn the_directory_may_itself_be_a_link() {
        let tree = Tree::new();
        tree.point("alias", "old");
        let link =
            Symlink { path: tree.path("alias/current"), target: Some(tree.path("new")), absent: false };
        apply(&link, None).unwrap();
        assert_eq!(std::fs::read_link(tree.path("old/current")).unwrap(), Path::new(&tree.path("new")));
    }
}
