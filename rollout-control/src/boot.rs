//! The boot sources of nodes, on the controller's side: one narrow trait, and a file for each provider. [`change`] is the only user.
//!
//! A provider changes what nodes boot from when they are handed over, immediately before their orders are sent, and puts
//! back what was there when the rollout is undone. So a node that reboots by itself gets what it had. Nothing here knows
//! Slurm, journals or agents.

pub mod change;

mod boot_file;
mod command;
mod nodes_file;
mod question;
mod service;

pub use boot_file::BootFileConfig;
pub use command::CommandConfig;
pub use nodes_file::{NodesFile, NodesFileError};
pub use question::{Answer, CheckAnswer, NodeAnswer, NodeQuestion, Question, Verb};
pub use service::ServiceConfig;

use crate::config::Config;
use rollout_core::rollout::image::{Image, Via};
use std::collections::BTreeMap;
use std::time::Instant;

/// A node as providers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootNode {
    /// NodeName.
    pub name: String,
    /// What the site says of it in its file of nodes: `mac`, `ip`, `xname` and whatever else. `ip` is NodeAddr, where that
    /// is an address and the file has none.
    pub values: BTreeMap<String, String>,
}

impl BootNode {
    /// What CSM and OpenCHAMI call the node, if the site says so.
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

/// Whether this is `xXcCsSbBnN`, each with a number.
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

/// What a node boots from, in the words of its provider: as much as it takes to put it back.
pub type Saved = serde_json::Value;

/// What came of it, by NodeName. Every node that was asked for is in it. An error says what to do.
pub type Outcomes<T> = BTreeMap<String, Result<T, String>>;

/// A provider. All calls can be repeated; all end by `until`, with an error for the nodes that were not come to.
pub trait BootSource: Send + Sync {
    /// Before anything is staged: whether the provider is there, has the image, and could be told by SlurmUser to boot it
    /// on these nodes. Changes nothing. The answer is what is doubtful, if anything.
    ///
    /// # Errors
    /// Why this image cannot be staged for these nodes.
    fn check(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Result<Vec<String>, String>;

    /// What the nodes boot from now.
    fn read(&self, nodes: &[BootNode], until: Instant) -> Outcomes<Saved>;

    /// Has the nodes boot the image from now on. A provider that reboots nodes itself begins with it.
    fn set(&self, image: &Image, nodes: &[BootNode], until: Instant) -> Outcomes<()>;

    /// Has the nodes boot what [`read`](BootSource::read) gave.
    fn put_back(&self, nodes: &[(BootNode, Saved)], until: Instant) -> Outcomes<()>;
}

/// The provider for images `via` it.
///
/// # Errors
/// If it is not configured here, or works on the nodes.
pub fn provider(via: Via, config: &Config) -> Result<Box<dyn BootSource>, String> {
    let unset =
        || format!("via {:?} is not configured: controller.toml has no table [{}]", via.name(), via.table());
    match via {
        Via::BootFile => config.boot_file.clone().map(boot_file::provider).ok_or_else(unset),
        Via::Bss => config.bss.clone().map(|table| service::provider("bss", table)).ok_or_else(unset),
        Via::Bos => config.bos.clone().map(|table| service::provider("bos", table)).ok_or_else(unset),
        Via::Command => config.command.clone().map(|table| table.provider()).ok_or_else(unset),
        Via::Ostree | Via::BootEntry => Err(format!("via {:?} works on the nodes", via.name())),
    }
}
