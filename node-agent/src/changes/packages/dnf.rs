//! dnf, version 4 and 5: how they are called, and where they differ.
//!
//! Installing and removing are two transactions, installing first. A package that goes may be needed by one that is being
//! replaced in the same change; after the installation nothing of what stays needs it any more. Where the new one
//! conflicts with the old one, `--allowerasing` lets the first transaction remove it.
//! Metadata is refreshed each time: a version published minutes ago must be seen by every node, and an unchanged
//! repository costs one small file.

use super::list::{self, Difference};
use super::rpm::Rpm;
use super::run_manager::Patience;
use super::simulate;
use super::spec::Notation;
use super::tool::{Direction, Tool, Wish};
use super::undo_cache::Kept;
use crate::changes::ChangeError;
use rollout_host::run::{Output, Program};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Python.
    Dnf4,
    /// C++.
    Dnf5,
}

impl Flavour {
    /// All or nothing, and never more than asked; a lock is reported, not waited for without end.
    fn strictness(self) -> &'static [&'static str] {
        match self {
            Self::Dnf4 => &["--setopt=strict=True", "--setopt=exit_on_lock=True"],
            Self::Dnf5 => &["--setopt=skip_unavailable=False", "--setopt=skip_broken=False"],
        }
    }

    /// Nothing that a site configures may stand in the way back. The running kernel is the one that is taken back.
    fn way_back(self) -> &'static [&'static str] {
        match self {
            Self::Dnf4 => &["--setopt=disable_excludes=all"],
            Self::Dnf5 => &["--setopt=disable_excludes=*"],
        }
    }

    /// How the files of installed packages are fetched without a plugin.
    fn fetch(self, directory: &Path) -> Vec<String> {
        let directory = directory.display();
        match self {
            Self::Dnf4 => {
                vec!["reinstall".into(), "--downloadonly".into(), format!("--downloaddir={directory}")]
            }
            Self::Dnf5 => vec![
                "download".into(),
                "--setopt=skip_unavailable=True".into(),
                format!("--destdir={directory}"),
            ],
        }
    }
}

/// dnf on a node.
#[derive(Debug, Clone)]
pub(super) struct Dnf {
    program: PathBuf,
    flavour: Flavour,
    /// Which system and repositories, where they are not this one's.
    root: Vec<String>,
    rpm: Rpm,
}

impl Dnf {
    pub(super) fn of_node(program: &str, flavour: Flavour) -> Self {
        Self { program: PathBuf::from(program), flavour, root: Vec::new(), rpm: Rpm::of_node() }
    }

    #[cfg(test)]
    pub(super) fn in_root(program: &str, flavour: Flavour, root: &[String], rpm: Rpm) -> Self {
        Self { root: root.to_vec(), rpm, ..Self::of_node(program, flavour) }
    }

    fn program(&self, limit: Duration, answer: &str, strictness: &[&str]) -> Program {
        // clean_requirements_on_remove: what was installed by hand for a job may look unneeded.
        const ALWAYS: [&str; 2] = ["--setopt=best=True", "--setopt=clean_requirements_on_remove=False"];
        Program::new(&self.program, limit).arg(answer).args(&self.root).args(ALWAYS).args(strictness)
    }

    fn run(&self, patience: Patience, attempt: &str, arguments: &[String]) -> Result<Output, ChangeError> {
        let strictness = self.flavour.strictness();
        patience.run(self.name(), attempt, |limit| self.program(limit, "-y", strictness).args(arguments))
    }

    /// What dnf says that it would do.
    fn rehearse(&self, patience: Patience, arguments: &[String]) -> String {
        let program = self.program(patience.left(), "--assumeno", self.flavour.strictness()).args(arguments);
        program.output().map(|output| output.stdout).unwrap_or_default()
    }

    fn go_back(&self, patience: Patience, attempt: &str, arguments: &[String]) -> Result<(), ChangeError> {
        // obsoletes: what obsoletes an old package is about to be removed. installonly_limit: no kernel of before is
        // to make room.
        const EXACTLY: [&str; 4] = [
            "--setopt=obsoletes=False",
            "--setopt=install_weak_deps=False",
            "--setopt=installonly_limit=0",
            "--setopt=protect_running_kernel=False",
        ];
        let options = EXACTLY.iter().chain(self.flavour.way_back()).map(|option| (*option).to_owned());
        let arguments: Vec<String> = options.chain(arguments.iter().cloned()).collect();
        self.run(patience, attempt, &arguments).map(drop)
    }

    fn install(wish: &Wish) -> Vec<String> {
        let mut arguments = vec!["--refresh".to_owned(), "install".to_owned()];
        if wish.may_remove_more {
            arguments.push("--allowerasing".to_owned());
        }
        arguments.extend(wish.install.iter().cloned());
        arguments
    }

    fn remove(packages: &[String]) -> Vec<String> {
        ["remove".to_owned()].into_iter().chain(packages.iter().cloned()).collect()
    }

    /// Installs packages of before: from their kept files where all are kept, without a repository then.
    fn bring_back(&self, missing: &[String], kept: &Kept, patience: Patience) -> Result<(), ChangeError> {
        let files = self.rpm.kept_files(kept)?;
        let file = |package: &String| files.get(package).map(|(path, _)| path.clone());
        let all_kept: Option<Vec<PathBuf>> = missing.iter().map(file).collect();
        let mut arguments = vec!["install".to_owned(), "--allowerasing".to_owned()];
        if all_kept.is_some() {
            arguments.push("--disablerepo=*".to_owned());
        }
        let target =
            |package: &String| file(package).map_or(package.clone(), |path| path.display().to_string());
        arguments.extend(missing.iter().map(target));
        let attempt = format!("going back to {}", list::few(missing));
        let result = self.go_back(patience, &attempt, &arguments);
        match (&result, all_kept) {
            // A file that moved to a new package: dnf cannot remove that one in the same transaction.
            (Err(ChangeError::Manager { error, .. }), Some(files))
                if error.to_string().contains("conflicts with file from package") =>
            {
                self.rpm.force(&attempt, &files, patience)
            }
            _ => result,
        }
    }
}

impl Tool for Dnf {
    fn name(&self) -> &'static str {
        match self.flavour {
            Flavour::Dnf4 => "dnf",
            Flavour::Dnf5 => "dnf5",
        }
    }

    fn notation(&self) -> Notation {
        Notation::Rpm
    }

    fn installed(&self) -> Result<Vec<String>, ChangeError> {
        self.rpm.installed()
    }

    fn is_provided(&self, name: &str) -> Result<bool, ChangeError> {
        self.rpm.is_provided(name)
    }

    fn touched(&self, wish: &Wish, installed: &[String], patience: Patience) -> Vec<String> {
        let mut said = String::new();
        if !wish.install.is_empty() {
            said += &self.rehearse(patience, &Self::install(wish));
        }
        if !wish.remove.is_empty() {
            said += &self.rehearse(patience, &Self::remove(&wish.remove));
        }
        simulate::in_dnf(&said, installed)
    }

    fn keep(&self, packages: &[String], kept: &Kept, patience: Patience) {
        let Ok(directory) = kept.files() else { return };
        if packages.is_empty() {
            return;
        }
        let arguments: Vec<String> =
            self.flavour.fetch(&directory).into_iter().chain(packages.iter().cloned()).collect();
        let program = |limit| self.program(limit, "-y", &[]).args(&arguments);
        let _ = patience.run(self.name(), "keeping old packages", program);
        if self.rpm.drop_strangers(kept, packages).is_err() {
            // Not known to be genuine.
            let _ = std::fs::remove_dir_all(&directory);
        }
    }

    fn mend(
        &self,
        before: &[String],
        _way: Direction,
        unfinished: bool,
        patience: Patience,
    ) -> Result<(), ChangeError> {
        if unfinished { self.rpm.remove_replaced(before, patience) } else { Ok(()) }
    }

    /// Whatever was interrupted lost its %posttrans scripts, and the last one its %post: a kernel without an initrd.
    /// A reinstallation runs them.
    fn finish(&self, packages: &[String], patience: Patience) -> Result<(), ChangeError> {
        if packages.is_empty() {
            return Ok(());
        }
        let arguments: Vec<String> =
            ["reinstall".to_owned()].into_iter().chain(packages.iter().cloned()).collect();
        let attempt = format!("finishing the interrupted installation of {}", list::few(packages));
        self.run(patience, &attempt, &arguments).map(drop)
    }

    fn carry_out(&self, wish: &Wish, patience: Patience) -> Result<(), ChangeError> {
        if !wish.install.is_empty() {
            self.run(patience, &format!("installing {}", list::few(&wish.install)), &Self::install(wish))?;
        }
        let now = self.installed()?;
        let left: Vec<String> = wish.remove.iter().filter(|package| now.contains(package)).cloned().collect();
        if !left.is_empty() {
            self.run(patience, &format!("removing {}", list::few(&left)), &Self::remove(&left))?;
        }
        Ok(())
    }

    fn sweep(&self, packages: &[String], patience: Patience) {
        self.rpm.sweep(packages, patience);
    }

    fn restore(
        &self,
        before: &[String],
        touched: &[String],
        kept: &Kept,
        patience: Patience,
    ) -> Result<(), ChangeError> {
        let missing = Difference::between(before, &self.installed()?).missing;
        if !missing.is_empty() {
            self.bring_back(&missing, kept, patience)?;
        }
        let extra = Difference::between(before, &self.installed()?).extra;
        if !extra.is_empty() {
            self.go_back(patience, &format!("removing {}", list::few(&extra)), &Self::remove(&extra))?;
        }
        // Files that were half replaced before the database knew of it.
        let damaged = self.rpm.damaged(touched, patience);
        if damaged.is_empty() {
            return Ok(());
        }
        let files = self.rpm.kept_files(kept)?;
        let target = |package: &String| {
            files.get(package).map_or(package.clone(), |(path, _)| path.display().to_string())
        };
        let all_kept = damaged.iter().all(|package| files.contains_key(package));
        let mut arguments = vec!["reinstall".to_owned()];
        arguments.extend(all_kept.then(|| "--disablerepo=*".to_owned()));
        arguments.extend(damaged.iter().map(target));
        self.go_back(patience, &format!("restoring the files of {}", list::few(&damaged)), &arguments)
    }
}
