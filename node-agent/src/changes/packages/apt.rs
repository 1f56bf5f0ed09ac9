//! apt-get and dpkg. One transaction installs and removes.
//!
//! The package lists are updated first: every node must find a version that was published minutes ago. An unreachable
//! repository is an error only if the installation then fails.

use super::list::{self, Difference};
use super::run_manager::TimeBudget;
use super::simulate;
use super::space;
use super::spec::{self, Notation};
use super::tool::{Direction, Forecast, Tool, Transaction, Unkept};
use super::undo_cache::{UndoCache, deb_file};
use crate::changes::ChangeError;
use rollout_core::rollout::manifest::{Allowance, Packages};
use rollout_host::run::{Output, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const APT_GET: &str = "/usr/bin/apt-get";
const APT_MARK: &str = "/usr/bin/apt-mark";

/// The reason of a package that only others need, and the verb that gives it.
const AUTO: &str = "auto";

/// Time limit for reading dpkg's status, which takes well under a second.
const QUERY: Duration = Duration::from_secs(120);

/// apt and dpkg on a node.
#[derive(Debug, Clone)]
pub(super) struct Apt {
    /// apt-get's options if the system is not the running one.
    apt_root: Vec<String>,
    /// The same for dpkg and dpkg-query.
    dpkg_root: Vec<String>,
    /// Further options of the manifest for the way forward.
    options: Vec<String>,
    changes_held: bool,
}

impl Apt {
    pub(super) fn of_node() -> Self {
        Self { apt_root: Vec::new(), dpkg_root: Vec::new(), options: Vec::new(), changes_held: false }
    }

    /// Applies the manifest's options.
    pub(super) fn for_change(self, wanted: &Packages) -> Self {
        Self { options: wanted.options.clone(), changes_held: wanted.allows(Allowance::Held), ..self }
    }

    #[cfg(test)]
    pub(super) fn in_root(apt_root: &[String], dpkg_root: &[String]) -> Self {
        Self { apt_root: apt_root.to_vec(), dpkg_root: dpkg_root.to_vec(), ..Self::of_node() }
    }

    /// Sets the environment for unattended runs: a changed configuration file stays as it is, and no
    /// service is restarted on a node that is about to reboot.
    fn quiet(program: Program) -> Program {
        let environment = [
            ("DEBIAN_FRONTEND", "noninteractive"),
            ("DEBIAN_PRIORITY", "critical"),
            ("APT_LISTCHANGES_FRONTEND", "none"),
            ("NEEDRESTART_MODE", "l"),
            ("NEEDRESTART_SUSPEND", "1"),
        ];
        environment.iter().fold(program, |program, (key, value)| program.env(key, value))
    }

    fn options(&self) -> Vec<String> {
        let options = [
            "-q",
            "-y",
            // Locks are waited for by the caller: apt-get would use up its own time.
            "-o",
            "DPkg::Lock::Timeout=0",
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

    fn run(&self, budget: TimeBudget, attempt: &str, arguments: &[String]) -> Result<Output, ChangeError> {
        budget.run(self.name(), attempt, |limit| self.apt_get(limit).args(arguments))
    }

    fn query(&self, attempt: &str, format: &str) -> Result<String, ChangeError> {
        let program = |limit| {
            Program::new("/usr/bin/dpkg-query", limit).args(&self.dpkg_root).args(["-W", "-f", format])
        };
        Ok(TimeBudget::new(QUERY).run("dpkg-query", attempt, program)?.stdout)
    }

    /// Downloads packages into a directory. apt-get writes to its working directory, also from a `file:` repository.
    fn download(&self, directory: &Path, packages: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        let attempt = format!("fetching {}", list::few(packages));
        let program = |limit| {
            let env = Program::new("/usr/bin/env", limit).arg("-C").arg(directory).arg(APT_GET);
            env.args(self.options()).arg("download").args(packages)
        };
        budget.run(self.name(), &attempt, program).map(drop)
    }

    /// Asks where packages can be downloaded, and for their sizes. Fails if one of them is not offered.
    fn uris_of(&self, packages: &[String], budget: TimeBudget) -> Result<Output, ChangeError> {
        let arguments = ["download", "--print-uris"].iter().map(|argument| (*argument).to_owned());
        let arguments: Vec<String> = arguments.chain(packages.iter().cloned()).collect();
        self.run(budget, "asking for the size of packages", &arguments)
    }

    /// Unpacks the cached files of packages that a crash left half unpacked in the same version: apt takes them for
    /// installed.
    fn unpack_again(
        &self,
        before: &[String],
        directory: &Path,
        budget: TimeBudget,
    ) -> Result<(), ChangeError> {
        let Difference { missing, extra } = Difference::between(before, &self.installed()?);
        let files: Vec<PathBuf> = list::half_installed(&missing, &extra)
            .filter_map(|package| deb_file(directory, package))
            .collect();
        if files.is_empty() {
            return Ok(());
        }
        let attempt = "unpacking half-installed packages again";
        budget.run("dpkg", attempt, |limit| self.dpkg(limit).arg("--unpack").args(&files)).map(drop)
    }

    fn arguments(&self, transaction: &Transaction) -> Vec<String> {
        let mut arguments = vec!["install".to_owned(), "--allow-downgrades".to_owned()];
        if !transaction.may_remove_more {
            arguments.push("--no-remove".to_owned());
        }
        if self.changes_held {
            arguments.push("--allow-change-held-packages".to_owned());
        }
        arguments.extend(self.options.iter().cloned());
        arguments.extend(transaction.install.iter().cloned());
        arguments.extend(transaction.remove.iter().map(|package| removal(package)));
        arguments
    }

    /// Queries installed packages, each in a section that begins with a line `>name:arch`. Returns the other lines of
    /// those sections that belong to the packages.
    fn sections(&self, attempt: &str, field: &str, packages: &[String]) -> Result<Vec<String>, ChangeError> {
        let wanted: BTreeSet<String> =
            packages.iter().map(|package| spec::name_and_arch(Notation::Deb, package)).collect();
        let format = format!(">${{Package}}:${{Architecture}}\\n{field}\\n");
        let output = self.query(attempt, &format)?;
        let mut is_wanted = false;
        let mut lines = Vec::new();
        for line in output.lines() {
            match line.strip_prefix('>') {
                Some(package) => is_wanted = wanted.contains(package),
                None if is_wanted => lines.push(line.trim().to_owned()),
                None => {}
            }
        }
        Ok(lines)
    }

    /// Adds the advice for causes that a manifest can remove.
    fn advise(error: ChangeError) -> ChangeError {
        let error = error.advise(
            "remove is disabled",
            "nothing is removed unless the manifest names a package in `remove`",
        );
        error.advise(
            "Held packages were changed",
            "allow = [\"held\"] in the manifest changes them, and keeps the hold",
        )
    }

    /// Removes leftover configuration files of packages that had not even those before.
    fn purge(&self, before: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        let known: BTreeSet<String> = before.iter().map(|p| spec::name_and_arch(Notation::Deb, p)).collect();
        let removed = self.installed()?.into_iter().filter(|package| package.ends_with(list::CONFIG_FILES));
        let removed = removed.map(|package| spec::name_and_arch(Notation::Deb, &package));
        let unknown: Vec<String> = removed.filter(|id| !known.contains(id)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let attempt = format!("removing the configuration files of {}", list::few(&unknown));
        budget.run("dpkg", &attempt, |limit| self.dpkg(limit).arg("--purge").args(&unknown)).map(drop)
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

    fn forecast(
        &self,
        transaction: &Transaction,
        installed: &[String],
        budget: TimeBudget,
    ) -> Result<Forecast, ChangeError> {
        // The simulation needs fresh lists as well: with old ones it may find nothing to replace.
        let _ = self.run(budget, "reading the package lists", &["update".to_owned()]);
        let simulation = [&["--simulate".to_owned()][..], &self.arguments(transaction)].concat();
        let output = self.run(budget, &transaction.describe(), &simulation).map_err(Self::advise)?;
        let affected = simulate::in_apt(&output.stdout, installed);
        // A simulation names no sizes. apt-get takes no lock to print URIs.
        let uris = [&["--print-uris".to_owned()][..], &self.arguments(transaction)].concat();
        let space = self.run(budget, "asking for the size of packages", &uris);
        let space = space.map(|output| space::in_apt(&output.stdout)).unwrap_or_default();
        Ok(Forecast { affected, steps: simulate::steps_in_apt(&output.stdout), space })
    }

    fn download_dir(&self) -> PathBuf {
        PathBuf::from("/var/cache/apt/archives")
    }

    /// Returns the sizes in the package lists: dpkg does not keep them.
    fn size_of_files(&self, packages: &[String], budget: TimeBudget) -> u64 {
        if packages.is_empty() {
            return 0;
        }
        self.uris_of(packages, budget).map_or(0, |output| space::of_uris(&output.stdout))
    }

    fn fetch_to_cache(
        &self,
        packages: &[String],
        cache: &UndoCache,
        budget: TimeBudget,
    ) -> Result<Unkept, ChangeError> {
        if packages.is_empty() {
            return Ok(Unkept::default());
        }
        let directory = cache.files_dir()?;
        let mut why = None;
        // apt-get downloads all or nothing. If a mirror has dropped one of them, fetch the others one by one.
        if self.download(&directory, packages, budget).is_err() {
            for package in packages {
                let fetched = self.download(&directory, std::slice::from_ref(package), budget);
                why = fetched.err().map(|error| error.to_string()).or(why);
            }
        }
        let mut unkept = Unkept { packages: Vec::new(), why };
        for package in packages {
            match deb_file(&directory, package) {
                // The undo that needs the file may come after a power cut. apt refuses an incomplete file.
                Some(path) => {
                    let synced = File::open(&path).and_then(|file| file.sync_all());
                    synced.map_err(ChangeError::file("writing", &path))?;
                }
                None => unkept.packages.push(package.clone()),
            }
        }
        Ok(unkept)
    }

    /// Asks for the packages one by one only if they are not all there: apt-get names all of them or none.
    fn not_offered(&self, packages: &[String], budget: TimeBudget) -> Result<Unkept, ChangeError> {
        let mut unkept = Unkept::default();
        if packages.is_empty() || self.uris_of(packages, budget).is_ok() {
            return Ok(unkept);
        }
        for package in packages {
            if let Err(error) = self.uris_of(std::slice::from_ref(package), budget) {
                unkept.packages.push(package.clone());
                unkept.why = Some(error.to_string());
            }
        }
        Ok(unkept)
    }

    fn files_of(&self, packages: &[String]) -> Result<Vec<PathBuf>, ChangeError> {
        let lines = self.sections("listing the files of packages", "${db-fsys:Files}", packages)?;
        Ok(lines.into_iter().filter(|line| line.starts_with('/')).map(PathBuf::from).collect())
    }

    fn configuration_of(&self, packages: &[String]) -> Result<Vec<PathBuf>, ChangeError> {
        let lines = self.sections("listing the configuration files of packages", "${Conffiles}", packages)?;
        let paths = lines.iter().filter_map(|line| line.split_once(' ')).map(|(path, _)| PathBuf::from(path));
        Ok(paths.filter(|path| path.is_absolute()).collect())
    }

    fn held(&self) -> Result<BTreeSet<String>, ChangeError> {
        let format = "${db:Status-Abbrev}\\t${Package}:${Architecture}\\n";
        let output = self.query("listing the packages on hold", format)?;
        let held = output.lines().filter(|line| line.starts_with('h'));
        Ok(held.filter_map(|line| Some(line.split_once('\t')?.1.to_owned())).collect())
    }

    fn hold(&self, held: &[String], released: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        if held.is_empty() && released.is_empty() {
            return Ok(());
        }
        let lines = held.iter().map(|package| format!("{package} hold\n"));
        let lines: String =
            lines.chain(released.iter().map(|package| format!("{package} install\n"))).collect();
        let program = |limit| self.dpkg(limit).arg("--set-selections").stdin(lines.clone());
        budget.run("dpkg", "restoring holds", program).map(drop)
    }

    fn reasons(&self) -> Result<BTreeMap<String, String>, ChangeError> {
        let program = |limit| Program::new(APT_MARK, limit).args(&self.apt_root).arg("showauto");
        let output = TimeBudget::new(QUERY).run("apt-mark", "listing why packages are installed", program)?;
        Ok(output.stdout.lines().map(|package| (package.to_owned(), AUTO.to_owned())).collect())
    }

    fn mark(&self, reason: &str, packages: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        let verb = if reason == AUTO { AUTO } else { "manual" };
        let attempt = format!("marking {} as {verb}", list::few(packages));
        let program = |limit| Program::new(APT_MARK, limit).args(&self.apt_root).arg(verb).args(packages);
        budget.run("apt-mark", &attempt, program).map(drop)
    }

    /// dpkg has a record of the interrupted transaction. Before an undo its unfinished packages are not configured: one
    /// of them may be the one that hung.
    fn recover(
        &self,
        _before: &[String],
        direction: Direction,
        _unfinished: bool,
        budget: TimeBudget,
    ) -> Result<(), ChangeError> {
        let attempt = "finishing what was interrupted";
        // Writes dpkg's journal into its database; without it apt-get refuses to do anything. Selects nothing, as the
        // standard input is empty.
        budget.run("dpkg", attempt, |limit| self.dpkg(limit).arg("--set-selections"))?;
        if direction == Direction::Forward {
            // A package that cannot be configured is no reason to stop: the change that follows replaces it, or fails
            // and reports it.
            let _ = budget.run("dpkg", attempt, |limit| self.dpkg(limit).args(["--configure", "-a"]));
        }
        Ok(())
    }

    /// `dpkg --configure -a` has completed all packages but one whose unpacking was interrupted: apt takes that one for
    /// installed.
    fn finish(&self, packages: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        let half: Vec<&str> = packages.iter().filter_map(|p| p.strip_suffix(list::HALF_INSTALLED)).collect();
        if half.is_empty() {
            return Ok(());
        }
        let arguments = ["install", "--reinstall", "--fix-broken", "--allow-downgrades"];
        let arguments: Vec<String> = arguments.iter().chain(&half).map(|a| (*a).to_owned()).collect();
        let attempt = format!("finishing the interrupted installation of {}", list::few(&half));
        self.run(budget, &attempt, &arguments).map(drop)
    }

    /// dpkg fails with each script that fails.
    fn execute(&self, transaction: &Transaction, budget: TimeBudget) -> Result<Vec<String>, ChangeError> {
        let done = self.run(budget, &transaction.describe(), &self.arguments(transaction));
        done.map(|_| Vec::new()).map_err(Self::advise)
    }

    /// dpkg removes its leftovers itself.
    fn remove_leftovers(&self, _packages: &[String], _budget: TimeBudget) {}

    fn restore(
        &self,
        before: &[String],
        _affected: &[String],
        cache: &UndoCache,
        budget: TimeBudget,
    ) -> Result<Vec<String>, ChangeError> {
        let directory = cache.files_dir()?;
        self.unpack_again(before, &directory, budget)?;
        let Difference { missing, extra } = Difference::between(before, &self.installed()?);
        let unpacked = |package: &&String| !extra.contains(&format!("{package}{}", list::UNCONFIGURED));
        let target = |package: &String| {
            deb_file(&directory, package).map_or(package.clone(), |path| path.display().to_string())
        };
        let install = missing.iter().filter(unpacked).map(target);
        // A package that is installed in a different version is replaced, not removed.
        let new = |p: &&String| !missing.iter().any(|old| spec::is_same(Notation::Deb, old, p));
        let remove = extra.iter().filter(new).map(|package| removal(package));
        let packages: Vec<String> = install.chain(remove).collect();
        if !packages.is_empty() {
            // An admin sets a hold against updates, not against an undo. An essential package that goes was not there
            // before.
            const ALLOWED: [&str; 5] = [
                "--allow-downgrades",
                "--allow-change-held-packages",
                "--allow-remove-essential",
                "--no-install-recommends",
                "--fix-broken",
            ];
            let mut arguments: Vec<String> =
                ["install"].iter().chain(&ALLOWED).map(|a| (*a).to_owned()).collect();
            // Only if needed: with local files apt 3.0 fails on this option, "No file name for …".
            if list::half_installed(&missing, &extra).next().is_some() {
                arguments.push("--reinstall".to_owned());
            }
            arguments.extend(packages.iter().cloned());
            self.run(
                budget,
                &format!("going back to the packages of before ({})", list::few(&packages)),
                &arguments,
            )?;
        }
        let attempt = "configuring the packages of before";
        budget.run("dpkg", attempt, |limit| self.dpkg(limit).args(["--configure", "-a"]))?;
        self.purge(before, budget)?;
        Ok(Vec::new())
    }
}

/// Returns the argument by which `apt-get install` removes a package.
fn removal(package: &str) -> String {
    format!("{}-", spec::name_and_arch(Notation::Deb, package))
}
