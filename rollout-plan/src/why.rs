//! The reasons for which a node waits, and the progress of one that is out.
//!
//! A reason has the data that people and scripts need. Its text is one line.

mod text;

pub use text::Text;
pub(crate) use text::name_of as name_of_failure;

use crate::standing::{Failure, Skip, Standing};
use jiff::tz::TimeZone;
use serde::Serialize;
use std::fmt;

/// A reason for which a node waits. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Why {
    /// Slurm could not be asked.
    SlurmNotKnown,
    /// Slurm shows no such node.
    NotInSlurm,
    /// The strategy of the rollout cannot be read.
    Strategy {
        error: String,
    },
    /// An admin has the whole site frozen.
    Frozen {
        by: String,
        why: Option<String>,
    },
    Paused {
        by: String,
        why: Option<String>,
    },
    Halted {
        why: String,
    },
    Stopped {
        by: String,
    },
    /// Another rollout comes first.
    After {
        rollout: String,
    },
    /// The rollout or the site never touches the node.
    Never,
    /// No window is open. `None` if none opens in sight.
    Window {
        opens_ms: Option<u64>,
    },
    /// The window closes before the node would be back. `None` if no window in sight is long enough.
    WindowTooShort {
        takes_ms: u64,
        fits_ms: Option<u64>,
    },
    /// The jobs of the node may last until the window has no room for its reboot.
    JobsBeyondWindow {
        closes_ms: u64,
    },
    /// An earlier wave has nodes that have not ended.
    Wave {
        wave: String,
        nodes: usize,
        one: String,
    },
    /// The nodes of an earlier wave must stay good until then.
    Soak {
        wave: String,
        until_ms: u64,
    },
    /// A node of an earlier wave is out of service since its update.
    NotGood {
        wave: String,
        node: String,
        state: String,
    },
    /// Nodes qualify a wave, counted from 1, before users get them. `job` is their job, once Slurm shows it.
    Qualification {
        wave: u32,
        nodes: String,
        job: Option<u32>,
    },
    /// A hook runs before its request, or is about to. `since_ms` is the start of the call.
    Hook {
        hook: String,
        since_ms: Option<u64>,
    },
    /// So many nodes are to qualify a wave together, and only some of them can go now.
    Qualifiers {
        wave: u32,
        nodes: usize,
        ready: usize,
    },
    /// An admin is to approve the wave, which is over.
    Approval {
        wave: String,
        number: u32,
    },
    /// A later wave takes the node.
    LaterWave {
        wave: String,
        number: u32,
        of: u32,
    },
    /// A job is on the node. `about_ms` is the likely end, `limit_ms` the latest one.
    Job {
        job: String,
        uid: u32,
        about_ms: Option<u64>,
        limit_ms: u64,
    },
    /// Jobs are on the node, and nobody knows until when.
    NoEnd {
        why: String,
    },
    /// Slurm's jobs could not be read.
    JobsNotKnown,
    /// The job was ended at its deadline and is still there.
    JobStays {
        job: String,
        how: String,
        since_ms: u64,
    },
    /// The jobs may last longer than the strategy waits for them.
    JobsBeyondDeadline {
        at_most_ms: u64,
    },
    /// Somebody else drained the node, and jobs are on it.
    Drained {
        by: Option<String>,
        reason: String,
    },
    /// A reservation of users has the node or begins before it would be back.
    Reserved {
        reservation: String,
        from_ms: u64,
        until_ms: u64,
    },
    /// No job starts on the node, and no reboot is requested in this state.
    Unavailable {
        what: &'static str,
    },
    /// Somebody else requested its reboot, which will apply the rollout.
    RequestedByOthers,
    /// Somebody cancelled its reboot in Slurm.
    Cancelled,
    /// Another node of its group is not ready.
    Group {
        group: String,
        node: String,
        why: Box<Why>,
    },
    /// Nodes of its group come back before it.
    BringUp {
        group: String,
        node: String,
        standing: Standing,
    },
    /// The nodes of the group stop taking jobs. `node` still has one.
    GroupDrains {
        group: String,
        node: Option<String>,
    },
    /// The group can never go.
    GroupTooLarge {
        group: String,
        nodes: usize,
        max_out: usize,
    },
    Exclusive {
        set: String,
        node: String,
    },
    /// Its group has more members of an exclusive set than may be out at once: it can never go.
    GroupInSet {
        set: String,
        at_once: usize,
    },
    Floor {
        of: String,
        floor: usize,
        available: usize,
    },
    /// The nodes of a partition are not known.
    FloorNotKnown {
        of: String,
    },
    SiteMaxOut {
        out: usize,
        limit: usize,
    },
    MaxOut {
        out: usize,
        limit: usize,
    },
    /// Enough nodes are requested in this tick.
    NextTick {
        limit: usize,
    },
    /// It is being requested now.
    Now,
    /// Its reboot is requested, and Slurm is about to issue it.
    Requested,
    /// It is being updated.
    UnderWay {
        phase: Option<String>,
        since_ms: u64,
    },
    Failed {
        failure: Failure,
        error: Option<String>,
    },
    Skipped {
        skip: Skip,
        kept_out: bool,
    },
}

impl Why {
    /// Returns the reason as one line. Times are those of `zone`, and those of today have no date.
    #[must_use]
    pub fn text<'a>(&'a self, zone: &'a TimeZone, now_ms: u64) -> Text<'a> {
        Text { why: self, zone, now_ms: Some(now_ms) }
    }
}

/// One line with times in UTC.
impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text { why: self, zone: &TimeZone::UTC, now_ms: None }.fmt(f)
    }
}

#[cfg(test)]
mod tests;
