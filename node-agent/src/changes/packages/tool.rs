//! The operations that a change needs of a package manager, and the transaction that it asks for.

use super::run_manager::TimeBudget;
use super::spec::{self, Notation};
use super::undo_cache::UndoCache;
use crate::changes::ChangeError;
use rollout_core::rollout::manifest::Packages;

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

    /// Returns the installed packages that a transaction would replace or remove, and changes nothing. Best effort: too
    /// many do no harm, and if this fails, the transaction itself reports why.
    fn affected(&self, transaction: &Transaction, installed: &[String], budget: TimeBudget) -> Vec<String>;

    /// Fetches the files of installed packages, so that they can be installed again without a mirror. Best effort: a
    /// mirror may have dropped some already.
    fn fetch_to_cache(&self, packages: &[String], cache: &UndoCache, budget: TimeBudget);

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

    /// Installs and removes packages.
    fn execute(&self, transaction: &Transaction, budget: TimeBudget) -> Result<(), ChangeError>;

    /// Removes files that an interrupted transaction left beside those of these packages.
    fn remove_leftovers(&self, packages: &[String], budget: TimeBudget);

    /// Makes the installed packages those of `before`. `affected` are packages that an unfinished transaction may have
    /// damaged without a trace in the list of installed packages.
    fn restore(
        &self,
        before: &[String],
        affected: &[String],
        cache: &UndoCache,
        budget: TimeBudget,
    ) -> Result<(), ChangeError>;
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
}

impl Transaction {
    pub(super) fn of(wanted: &Packages, notation: Notation, installed: &[String]) -> Self {
        let install = spec::unsatisfied(notation, &wanted.install, installed);
        Self {
            install: install.into_iter().map(str::to_owned).collect(),
            remove: spec::to_remove(notation, &wanted.remove, installed),
            may_remove_more: !wanted.remove.is_empty(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove.is_empty()
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
