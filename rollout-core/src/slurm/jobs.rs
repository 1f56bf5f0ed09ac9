//! Jobs as `squeue` prints them, and when the jobs of a node end.

use crate::hostlist::NodeSet;
use std::collections::BTreeMap;
use std::fmt;

mod end;
mod parse;
mod run;
mod used;

pub use end::{FreeAt, JobEnds, NoEnd, free_at};
pub use parse::{FORMAT, parse_jobs};
pub use run::{JobRun, RUN_FORMAT, parse_runs};
pub use used::UsedLimits;

/// States without nodes (`job_state_string_compact` in `src/common/slurm_protocol_defs.c`, 22.05 to 26.05): pending,
/// put back into the queue, or over. A job in any other state, or in one of a later release, has the nodes that it
/// shows.
const WITHOUT_NODES: [&str; 15] =
    ["BF", "CA", "CD", "DL", "F", "NF", "OOM", "PD", "PR", "RD", "RF", "RH", "RQ", "SE", "TO"];

/// A job, a task of a job array, a component of a heterogeneous job, or all pending tasks of an array together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Job id of this record. Each running task and component has its own.
    pub record: u32,
    pub id: JobId,
    /// State in one to three letters, such as `R`. A flag such as `CG` hides the state below it.
    pub state: String,
    /// The user's id. Names would need a name service.
    pub uid: u32,
    /// Time at which the job started, or Slurm expects it to start, in seconds since 1970.
    pub start_s: Option<u64>,
    /// Time at which the job ends by its time limit, in seconds since 1970. It does not move while the job is
    /// suspended, and is in the past for one that is completing.
    pub end_s: Option<u64>,
    pub limit: JobLimit,
    /// Several for a pending job only.
    pub partitions: Vec<String>,
    /// Nodes of the job. Those that a completing job has left are missing.
    pub nodes: NodeSet,
    /// Reservation that the job asked for or was attracted to.
    pub reservation: Option<String>,
}

/// A job as people and Slurm's commands name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobId {
    /// `148`
    Single(u32),
    /// `148_5`, a task of a job array.
    Task { array: u32, task: u32 },
    /// `148_[…]`, the pending tasks of an array.
    PendingTasks { array: u32 },
    /// `141+0`, a component of a heterogeneous job.
    Component { leader: u32, offset: u32 },
}

/// Time limit of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobLimit {
    Seconds(u64),
    Unlimited,
    /// Not set, or more than a year, which squeue does not print.
    NotShown,
}

impl Job {
    /// Returns whether the job has nodes.
    #[must_use]
    pub fn holds_nodes(&self) -> bool {
        !self.nodes.is_empty() && !WITHOUT_NODES.contains(&self.state.as_str())
    }

    /// Returns whether the job is suspended. It keeps its nodes, and Slurm reboots none of them.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.state == "S"
    }

    /// Returns whether the job is over and its last processes or its epilog run.
    #[must_use]
    pub fn is_completing(&self) -> bool {
        self.state == "CG"
    }
}

impl JobId {
    /// Returns the name with which Slurm's commands take this job and no other. `None` for pending tasks.
    ///
    /// The plain id of a task may be that of its whole array. A heterogeneous job is taken as a whole, by its leader:
    /// no component can be requeued alone (`job_requeue_internal` in `src/slurmctld/job_mgr.c`, 22.05 to 26.05).
    #[must_use]
    pub fn target(self) -> Option<String> {
        match self {
            Self::Single(_) | Self::Task { .. } => Some(self.to_string()),
            Self::Component { leader, .. } => Some(leader.to_string()),
            Self::PendingTasks { .. } => None,
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(id) => write!(f, "{id}"),
            Self::Task { array, task } => write!(f, "{array}_{task}"),
            Self::PendingTasks { array } => write!(f, "{array}_[…]"),
            Self::Component { leader, offset } => write!(f, "{leader}+{offset}"),
        }
    }
}

/// Returns the jobs that hold nodes, by node.
#[must_use]
pub fn by_node(jobs: &[Job]) -> BTreeMap<&str, Vec<&Job>> {
    let mut found: BTreeMap<&str, Vec<&Job>> = BTreeMap::new();
    for job in jobs.iter().filter(|job| job.holds_nodes()) {
        for node in job.nodes.iter() {
            found.entry(node).or_default().push(job);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_found_by_the_nodes_that_they_hold() {
        let text = "1|1|R|0|5|9|5:00|batch|cn[1-2]|\n\
                    2|2|CG|0|5|9|5:00|batch|cn2|\n\
                    3|3|PD|0|5|9|5:00|batch||\n\
                    4|4|CD|0|5|9|5:00|batch|cn1|\n\
                    5|5|XX|0|5|9|5:00|batch|cn3|\n";
        let parsed = parse_jobs(text);
        assert!(parsed.is_complete(), "{parsed:?}");
        let found: Vec<(&str, Vec<u32>)> = by_node(&parsed.items)
            .into_iter()
            .map(|(node, jobs)| (node, jobs.iter().map(|job| job.record).collect()))
            .collect();
        assert_eq!(found, [("cn1", vec![1]), ("cn2", vec![1, 2]), ("cn3", vec![5])]);
    }

    #[test]
    fn commands_name_one_task_and_the_leader_of_a_heterogeneous_job() {
        for (id, shown, target) in [
            (JobId::Single(148), "148", Some("148")),
            (JobId::Task { array: 148, task: 5 }, "148_5", Some("148_5")),
            (JobId::Component { leader: 141, offset: 1 }, "141+1", Some("141")),
            (JobId::PendingTasks { array: 148 }, "148_[…]", None),
        ] {
            assert_eq!((id.to_string().as_str(), id.target().as_deref()), (shown, target));
        }
    }
}
