//! What a package manager must be able to do for a change, and what is asked of it.

use super::run_manager::Patience;
use super::spec::{self, Notation};
use super::undo_cache::Kept;
use crate::changes::ChangeError;
use rollout_core::rollout::manifest::Packages;

/// Where it goes from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// To what was staged.
    Onward,
    /// To what was before.
    Back,
}

/// A package manager. Its methods say what shall be; how it is called is known to the implementations only.
pub(super) trait Tool {
    /// For messages.
    fn name(&self) -> &'static str;

    /// How it writes packages.
    fn notation(&self) -> Notation;

    /// All that is installed, sorted.
    fn installed(&self) -> Result<Vec<String>, ChangeError>;

    /// Whether an installed package is known by this other name.
    fn is_provided(&self, name: &str) -> Result<bool, ChangeError>;

    /// Which of the installed packages a wish would replace or remove. Touches nothing. Best effort: too many do no
    /// harm, and where it fails, carrying it out will say why.
    fn touched(&self, wish: &Wish, installed: &[String], patience: Patience) -> Vec<String>;

    /// Fetches the files of installed packages, so that they can be installed again without a mirror. Best effort:
    /// what a mirror has dropped already cannot be kept.
    fn keep(&self, packages: &[String], kept: &Kept, patience: Patience);

    /// Brings a transaction that was interrupted to an end, as far as it went.
    fn mend(
        &self,
        before: &[String],
        way: Direction,
        unfinished: bool,
        patience: Patience,
    ) -> Result<(), ChangeError>;

    /// Finishes what a transaction had begun for these packages, which it installed and may not have configured.
    fn finish(&self, packages: &[String], patience: Patience) -> Result<(), ChangeError>;

    /// Installs and removes.
    fn carry_out(&self, wish: &Wish, patience: Patience) -> Result<(), ChangeError>;

    /// Removes what an interrupted transaction left beside the files of these packages.
    fn sweep(&self, packages: &[String], patience: Patience);

    /// Makes the installed packages those of `before`. `touched` are those that an unfinished transaction may have
    /// damaged without a trace in the list.
    fn restore(
        &self,
        before: &[String],
        touched: &[String],
        kept: &Kept,
        patience: Patience,
    ) -> Result<(), ChangeError>;
}

/// What a manifest asks for, less what is so already.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Specs.
    pub install: Vec<String>,
    /// Installed packages.
    pub remove: Vec<String>,
    /// Whether packages may go that were not named, because they stand in the way or need what goes. Only where the
    /// manifest removes something at all: an update that would take away a package nobody spoke of is an error.
    pub may_remove_more: bool,
}

impl Wish {
    pub(super) fn of(wanted: &Packages, notation: Notation, installed: &[String]) -> Self {
        let install = spec::unsatisfied(notation, &wanted.install, installed);
        Self {
            install: install.into_iter().map(str::to_owned).collect(),
            remove: spec::doomed(notation, &wanted.remove, installed),
            may_remove_more: !wanted.remove.is_empty(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.install.is_empty() && self.remove.is_empty()
    }

    /// For messages.
    pub(super) fn describe(&self) -> String {
        let part = |word: &str, list: &[String]| {
            (!list.is_empty()).then(|| format!("{word} {}", super::list::few(list)))
        };
        let parts = [part("installing", &self.install), part("removing", &self.remove)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}
