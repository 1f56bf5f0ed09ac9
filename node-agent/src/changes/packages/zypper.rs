//! zypper, on SUSE systems. One transaction installs and removes.
//!
//! Repositories are refreshed first, and not again after that: every node must find a version that was published
//! minutes ago, and zypper asks what to do about a repository that cannot be reached. An undo is left to rpm, which
//! installs exactly the kept files and removes exactly what came: the solver of zypper may choose others.

mod output;

use super::list::{self, Difference};
use super::rpm::Rpm;
use super::run_manager::TimeBudget;
use super::scriptlets;
use super::spec::{self, Notation};
use super::tool::{BY_USER, Direction, Forecast, Tool, Transaction, Unkept};
use super::undo_cache::UndoCache;
use crate::changes::ChangeError;
use crate::log;
use rollout_core::rollout::manifest::{Allowance, Packages};
use rollout_host::durable;
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::run::{Output, Program};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) const ZYPPER: &str = "/usr/bin/zypper";

/// The packages that zypper installed because others need them, by name.
const AUTO_INSTALLED: &str = "/var/lib/zypp/AutoInstalled";

/// The reason of such a package.
const AUTO: &str = "auto";

/// Locks of packages.
const LOCKS: &str = "/etc/zypp/locks";

/// Configuration of libzypp, the first that exists. Since libzypp 17.37 the distribution's own is below /usr.
const CONFIGURATION: [&str; 2] = ["/etc/zypp/zypp.conf", "/usr/etc/zypp/zypp.conf"];

/// Configuration that lifts all locks, read after the node's own.
const WITHOUT_LOCKS: &str = "\n[main]\nlocksfile.path = /nonexistent\n";

/// Exit codes of a transaction that was made (zypper(8)): with a patch that needs a reboot, or zypper to be started
/// again; without a repository that could not be refreshed; with a script that failed.
const DONE: [i32; 5] = [0, 102, 103, 106, SCRIPT_FAILED];
const SCRIPT_FAILED: i32 = 107;

/// Time limit for questions about repositories.
const QUERY: Duration = Duration::from_secs(120);

/// zypper on a node.
#[derive(Debug, Clone)]
pub(super) struct Zypper {
    /// Options if the system is not the running one.
    root: Vec<String>,
    rpm: Rpm,
    /// Ids of repositories that the manifest enables.
    enabled: Vec<String>,
    /// Ids or globs of those that it disables.
    disabled: Vec<String>,
    /// Further options of the manifest.
    options: Vec<String>,
    lifts_locks: bool,
}

impl Zypper {
    pub(super) fn of_node() -> Self {
        Self {
            root: Vec::new(),
            rpm: Rpm::of_node(),
            enabled: Vec::new(),
            disabled: Vec::new(),
            options: Vec::new(),
            lifts_locks: false,
        }
    }

    #[cfg(test)]
    pub(super) fn in_root(root: &Path) -> Self {
        Self { root: vec![format!("--root={}", root.display())], rpm: Rpm::in_root(root), ..Self::of_node() }
    }

    #[cfg(test)]
    pub(super) fn by_hand(&self, limit: Duration) -> Program {
        self.program(limit)
    }

    /// Applies the manifest's options.
    pub(super) fn for_change(self, wanted: &Packages) -> Self {
        Self {
            enabled: wanted.enable_repos.clone(),
            disabled: wanted.disable_repos.clone(),
            options: wanted.options.clone(),
            lifts_locks: wanted.allows(Allowance::Excluded),
            ..self
        }
    }

    /// Returns zypper without a command. The caller waits for locks: zypper would use up its own time.
    fn program(&self, limit: Duration) -> Program {
        Program::new(ZYPPER, limit).env("ZYPP_LOCK_TIMEOUT", "0").args(&self.root).arg("--non-interactive")
    }

    /// Returns zypper with the repositories of the change, as they were refreshed.
    fn unrefreshed(&self, limit: Duration) -> Program {
        let enabled = self.enabled.iter().map(|id| format!("--plus-content={id}"));
        self.program(limit).arg("--no-refresh").args(enabled)
    }

    /// Returns zypper for the staged state.
    fn forward(&self, limit: Duration, configuration: Option<&str>) -> Program {
        let program = self.unrefreshed(limit);
        match configuration {
            Some(text) => program.env("ZYPP_CONF", "/dev/stdin").stdin(text),
            None => program,
        }
    }

    /// Returns the configuration that lifts locks, if the manifest allows that. zypper has no option for it.
    fn configuration(&self) -> Result<Option<String>, ChangeError> {
        if !self.lifts_locks {
            return Ok(None);
        }
        let mut texts = CONFIGURATION.iter().map(|path| self.text(path));
        let own = texts.find(|text| !matches!(text, Ok(text) if text.is_empty())).transpose()?;
        Ok(Some(own.unwrap_or_default() + WITHOUT_LOCKS))
    }

    /// Reads a file, which counts as empty if it is not there.
    fn text(&self, path: &str) -> Result<String, ChangeError> {
        let path = self.on_host(path);
        match regular_file::read_text(&path, MAX_WRITTEN_BY_HAND) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(ChangeError::file("reading", &path)),
        }
    }

    fn on_host(&self, path: &str) -> PathBuf {
        self.rpm.root_directory().join(path.trim_start_matches('/'))
    }

    /// Returns the repositories to use, or `None` for all that the node has enabled. zypper has no option that disables
    /// one of them.
    fn repositories(&self) -> Result<Option<Vec<String>>, ChangeError> {
        if self.disabled.is_empty() {
            return Ok(None);
        }
        let program = |limit| self.program(limit).args(["--xmlout", "repos"]);
        let listed = TimeBudget::new(QUERY).run(self.name(), "listing the repositories", program)?;
        let is_disabled = |id: &String| self.disabled.iter().any(|glob| spec::matches(glob, id));
        let staying = output::enabled_repositories(&listed.stdout).into_iter().filter(|id| !is_disabled(id));
        Ok(Some(staying.chain(self.enabled.iter().cloned()).collect()))
    }

    /// Refreshes the repositories. One that cannot be reached is used as it was known, or left out.
    fn refresh(&self, budget: TimeBudget) -> Result<(), ChangeError> {
        let attempt = "refreshing the repositories";
        let repositories = self.repositories()?;
        let enabled: Vec<String> = self.enabled.iter().map(|id| format!("--plus-content={id}")).collect();
        if repositories.as_ref().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        let program = |limit| {
            self.program(limit)
                .args(&enabled)
                .arg("refresh")
                .args(repositories.as_deref().unwrap_or_default())
        };
        if let Err(error) = budget.run(self.name(), attempt, program) {
            log::warning(&error.to_string());
        }
        Ok(())
    }

    /// Returns options of zypper itself, and `install` with its arguments. zypper takes no option after a package.
    fn arguments(
        &self,
        transaction: &Transaction,
        dry_run: Option<&str>,
    ) -> Result<(Vec<String>, Vec<String>), ChangeError> {
        // oldpackage, allow-downgrade: a version that is named may be an older one, as may be what it needs. The
        // manifest's author agrees to licenses.
        const ALWAYS: [&str; 5] = [
            "install",
            "--download-in-advance",
            "--auto-agree-with-licenses",
            "--oldpackage",
            "--allow-downgrade",
        ];
        let (mut globals, mut arguments) = (Vec::new(), ALWAYS.map(str::to_owned).to_vec());
        match self.repositories()? {
            Some(none) if none.is_empty() => globals.push("--disable-repositories".to_owned()),
            Some(some) => arguments.extend(some.iter().map(|id| format!("--repo={id}"))),
            None => {}
        }
        arguments.extend(dry_run.map(str::to_owned));
        arguments.extend(transaction.may_remove_more.then(|| "--force-resolution".to_owned()));
        arguments.extend(self.options.iter().cloned());
        arguments.extend(transaction.install.iter().cloned());
        arguments.extend(transaction.remove.iter().map(|package| format!("!{package}")));
        Ok((globals, arguments))
    }

    /// Returns what zypper would do, as XML.
    fn dry_run(&self, transaction: &Transaction, budget: TimeBudget) -> Result<String, ChangeError> {
        let (globals, arguments) = self.arguments(transaction, Some("--dry-run"))?;
        let configuration = self.configuration()?;
        let run = |format: Option<&str>| {
            let program = |limit| {
                let program = self.forward(limit, configuration.as_deref()).args(format);
                program.args(&globals).args(&arguments)
            };
            budget.run_until(self.name(), &transaction.describe(), program, is_done)
        };
        // Only the words for people name the cause of a failure completely.
        let output = run(Some("--xmlout")).or_else(|_| run(None)).map_err(advise)?;
        Ok(output.stdout)
    }

    /// Downloads packages into a directory. zypper checks signatures as the repository is configured, and leaves out
    /// packages that no repository offers.
    fn download(&self, directory: &Path, packages: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        let attempt = format!("fetching {}", list::few(packages));
        let program = |limit| {
            let program = self.unrefreshed(limit).arg("--pkg-cache-dir").arg(directory);
            program.arg("download").args(packages)
        };
        budget.run_until(self.name(), &attempt, program, is_done).map(drop)
    }

    /// Returns the files of old packages, downloading those that are not kept.
    fn old_files(
        &self,
        packages: &[String],
        cache: &UndoCache,
        budget: TimeBudget,
    ) -> Result<Vec<PathBuf>, ChangeError> {
        let mut kept = self.rpm.cached_files(cache)?;
        let unkept: Vec<String> = packages.iter().filter(|p| !kept.contains_key(*p)).cloned().collect();
        if !unkept.is_empty() {
            let _ = self.refresh(budget);
            self.download(&cache.files_dir()?, &unkept, budget)?;
            kept = self.rpm.cached_files(cache)?;
        }
        let file = |package: &String| match kept.get(package) {
            Some((path, _)) => Ok(path.clone()),
            None => {
                let attempt = format!("going back to {package}");
                Err(ChangeError::state(attempt, format!("{package} was not found in any repository")))
            }
        };
        packages.iter().map(file).collect()
    }

    /// Returns the names of packages that were installed because others need them, without comments.
    fn auto_installed(&self) -> Result<BTreeSet<String>, ChangeError> {
        let text = self.text(AUTO_INSTALLED)?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(lines.map(str::to_owned).collect())
    }
}

fn is_done(output: &Output) -> bool {
    output.status.code().is_some_and(|code| DONE.contains(&code))
}

/// Adds the advice for causes that a manifest can remove.
fn advise(error: ChangeError) -> ChangeError {
    let error = error.advise(
        "remove lock to allow",
        "`zypper locks` lists the locks, and allow = [\"excluded\"] in the manifest lifts them for this change",
    );
    error.advise(
        "with vendor change",
        "options = [\"--allow-vendor-change\"] in the manifest allows a package of another vendor",
    )
}

impl Tool for Zypper {
    fn name(&self) -> &'static str {
        "zypper"
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

    /// zypper runs rpm for one package after the other, and each fails while another process holds rpm's lock.
    fn wait_for_lock(&self, budget: TimeBudget) -> Result<(), ChangeError> {
        self.rpm.wait_for_lock(budget)
    }

    fn forecast(
        &self,
        transaction: &Transaction,
        installed: &[String],
        budget: TimeBudget,
    ) -> Result<Forecast, ChangeError> {
        self.refresh(budget)?;
        let summary = self.dry_run(transaction, budget)?;
        let mut affected = output::named(&summary, installed);
        affected.extend(transaction.remove.iter().cloned());
        affected.sort_unstable();
        affected.dedup();
        Ok(Forecast { affected, steps: output::steps(&summary), space: output::space(&summary) })
    }

    fn download_dir(&self) -> PathBuf {
        self.on_host("/var/cache/zypp/packages")
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
        let fetched = self.download(&cache.files_dir()?, packages, budget);
        // A different build of the same version is no proven file, but the undo can download it again.
        let offered = self.rpm.cached_files(cache)?;
        self.rpm.drop_unverified(cache, packages)?;
        let packages = packages.iter().filter(|package| !offered.contains_key(*package)).cloned().collect();
        Ok(Unkept { packages, why: fetched.err().map(|error| error.to_string()) })
    }

    fn not_offered(&self, packages: &[String], budget: TimeBudget) -> Result<Unkept, ChangeError> {
        if packages.is_empty() {
            return Ok(Unkept::default());
        }
        let names: BTreeSet<&str> = packages.iter().map(|p| spec::name(Notation::Rpm, p)).collect();
        let program = |limit| {
            let search = ["--xmlout", "search", "--details", "--match-exact", "--type", "package"];
            self.unrefreshed(limit).args(search).args(&names)
        };
        let found = budget.run(self.name(), "asking which packages are offered", program)?;
        Ok(Unkept { packages: output::not_offered(&found.stdout, packages), why: None })
    }

    fn files_of(&self, packages: &[String]) -> Result<Vec<PathBuf>, ChangeError> {
        self.rpm.paths("-l", packages)
    }

    fn configuration_of(&self, packages: &[String]) -> Result<Vec<PathBuf>, ChangeError> {
        self.rpm.paths("-c", packages)
    }

    fn own_configuration(&self) -> Vec<PathBuf> {
        vec![LOCKS.into()]
    }

    /// zypper keeps reasons by name alone.
    fn reasons(&self) -> Result<BTreeMap<String, String>, ChangeError> {
        let names = self.auto_installed()?;
        Ok(names.into_iter().map(|name| (spec::id_of_name(&name), AUTO.to_owned())).collect())
    }

    /// Writes zypper's file: no command of zypper sets a reason.
    fn mark(&self, reason: &str, packages: &[String], _budget: TimeBudget) -> Result<(), ChangeError> {
        let mut names = self.auto_installed()?;
        for name in packages.iter().map(|id| spec::name_of_id(Notation::Rpm, id)) {
            match reason {
                BY_USER => drop(names.remove(name)),
                _ => drop(names.insert(name.to_owned())),
            }
        }
        let path = self.on_host(AUTO_INSTALLED);
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        durable::replace(&path, text.as_bytes(), 0o644).map_err(ChangeError::file("writing", &path))
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

    /// Reinstalls the packages: an interrupted transaction may have run none of their last scripts.
    fn finish(&self, packages: &[String], budget: TimeBudget) -> Result<(), ChangeError> {
        if packages.is_empty() {
            return Ok(());
        }
        let attempt = format!("finishing the interrupted installation of {}", list::few(packages));
        let configuration = self.configuration()?;
        let program = |limit| {
            let arguments = ["install", "--force", "--auto-agree-with-licenses"];
            self.forward(limit, configuration.as_deref()).args(arguments).args(packages)
        };
        budget.run_until(self.name(), &attempt, program, is_done).map(drop)
    }

    fn execute(&self, transaction: &Transaction, budget: TimeBudget) -> Result<Vec<String>, ChangeError> {
        let (globals, arguments) = self.arguments(transaction, None)?;
        let configuration = self.configuration()?;
        let program = |limit| self.forward(limit, configuration.as_deref()).args(&globals).args(&arguments);
        let done = budget.run_until(self.name(), &transaction.describe(), program, is_done);
        let Output { status, stdout, stderr, .. } = done.map_err(advise)?;
        let mut failed = scriptlets::failed(&format!("{stdout}\n{stderr}"));
        if failed.is_empty() && status.code() == Some(SCRIPT_FAILED) {
            failed.push("see /var/log/zypp/history (exit code 107)".to_owned());
        }
        Ok(failed)
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
            let files = self.old_files(&missing, cache, budget)?;
            let attempt = format!("going back to {}", list::few(&missing));
            failed.extend(self.rpm.force(&attempt, &files, budget)?);
        }
        let extra = Difference::between(before, &self.installed()?).extra;
        if !extra.is_empty() {
            failed.extend(self.rpm.erase(&format!("removing {}", list::few(&extra)), &extra, budget)?);
        }
        // An interrupted transaction may have replaced files before it recorded that in the database.
        let damaged = self.rpm.damaged(affected, budget);
        if !damaged.is_empty() {
            let files = self.old_files(&damaged, cache, budget)?;
            let attempt = format!("restoring the files of {}", list::few(&damaged));
            failed.extend(self.rpm.force(&attempt, &files, budget)?);
        }
        Ok(failed)
    }
}
