//! State of a rollout that an admin may have started, as a fold of its journal lines.

use super::entry::{Entry, Line};
use super::hook::Hooks;
use super::record::{NodeRecord, NodeRecords, replay_line};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The journal of a rollout, reduced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalState {
    pub records: NodeRecords,
    pub conduct: Conduct,
}

impl JournalState {
    /// Continues with the next line.
    pub fn apply(&mut self, line: &Line) {
        self.conduct.apply(&self.records, line);
        replay_line(&mut self.records, line);
    }
}

impl<'a> FromIterator<&'a Line> for JournalState {
    fn from_iter<I: IntoIterator<Item = &'a Line>>(lines: I) -> Self {
        let mut state = Self::default();
        lines.into_iter().for_each(|line| state.apply(line));
        state
    }
}

/// State of a rollout that an admin may have started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conduct {
    pub state: ConductState,
    /// Start of this state, in milliseconds since 1970. 0 if it was never started.
    pub since_ms: u64,
    /// The writer of the line that led to this state. Empty if it was never started.
    pub by: String,
    /// Approved waves, counted from 1.
    pub approved: BTreeSet<u32>,
    /// Waves whose first nodes have passed the qualification job, counted from 1.
    pub qualified: BTreeSet<u32>,
    /// Time at which it was started or last resumed, in milliseconds since 1970. Boots before it are no failures.
    pub counted_from_ms: u64,
    /// Jobs whose users were warned, or that were ended.
    pub jobs: BTreeMap<u32, JobRecord>,
    pub hooks: Hooks,
}

/// The part of [`Conduct`] that an admin or the planner decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConductState {
    /// Its nodes wait for an admin's `scontrol reboot`.
    #[default]
    NotStarted,
    /// Reboots are requested from Slurm.
    Running,
    /// An admin paused it.
    Paused { why: Option<String> },
    /// The planner halted it. Only an admin resumes it.
    Halted { why: String },
    /// An admin ended it. It is not started again, unless it is staged again.
    Stopped,
}

/// A job of which the rollout must get rid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobRecord {
    /// Time at which its users were last warned, in milliseconds since 1970.
    pub warned_ms: Option<u64>,
    /// Time and kind of its end, if it was ended after the last warning. A requeued job keeps its id.
    pub ended: Option<(u64, JobEnd)>,
}

/// The way in which a job is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobEnd {
    Requeued,
    Cancelled,
}

impl JobEnd {
    /// Returns the word for people and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Requeued => "requeued",
            Self::Cancelled => "cancelled",
        }
    }
}

impl ConductState {
    /// Returns the word for people and JSON. `None` if the rollout was not started.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        match self {
            Self::NotStarted => None,
            Self::Running => Some("running"),
            Self::Paused { .. } => Some("paused"),
            Self::Halted { .. } => Some("halted"),
            Self::Stopped => Some("stopped"),
        }
    }
}

impl Conduct {
    /// Continues with the next line. `records` are those before it.
    fn apply(&mut self, records: &NodeRecords, line: &Line) {
        use ConductState as S;
        self.hooks.apply(line);
        match (&line.entry, &self.state) {
            // A rollout that is over does not run on because a node is staged for it again.
            (Entry::Staged { .. }, S::Running | S::Paused { .. } | S::Halted { .. })
                if records.values().all(NodeRecord::is_settled) =>
            {
                self.begin_anew();
            }
            (Entry::Staged { .. }, S::Stopped) => self.begin_anew(),
            (Entry::Started, S::NotStarted) => {
                self.enter(S::Running, line);
                self.counted_from_ms = line.t_ms;
            }
            (Entry::Paused { why }, S::Running) => self.enter(S::Paused { why: why.clone() }, line),
            // A halt and a pause at the same time are a halt, in whichever order they were written.
            (Entry::Halted { why }, S::Running | S::Paused { .. }) => {
                self.enter(S::Halted { why: why.clone() }, line);
            }
            (Entry::Resumed, S::Running) => self.counted_from_ms = line.t_ms,
            (Entry::Resumed, S::Paused { .. } | S::Halted { .. }) => {
                self.enter(S::Running, line);
                self.counted_from_ms = line.t_ms;
            }
            (Entry::Stopped, S::Running | S::Paused { .. } | S::Halted { .. }) => {
                self.enter(S::Stopped, line)
            }
            (Entry::Approved { wave }, S::Running | S::Paused { .. } | S::Halted { .. }) => {
                self.approved.insert(*wave);
            }
            (Entry::Qualified { wave, .. }, _) => {
                self.qualified.insert(*wave);
            }
            (Entry::JobWarned { job, .. }, _) => {
                self.jobs.insert(*job, JobRecord { warned_ms: Some(line.t_ms), ended: None });
            }
            (Entry::JobEnded { job, how, .. }, _) => {
                let job = self.jobs.entry(*job).or_insert(JobRecord { warned_ms: None, ended: None });
                job.ended = Some((line.t_ms, *how));
            }
            _ => {}
        }
    }

    fn begin_anew(&mut self) {
        *self = Self { hooks: self.hooks.begun_anew(), ..Self::default() };
    }

    fn enter(&mut self, state: ConductState, line: &Line) {
        (self.state, self.since_ms) = (state, line.t_ms);
        self.by.clone_from(&line.by);
        self.hooks.enter_state();
    }
}
