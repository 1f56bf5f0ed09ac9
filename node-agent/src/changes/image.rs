//! A different image: how the running system identifies itself, and the providers that work on the node.
//!
//! If the controller's side changes what the node boots from, nothing is left to do here but to observe and to prove.

mod boot_entry;
mod grub;
mod loader;
mod ostree;
mod systemd_boot;

use super::{ChangeError, ChangeKind};
pub(in crate::changes) use boot_entry::{find as find_loader, keep_default, settle};
pub(in crate::changes) use grub::CUSTOM;
pub(in crate::changes) use loader::{Files, Loader};
pub(in crate::changes) use ostree::BOOTED as BOOTED_BY_OSTREE;

use rollout_core::agent::record::{After, Before, BootDefault};
use rollout_core::protocol::rehearsal::{ChangeReport, Step};
use rollout_core::rollout::image::{self, Facts, FileProof, Image, Running, Via};
use rollout_host::regular_file;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
const KERNEL: &str = "/proc/sys/kernel/osrelease";
const CMDLINE: &str = "/proc/cmdline";

/// Size limit for reading the file that proves an image.
const MAX_PROOF: u64 = 64 * 1024;

/// A provider that changes what the node boots from, on the node itself. `saved` is what [`Self::observe`] returned,
/// in the provider's own notation.
trait NodeProvider {
    /// Returns whether the node would boot the image next, given that it runs it now.
    fn is_satisfied(&self, image: &Image) -> Result<bool, ChangeError>;

    fn observe(&self, boot: Option<&BootDefault>) -> Result<String, ChangeError>;

    /// Fails if the image is not there, as far as this can be seen without changing anything.
    fn look_for(&self, image: &Image) -> Result<(), ChangeError>;

    fn apply(&self, image: &Image, saved: &str) -> Result<(), ChangeError>;

    fn before_reboot(&self, _saved: &str) -> Result<(), ChangeError> {
        Ok(())
    }

    fn confirm(&self, _image: &Image) -> Result<(), ChangeError> {
        Ok(())
    }

    fn undo(&self, saved: &str) -> Result<(), ChangeError>;

    fn verify_old(&self, saved: &str) -> Result<(), ChangeError>;

    /// Returns whether the node was booted as it was before the change.
    fn is_booted_as_before(&self, saved: &str) -> bool;
}

/// Returns the provider for `via`, or `None` if it is on the controller's side.
fn provider(via: Via) -> Option<&'static dyn NodeProvider> {
    Some(match via.on_node()? {
        image::NodeProvider::Ostree => &ostree::Ostree,
        image::NodeProvider::BootEntry => &boot_entry::BootEntry,
    })
}

impl ChangeKind for Image {
    fn is_satisfied(&self) -> Result<bool, ChangeError> {
        match provider(self.via) {
            Some(provider) => Ok(self.prove(&facts(self)?).is_ok() && provider.is_satisfied(self)?),
            // The node cannot see what it boots from.
            None => Ok(false),
        }
    }

    fn rehearse(&self, _state_dir: &Path, _limit: Duration) -> Result<ChangeReport, ChangeError> {
        let mut report = ChangeReport::default();
        let facts = facts(self)?;
        let proven = self.prove(&facts);
        let running = facts.running.name();
        let step = |to: String| Step { what: "image".to_owned(), from: Some(running), to: Some(to) };
        match provider(self.via) {
            None if proven.is_ok() => {
                let note = format!(
                    "it runs it already; what it boots from next is not seen from here (via {})",
                    self.via
                );
                report.notes.push(note);
            }
            Some(provider) if proven.is_ok() && provider.is_satisfied(self)? => {}
            None => report.steps.push(step(self.name())),
            Some(provider) => {
                report.steps.push(step(self.name()));
                let looks = [provider.look_for(self), provider.observe(None).map(drop)];
                report.trouble =
                    looks.into_iter().filter_map(Result::err).map(|error| error.to_string()).collect();
            }
        }
        Ok(report)
    }

    fn observe(&self, _state_dir: &Path, boot: Option<&BootDefault>) -> Result<Before, ChangeError> {
        let saved = provider(self.via).map(|provider| provider.observe(boot)).transpose()?;
        Ok(Before::Image { running: running()?, saved })
    }

    fn apply(&self, before: &Before, _state_dir: &Path) -> Result<After, ChangeError> {
        let (_, saved) = recorded(before, "applying a change")?;
        if let Some(provider) = provider(self.via) {
            provider.apply(self, present(saved)?)?;
        }
        Ok(After { changed: true, ..After::default() })
    }

    fn verify(&self, before: &Before, _after: &After) -> Result<(), ChangeError> {
        let (old, _) = recorded(before, "verifying a change")?;
        let attempt = || format!("proving the image {}", self.name());
        let facts = facts(self)?;
        let is_old = !self.via.is_on_controller() && facts.running == *old;
        self.prove(&facts).map_err(|why| match is_old {
            // Not noticed if old and new identify themselves alike; the proof's own message says what is missing.
            true => {
                ChangeError::state(attempt(), format!("the node came back in the system from before: {why}"))
            }
            false => ChangeError::state(attempt(), why),
        })
    }

    fn before_reboot(&self, before: &Before) -> Result<(), ChangeError> {
        let (_, saved) = recorded(before, "preparing the reboot")?;
        provider(self.via).map_or(Ok(()), |provider| provider.before_reboot(present(saved)?))
    }

    fn confirm(&self, _before: &Before) -> Result<(), ChangeError> {
        provider(self.via).map_or(Ok(()), |provider| provider.confirm(self))
    }

    fn undo(&self, before: &Before, _state_dir: &Path) -> Result<(), ChangeError> {
        let (_, saved) = recorded(before, "undoing a change")?;
        provider(self.via).map_or(Ok(()), |provider| provider.undo(present(saved)?))
    }

    fn runs_as_before(&self, before: &Before) -> bool {
        let Ok((old, saved)) = recorded(before, "") else { return false };
        let is_old = running().is_ok_and(|now| now == *old);
        is_old
            && match provider(self.via) {
                Some(provider) => saved.is_some_and(|saved| provider.is_booted_as_before(saved)),
                // A service that reboots the node boots it for what is restored, whatever runs.
                None => !self.via.reboots(),
            }
    }

    fn verify_old(&self, before: &Before, _state_dir: &Path) -> Result<Vec<String>, ChangeError> {
        let (old, saved) = recorded(before, "verifying the old state")?;
        let now = running()?;
        if now != *old {
            return Err(ChangeError::state(
                "proving the image from before",
                format!("it is {}, not {}", now.name(), old.name()),
            ));
        }
        provider(self.via).map_or(Ok(()), |provider| provider.verify_old(present(saved)?))?;
        Ok(Vec::new())
    }
}

/// Returns the kernel that is running, as `uname -r` prints it.
pub(super) fn kernel() -> Result<String, ChangeError> {
    Ok(read(KERNEL)?.trim().to_owned())
}

/// Returns the boot loader, if it has a default that can be set.
pub(super) fn loader() -> Option<Box<dyn Loader>> {
    boot_entry::find().ok()
}

/// Returns the boot loader's present default, if it has one that can be set.
pub(super) fn boot_default() -> Option<BootDefault> {
    let loader = loader()?;
    let booted = loader.booted_entry(&cmdline().unwrap_or_default());
    Some(BootDefault { default: loader.default_entry().ok()?, booted })
}

/// Returns how the running system identifies itself.
pub(super) fn running() -> Result<Running, ChangeError> {
    let os_release = OS_RELEASE.iter().find_map(|path| std::fs::read_to_string(path).ok());
    Ok(Running::of(&os_release.unwrap_or_default(), &read(KERNEL)?, ostree::booted_checksum()?))
}

fn facts(image: &Image) -> Result<Facts, ChangeError> {
    let file = image.proof.file.as_ref().map(|FileProof { path, .. }| {
        let mut text = String::new();
        let read = regular_file::open(Path::new(path))
            .and_then(|file| file.take(MAX_PROOF).read_to_string(&mut text));
        read.map(|_| text).map_err(|error| error.to_string())
    });
    Ok(Facts { running: running()?, cmdline: cmdline()?, file })
}

/// Returns the running kernel's command line.
pub(super) fn cmdline() -> Result<String, ChangeError> {
    read(CMDLINE)
}

fn read(path: &'static str) -> Result<String, ChangeError> {
    std::fs::read_to_string(path).map_err(ChangeError::file("reading", Path::new(path)))
}

fn recorded<'a>(before: &'a Before, attempt: &str) -> Result<(&'a Running, Option<&'a str>), ChangeError> {
    match before {
        Before::Image { running, saved } => Ok((running, saved.as_deref())),
        _ => Err(ChangeError::other_kind(attempt)),
    }
}

fn present(saved: Option<&str>) -> Result<&str, ChangeError> {
    let lost = || ChangeError::state("going back to the image from before", "the ledger does not have it");
    saved.ok_or_else(lost)
}
