//! The changes that an order asks for: looked at, made, proven, and taken back.
//!
//! All functions block; the driver calls them on a thread for that. None of them knows the ledger: what undo needs is
//! handed out by [`observe`], and the caller has it on disk before it calls [`apply`]. All of them can be repeated
//! after a crash or a power cut at any point. Nothing here reboots the node or talks to Slurm.

mod image;
mod packages;
mod symlink;

use rollout_core::agent::record::{After, Before};
use rollout_core::rollout::image::Running;
use rollout_core::rollout::manifest::Change;
use rollout_host::run::RunError;
use std::io;
use std::path::{Path, PathBuf};

/// Why a change was not made, not proven or not taken back. The message begins with what was attempted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A file operation failed.
    #[error("{attempt} {}: {error}", .path.display())]
    File {
        /// What was attempted, such as `reading the link`.
        attempt: &'static str,
        /// On which path.
        path: PathBuf,
        /// In the system's words.
        error: io::Error,
    },
    /// The node is not as it has to be.
    #[error("{attempt}: {problem}")]
    State {
        /// What was attempted, and on what.
        attempt: String,
        /// What is wrong, and what to do where that is known.
        problem: String,
    },
    /// A package manager did not do its work.
    #[error("{attempt} with {manager}: {words}")]
    Manager {
        /// What was attempted, such as `installing slurmd`.
        attempt: String,
        /// The package manager.
        manager: &'static str,
        /// How it ended and what it said of the cause.
        words: String,
        /// The whole error.
        error: Box<RunError>,
    },
}

impl ChangeError {
    fn file(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::File { attempt, path, error }
    }

    /// Says what to do about a cause that is known.
    fn advise(mut self, cause: &str, advice: &str) -> Self {
        if let Self::Manager { words, .. } = &mut self {
            if words.contains(cause) && !words.ends_with(advice) {
                *words = format!("{words}: {advice}");
            }
        }
        self
    }

    fn state(attempt: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::State { attempt: attempt.into(), problem: problem.into() }
    }
}

/// Whether the node is already what the change asks for; then nothing is applied.
///
/// # Errors
/// If the node cannot be asked.
pub fn is_already_so(change: &Change) -> Result<bool, ChangeError> {
    match change {
        Change::Packages(wanted) => packages::is_already_so(wanted),
        Change::Symlink(symlink) => symlink::is_already_so(symlink),
        Change::Image(wanted) => image::is_already_so(wanted),
    }
}

/// What undo needs. The caller has it on disk before it calls [`apply`].
///
/// # Errors
/// If the node cannot be asked, or is in a state that could not be restored.
pub fn observe(change: &Change) -> Result<Before, ChangeError> {
    match change {
        Change::Packages(wanted) => packages::observe(wanted),
        Change::Symlink(symlink) => symlink::observe(symlink),
        Change::Image(wanted) => image::observe(wanted),
    }
}

/// Makes the change. To be called again, with the same `before`, if it was interrupted.
///
/// # Errors
/// If the change could not be made as a whole. What of it was made, [`undo`] takes back.
pub fn apply(change: &Change, before: &Before) -> Result<After, ChangeError> {
    match (change, before) {
        (Change::Packages(wanted), Before::Packages { manager, installed }) => {
            packages::apply(wanted, *manager, installed)
        }
        (Change::Symlink(symlink), Before::Symlink { target }) => symlink::apply(symlink, target.as_deref()),
        (Change::Image(wanted), Before::Image { saved, .. }) => image::apply(wanted, saved.as_deref()),
        (Change::Packages(_) | Change::Symlink(_) | Change::Image(_), _) => {
            Err(other_kind("applying a change"))
        }
    }
}

/// After the boot: whether the node is what was staged.
///
/// # Errors
/// If it is not, with what is different.
pub fn verify(change: &Change, before: &Before, after: &After) -> Result<(), ChangeError> {
    match (change, before) {
        (Change::Packages(wanted), _) => packages::verify(wanted, after),
        (Change::Symlink(symlink), _) => symlink::verify(symlink),
        (Change::Image(wanted), Before::Image { running, .. }) => image::verify(wanted, running),
        (Change::Image(_), _) => Err(other_kind("verifying a change")),
    }
}

/// After the boot of a node that keeps nothing over one: whether the image brought what the change asks for.
///
/// # Errors
/// If it did not.
pub fn is_in_image(change: &Change) -> Result<(), ChangeError> {
    match is_already_so(change)? {
        true => Ok(()),
        false => Err(ChangeError::state(
            format!("looking for the {}", change.kind()),
            "it is not so in this image",
        )),
    }
}

/// Once everything is proven, what makes the change stay: a boot loader's default, say. Repeatable.
///
/// # Errors
/// If it cannot be made to stay; the change is undone then.
pub fn confirm(change: &Change) -> Result<(), ChangeError> {
    match change {
        Change::Packages(_) | Change::Symlink(_) => Ok(()),
        Change::Image(wanted) => image::confirm(wanted),
    }
}

/// What this system says it is.
///
/// # Errors
/// If it cannot be read.
pub fn running() -> Result<Running, ChangeError> {
    image::running()
}

/// Restores what was there before. Does nothing where nothing was changed.
///
/// # Errors
/// If it is not exactly as before; the node is then neither the old nor the new.
pub fn undo(change: &Change, before: &Before) -> Result<(), ChangeError> {
    match (change, before) {
        (Change::Packages(wanted), Before::Packages { manager, installed }) => {
            packages::undo(wanted, *manager, installed)
        }
        (Change::Symlink(symlink), Before::Symlink { target }) => symlink::undo(symlink, target.as_deref()),
        (Change::Image(wanted), Before::Image { saved, .. }) => image::undo(wanted, saved.as_deref()),
        (Change::Packages(_) | Change::Symlink(_) | Change::Image(_), _) => {
            Err(other_kind("undoing a change"))
        }
    }
}

/// Whether what was booted is what was booted before the change. Always so but for an image.
#[must_use]
pub fn runs_as_before(change: &Change, before: &Before) -> bool {
    match (change, before) {
        (Change::Image(wanted), Before::Image { running, saved }) => {
            image::runs_as_before(wanted, running, saved.as_deref())
        }
        (Change::Image(_), _) => false,
        (Change::Packages(_) | Change::Symlink(_), _) => true,
    }
}

/// Proves an [`undo`], also after the boot that follows it.
///
/// # Errors
/// If anything is another than before, with what it is.
pub fn verify_old(change: &Change, before: &Before) -> Result<(), ChangeError> {
    match (change, before) {
        (Change::Packages(_), Before::Packages { manager, installed }) => {
            packages::verify_old(*manager, installed)
        }
        (Change::Symlink(symlink), Before::Symlink { target }) => {
            symlink::verify_old(symlink, target.as_deref())
        }
        (Change::Image(wanted), Before::Image { running, saved }) => {
            image::verify_old(wanted, running, saved.as_deref())
        }
        (Change::Packages(_) | Change::Symlink(_) | Change::Image(_), _) => {
            Err(other_kind("verifying the old state"))
        }
    }
}

/// Forgets what is kept on the disk for undo: old packages. To be called when an order has come to its end.
///
/// # Errors
/// If it cannot be removed. That takes room and does no other harm.
pub fn forget() -> Result<(), ChangeError> {
    packages::forget()
}

fn other_kind(attempt: &str) -> ChangeError {
    ChangeError::state(attempt, "its record in the ledger is of another kind of change")
}
