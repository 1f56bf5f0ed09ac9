//! dnf 4 and dnf 5: their command lines and their differences.
//!
//! Installing and removing are two transactions, installing first. A package to remove may be needed by one that is
//! being replaced in the same change; after the installation no remaining package needs it any more. If the new
//! package conflicts with the old one, `--allowerasing` lets the first transaction remove it. Metadata is refreshed
//! each time: every node must find a version that was published minutes ago, and an unchanged repository costs one
//! small file.

use super::list::{self, Difference};
use super::rpm::Rpm;
use super::run_manager::TimeBudget;
use super::simulate;
use super::spec::{self, Notation};
use super::tool::{Direction, Tool, Transaction};
use super::undo_cache::UndoCache;
use crate::changes::ChangeError;
use rollout_host::run::{Output, Program};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Lets any number of versions of a kernel be installed: none must make room.
const ALL_VERSIONS: &str = "--setopt=installonly_limit=0";

/// Lets the running kernel be removed.
const RUNNING_KERNEL: &str = "--setopt=protect_running_kernel=False";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Dnf4,
    Dnf5,
}

impl Flavour {
    /// Options for all or nothing, and never more than asked. A lock is reported, not waited for without end.
    fn strictness(self) -> &'static [&'static str] {
        match self {
            Self::Dnf4 => &["--setopt=strict=True", "--setopt=exit_on_lock=True"],
            Self::Dnf5 => &["--setopt=skip_unavailable=False", "--setopt=skip_broken=False"],
        }
    }

    /// Options for an undo, which no configuration of the site may prevent. The kernel to remove is the running one.
    fn undo_options(self) -> &'static [&'static str] {
        match self {
            Self::Dnf4 => &["--setopt=disable_excludes=all"],
            Self::Dnf5 => &["--setopt=disable_excludes=*"],
        }
    }

    /// Arguments that fetch the files of installed packages without a plugin.
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
    /// Options for the system and its repositories if they are not those of the running one.
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
        // clean_requirements_on_remove: a package installed by hand for a job may look unneeded.
        const ALWAYS: [&str; 2] = ["--setopt=best=True", "--setopt=clean_requirements_on_remove=False"];
        Program::new(&self.program, limit).arg(answer).args(&self.root).args(ALWAYS).args(strictness)
    }

    fn run(&self, budget: TimeBudget, attempt: &str, arguments: &[String]) -> Result<Output, ChangeError> {
        let strictness = self.flavour.strictness();
        budget.run(self.name(), attempt, |limit| self.program(limit, "-y", strictness).args(arguments))
    }

    /// Returns what dnf prints that it would do.
    fn dry_run(&self, budget: TimeBudget, arguments: &[String]) -> String {
        let program =
            self.program(budget.remaining(), "--assumeno", self.flavour.strictness()).args(arguments);
        program.output().map(|output| output.stdout).unwrap_or_default()
    }

    fn run_for_undo(
        &self,
        budget: TimeBudget,
        attempt: &str,
        arguments: &[String],
    ) -> Result<(), ChangeError> {
        // obsoletes: a package that obsoletes an old one is about to be removed. installonly_limit: no old kernel must
        // make room.
        const EXACTLY: [&str; 4] =
            ["--setopt=obsoletes=False", "--setopt=install_weak_deps=False", ALL_VERSIONS, RUNNING_KERNEL];
        let options = EXACTLY.iter().chain(self.flavour.undo_options()).map(|option| (*option).to_owned());
        let arguments: Vec<String> = options.chain(arguments.iter().cloned()).collect();
        self.run(budget, attempt, &arguments).map(drop)
    }

    fn install(transaction: &Transaction) -> Vec<String> {
        let mut arguments = vec!["--refresh".to_owned(), "install".to_owned()];
        if transaction.may_remove_more {
            arguments.push("--allowerasing".to_owned());
        }
        arguments.extend(transaction.install.iter().cloned());
        arguments
    }

    fn remove(packages: &[String]) -> Vec<String> {
        ["remove".to_owned()].into_iter().chain(packages.iter().cloned()).collect()
    }

    /// Installs old packages, from their cached files and without a repository if all of them are cached.
    fn reinstall_old(
        &self,
        missing: &[String],
        cache: &UndoCache,
        budget: TimeBudget,
    ) -> Result<(), ChangeError> {
        let files = self.rpm.cached_files(cache)?;
        let file = |package: &String| files.get(package).map(|(path, _)| path.clone());
        let all_cached: Option<Vec<PathBuf>> = missing.iter().map(file).collect();
        let mut arguments = vec!["install".to_owned(), "--allowerasing".to_owned()];
        if all_cached.is_some() {
            arguments.push("--disablerepo=*".to_owned());
        }
        let target =
            |package: &String| file(package).map_or(package.clone(), |path| path.display().to_string());
        arguments.extend(missing.iter().map(target));
        let attempt = format!("going back to {}", list::few(missing));
        let result = self.run_for_undo(budget, &attempt, &arguments);
        match (&result, all_cached) {
            // A file has moved to a new package, which dnf cannot remove in the same transaction.
            (Err(ChangeError::Manager { error, .. }), Some(files))
                if error.to_string().contains("conflicts with file from package") =>
            {
                self.rpm.force(&attempt, &files, budget)
            }
            _ => result,
        }
    }
}

/// Returns whether the transaction installs a version of a package and removes another one, which it names: no other
/// version must make room, as it would for a kernel.
fn exchanges_versions(transaction: &Transaction) -> bool {
    let is_removed =
        |spec: &String| transaction.remove.iter().any(|package| spec::is_same(Notation::Rpm, spec, package));
    transaction.install.iter().any(is_removed)
}

/// Returns whether another version of a removed package stays, so that the node can boot that.
fn leaves_other_version(removed: &[String], installed: &[String]) -> bool {
    let stays = |package: &&String| !removed.contains(package);
    let is_other = |package: &String| removed.iter().any(|old| spec::is_same(Notation::Rpm, old, package));
    installed.iter().filter(stays).any(is_other)
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

    fn affected(&self, transaction: &Transaction, installed: &[String], budget: TimeBudget) -> Vec<String> {
        let mut output = String::new();
        if !transaction.install.is_empty() {
            output += &self.dry_run(budget, &Self::install(transaction));
        }
        if !transaction.remove.is_empty() {
            output += &self.dry_run(budget, &Self::remove(&transaction.remove));
        }
        simulate::in_dnf(&output, installed)
    }

    fn fetch_to_cache(&self, packages: &[String], cache: &UndoCache, budget: TimeBudget) {
        let Ok(directory) = cache.files_dir() else { return };
        if packages.is_empty() {
            return;
        }
        let arguments: Vec<String> =
            self.flavour.fetch(&directory).into_iter().chain(packages.iter().cloned()).collect();
        let program = |limit| self.program(limit, "-y", &[]).args(&arguments);
        let _ = budget.run(self.name(), "keeping old packages", program);
        if self.rpm.drop_unverified(cache, packages).is_err() {
            // The files are not known to be genuine.
            let _ = std::fs::remove_dir_all(&directory);
        }
    }

    fn recover(
        &self,
        before: &[String],
        _direction: Direction,
        unfinished: bool,
        budget: TimeBudget,
    ) -> Result<(), ChangeError> {
        if unfinished { self.rpm.remove_replaced(before, budget) } else { Ok(()) }
    }

    /// Reinstalls the packages. An interrupted transaction ran no %posttrans scripts, and not the %post of its last
    /// package: a kernel would lack its initrd.
    fn finish(&self, packages: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        if packages.is_empty() {
            return Ok(());
        }
        let arguments: Vec<String> =
            ["reinstall".to_owned()].into_iter().chain(packages.iter().cloned()).collect();
        let attempt = format!("finishing the interrupted installation of {}", list::few(packages));
        self.run(budget, &attempt, &arguments).map(drop)
    }

    fn execute(&self, transaction: &Transaction, budget: TimeBudget) -> Result<(), ChangeError> {
        if !transaction.install.is_empty() {
            let option = exchanges_versions(transaction).then(|| ALL_VERSIONS.to_owned());
            let arguments: Vec<String> = option.into_iter().chain(Self::install(transaction)).collect();
            self.run(budget, &format!("installing {}", list::few(&transaction.install)), &arguments)?;
        }
        let now = self.installed()?;
        let remaining: Vec<String> =
            transaction.remove.iter().filter(|package| now.contains(package)).cloned().collect();
        if !remaining.is_empty() {
            let option = leaves_other_version(&remaining, &now).then(|| RUNNING_KERNEL.to_owned());
            let arguments: Vec<String> = option.into_iter().chain(Self::remove(&remaining)).collect();
            self.run(budget, &format!("removing {}", list::few(&remaining)), &arguments)?;
        }
        Ok(())
    }

    fn remove_leftovers(&self, packages: &[String], budget: TimeBudget) {
        self.rpm.remove_leftovers(packages, budget);
    }

    fn restore(
        &self,
        before: &[String],
        affected: &[String],
        cache: &UndoCache,
        budget: TimeBudget,
    ) -> Result<(), ChangeError> {
        let missing = Difference::between(before, &self.installed()?).missing;
        if !missing.is_empty() {
            self.reinstall_old(&missing, cache, budget)?;
        }
        let extra = Difference::between(before, &self.installed()?).extra;
        if !extra.is_empty() {
            self.run_for_undo(budget, &format!("removing {}", list::few(&extra)), &Self::remove(&extra))?;
        }
        // An interrupted transaction may have replaced files before it recorded that in the database.
        let damaged = self.rpm.damaged(affected, budget);
        if damaged.is_empty() {
            return Ok(());
        }
        let files = self.rpm.cached_files(cache)?;
        let target = |package: &String| {
            files.get(package).map_or(package.clone(), |(path, _)| path.display().to_string())
        };
        let all_cached = damaged.iter().all(|package| files.contains_key(package));
        let mut arguments = vec!["reinstall".to_owned()];
        arguments.extend(all_cached.then(|| "--disablerepo=*".to_owned()));
        arguments.extend(damaged.iter().map(target));
        self.run_for_undo(budget, &format!("restoring the files of {}", list::few(&damaged)), &arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_of_a_kernel_is_exchanged_for_another() {
        let list = |specs: &[&str]| specs.iter().map(|spec| (*spec).to_owned()).collect::<Vec<_>>();
        let kernels = list(&["kernel-0:6.0-1.x86_64", "kernel-0:6.1-1.x86_64", "kernel-0:6.2-1.x86_64"]);
        for (install, remove, exchanges, leaves) in [
            (&["kernel-0:5.9-1.x86_64"][..], &["kernel-0:6.2-1.x86_64"][..], true, true),
            (&[], &["kernel-0:6.2-1.x86_64"], false, true),
            (&["kernel"], &["kernel-0:6.2-1.x86_64"], false, true),
            (&["kernel-0:5.9-1.x86_64"], &["kernel-0:6.2-1.aarch64"], false, false),
            (&["kernel-0:6.3-1.x86_64"], &["tool-0:1-1.noarch"], false, false),
            (&[], &["kernel-0:6.0-1.x86_64", "kernel-0:6.1-1.x86_64", "kernel-0:6.2-1.x86_64"], false, false),
        ] {
            let transaction =
                Transaction { install: list(install), remove: list(remove), may_remove_more: true };
            assert_eq!(exchanges_versions(&transaction), exchanges, "{install:?} {remove:?}");
            assert_eq!(leaves_other_version(&transaction.remove, &kernels), leaves, "{install:?} {remove:?}");
        }
    }
}
