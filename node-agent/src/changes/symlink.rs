//! A symbolic link switched to a different target atomically: to follow it leads to the old target or the new one.
//!
//! Only the link itself is ever written. Its directory must exist. A real file or directory in its place is an error,
//! because it may be somebody's data.

use super::{ChangeError, ChangeKind};
use rollout_core::agent::record::{After, Before, BootDefault};
use rollout_core::protocol::rehearsal::{ChangeReport, Step};
use rollout_core::rollout::manifest::Symlink;
use rollout_host::durable;
use rollout_host::run::{Program, RunError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Looks at a path, from a process of its own: on a file system whose server is gone it may never end.
const STAT: &str = "/usr/bin/stat";
const STAT_LIMIT: Duration = Duration::from_secs(30);

impl ChangeKind for Symlink {
    fn is_satisfied(&self) -> Result<bool, ChangeError> {
        // A correct link to a missing target does not count: apply then refuses it before the node reboots for nothing.
        check_answers(Path::new(&self.path))?;
        Ok(read(Path::new(&self.path))? == self.target && check_target(self).is_ok())
    }

    fn rehearse(&self, _state_dir: &Path, _limit: Duration) -> Result<ChangeReport, ChangeError> {
        let path = Path::new(&self.path);
        check_answers(path)?;
        let from = read(path)?;
        let mut report = ChangeReport::default();
        if self.target.is_some() {
            let checks = [check_target(self), check_directory(path)];
            report.trouble =
                checks.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
        }
        if from != self.target {
            report.steps.push(Step { what: self.path.clone(), from, to: self.target.clone() });
        }
        Ok(report)
    }

    fn observe(&self, _state_dir: &Path, _boot: Option<&BootDefault>) -> Result<Before, ChangeError> {
        check_answers(Path::new(&self.path))?;
        Ok(Before::Symlink { target: read(Path::new(&self.path))? })
    }

    fn apply(&self, before: &Before, _state_dir: &Path) -> Result<After, ChangeError> {
        let old_target = old_target(before, "applying a change")?;
        let path = Path::new(&self.path);
        check_answers(path)?;
        match &self.target {
            Some(target) => {
                check_target(self)?;
                check_directory(path)?;
                switch(path, target)?;
            }
            None => remove(path)?,
        }
        let changed = old_target != self.target.as_deref();
        Ok(After { changed, ..After::default() })
    }

    fn verify(&self, _before: &Before, _after: &After) -> Result<(), ChangeError> {
        check_answers(Path::new(&self.path))?;
        expect(Path::new(&self.path), self.target.as_deref())?;
        check_target(self)
    }

    fn undo(&self, before: &Before, _state_dir: &Path) -> Result<(), ChangeError> {
        let path = Path::new(&self.path);
        check_answers(path)?;
        match old_target(before, "undoing a change")? {
            Some(target) => switch(path, target),
            None => remove(path),
        }
    }

    fn verify_old(&self, before: &Before, _state_dir: &Path) -> Result<Vec<String>, ChangeError> {
        check_answers(Path::new(&self.path))?;
        expect(Path::new(&self.path), old_target(before, "verifying the old state")?)?;
        Ok(Vec::new())
    }
}

fn old_target<'a>(before: &'a Before, attempt: &str) -> Result<Option<&'a str>, ChangeError> {
    match before {
        Before::Symlink { target } => Ok(target.as_deref()),
        _ => Err(ChangeError::other_kind(attempt)),
    }
}

fn remove(path: &Path) -> Result<(), ChangeError> {
    remove_temporary(path)?;
    if read(path)?.is_some() {
        std::fs::remove_file(path).map_err(ChangeError::file("removing the link", path))?;
        durable::sync_parent(path).map_err(ChangeError::file("writing the directory of", path))?;
    }
    Ok(())
}

/// Returns the link's target, or `None` if nothing is there.
fn read(path: &Path) -> Result<Option<String>, ChangeError> {
    let target = match std::fs::read_link(path) {
        Ok(target) => target,
        // ENOTDIR: a parent is not a directory, so there is no link either. Apply reports it.
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
    let describe = |target: Option<&str>| target.map_or("absent".to_owned(), |target| format!("-> {target}"));
    let problem = format!("it is {}, not {}", describe(found.as_deref()), describe(wanted));
    Err(ChangeError::state(format!("verifying the link {}", path.display()), problem))
}

fn check_target(link: &Symlink) -> Result<(), ChangeError> {
    let Some(target) = &link.target else { return Ok(()) };
    stat(&Program::new(STAT, STAT_LIMIT), Path::new(target)).map_err(|error| {
        let problem = format!("its target {target} cannot be reached: {error}");
        ChangeError::state(format!("pointing the link {} to it", link.path), problem)
    })
}

/// Follows links to a path, and fails if nothing is there or it does not answer.
fn stat(program: &Program, path: &Path) -> Result<(), RunError> {
    program.clone().args(["--dereference", "--format=%F", "--"]).arg(path).run().map(drop)
}

/// Fails if the link's directory does not answer, before anything else touches it.
fn check_answers(path: &Path) -> Result<(), ChangeError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    match stat(&Program::new(STAT, STAT_LIMIT), directory) {
        Err(error @ RunError::TimedOut { .. }) => {
            let problem = format!("its directory does not answer: {error}");
            Err(ChangeError::state(format!("looking at the link {}", path.display()), problem))
        }
        // The directory may be absent, which the caller reports in its own words.
        _ => Ok(()),
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

/// Makes the link, or replaces the one that is there.
fn switch(path: &Path, target: &str) -> Result<(), ChangeError> {
    remove_temporary(path)?;
    if read(path)?.as_deref() != Some(target) {
        let temporary = temporary(path);
        std::os::unix::fs::symlink(target, &temporary)
            .map_err(ChangeError::file("making the link", &temporary))?;
        // rename(2) would also replace a file created since the check above; the node is drained and we are the only
        // writer there.
        std::fs::rename(&temporary, path).map_err(ChangeError::file("replacing the link", path))?;
    }
    // Also if the link is correct already: the crash may have come between the rename and this.
    durable::sync_parent(path).map_err(ChangeError::file("writing the directory of", path))
}

/// Removes the temporary link that a crash may have left. Removes nothing but a link.
fn remove_temporary(path: &Path) -> Result<(), ChangeError> {
    let temporary = temporary(path);
    match read(&temporary)? {
        Some(_) => {
            std::fs::remove_file(&temporary).map_err(ChangeError::file("removing the link", &temporary))
        }
        None => Ok(()),
    }
}

/// Returns the temporary name: the same each time, so that nothing piles up.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.slurm-rollout"))
}

#[cfg(test)]
mod tests {
    use super::*;
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

    const STATE_DIR: &str = "/nonexistent";

    fn record(target: Option<&str>) -> Before {
        Before::Symlink { target: target.map(str::to_owned) }
    }

    fn apply(link: &Symlink, old_target: Option<&str>) -> Result<After, ChangeError> {
        link.apply(&record(old_target), Path::new(STATE_DIR))
    }

    fn undo(link: &Symlink, old_target: Option<&str>) -> Result<(), ChangeError> {
        link.undo(&record(old_target), Path::new(STATE_DIR))
    }

    fn verify(link: &Symlink) -> Result<(), ChangeError> {
        let after = After { changed: true, ..After::default() };
        link.verify(&record(None), &after)
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
            assert!(!link.is_satisfied().unwrap());
            let old = old.map(|old| tree.path(old));
            let before = link.observe(Path::new(STATE_DIR), None).unwrap();
            assert_eq!(before, record(old.as_deref()));
            for _ in 0..2 {
                assert!(apply(&link, old.as_deref()).unwrap().changed);
                verify(&link).unwrap();
                assert!(link.is_satisfied().unwrap());
                assert!(link.verify_old(&before, Path::new(STATE_DIR)).is_err());
            }
            for _ in 0..2 {
                undo(&link, old.as_deref()).unwrap();
                link.verify_old(&before, Path::new(STATE_DIR)).unwrap();
                assert!(verify(&link).is_err());
                assert_eq!(tree.names(), names);
            }
        }
    }

    #[test]
    fn a_rehearsal_tells_the_targets_and_what_is_in_the_way() {
        let rehearse = |link: &Symlink| link.rehearse(Path::new(STATE_DIR), Duration::from_secs(9)).unwrap();
        let tree = Tree::new();
        let link = tree.link();
        let step = |from: Option<&str>, to: Option<&str>| Step {
            what: tree.path("current"),
            from: from.map(|name| tree.path(name)),
            to: to.map(|name| tree.path(name)),
        };
        let would = |steps: &[Step]| ChangeReport { steps: steps.to_vec(), ..ChangeReport::default() };
        let absent = Symlink { target: None, absent: true, ..link.clone() };
        assert_eq!(rehearse(&absent), would(&[]));
        assert_eq!(rehearse(&link), would(&[step(None, Some("new"))]));
        tree.point("current", "old");
        assert_eq!(rehearse(&link), would(&[step(Some("old"), Some("new"))]));
        assert_eq!(rehearse(&absent), would(&[step(Some("old"), None)]));
        std::fs::remove_dir(tree.path("new")).unwrap();
        let found = rehearse(&link);
        assert_eq!(found.steps, [step(Some("old"), Some("new"))]);
        assert!(found.trouble.len() == 1 && found.trouble[0].contains("cannot be reached"), "{found:?}");
        assert_eq!(read(Path::new(&link.path)).unwrap(), Some(tree.path("old")), "it changes nothing");
        let inside = Symlink { path: tree.path("absent/current"), ..link.clone() };
        let found = rehearse(&inside);
        assert!(found.trouble.iter().any(|why| why.contains("absent: No such file")), "{found:?}");
        std::fs::remove_file(&link.path).unwrap();
        // A correct link to a missing target would be refused.
        tree.point("current", "new");
        let found = rehearse(&link);
        assert!(found.steps.is_empty() && found.trouble.len() == 1, "{found:?}");
        std::fs::remove_file(&link.path).unwrap();
        std::fs::File::create(&link.path).unwrap();
        assert!(link.rehearse(Path::new(STATE_DIR), Duration::from_secs(9)).is_err());
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
                link.is_satisfied().map(drop).unwrap_err(),
                link.observe(Path::new(STATE_DIR), None).map(drop).unwrap_err(),
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
    fn a_record_of_a_different_kind_is_refused() {
        let tree = Tree::new();
        let link = tree.link();
        for error in [
            link.apply(&Before::InImage, Path::new(STATE_DIR)).map(drop).unwrap_err(),
            link.undo(&Before::InImage, Path::new(STATE_DIR)).unwrap_err(),
            link.verify_old(&Before::InImage, Path::new(STATE_DIR)).map(drop).unwrap_err(),
        ] {
            assert!(error.to_string().ends_with("is of another kind of change"), "{error}");
        }
        assert_eq!(tree.names(), ["new", "old"]);
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
        assert_eq!(inside.observe(Path::new(STATE_DIR), None).unwrap(), record(None));
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
    #[allow(clippy::disallowed_methods, reason = "a program in place of a file system that does not answer")]
    fn a_target_that_does_not_answer_is_not_waited_for() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let hangs = dir.path().join("stat");
        std::fs::write(&hangs, "#!/bin/sh\nexec sleep 100\n").unwrap();
        std::fs::set_permissions(&hangs, std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = Program::new(&hangs, Duration::from_millis(100));
        assert!(matches!(stat(&program, Path::new("/nfs")), Err(RunError::TimedOut { .. })));
        let real = Program::new(STAT, STAT_LIMIT);
        assert!(stat(&real, dir.path()).is_ok() && stat(&real, Path::new("/no/such")).is_err());
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
