//! Reports of agents about rehearsals: what an order would do on a node, without doing it.

use crate::protocol::order::OrderId;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Time limit of a rehearsal on a node.
pub const LIMIT: Duration = Duration::from_secs(240);

/// The largest number of steps that a report has for one change. Its notes tell how many were left out.
pub const MAX_STEPS: usize = 1000;

/// The last rehearsal of a node. It is not kept over a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsal {
    pub order: OrderId,
    /// `None` while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Report>,
}

/// The outcome of a rehearsal on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Report {
    /// One for each change of the manifest, in its order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<ChangeReport>,
    /// Mounts and commands of the manifest that fail today.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<FailedCheck>,
    /// The reason for which it ended early. The report is not complete then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
}

/// The effect that one change would have.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChangeReport {
    /// The kind of change, as manifests name it.
    pub kind: String,
    /// Empty if there is nothing to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Reasons for which it would fail or could not be undone, each in one line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trouble: Vec<String>,
    /// Facts that an admin should see and that are no trouble, each in one line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disk: Vec<Disk>,
}

/// One thing that would be different afterwards: a package, a link, an image or the kernel's arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    pub what: String,
    /// Its version, target or value today. `None` if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The same afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// The space that a change needs in one file system, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Disk {
    /// A directory in it.
    pub directory: String,
    pub needed: u64,
    /// `None` if the file system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<u64>,
}

/// A mount or command of the manifest's `[verify]` that failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FailedCheck {
    /// The mount point, or the command with its arguments.
    pub check: String,
    /// The end of its output, in one line.
    pub why: String,
}

impl Report {
    /// Returns whether the order would change anything.
    #[must_use]
    pub fn changes_something(&self) -> bool {
        self.changes.iter().any(|change| !change.steps.is_empty())
    }

    /// Returns whether something is in the way.
    #[must_use]
    pub fn has_trouble(&self) -> bool {
        self.stopped.is_some()
            || !self.checks.is_empty()
            || self.changes.iter().any(|change| !change.trouble.is_empty())
    }

    /// Returns all its texts, for a reader that must bring them to one line.
    pub fn texts_mut(&mut self) -> Vec<&mut String> {
        let mut texts: Vec<&mut String> = self.stopped.iter_mut().collect();
        for ChangeReport { kind, steps, trouble, notes, disk } in &mut self.changes {
            texts.push(kind);
            for Step { what, from, to } in steps {
                texts.push(what);
                texts.extend(from.iter_mut().chain(to));
            }
            texts.extend(trouble.iter_mut().chain(notes));
            texts.extend(disk.iter_mut().map(|disk| &mut disk.directory));
        }
        for FailedCheck { check, why } in &mut self.checks {
            texts.extend([check, why]);
        }
        texts
    }
}

impl ChangeReport {
    /// Returns the report of a change that this error stops.
    #[must_use]
    pub fn failed(why: String) -> Self {
        Self { trouble: vec![why], ..Self::default() }
    }

    /// Leaves out what is too much for an answer.
    pub fn shorten(&mut self) {
        let more = self.steps.len().saturating_sub(MAX_STEPS);
        if more > 0 {
            self.steps.truncate(MAX_STEPS);
            self.notes.push(format!("{more} more of these were left out"));
        }
    }
}

impl Step {
    /// Returns a step without a state before.
    #[must_use]
    pub fn new(what: impl Into<String>, to: impl Into<String>) -> Self {
        Self { what: what.into(), from: None, to: Some(to.into()) }
    }
}
