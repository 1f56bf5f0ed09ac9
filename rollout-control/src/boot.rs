//! The boot sources of nodes, on the controller's side: one narrow trait, and a file for each provider. [`change`] is
//! the only user.
//!
//! A provider changes the boot sources of nodes when they are handed over, immediately before their orders are sent,
//! and puts the old ones back when the rollout is undone. So a node that reboots by itself boots its old image.
//! Providers do not depend on Slurm, journals or agents.

pub mod change;

mod boot_file;
mod command;
mod nodes_file;
mod provider;
mod question;
mod service;

pub use boot_file::BootFileConfig;
pub use command::CommandConfig;
pub use nodes_file::{NodesFile, NodesFileError};
pub use provider::provider;
pub use question::{Answer, CheckAnswer, NodeAnswer, NodeQuestion, Question, Verb};
pub use service::{PROGRAM as SERVICE_PROGRAM, ServiceConfig};

use rollout_core::rollout::image::Image;
use std::collections::BTreeMap;
use std::time::Instant;

/// A node as providers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootNode {
    pub name: String,
    /// Values from the site's file of nodes: `mac`, `ip`, `xname` and others. If the file has no `ip`, it is NodeAddr,
    /// provided that this is an address.
    pub values: BTreeMap<String, String>,
}

impl BootNode {
    /// Returns the name of the node in CSM and OpenCHAMI, if the file of nodes has one.
    #[must_use]
    pub fn xname(&self) -> Option<Result<&str, String>> {
        let xname = self.values.get("xname")?;
        Some(if is_xname(xname) {
            Ok(xname)
        } else {
            Err(format!("{}: xname {xname:?} is not one of a node, such as x1000c0s0b0n0", self.name))
        })
    }
}

/// Returns whether this is `xXcCsSbBnN`, each letter with a number.
fn is_xname(text: &str) -> bool {
    let mut rest = text;
    for letter in ['x', 'c', 's', 'b', 'n'] {
        let Some(number) = rest.strip_prefix(letter) else { return false };
        rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
        if rest.len() == number.len() {
            return false;
        }
    }
    rest.is_empty()
}

/// Boot source of a node in the notation of its provider, sufficient to put it back.
pub type Saved = serde_json::Value;

/// Outcome by NodeName, for every node of the request. An error names the remedy.
pub type Outcomes<T> = BTreeMap<String, Result<T, String>>;

/// A provider. All calls can be repeated. All end by `until`, with an error for the nodes that were not reached.
pub trait BootSource: Send + Sync {
    /// Checks before staging that the provider can be used, has the image, and that SlurmUser could set it for these
    /// nodes. Changes nothing. Returns doubts, if there are any.
    ///
    /// # Errors
    /// The reason why this image cannot be staged for these nodes.
    fn check(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Result<Vec<String>, String>;

    /// Returns the current boot sources of the nodes.
    fn read(&self, nodes: &[BootNode], until: Instant) -> Outcomes<Saved>;

    /// Makes the nodes boot the image from now on. A provider that reboots nodes itself starts the reboot.
    fn set(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Outcomes<()>;

    /// Restores the boot sources that [`read`](BootSource::read) returned.
    fn put_back(&self, nodes: &[(BootNode, Saved)], until: Instant) -> Outcomes<()>;
}
