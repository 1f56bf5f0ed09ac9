//! Nodes that qualify a wave before users get them.

use super::entry::{Entry, Line};
use super::record::NodeRecord;

/// The part of a node in the qualification of a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qualification {
    /// The wave, counted from 1.
    pub wave: u32,
    /// Time at which the node was chosen, in milliseconds since 1970. The line comes before the reservation.
    pub since_ms: u64,
    /// Number of jobs that were to be submitted.
    pub runs: u32,
    /// The last one of them.
    pub run: Option<Run>,
    /// `None` until the job is over.
    pub outcome: Option<Outcome>,
}

/// A job that qualifies nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Tells it from other jobs of the same wave.
    pub id: u64,
    /// Time of the journal line, which comes before the submission, in milliseconds since 1970.
    pub since_ms: u64,
    /// Its number. `None` until Slurm has shown it.
    pub job: Option<u32>,
}

/// The end of a qualification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// In milliseconds since 1970.
    pub at_ms: u64,
    /// `None` if the job succeeded.
    pub failure: Option<String>,
}

impl Qualification {
    /// Returns whether the node waits for the end of its qualification.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.outcome.is_none()
    }

    /// Returns the reason if the node did not qualify.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        self.outcome.as_ref()?.failure.as_deref()
    }

    /// Returns a note for people. `None` if the node has qualified.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        match (&self.outcome, self.run.and_then(|run| run.job)) {
            (Some(outcome), _) => outcome.failure.as_ref().map(|why| format!("not qualified: {why}")),
            (None, Some(job)) => Some(format!("qualifies wave {} with job {job}", self.wave)),
            (None, None) => Some(format!("is to qualify wave {}", self.wave)),
        }
    }
}

impl NodeRecord {
    /// Returns the reason if the node is updated and did not qualify.
    #[must_use]
    pub fn qualification_failure(&self) -> Option<&str> {
        self.qualification.as_ref()?.failure()
    }
}

/// Applies a line about a qualification to a node's record.
pub(super) fn apply(mut record: NodeRecord, line: &Line) -> NodeRecord {
    if let Entry::ToQualify { wave, .. } = &line.entry {
        record.reserved = true;
        let (wave, since_ms) = (*wave, line.t_ms);
        record.qualification = Some(Qualification { wave, since_ms, runs: 0, run: None, outcome: None });
        return record;
    }
    let Some(qualification) = record.qualification.as_mut().filter(|known| known.is_pending()) else {
        return record;
    };
    match &line.entry {
        Entry::Qualifying { run, .. } => {
            qualification.runs = qualification.runs.saturating_add(1);
            qualification.run = Some(Run { id: *run, since_ms: line.t_ms, job: None });
        }
        Entry::QualificationJob { job, .. } => {
            qualification.run.iter_mut().for_each(|run| run.job = Some(*job));
        }
        Entry::Qualified { .. } => qualification.outcome = Some(Outcome { at_ms: line.t_ms, failure: None }),
        Entry::NotQualified { why, .. } => {
            qualification.outcome = Some(Outcome { at_ms: line.t_ms, failure: Some(why.clone()) });
            record.forgiven = false;
        }
        _ => {}
    }
    record
}

/// Forgets a qualification that is not over: the reservation is gone, and with it the reason to wait.
pub(super) fn end_unless_over(record: &mut NodeRecord) {
    if record.qualification.as_ref().is_some_and(Qualification::is_pending) {
        record.qualification = None;
    }
}
