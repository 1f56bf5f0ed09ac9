//! dnf 4 and dnf 5: their command lines and their differences.
//!
//! Installing and removing are two transactions, installing first. A package to remove may be needed by one that is
//! being replaced in the same change; after the installation no remaining package needs it any more. If the new
//! package conflicts with the old one, `--allowerasing` lets the first transaction remove it. Metadata is refreshed
//! each time: every node must find a version that was published minutes ago, and an unchanged repository costs one
//! small file. A repository that cannot be reached is left out: if a package is missing then, dnf names both.

mod arguments;
mod flavour;

pub(super) use flavour::Flavour;

use arguments::{ALL_VERSIONS, RUNNING_KERNEL};

use super::list::{self, Difference};
use super::rpm::Rpm;
use super::run_manager::TimeBudget;
use super::scriptlets;
use super::simulate;
use super::space::{self, Space};
use super::spec::Notation;
use super::tool::{Direction, Forecast, Tool, Transaction, Unkept};
use super::undo_cache::UndoCache;
use crate::changes::ChangeError;
use rollout_core::rollout::manifest::{Allowance, Packages};
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::run::{Output, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Accepts files without a signature. Those of an undo have the header of the package that was installed.
const PROVEN_FILES: &str = "--setopt=localpkg_gpgcheck=False";

/// Lists of locked versions: of dnf 4's plugin and of dnf5.
const VERSION_LOCKS: [&str; 2] = ["/etc/dnf/plugins/versionlock.list", "/etc/dnf/versionlock.toml"];

/// Directory of the module streams that dnf 4 has enabled, each in a file `NAME.module`.
const MODULES: &str = "/etc/dnf/modules.d";

/// The same of dnf5.
const MODULES_OF_DNF5: &str = "/usr/lib/sysimage/libdnf5/modules.toml";

/// dnf on a node.
#[derive(Debug, Clone)]
pub(super) struct Dnf {
    program: PathBuf,
    flavour: Flavour,
    /// Options for the system and its repositories if they are not those of the running one.
    root: Vec<String>,
    rpm: Rpm,
    /// Options for the repositories that the manifest enables and disables.
    repositories: Vec<String>,
    /// Further options of the manifest.
    options: Vec<String>,
    lifts_excludes: bool,
}

impl Dnf {
    pub(super) fn of_node(program: &str, flavour: Flavour) -> Self {
        Self {
            program: PathBuf::from(program),
            flavour,
            root: Vec::new(),
            rpm: Rpm::of_node(),
            repositories: Vec::new(),
            options: Vec::new(),
            lifts_excludes: false,
        }
    }

    #[cfg(test)]
    pub(super) fn by_hand(&self, limit: Duration) -> Program {
        Program::new(&self.program, limit).arg("-y").args(&self.root)
    }

    /// Applies the manifest's options.
    pub(super) fn for_change(self, wanted: &Packages) -> Self {
        let disabled = wanted.disable_repos.iter().map(|id| format!("--disablerepo={id}"));
        let enabled = wanted.enable_repos.iter().map(|id| format!("--enablerepo={id}"));
        Self {
            repositories: disabled.chain(enabled).collect(),
            options: wanted.options.clone(),
            lifts_excludes: wanted.allows(Allowance::Excluded),
            ..self
        }
    }

    #[cfg(test)]
    pub(super) fn in_root(program: &str, flavour: Flavour, root: &[String], rpm: Rpm) -> Self {
        Self { root: root.to_vec(), rpm, ..Self::of_node(program, flavour) }
    }

    fn program(&self, limit: Duration, answer: &str) -> Program {
        // clean_requirements_on_remove: a package installed by hand for a job may look unneeded.
        const ALWAYS: [&str; 2] =
            ["--setopt=clean_requirements_on_remove=False", "--setopt=*.skip_if_unavailable=True"];
        Program::new(&self.program, limit).arg(answer).args(&self.root).args(&self.repositories).args(ALWAYS)
    }

    /// Returns dnf for the staged state: with the manifest's options, all or nothing.
    fn forward(&self, limit: Duration, answer: &str) -> Program {
        let mut program = self.program(limit, answer).args(&self.options).args(self.flavour.strictness());
        if !self.options.iter().any(|option| option.contains("best")) {
            program = program.arg("--setopt=best=True");
        }
        if self.lifts_excludes { program.args(self.flavour.without_excludes()) } else { program }
    }

    fn run(&self, budget: TimeBudget, attempt: &str, arguments: &[String]) -> Result<Output, ChangeError> {
        budget.run(self.name(), attempt, |limit| self.forward(limit, "-y").args(arguments))
    }

    /// Accepts the keys of repositories whose metadata is signed (`repo_gpgcheck`), as the transaction will. A dry run
    /// declines a key that nobody has accepted on this node yet, and leaves the repository out. If this fails, the dry
    /// run reports why.
    fn accept_keys(&self, budget: TimeBudget) {
        let _ = self.run(budget, "loading the repositories", &["makecache".to_owned()]);
    }

    /// Returns what dnf prints that it would do.
    fn dry_run(
        &self,
        budget: TimeBudget,
        attempt: &str,
        arguments: &[String],
    ) -> Result<String, ChangeError> {
        let program = |limit| self.forward(limit, "--assumeno").args(arguments);
        // dnf answers its own question, and fails therefore.
        let would = |output: &Output| {
            output.status.success()
                || output.stderr.contains("Operation aborted")
                || output.stdout.contains("Operation aborted")
        };
        Ok(budget.run_until(self.name(), attempt, program, would)?.stdout)
    }

    /// Returns those packages that a repository offers.
    fn offered(&self, packages: &[String], budget: TimeBudget) -> BTreeSet<String> {
        const FORMAT: &str = "%{name}-%{epoch}:%{version}-%{release}.%{arch}\n";
        let program = |limit| {
            let query = self.program(limit, "-y").args(self.flavour.everything());
            query.args(["-q", "repoquery", "--available", "--qf", FORMAT]).args(packages)
        };
        let output = budget.run(self.name(), "asking which packages are offered", program);
        output.map(|output| output.stdout.lines().map(str::to_owned).collect()).unwrap_or_default()
    }

    fn run_for_undo(
        &self,
        budget: TimeBudget,
        attempt: &str,
        arguments: &[String],
    ) -> Result<Vec<String>, ChangeError> {
        // obsoletes: a package that obsoletes an old one is about to be removed. installonly_limit: no old kernel must
        // make room. protect_running_kernel: the kernel to remove is the running one. protected_packages: those to
        // remove were not there before.
        const EXACTLY: [&str; 6] = [
            "--setopt=best=True",
            "--setopt=obsoletes=False",
            "--setopt=install_weak_deps=False",
            ALL_VERSIONS,
            RUNNING_KERNEL,
            "--setopt=protected_packages=",
        ];
        let program = |limit| {
            let program = self.program(limit, "-y").args(self.flavour.strictness()).args(EXACTLY);
            program.args(self.flavour.without_excludes()).args(arguments)
        };
        let output = budget.run(self.name(), attempt, program)?;
        Ok(scriptlets::failed(&format!("{}\n{}", output.stdout, output.stderr)))
    }

    fn on_host(&self, path: &str) -> PathBuf {
        self.rpm.root_directory().join(path.trim_start_matches('/'))
    }

    /// Installs old packages, from their cached files and without a repository if all of them are cached. Returns the
    /// scriptlets that failed.
    fn reinstall_old(
        &self,
        missing: &[String],
        cache: &UndoCache,
        budget: TimeBudget,
    ) -> Result<Vec<String>, ChangeError> {
        let files = self.rpm.cached_files(cache)?;
        let file = |package: &String| files.get(package).map(|(path, _)| path.clone());
        let all_cached: Option<Vec<PathBuf>> = missing.iter().map(file).collect();
        let mut arguments = vec!["install".to_owned(), "--allowerasing".to_owned(), PROVEN_FILES.to_owned()];
        if all_cached.is_some() {
            arguments.push("--disablerepo=*".to_owned());
        }
        let target = |p: &String| file(p).map_or(p.clone(), |path| path.display().to_string());
        arguments.extend(missing.iter().map(target));
        let attempt = format!("going back to {}", list::few(missing));
        let result = self.run_for_undo(budget, &attempt, &arguments);
        match (&result, all_cached) {
            // A file has moved to a new package, which dnf cannot remove in the same transaction. Or the package is one
            // of a module, which dnf only installs with the module's metadata.
            (Err(ChangeError::Manager { error, .. }), Some(files))
                if ["conflicts with file from package", "modular metadata"]
                    .iter()
                    .any(|cause| error.to_string().contains(cause)) =>
            {
                self.rpm.force(&attempt, &files, budget)
            }
            _ => result,
        }
    }
}

/// Time limit for questions about installed packages.
const QUERY: Duration = Duration::from_secs(120);

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

    /// dnf 4 reads the list of packages before it waits for rpm's lock. dnf5 fails while the lock is held.
    fn wait_for_lock(&self, budget: TimeBudget) -> Result<(), ChangeError> {
        match self.flavour {
            Flavour::Dnf4 => self.rpm.wait_for_lock(budget),
            Flavour::Dnf5 => Ok(()),
        }
    }

    fn forecast(
        &self,
        transaction: &Transaction,
        installed: &[String],
        budget: TimeBudget,
    ) -> Result<Forecast, ChangeError> {
        let mut affected = transaction.remove.clone();
        let (mut steps, mut space) = (Vec::new(), Space::default());
        if !transaction.install.is_empty() {
            let attempt = format!("installing {}", list::few(&transaction.install));
            self.accept_keys(budget);
            let output = self.dry_run(budget, &attempt, &self.install(transaction))?;
            affected.extend(simulate::in_dnf(&output, installed));
            steps.extend(simulate::steps_in_dnf(&output, installed));
            space = space::in_dnf(&output);
        }
        if !transaction.remove.is_empty() {
            // It may fail before the installation and succeed after it, which may replace what stands in the way.
            let attempt = format!("removing {}", list::few(&transaction.remove));
            let arguments = Self::remove_from(&transaction.remove, installed);
            let output = self.dry_run(budget, &attempt, &arguments).unwrap_or_default();
            affected.extend(simulate::in_dnf(&output, installed));
            let removed = simulate::steps_in_dnf(&output, installed);
            steps.extend(removed.into_iter().filter(|step| step.to.is_none()));
        }
        steps.sort_unstable();
        steps.dedup();
        affected.sort_unstable();
        affected.dedup();
        Ok(Forecast { affected, steps, space })
    }

    fn download_dir(&self) -> PathBuf {
        match self.flavour {
            Flavour::Dnf4 => self.on_host("/var/cache/dnf"),
            Flavour::Dnf5 => self.on_host("/var/cache/libdnf5"),
        }
    }

    fn size_of_files(&self, packages: &[String], _budget: TimeBudget) -> u64 {
        self.rpm.size_of_files(packages)
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
        let program = |limit| {
            let program = self.program(limit, "-y").args(self.flavour.everything());
            program.args(self.flavour.fetch(&directory)).args(packages)
        };
        let fetched = budget.run(self.name(), "keeping old packages", program);
        self.rpm.drop_unverified(cache, packages)?;
        let kept = self.rpm.cached_files(cache)?;
        let unkept: Vec<String> = packages.iter().filter(|p| !kept.contains_key(*p)).cloned().collect();
        if unkept.is_empty() {
            return Ok(Unkept::default());
        }
        let offered = self.offered(&unkept, budget);
        let packages = unkept.into_iter().filter(|package| !offered.contains(package)).collect();
        Ok(Unkept { packages, why: fetched.err().map(|error| error.to_string()) })
    }

    fn not_offered(&self, packages: &[String], budget: TimeBudget) -> Result<Unkept, ChangeError> {
        let offered = if packages.is_empty() { BTreeSet::new() } else { self.offered(packages, budget) };
        let packages = packages.iter().filter(|package| !offered.contains(*package)).cloned().collect();
        Ok(Unkept { packages, why: None })
    }

    fn files_of(&self, packages: &[String]) -> Result<Vec<PathBuf>, ChangeError> {
        self.rpm.paths("-l", packages)
    }

    fn configuration_of(&self, packages: &[String]) -> Result<Vec<PathBuf>, ChangeError> {
        self.rpm.paths("-c", packages)
    }

    fn own_configuration(&self) -> Vec<PathBuf> {
        let modules = self.on_host(MODULES);
        let names = std::fs::read_dir(modules).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let enabled = names.map(|name| Path::new(MODULES).join(name));
        VERSION_LOCKS.iter().map(PathBuf::from).chain([MODULES_OF_DNF5.into()]).chain(enabled).collect()
    }

    fn reasons(&self) -> Result<BTreeMap<String, String>, ChangeError> {
        let program = |limit| {
            let query = self.program(limit, "-y").args(["-q", "--disablerepo=*", "repoquery", "--installed"]);
            query.args(["--qf", "%{name}.%{arch} %{reason}\n"])
        };
        let budget = TimeBudget::new(QUERY);
        let output = budget.run(self.name(), "listing why packages are installed", program)?;
        Ok(flavour::reasons(&output.stdout))
    }

    fn mark(&self, reason: &str, packages: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        let attempt = format!("marking {} as installed by {reason}", list::few(packages));
        let program = |limit| {
            let program = self.program(limit, "-y").arg("--disablerepo=*");
            program.args(self.flavour.mark(reason)).args(packages)
        };
        budget.run(self.name(), &attempt, program).map(drop)
    }

    fn is_enabled(&self, module: &str) -> bool {
        let Some((name, stream)) = module.split_once(':') else { return false };
        let path = self.on_host(MODULES).join(format!("{name}.module"));
        let text = regular_file::read_text(&path, MAX_WRITTEN_BY_HAND).unwrap_or_default();
        flavour::has_stream(&text, stream)
    }

    fn enable(&self, modules: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        let attempt = format!("enabling {}", list::few(modules));
        self.accept_keys(budget);
        self.enabling(modules)
            .iter()
            .try_for_each(|arguments| self.run(budget, &attempt, arguments).map(drop))
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

    fn execute(&self, transaction: &Transaction, budget: TimeBudget) -> Result<Vec<String>, ChangeError> {
        let mut output = String::new();
        let mut run = |attempt: String, arguments: &[String]| {
            let Output { stdout, stderr, .. } = self.run(budget, &attempt, arguments)?;
            output += &format!("{stdout}\n{stderr}\n");
            Ok::<(), ChangeError>(())
        };
        if !transaction.install.is_empty() {
            run(format!("installing {}", list::few(&transaction.install)), &self.install(transaction))?;
        }
        let now = self.installed()?;
        let remaining: Vec<String> =
            transaction.remove.iter().filter(|package| now.contains(package)).cloned().collect();
        if !remaining.is_empty() {
            let arguments = Self::remove_from(&remaining, &now);
            run(format!("removing {}", list::few(&remaining)), &arguments)?;
        }
        Ok(scriptlets::failed(&output))
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
    ) -> Result<Vec<String>, ChangeError> {
        let missing = Difference::between(before, &self.installed()?).missing;
        let mut failed = Vec::new();
        if !missing.is_empty() {
            failed.extend(self.reinstall_old(&missing, cache, budget)?);
        }
        let extra = Difference::between(before, &self.installed()?).extra;
        if !extra.is_empty() {
            let attempt = format!("removing {}", list::few(&extra));
            failed.extend(self.run_for_undo(budget, &attempt, &Self::remove(&extra))?);
        }
        // An interrupted transaction may have replaced files before it recorded that in the database.
        let damaged = self.rpm.damaged(affected, budget);
        if damaged.is_empty() {
            return Ok(failed);
        }
        let files = self.rpm.cached_files(cache)?;
        let target = |package: &String| {
            files.get(package).map_or(package.clone(), |(path, _)| path.display().to_string())
        };
        let all_cached = damaged.iter().all(|package| files.contains_key(package));
        let mut arguments = vec!["reinstall".to_owned()];
        arguments.push(PROVEN_FILES.to_owned());
        arguments.extend(all_cached.then(|| "--disablerepo=*".to_owned()));
        arguments.extend(damaged.iter().map(target));
        let attempt = format!("restoring the files of {}", list::few(&damaged));
        failed.extend(self.run_for_undo(budget, &attempt, &arguments)?);
        Ok(failed)
    }
}
