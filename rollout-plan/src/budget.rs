//! The time that Slurm gives a rebooted node, compared with the time that it needs.
//!
//! Slurm gives a node up when the ResumeTimeout of its partition, or the global one, is over: the node is lost, although
//! it is only slow. That is found out before the first node is requested.

use crate::history::Expected;
use rollout_core::doctor::duration;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::config::{ResumeTimeout, SlurmConfig};
use rollout_core::slurm::partitions::{NodeTimeout, Partition, resume_timeout_of};
use rollout_core::slurm::patience::{Room, recommended_s};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// A reason to doubt that Slurm waits long enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Doubt {
    /// By earlier rollouts, Slurm gives nodes up before they are back.
    TooShort {
        #[serde(flatten)]
        part: Part,
        expected: Expected,
        /// The shortest ResumeTimeout that is long enough, and the one to recommend, in seconds.
        needed_s: u64,
        recommended_s: u64,
    },
    /// The time limits of the manifest are longer, and no earlier rollout tells that nodes need far less.
    LimitsLonger {
        #[serde(flatten)]
        part: Part,
        /// All limits together, there and back, in seconds.
        limits_s: u64,
        expected: Option<Expected>,
    },
    /// Slurm was not asked, or does not report it.
    NotKnown { nodes: NodeSet },
}

/// Nodes to which the same ResumeTimeout applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    pub nodes: NodeSet,
    /// Partitions that have some of these nodes.
    pub partitions: Vec<String>,
    pub resume_timeout_s: u64,
    /// The partition that sets it. `None` if it is the global one.
    pub set_by: Option<String>,
}

/// Slurm's settings.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    pub config: &'a SlurmConfig,
    pub partitions: &'a [Partition],
}

/// Returns the doubts about the ResumeTimeout of these nodes. `limits` is the longest time that an order for them may
/// take by its manifest.
#[must_use]
pub fn doubts(
    nodes: &NodeSet,
    settings: Option<Settings<'_>>,
    expected: Option<&Expected>,
    limits: Duration,
) -> Vec<Doubt> {
    let mut parts: BTreeMap<(Option<ResumeTimeout>, Option<&str>), Vec<String>> = BTreeMap::new();
    for node in nodes.iter() {
        let found =
            settings.and_then(|Settings { config, partitions }| resume_timeout_of(node, config, partitions));
        let key = found.map_or((None, None), |NodeTimeout { timeout, partition }| (Some(timeout), partition));
        parts.entry(key).or_default().push(node.to_owned());
    }
    let partitions = settings.map_or(&[][..], |settings| settings.partitions);
    let doubt = |((timeout, set_by), nodes): ((Option<ResumeTimeout>, Option<&str>), Vec<String>)| {
        let nodes = NodeSet::from_iter(nodes);
        let Some(timeout) = timeout else { return Some(Doubt::NotKnown { nodes }) };
        let ResumeTimeout::Seconds(resume_timeout_s) = timeout else { return None };
        let has_some = |partition: &&Partition| nodes.iter().any(|node| partition.nodes.contains(node));
        let partitions = partitions.iter().filter(has_some).map(|partition| partition.name.clone()).collect();
        let part = Part { nodes, partitions, resume_timeout_s, set_by: set_by.map(str::to_owned) };
        of_part(timeout, part, expected, limits.as_secs())
    };
    parts.into_iter().filter_map(doubt).collect()
}

fn of_part(timeout: ResumeTimeout, part: Part, expected: Option<&Expected>, limits_s: u64) -> Option<Doubt> {
    let needed_s = expected.map(|expected| expected.takes_ms.div_ceil(1000));
    match expected.zip(needed_s).map(|(expected, needed_s)| (expected, needed_s, timeout.room(needed_s))) {
        Some((expected, needed_s, Room::Missing)) => Some(Doubt::TooShort {
            part,
            expected: expected.clone(),
            needed_s,
            recommended_s: recommended_s(Some(needed_s)),
        }),
        Some((_, _, Room::Enough)) => None,
        Some((_, _, Room::Tight)) | None => (timeout.room(limits_s) == Room::Missing)
            .then(|| Doubt::LimitsLonger { part, limits_s, expected: expected.cloned() }),
    }
}

impl Doubt {
    /// Returns whether the rollout is not started for it, unless an admin insists.
    #[must_use]
    pub fn refuses(&self) -> bool {
        matches!(self, Self::TooShort { .. })
    }
}

/// One line, with the remedy.
impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { part, expected, needed_s, recommended_s } => write!(
                f,
                "{part}, but such nodes take {} from hand-over to registration ({expected}): Slurm would give up \
                 nodes that are only slow; {} to at least {needed_s}, better {recommended_s}, or start it with \
                 --accept-resume-timeout",
                duration(*needed_s),
                part.remedy()
            ),
            Self::LimitsLonger { part, limits_s, expected } => {
                write!(f, "{part}, and the time limits of the manifest add up to {}", duration(*limits_s))?;
                match expected {
                    Some(expected) => {
                        let takes_s = expected.takes_ms.div_ceil(1000);
                        write!(f, "; earlier nodes took {} ({expected})", duration(takes_s))?;
                    }
                    None => f.write_str("; no earlier rollout tells how long it takes")?,
                }
                write!(f, ": a node that needs more is lost, unless you {} to {limits_s}", part.remedy())
            }
            Self::NotKnown { nodes } => write!(
                f,
                "{nodes}: Slurm's ResumeTimeout is not known: a node that takes longer is lost, although it is \
                 only slow"
            ),
        }
    }
}

impl Part {
    fn remedy(&self) -> String {
        let of = self.set_by.as_ref().map_or_else(String::new, |name| format!(" of partition {name}"));
        format!("set ResumeTimeout{of} in slurm.conf")
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, partitions, resume_timeout_s, set_by } = self;
        write!(f, "{nodes}")?;
        match &partitions[..] {
            [] => {}
            [one] => write!(f, " of partition {one}")?,
            many => write!(f, " of partitions {}", many.join(", "))?,
        }
        let of = set_by.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
        write!(f, ": ResumeTimeout{of} is {resume_timeout_s} s")
    }
}

/// The evidence.
impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { visits, node, rollout, same_kinds, .. } = self;
        match visits {
            1 => f.write_str("one earlier update")?,
            2..10 => write!(f, "the slowest of {visits} earlier updates")?,
            _ => write!(f, "nine of ten of {visits} earlier updates")?,
        }
        let kinds = if *same_kinds { "" } else { " with other changes" };
        write!(f, "{kinds}: {node} in {rollout}")
    }
}

#[cfg(test)]
mod tests;
