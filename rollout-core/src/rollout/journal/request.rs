//! Reboots that a started rollout requests from Slurm, and drains that it sets.

use super::entry::{Entry, Line};
use super::qualification;
use super::record::NodeRecord;
use serde::{Deserialize, Serialize};

/// A reboot that is about to be requested from Slurm, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Time of the journal line, which comes before the request itself, in milliseconds since 1970.
    pub at_ms: u64,
    pub way: Way,
    /// Slurm has shown the request. Until then it may never have been made.
    pub taken: bool,
    /// Its withdrawal has begun: that Slurm no longer shows it is due to this.
    pub withdrawing: bool,
    /// Reason of the drain that somebody else had set.
    pub drained: Option<String>,
}

/// The way in which a reboot is requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// With ASAP: the drain begins now, and ends after the reboot.
    Asap,
    /// Plainly, for an idle node that somebody else drained: their drain and Reason stay.
    Drained,
    /// For a node that Slurm sees down.
    Down,
    /// Plainly, for a node with jobs: others start and end on it until a reservation of ours begins.
    Reserved,
}

/// A drain that keeps jobs off a node until it is updated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOut {
    /// Time of the journal line, which comes before the drain itself, in milliseconds since 1970.
    pub since_ms: u64,
    /// The node's Reason before.
    pub reason: Option<String>,
}

impl Way {
    /// Returns the addition to the text of a journal line.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Asap => "",
            Self::Drained => ", to stay drained",
            Self::Down => ", which sees them down",
            Self::Reserved => " and reserved for it",
        }
    }
}

impl NodeRecord {
    /// Returns whether the node's Reason may be that of our request: there is one, somebody cancelled it, or we keep
    /// the node out of service.
    #[must_use]
    pub fn may_have_set_reason(&self) -> bool {
        self.request.is_some() || self.cancelled || self.kept_out.is_some()
    }
}

/// Applies a line about requests and drains to a node's record.
pub(super) fn apply(mut record: NodeRecord, line: &Line) -> NodeRecord {
    if let Entry::Requested { way: Way::Reserved, .. } = &line.entry {
        record.reserved = true;
    }
    match &line.entry {
        // An order that overtook the line is the one that the request was for.
        Entry::Requested { way, drained, .. } if record.progress.may_be_ordered(line.t_ms) => {
            let (at_ms, way, drained) = (line.t_ms, *way, drained.clone());
            record.request = Some(Request { at_ms, way, taken: false, withdrawing: false, drained });
            (record.cancelled, record.forgiven, record.before_start) = (false, false, false);
            record.hooks.clear();
        }
        Entry::RequestTaken { .. } => {
            record
                .request
                .iter_mut()
                .for_each(|request| (request.taken, request.withdrawing) = (true, false));
        }
        Entry::Withdrawing { .. } => {
            record.request.iter_mut().for_each(|request| request.withdrawing = true);
        }
        Entry::Withdrawn { cancelled, .. } if record.request.is_some() => {
            (record.request, record.cancelled) = (None, *cancelled);
        }
        // A repeated line was written over our own drain: the Reason before it is in the first one.
        Entry::KeptOut { reason, .. } if record.kept_out.is_none() => {
            record.kept_out = Some(KeptOut { since_ms: line.t_ms, reason: reason.clone() });
        }
        Entry::LetIn { .. } => record.kept_out = None,
        Entry::Unreserved { .. } => {
            record.reserved = false;
            qualification::end_unless_over(&mut record);
        }
        _ => {}
    }
    record
}

/// Ends the request of a node whose order was taken, or has ended. If slurmd has the node rebooted, no line tells when
/// it was handed over.
pub(super) fn end(record: &mut NodeRecord) {
    (record.request, record.cancelled) = (None, false);
}
