//! The operations that a change needs of a package manager, and the transaction that it asks for.

use super::run_manager::TimeBudget;
use super::space::Space;
use super::spec::{self, Notation};
use super::undo_cache::UndoCache;
use crate::changes::ChangeError;
use rollout_core::protocol::rehearsal::Step;
use rollout_core::rollout::manifest::Packages;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The reason for which a package is installed if its manager gives none.
pub(super) const BY_USER: &str = "user";

/// The direction in which the node goes after an interruption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// To the staged state.
    Forward,
    /// To the old state.
    Back,
}

/// A package manager. The methods name the result; only the implementations know the command lines.
pub(super) trait Tool {
    /// Returns the manager's name, for messages.
    fn name(&self) -> &'static str;

    fn notation(&self) -> Notation;

    /// Lists the installed packages, sorted.
    fn installed(&self) -> Result<Vec<String>, ChangeError>;

    /// Returns whether an installed package provides this name.
    fn is_provided(&self, name: &str) -> Result<bool, ChangeError>;

    /// Waits while another process changes packages, if the manager would go on with an old list of them after that.
    fn wait_for_lock(&self, _budget: TimeBudget) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Returns the effect that a transaction would have, and changes nothing. Fails if the transaction would.
    fn forecast(
        &self,
        transaction: &Transaction,
        installed: &[String],
        budget: TimeBudget,
    ) -> Result<Forecast, ChangeError>;

    /// Returns the directory that the manager downloads packages to.
    fn download_dir(&self) -> PathBuf;

    /// Returns the size in bytes of the files of installed packages, as far as it is known.
    fn size_of_files(&self, packages: &[String], budget: TimeBudget) -> u64;

    /// Fetches the files of installed packages, so that they can be installed again without a mirror. Returns those of
    /// which no file could be fetched and which no repository offers.
    fn fetch_to_cache(
        &self,
        packages: &[String],
        cache: &UndoCache,
        budget: TimeBudget,
    ) -> Result<Unkept, ChangeError>;

    /// Returns those installed packages that no repository offers any more. Downloads no package.
    fn not_offered(&self, packages: &[String], budget: TimeBudget) -> Result<Unkept, ChangeError>;

    /// Returns all files of installed packages.
    fn files_of(&self, packages: &[String]) -> Result<Vec<PathBuf>, ChangeError>;

    /// Returns the configuration files of installed packages.
    fn configuration_of(&self, packages: &[String]) -> Result<Vec<PathBuf>, ChangeError>;

    /// Returns the files by which the manager chooses packages: locks, and enabled module streams.
    fn own_configuration(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Returns the packages on hold, by name and architecture.
    fn held(&self) -> Result<BTreeSet<String>, ChangeError> {
        Ok(BTreeSet::new())
    }

    /// Puts packages on hold, and releases others.
    fn hold(&self, _held: &[String], _released: &[String], _budget: TimeBudget) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Returns the reasons for which packages are installed, by the manager's name for a package. One that is missing
    /// is installed [`BY_USER`].
    fn reasons(&self) -> Result<BTreeMap<String, String>, ChangeError>;

    /// Gives packages a reason that [`Self::reasons`] returned.
    fn mark(&self, reason: &str, packages: &[String], budget: TimeBudget) -> Result<(), ChangeError>;

    /// Returns whether a module stream is known to be enabled.
    fn is_enabled(&self, _module: &str) -> bool {
        false
    }

    /// Enables module streams, in place of others of the same modules.
    fn enable(&self, _modules: &[String], _budget: TimeBudget) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Repairs the manager's database after an interrupted transaction. `unfinished` tells whether one is noted.
    fn recover(
        &self,
        before: &[String],
        direction: Direction,
        unfinished: bool,
        budget: TimeBudget,
    ) -> Result<(), ChangeError>;

    /// Completes packages that an interrupted transaction installed and may not have configured.
    fn finish(&self, packages: &[String], budget: TimeBudget) -> Result<(), ChangeError>;

    /// Installs and removes packages. Returns the scriptlets that failed without failing the transaction.
    fn execute(&self, transaction: &Transaction, budget: TimeBudget) -> Result<Vec<String>, ChangeError>;

    /// Removes files that an interrupted transaction left beside those of these packages.
    fn remove_leftovers(&self, packages: &[String], budget: TimeBudget);

    /// Makes the installed packages those of `before`. `affected` are packages that an unfinished transaction may have
    /// damaged without a trace in the list of installed packages. Returns the scriptlets that failed.
    fn restore(
        &self,
        before: &[String],
        affected: &[String],
        cache: &UndoCache,
        budget: TimeBudget,
    ) -> Result<Vec<String>, ChangeError>;
}

/// The effect that a transaction would have.
#[derive(Debug)]
pub(super) struct Forecast {
    /// Installed packages that it would replace or remove, perhaps too many.
    pub affected: Vec<String>,
    /// The packages as it would install, replace and remove them, for people. Empty if the manager's words name none.
    pub steps: Vec<Step>,
    pub space: Space,
}

/// Packages to which no way leads back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unkept {
    pub packages: Vec<String>,
    /// The cause, if the manager named one.
    pub why: Option<String>,
}

impl Unkept {
    /// Describes the packages and the cause.
    pub(super) fn describe(&self) -> String {
        let packages = super::list::few(&self.packages);
        let why = self.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("no repository offers {packages} any more{why}")
    }
}

/// The part of a manifest that is not satisfied yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    /// Specs of the manifest.
    pub install: Vec<String>,
    /// Installed packages.
    pub remove: Vec<String>,
    /// Allows removing packages that are not named, because they conflict or depend on one that is removed.
    /// Only if the manifest removes something at all: an update that would remove an unnamed package is an error.
    pub may_remove_more: bool,
    /// Module streams to enable first.
    pub modules: Vec<String>,
}

impl Transaction {
    pub(super) fn of(wanted: &Packages, notation: Notation, installed: &[String]) -> Self {
        let install = spec::unsatisfied(notation, &wanted.install, installed);
        Self {
            install: install.into_iter().map(str::to_owned).collect(),
            remove: spec::to_remove(notation, &wanted.remove, installed),
            may_remove_more: !wanted.remove.is_empty(),
            modules: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove.is_empty() && self.modules.is_empty()
    }

    /// Describes the transaction for messages.
    pub(super) fn describe(&self) -> String {
        let part = |word: &str, list: &[String]| {
            (!list.is_empty()).then(|| format!("{word} {}", super::list::few(list)))
        };
        let parts = [part("installing", &self.install), part("removing", &self.remove)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}
