//! Another image booted: what this system is, and the providers that work on the node.
//!
//! Where the controller's side changes what the node boots from, there is nothing to do here but to look and to prove.

use super::ChangeError;
use rollout_core::image::{Facts, FileProof, Image, Running, Via};
use rollout_core::ledger::{After, Before};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];
const KERNEL: &str = "/proc/sys/kernel/osrelease";
const CMDLINE: &str = "/proc/cmdline";

/// As much is read of a file that proves an image.
const MAX_PROOF: u64 = 64 * 1024;

pub(super) fn is_already_so(image: &Image) -> Result<bool, ChangeError> {
    // What a node boots from is not seen on the node.
    Ok(!image.via.is_on_controller() && image.prove(&facts(image)?).is_ok())
}

pub(super) fn observe(_image: &Image) -> Result<Before, ChangeError> {
    Ok(Before::Image { running: running()?, saved: None })
}

pub(super) fn apply(image: &Image, _saved: Option<&str>) -> Result<After, ChangeError> {
    if !image.via.is_on_controller() {
        return Err(not_here(image.via));
    }
    Ok(After { changed: true, added: Vec::new(), removed: Vec::new() })
}

pub(super) fn verify(image: &Image) -> Result<(), ChangeError> {
    let attempt = || format!("proving the image {}", image.name());
    image.prove(&facts(image)?).map_err(|why| ChangeError::state(attempt(), why))
}

pub(super) fn confirm(_image: &Image) -> Result<(), ChangeError> {
    Ok(())
}

pub(super) fn undo(image: &Image, _saved: Option<&str>) -> Result<(), ChangeError> {
    if image.via.is_on_controller() { Ok(()) } else { Err(not_here(image.via)) }
}

pub(super) fn verify_old(_image: &Image, before: &Running, _saved: Option<&str>) -> Result<(), ChangeError> {
    let now = running()?;
    if now == *before {
        return Ok(());
    }
    Err(ChangeError::state(
        "proving the image from before",
        format!("it is {}, not {}", now.name(), before.name()),
    ))
}

/// What this system says it is.
pub(super) fn running() -> Result<Running, ChangeError> {
    let texts = OS_RELEASE.iter().find_map(|path| std::fs::read_to_string(path).ok());
    Ok(Running::of(&texts.unwrap_or_default(), &read(KERNEL)?, None))
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

fn not_here(via: Via) -> ChangeError {
    ChangeError::state(format!("an image via {via}"), "this agent does not know how")
}
