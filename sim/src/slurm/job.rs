//! A job.

use rollout_core::slurm::jobs::JobId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Running,
    Suspended,
    /// Its processes end, or its epilog runs. Afterwards it is over, or waits again.
    Completing {
        requeued: bool,
    },
    Over,
}

/// A job as users submit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    pub at_ms: u64,
    /// Place among the tasks of its array, and the first task's place in the load.
    pub task: Option<(u32, u32)>,
    pub uid: u32,
    pub partition: usize,
    /// At least 1.
    pub nodes: usize,
    /// On each node.
    pub cpus: u32,
    pub exclusive: bool,
    /// `None` is no limit.
    pub limit_ms: Option<u64>,
    /// The time that it needs, which may exceed its limit.
    pub needs_ms: u64,
    pub epilog_ms: u64,
    pub requeueable: bool,
    /// The one node on which it can run.
    pub only_on: Option<usize>,
    /// It goes before all others.
    pub is_urgent: bool,
}

#[derive(Debug, Clone)]
pub struct Job {
    pub record: u32,
    pub id: JobId,
    pub submission: Submission,
    pub state: State,
    /// It does not start earlier.
    pub begin_ms: u64,
    pub nodes: Vec<usize>,
    pub start_ms: u64,
    pub ended_ms: u64,
    /// Time that it has run up to its last suspension.
    pub ran_ms: u64,
    pub runs_since_ms: u64,
    /// Grows with each start, suspension and end, so that earlier events about it are void.
    pub epoch: u32,
}

impl Job {
    #[must_use]
    pub fn new(record: u32, id: JobId, submission: Submission) -> Self {
        Self {
            record,
            id,
            state: State::Pending,
            begin_ms: submission.at_ms,
            nodes: Vec::new(),
            start_ms: 0,
            ended_ms: 0,
            ran_ms: 0,
            runs_since_ms: 0,
            epoch: 0,
            submission,
        }
    }

    #[must_use]
    pub fn has_nodes(&self) -> bool {
        matches!(self.state, State::Running | State::Suspended | State::Completing { .. })
    }

    #[must_use]
    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// Returns the time that it still needs, at its last start or resumption.
    #[must_use]
    pub fn left_ms(&self) -> u64 {
        let Submission { needs_ms, limit_ms, .. } = self.submission;
        let needs_ms = limit_ms.map_or(needs_ms, |limit_ms| needs_ms.min(limit_ms));
        needs_ms.saturating_sub(self.ran_ms).max(1)
    }

    /// Returns the end by its limit, as squeue shows it.
    #[must_use]
    pub fn limit_end_ms(&self) -> Option<u64> {
        Some(self.start_ms.saturating_add(self.submission.limit_ms?))
    }
}
