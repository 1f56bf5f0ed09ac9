//! The strategy of a rollout: the `[strategy]` table of its manifest, checked.
//!
//! The parser of manifests in rollout-core only passes over the table, so that RebootProgram and older versions need not
//! know its keys. Amounts are resolved here, because the nodes of a rollout do not change once it is staged. Those of a
//! [`Floor`] are not: the nodes of a partition do.
//!
//! Without the table, one node is taken at a time, and the rollout halts at the first failure.

mod after;
mod halt;
mod jobs;
mod preset;
mod sequence;
mod verify_job;
mod waves;
mod written;

pub(crate) use after::is_meant;
pub use after::{UnknownAfter, check_known};
pub use halt::Halt;
pub use jobs::{Deadline, Jobs, Then, Wait};
pub use sequence::Order;
pub use verify_job::VerifyJob;
pub use waves::{Wave, reached};

use crate::exclusive::ExclusiveSet;
use crate::floor::Floor;
use crate::group::Group;
use crate::hook::Hook;
use crate::window::Windows;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::manifest::{MAX_BYTES, ManifestError};
use serde::Deserialize;
use std::time::Duration;

/// The strategy of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strategy {
    /// The nodes that it takes: those of the rollout without [`Strategy::never`]. Amounts refer to them.
    pub nodes: NodeSet,
    /// The same nodes in the order in which they are preferred, all else being equal.
    pub sequence: Vec<String>,
    pub order: Order,
    /// Nodes of the rollout that it never takes. They stay staged.
    pub never: NodeSet,
    /// Maximum number of its nodes that are out at once, at least 1. No group is larger.
    pub max_out: usize,
    /// The waves, at least one. The last one ends with the last node.
    pub waves: Vec<Wave>,
    /// The time for which the nodes of a wave must stay good before the next one begins.
    pub soak: Duration,
    pub down: Down,
    /// The rollout that must be over before this one begins: a name, or an id such as `driver@2`.
    pub after: Option<String>,
    pub jobs: Jobs,
    pub halt: Halt,
    pub floors: Vec<Floor>,
    pub exclusive: Vec<ExclusiveSet>,
    /// The groups. No two have a node in common.
    pub groups: Vec<Group>,
    pub windows: Windows,
    /// The hooks, in the order in which they are called.
    pub hooks: Vec<Hook>,
    /// The job that qualifies the first nodes of each wave, if there is one: `[verify.job]`.
    pub verify_job: Option<VerifyJob>,
}

/// The treatment of nodes that are down in Slurm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Down {
    /// They are left for later, and do not keep the rollout from ending. One that returns is updated before it takes
    /// jobs.
    #[default]
    Skip,
    /// They are requested as others are.
    Include,
    /// They are taken out of the rollout, together with their group.
    Cancel,
}

/// The keys of a manifest that concern its strategy. All others are ignored here.
#[derive(Deserialize)]
struct Document {
    name: Option<String>,
    nodes: Option<String>,
    #[serde(default)]
    strategy: written::Written,
    #[serde(default)]
    verify: Verify,
}

/// The keys of `[verify]` that concern it.
#[derive(Default, Deserialize)]
struct Verify {
    job: Option<verify_job::Written>,
}

/// Parses and checks the strategy in the text of a manifest, for the `nodes` of its rollout. Node sets must have been
/// expanded, see [`rollout_core::rollout::manifest::expand()`].
///
/// # Errors
/// The first error, with its key and the correction. TOML errors have their line and column.
pub fn of_manifest(text: &str, nodes: &NodeSet) -> Result<Strategy, ManifestError> {
    if text.len() > MAX_BYTES {
        return Err(ManifestError::TooLong(text.len()));
    }
    let document: Document = toml::from_str(text).map_err(|error| ManifestError::Toml(Box::new(error)))?;
    let written_nodes = document.nodes.as_deref().unwrap_or_default();
    let name = document.name.as_deref().unwrap_or_default();
    let strategy = document.strategy.check(name, written_nodes, nodes)?;
    let verify_job = document.verify.job.map(|job| VerifyJob::check(job, &strategy)).transpose()?;
    Ok(Strategy { verify_job, ..strategy })
}

impl Strategy {
    /// Returns the group of a node.
    #[must_use]
    pub fn group_of(&self, node: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.nodes.contains(node))
    }
}

#[cfg(test)]
mod tests;
