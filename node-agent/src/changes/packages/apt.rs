//! apt-get and dpkg. One transaction installs and removes.
//!
//! The package lists are read anew first: a version published minutes ago must be seen by every node. A repository
//! that cannot be reached is an error only if the installation then fails.

use super::list::{self, Difference};
use super::run_manager::{LOCK_WAIT, Patience};
use super::simulate;
use super::spec::{self, Notation};
use super::tool::{Direction, Tool, Wish};
use super::undo_cache::{Kept, deb_file};
use crate::changes::ChangeError;
use rollout_host::run::{Output, Program};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

const APT_GET: &str = "/usr/bin/apt-get";

/// Reading dpkg's status takes well under a second.
const QUERY: Duration = Duration::from_secs(120);

/// apt and dpkg on a node.
#[derive(Debug, Clone)]
pub(super) struct Apt {
    /// apt-get's options for another system, where it is not this one.
    apt_root: Vec<String>,
    /// dpkg's and dpkg-query's.
    dpkg_root: Vec<String>,
}

impl Apt {
    pub(super) fn of_node() -> Self {
        Self { apt_root: Vec::new(), dpkg_root: Vec::new() }
    }

    #[cfg(test)]
    pub(super) fn in_root(apt_root: &[String], dpkg_root: &[String]) -> Self {
        Self { apt_root: apt_root.to_vec(), dpkg_root: dpkg_root.to_vec() }
    }

    /// Nobody is there to answer: a changed configuration file stays as it is, and services are not restarted on a node
    /// that is about to reboot.
    fn quiet(program: Program) -> Program {
        let answers = [
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("DEBIAN_PRIORITY", "critical"),
            ("APT_LISTCHANGES_FRONTEND", "none"),
            ("NEEDRESTART_MODE", "l"),
            ("NEEDRESTART_SUSPEND", "1"),
        ];
        answers.iter().fold(program, |program, (key, value)| program.env(key, value))
    }

    fn options(&self) -> Vec<String> {
        let lock = format!("DPkg::Lock::Timeout={}", LOCK_WAIT.as_secs());
        let options = [
            "-q",
            "-y",
            "-o",
            &lock,
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "Dpkg::Options::=--force-confdef",
            "-o",
            "Dpkg::Options::=--force-confold",
        ];
        self.apt_root.iter().cloned().chain(options.map(str::to_owned)).collect()
    }

    fn apt_get(&self, limit: Duration) -> Program {
        Self::quiet(Program::new(APT_GET, limit).args(self.options()))
    }

    fn dpkg(&self, limit: Duration) -> Program {
        let config = ["--force-confdef", "--force-confold"];
        Self::quiet(Program::new("/usr/bin/dpkg", limit).args(&self.dpkg_root).args(config))
    }

    fn run(&self, patience: Patience, attempt: &str, arguments: &[String]) -> Result<Output, ChangeError> {
        patience.run(self.name(), attempt, |limit| self.apt_get(limit).args(arguments))
    }

    fn query(&self, attempt: &str, format: &str) -> Result<String, ChangeError> {
        let program = |limit| {
            Program::new("/usr/bin/dpkg-query", limit).args(&self.dpkg_root).args(["-W", "-f", format])
        };
        Ok(Patience::new(QUERY).run("dpkg-query", attempt, program)?.stdout)
    }

    /// apt-get puts what it downloads into its working directory, copies from a `file:` repository included.
    fn download(&self, directory: &Path, packages: &[String], patience: Patience) -> Result<(), ChangeError> {
        let attempt = format!("fetching {}", list::few(packages));
        let program = |limit| {
            let env = Program::new("/usr/bin/env", limit).arg("-C").arg(directory).arg(APT_GET);
            env.args(self.options()).arg("download").args(packages)
        };
        patience.run(self.name(), &attempt, program).map(drop)
    }

    /// Unpacks kept files over what a crash left half unpacked in the same version: apt takes that for installed.
    fn unpack_again(
        &self,
        before: &[String],
        directory: &Path,
        patience: Patience,
    ) -> Result<(), ChangeError> {
        let Difference { missing, extra } = Difference::between(before, &self.installed()?);
        let files: Vec<PathBuf> = list::half_installed(&missing, &extra)
            .filter_map(|package| deb_file(directory, package))
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        let attempt = "unpacking half-installed packages again";
        patience.run("dpkg", attempt, |limit| self.dpkg(limit).arg("--unpack").args(&files)).map(drop)
    }

    fn arguments(wish: &Wish) -> Vec<String> {
        let mut arguments = vec!["install".to_owned(), "--allow-downgrades".to_owned()];
        if !wish.may_remove_more {
            arguments.push("--no-remove".to_owned());
        }
        arguments.extend(wish.install.iter().cloned());
        arguments.extend(wish.remove.iter().map(|package| removal(package)));
        arguments
    }

    /// Removes the configuration files of packages that were not there before, not even as such files.
    fn purge(&self, before: &[String], patience: Patience) -> Result<(), ChangeError> {
        let known: BTreeSet<String> = before.iter().map(|p| spec::name_and_arch(Notation::Deb, p)).collect();
        let left = self.installed()?.into_iter().filter(|package| package.ends_with(list::CONFIG_FILES));
        let left = left.map(|package| spec::name_and_arch(Notation::Deb, &package));
        let strangers: Vec<String> = left.filter(|id| !known.contains(id)).collect();
        if strangers.is_empty() {
            return Ok(());
        }
        let attempt = format!("removing the configuration files of {}", list::few(&strangers));
        patience.run("dpkg", &attempt, |limit| self.dpkg(limit).arg("--purge").args(&strangers)).map(drop)
    }
}

impl Tool for Apt {
    fn name(&self) -> &'static str {
        "apt-get"
    }

    fn notation(&self) -> Notation {
        Notation::Deb
    }

    fn installed(&self) -> Result<Vec<String>, ChangeError> {
        let format = "${db:Status-Abbrev}\\t${Package}:${Architecture}=${Version}\\n";
        Ok(list::from_dpkg(&self.query("listing the installed packages", format)?))
    }

    fn is_provided(&self, name: &str) -> Result<bool, ChangeError> {
        let output = self.query("listing what packages provide", "${db:Status-Abbrev}\\t${Provides}\\n")?;
        let provided = output.lines().filter(|line| line.get(1..2) == Some("i"));
        let mut names = provided.filter_map(|line| line.split_once('\t')).flat_map(|(_, p)| p.split(','));
        Ok(names.any(|provided| provided.split_whitespace().next() == Some(name)))
    }

    fn touched(&self, wish: &Wish, installed: &[String], patience: Patience) -> Vec<String> {
        // Also here: with old lists nothing may be found to be touched.
        let _ = self.run(patience, "reading the package lists", &["update".to_owned()]);
        let program = self.apt_get(patience.left()).arg("--simulate").args(Self::arguments(wish));
        program.output().map(|output| simulate::in_apt(&output.stdout, installed)).unwrap_or_default()
    }

    fn keep(&self, packages: &[String], kept: &Kept, patience: Patience) {
        let Ok(directory) = kept.files() else { return };
        if packages.is_empty() {
            return;
        }
        // All or nothing; where a mirror has dropped one of them, what else there is.
        if self.download(&directory, packages, patience).is_err() {
            for package in packages {
                let _ = self.download(&directory, std::slice::from_ref(package), patience);
            }
        }
        for path in packages.iter().filter_map(|package| deb_file(&directory, package)) {
            // The rollback that needs it may come after a power cut. What is not whole then, apt refuses.
            let _ = File::open(&path).and_then(|file| file.sync_all());
        }
    }

    /// dpkg knows what it was doing. On the way back its half-done packages are not configured first: one of them may
    /// be what hung.
    fn mend(
        &self,
        _before: &[String],
        way: Direction,
        _unfinished: bool,
        patience: Patience,
    ) -> Result<(), ChangeError> {
        let attempt = "finishing what was interrupted";
        // Writes dpkg's journal into its database, and no selection, as its standard input is empty. apt-get refuses
        // to do anything before that.
        patience.run("dpkg", attempt, |limit| self.dpkg(limit).arg("--set-selections"))?;
        if way == Direction::Onward {
            // A package that cannot be configured is no reason to stop: the change that follows replaces it, or
            // fails and says so.
            let _ = patience.run("dpkg", attempt, |limit| self.dpkg(limit).args(["--configure", "-a"]));
        }
        Ok(())
    }

    /// `dpkg --configure -a` has done it, but for a package whose unpacking was interrupted: apt takes that for
    /// installed.
    fn finish(&self, packages: &[String], patience: Patience) -> Result<(), ChangeError> {
        let half: Vec<&str> = packages.iter().filter_map(|p| p.strip_suffix(list::HALF_INSTALLED)).collect();
        if half.is_empty() {
            return Ok(());
        }
        let arguments = ["install", "--reinstall", "--fix-broken", "--allow-downgrades"];
        let arguments: Vec<String> = arguments.iter().chain(&half).map(|a| (*a).to_owned()).collect();
        let attempt = format!("finishing the interrupted installation of {}", list::few(&half));
        self.run(patience, &attempt, &arguments).map(drop)
    }

    fn carry_out(&self, wish: &Wish, patience: Patience) -> Result<(), ChangeError> {
        let result = self.run(patience, &wish.describe(), &Self::arguments(wish)).map(drop);
        result.map_err(|error| {
            error.advise(
                "remove is disabled",
                "nothing is removed unless the manifest names a package in `remove`",
            )
        })
    }

    /// dpkg does that itself.
    fn sweep(&self, _packages: &[String], _patience: Patience) {}

    fn restore(
        &self,
        before: &[String],
        _touched: &[String],
        kept: &Kept,
        patience: Patience,
    ) -> Result<(), ChangeError> {
        let directory = kept.files()?;
        self.unpack_again(before, &directory, patience)?;
        let Difference { missing, extra } = Difference::between(before, &self.installed()?);
        let unpacked = |package: &&String| !extra.contains(&format!("{package}{}", list::UNCONFIGURED));
        let target = |package: &String| {
            deb_file(&directory, package).map_or(package.clone(), |path| path.display().to_string())
        };
        let install = missing.iter().filter(unpacked).map(target);
        // What is there in another version is replaced, not removed.
        let new = |p: &&String| !missing.iter().any(|old| spec::is_same(Notation::Deb, old, p));
        let remove = extra.iter().filter(new).map(|package| removal(package));
        let packages: Vec<String> = install.chain(remove).collect();
        if !packages.is_empty() {
            // A hold is set by an admin against updates, not against the way back.
            const ALLOWED: [&str; 4] = [
                "--allow-downgrades",
                "--allow-change-held-packages",
                "--no-install-recommends",
                "--fix-broken",
            ];
            let mut arguments: Vec<String> =
                ["install"].iter().chain(&ALLOWED).map(|a| (*a).to_owned()).collect();
            // Not more often than needed: with local files apt 3.0 fails on it, "No file name for …".
            if list::half_installed(&missing, &extra).next().is_some() {
                arguments.push("--reinstall".to_owned());
            }
            arguments.extend(packages.iter().cloned());
            self.run(
                patience,
                &format!("going back to the packages of before ({})", list::few(&packages)),
                &arguments,
            )?;
        }
        let attempt = "configuring the packages of before";
        patience.run("dpkg", attempt, |limit| self.dpkg(limit).args(["--configure", "-a"]))?;
        self.purge(before, patience)
    }
}

/// apt-get's word for removing a package among those that it installs.
fn removal(package: &str) -> String {
    format!("{}-", spec::name_and_arch(Notation::Deb, package))
}
