//! Another image booted: what this system is, and the providers that work on the node.
//!
//! Where the controller's side changes what the node boots from, there is nothing to do here but to look and to prove.

mod boot_entry;
mod grub;
mod ostree;
mod systemd_boot;

use super::ChangeError;
use rollout_core::agent::record::{After, Before};
use rollout_core::rollout::image::{Facts, FileProof, Image, Running, Via};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
const KERNEL: &str = "/proc/sys/kernel/osrelease";
const CMDLINE: &str = "/proc/cmdline";

/// As much is read of a file that proves an image.
const MAX_PROOF: u64 = 64 * 1024;

pub(super) fn is_already_so(image: &Image) -> Result<bool, ChangeError> {
    Ok(match image.via {
        // What a node boots from is not seen on the node.
        Via::BootFile | Via::Bss | Via::Bos | Via::Command => false,
        Via::Ostree => is_proven(image)? && ostree::is_already_so()?,
        Via::BootEntry => is_proven(image)? && boot_entry::is_already_so(image)?,
    })
}

pub(super) fn observe(image: &Image) -> Result<Before, ChangeError> {
    let saved = match image.via {
        Via::BootFile | Via::Bss | Via::Bos | Via::Command => None,
        Via::Ostree => Some(ostree::observe()?),
        Via::BootEntry => Some(boot_entry::observe(&read(CMDLINE)?)?),
    };
    Ok(Before::Image { running: running()?, saved })
}

pub(super) fn apply(image: &Image, saved: Option<&str>) -> Result<After, ChangeError> {
    match image.via {
        Via::BootFile | Via::Bss | Via::Bos | Via::Command => {}
        Via::Ostree => ostree::apply(image, kept(saved)?)?,
        Via::BootEntry => boot_entry::apply(image)?,
    }
    Ok(After { changed: true, added: Vec::new(), removed: Vec::new() })
}

pub(super) fn verify(image: &Image, before: &Running) -> Result<(), ChangeError> {
    let attempt = || format!("proving the image {}", image.name());
    let facts = facts(image)?;
    let back = !image.via.is_on_controller() && facts.running == *before;
    image.prove(&facts).map_err(|why| match back {
        // Not seen where old and new call themselves the same; the proof says what is missing.
        true => ChangeError::state(attempt(), format!("the node came back in the system from before: {why}")),
        false => ChangeError::state(attempt(), why),
    })
}

pub(super) fn confirm(image: &Image) -> Result<(), ChangeError> {
    match image.via {
        Via::BootFile | Via::Bss | Via::Bos | Via::Command | Via::Ostree => Ok(()),
        Via::BootEntry => boot_entry::confirm(image),
    }
}

pub(super) fn undo(image: &Image, saved: Option<&str>) -> Result<(), ChangeError> {
    match image.via {
        Via::BootFile | Via::Bss | Via::Bos | Via::Command => Ok(()),
        Via::Ostree => ostree::undo(kept(saved)?),
        Via::BootEntry => boot_entry::undo(kept(saved)?),
    }
}

pub(super) fn verify_old(image: &Image, before: &Running, saved: Option<&str>) -> Result<(), ChangeError> {
    let now = running()?;
    if now != *before {
        return Err(ChangeError::state(
            "proving the image from before",
            format!("it is {}, not {}", now.name(), before.name()),
        ));
    }
    match image.via {
        Via::BootFile | Via::Bss | Via::Bos | Via::Command => Ok(()),
        Via::Ostree => ostree::verify_old(kept(saved)?),
        Via::BootEntry => boot_entry::verify_old(kept(saved)?),
    }
}

/// Whether what runs is what ran before, so that going back takes no boot.
pub(super) fn runs_as_before(image: &Image, before: &Running, saved: Option<&str>) -> bool {
    let as_before = running().is_ok_and(|now| now == *before);
    as_before
        && match image.via {
            Via::BootFile | Via::Bss | Via::Command => true,
            // It boots the node for what is put back, whatever runs.
            Via::Bos => false,
            Via::Ostree => saved.is_some_and(ostree::is_booted),
            Via::BootEntry => read(CMDLINE).is_ok_and(|cmdline| {
                saved.is_some_and(|saved| boot_entry::is_booted_as_before(saved, &cmdline))
            }),
        }
}

/// What this system says it is.
pub(super) fn running() -> Result<Running, ChangeError> {
    let texts = OS_RELEASE.iter().find_map(|path| std::fs::read_to_string(path).ok());
    Ok(Running::of(&texts.unwrap_or_default(), &read(KERNEL)?, ostree::booted_checksum()?))
}

fn is_proven(image: &Image) -> Result<bool, ChangeError> {
    Ok(image.prove(&facts(image)?).is_ok())
}

fn facts(image: &Image) -> Result<Facts, ChangeError> {
    let file = image.proof.file.as_ref().map(|FileProof { path, .. }| {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(MAX_PROOF).read_to_string(&mut text));
        read.map(|_| text).map_err(|error| error.to_string())
    });
    Ok(Facts { running: running()?, cmdline: read(CMDLINE)?, file })
}

fn read(path: &'static str) -> Result<String, ChangeError> {
    let read = |path: &Path| -> io::Result<String> { std::fs::read_to_string(path) };
    let path = Path::new(path);
    read(path).map_err(ChangeError::file("reading", path))
}

/// What `observe` had put into the ledger.
fn kept(saved: Option<&str>) -> Result<&str, ChangeError> {
    let lost = || ChangeError::state("going back to the image from before", "the ledger does not have it");
    saved.ok_or_else(lost)
}
