//! The changes that an order asks for. Each [`ChangeKind`] can be observed, applied, verified and undone.
//!
//! All methods block; the driver calls them on a thread of their own. They do not know the ledger:
//! [`ChangeKind::observe`] returns what an undo needs, and the caller has it on disk before it calls
//! [`ChangeKind::apply`]. Every method can be repeated after a crash or a power cut at any point. This module neither
//! reboots the node nor talks to Slurm.

mod command;
mod image;
mod kernel_args;
mod packages;
mod symlink;

use rollout_core::agent::record::{After, Before, BootDefault};
use rollout_core::protocol::rehearsal::{ChangeReport, Step};
use rollout_core::rollout::image::Running;
use rollout_core::rollout::manifest::Change;
use rollout_host::run::RunError;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The error for a change that was not made, not proven or not undone. Its message begins with what was attempted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A file operation failed.
    #[error("{attempt} {}: {error}", .path.display())]
    File {
        /// The operation, such as `reading the link`.
        attempt: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// The node is not in the required state.
    #[error("{attempt}: {problem}")]
    State {
        /// The operation and its object.
        attempt: String,
        /// The cause, and the remedy if one is known.
        problem: String,
    },
    /// A package manager failed.
    #[error("{attempt} with {manager}: {words}")]
    Manager {
        /// The operation, such as `installing slurmd`.
        attempt: String,
        manager: &'static str,
        /// The manager's own account of the cause, shortened, and how it ended.
        words: String,
        /// The complete error.
        error: Box<RunError>,
    },
}

impl ChangeError {
    fn file(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { attempt, path, error }
    }

    fn state(attempt: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::State { attempt: attempt.into(), problem: problem.into() }
    }

    /// The error for a record in the ledger that belongs to a different kind of change.
    fn other_kind(attempt: &str) -> Self {
        Self::state(attempt, "its record in the ledger is of another kind of change")
    }

    /// Adds advice to the message if the package manager named this cause.
    fn advise(mut self, cause: &str, advice: &str) -> Self {
        if let Self::Manager { words, .. } = &mut self {
            if words.contains(cause) && !words.ends_with(advice) {
                *words = format!("{words}: {advice}");
            }
        }
        self
    }
}

/// A kind of change, implemented by the manifest's type for it. `before` is the result of [`Self::observe`], and
/// `state_dir` is the agent's state directory, in which a kind may keep files for an undo.
pub(crate) trait ChangeKind {
    /// Returns whether the node already is as the change asks. It is not applied then.
    fn is_satisfied(&self) -> Result<bool, ChangeError>;

    /// Returns what [`Self::apply`] would do, and what is in its way. Changes nothing, and takes about `limit` at most.
    fn rehearse(&self, state_dir: &Path, limit: Duration) -> Result<ChangeReport, ChangeError>;

    /// Returns what an undo needs, and forgets what was kept for an earlier attempt. Fails if the node's present state
    /// could not be restored. `boot` is the boot loader before the first change of the order.
    fn observe(&self, state_dir: &Path, boot: Option<&BootDefault>) -> Result<Before, ChangeError>;

    /// Makes the change, or completes it after an interruption. [`Self::undo`] takes back a change made in part.
    fn apply(&self, before: &Before, state_dir: &Path) -> Result<After, ChangeError>;

    /// Prepares the reboot, once all changes are made.
    fn before_reboot(&self, _before: &Before) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Returns whether the change is to be made once more before another boot, because this boot has not brought it.
    fn is_another_boot_due(&self) -> Result<bool, ChangeError> {
        Ok(false)
    }

    /// Returns whether the node may show its state only some time after the boot, so that a proof that fails is tried
    /// again.
    fn shows_late(&self) -> bool {
        false
    }

    /// Proves after the boot that the node is as staged. The error says what differs.
    fn verify(&self, before: &Before, after: &After) -> Result<(), ChangeError>;

    /// Makes a proven change permanent, in a boot loader's default for example. If that fails, the change is undone.
    fn confirm(&self, _before: &Before) -> Result<(), ChangeError> {
        Ok(())
    }

    /// Restores the state from before the change. If it fails, the node is neither the old nor the new.
    fn undo(&self, before: &Before, state_dir: &Path) -> Result<(), ChangeError>;

    /// Returns whether the running system is the one from before the change, so that an undo needs no boot.
    fn runs_as_before(&self, _before: &Before) -> bool {
        true
    }

    /// Proves an [`Self::undo`], also after the boot that follows it. Returns what others have changed meanwhile. The
    /// error says what differs.
    fn verify_old(&self, before: &Before, state_dir: &Path) -> Result<Vec<String>, ChangeError>;
}

/// Returns the operations on a change.
pub(crate) fn of(change: &Change) -> &dyn ChangeKind {
    match change {
        Change::Packages(packages) => packages,
        Change::Symlink(link) => link,
        Change::Image(image) => image,
        Change::KernelArgs(args) => args,
        Change::Command(command) => command,
    }
}

/// Rehearses a change. On a node that keeps nothing across boots (`volatile`), all but the image come with the image.
pub(crate) fn rehearse(change: &Change, volatile: bool, state_dir: &Path, limit: Duration) -> ChangeReport {
    let kind = of(change);
    let report = match change {
        Change::Packages(_) | Change::Symlink(_) | Change::KernelArgs(_) if volatile => {
            kind.is_satisfied().map(|satisfied| in_image(change, satisfied))
        }
        _ => kind.rehearse(state_dir, limit),
    };
    let report = report.unwrap_or_else(|error| ChangeReport::failed(error.to_string()));
    ChangeReport { kind: change.kind().to_owned(), ..report }
}

fn in_image(change: &Change, satisfied: bool) -> ChangeReport {
    let step = Step::new(change.kind(), "as the new image brings it; verified after the boot");
    ChangeReport { steps: if satisfied { Vec::new() } else { vec![step] }, ..ChangeReport::default() }
}

/// Proves, after the boot of a node that keeps nothing across boots, that its image brought what the change asks for.
pub(crate) fn is_in_image(change: &Change) -> Result<(), ChangeError> {
    match of(change).is_satisfied()? {
        true => Ok(()),
        false => Err(ChangeError::state(
            format!("looking for the {}", change.kind()),
            "it is not so in this image",
        )),
    }
}

/// Returns the boot loader's present default. `None` without a loader whose default can be set.
pub(crate) fn boot_default() -> Option<BootDefault> {
    image::boot_default()
}

/// Returns how the running system identifies itself.
pub(crate) fn running() -> Result<Running, ChangeError> {
    image::running()
}

/// Removes the files kept for an undo. Called when an order has ended; a failure wastes space and does no other harm.
pub(crate) fn forget(state_dir: &Path) -> Result<(), ChangeError> {
    packages::forget(state_dir)
}
