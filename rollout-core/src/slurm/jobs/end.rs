//! Time at which the jobs of a node end.

use super::{Job, JobId, JobLimit};
use crate::slurm::config::{OverTimeLimit, SlurmConfig};
use crate::slurm::node::NodeInfo;
use crate::slurm::partitions::Partition;
use std::collections::BTreeMap;
use std::fmt;

/// Interval at which slurmctld looks for jobs beyond their time limit (`PERIODIC_TIMEOUT` in
/// `src/slurmctld/slurmctld.h`, 22.05 to 26.05).
const PERIODIC_TIMEOUT_S: u64 = 30;

/// Slurm's settings for the end of jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnds {
    /// OverTimeLimit of partitions without one of their own.
    over_time: OverTimeLimit,
    of_partition: BTreeMap<String, OverTimeLimit>,
    /// Time from a job's time limit to the end of its processes, beyond OverTimeLimit.
    kill_s: u64,
    /// Time within which a completing job leaves its nodes, unless its epilog is slow or a process hangs.
    completing_s: u64,
}

/// Time from which no job is on a node, as far as Slurm tells. Jobs may end earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreeAt {
    /// No job is on the node.
    Now,
    /// The latest time at which the last job ends, in seconds since 1970. An epilog may take longer.
    At(u64),
    Unknown(NoEnd),
}

/// Cause of an unknown end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEnd {
    /// A job is suspended. Its time limit rests until it is resumed.
    Suspended(JobId),
    /// A job has no time limit, or OverTimeLimit has none.
    Unlimited(JobId),
    /// Slurm shows no end of a job.
    NotShown(JobId),
    /// A job should have ended by now.
    Overdue(JobId),
    /// A job is over and does not leave the node: a slow epilog, or a process that hangs.
    StillCompleting(JobId),
    /// The node is in use, and no job on it is known: jobs were read earlier than the node, or Slurm hides them.
    JobNotKnown,
}

impl JobEnds {
    /// Returns the settings of a cluster.
    #[must_use]
    pub fn new(config: &SlurmConfig, partitions: &[Partition]) -> Self {
        let of_partition = partitions.iter().filter_map(|partition| {
            let limit = partition.over_time_limit?;
            Some((partition.name.clone(), limit))
        });
        Self {
            over_time: config.over_time_limit().unwrap_or(OverTimeLimit::Minutes(0)),
            of_partition: of_partition.collect(),
            kill_s: config.kill_wait_s().saturating_add(PERIODIC_TIMEOUT_S),
            completing_s: config.kill_wait_s().saturating_add(config.unkillable_step_timeout_s()),
        }
    }

    /// Returns the latest time at which a job that has nodes ends, in seconds since 1970.
    ///
    /// # Errors
    /// The cause, if there is no such time.
    pub fn latest_end(&self, job: &Job, now_s: u64) -> Result<u64, NoEnd> {
        if job.is_suspended() {
            return Err(NoEnd::Suspended(job.id));
        }
        if job.is_completing() {
            let end_s = job.end_s.ok_or(NoEnd::NotShown(job.id))?.saturating_add(self.completing_s);
            return if end_s < now_s { Err(NoEnd::StillCompleting(job.id)) } else { Ok(end_s) };
        }
        // Slurm shows an end a year after the start of an unlimited job once that year is over.
        if job.limit == JobLimit::Unlimited {
            return Err(NoEnd::Unlimited(job.id));
        }
        let OverTimeLimit::Minutes(over_time) = self.over_time_of(job) else {
            return Err(NoEnd::Unlimited(job.id));
        };
        let end_s = job.end_s.ok_or(NoEnd::NotShown(job.id))?;
        let end_s = end_s.saturating_add(over_time.saturating_mul(60)).saturating_add(self.kill_s);
        if end_s < now_s { Err(NoEnd::Overdue(job.id)) } else { Ok(end_s) }
    }

    /// Returns the OverTimeLimit of the job's partition, else the global one (`job_time_limit` in
    /// `src/slurmctld/job_mgr.c`).
    fn over_time_of(&self, job: &Job) -> OverTimeLimit {
        let of = |partition| self.of_partition.get(partition).copied().unwrap_or(self.over_time);
        job.partitions.iter().map(of).max().unwrap_or(self.over_time)
    }
}

/// Returns the time from which no job is on a node. `jobs` are those that [`by_node`](super::by_node) has found there.
#[must_use]
pub fn free_at(node: &NodeInfo, jobs: &[&Job], ends: &JobEnds, now_s: u64) -> FreeAt {
    let in_use = ["ALLOCATED", "MIXED", "COMPLETING"].iter().any(|state| node.has(state));
    let mut last_s = None;
    for job in jobs {
        match ends.latest_end(job, now_s) {
            Ok(end_s) => last_s = last_s.max(Some(end_s)),
            Err(why) => return FreeAt::Unknown(why),
        }
    }
    match last_s {
        Some(end_s) => FreeAt::At(end_s),
        None if in_use => FreeAt::Unknown(NoEnd::JobNotKnown),
        None => FreeAt::Now,
    }
}

impl fmt::Display for NoEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Suspended(job) => write!(f, "job {job} is suspended"),
            Self::Unlimited(job) => write!(f, "job {job} has no time limit"),
            Self::NotShown(job) => write!(f, "Slurm shows no end of job {job}"),
            Self::Overdue(job) => write!(f, "job {job} should have ended by its time limit"),
            Self::StillCompleting(job) => write!(f, "job {job} is over and does not leave the node"),
            Self::JobNotKnown => f.write_str("the node is in use by a job that is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slurm::jobs::parse_jobs;
    use crate::slurm::partitions::parse_partitions;
    use proptest::prelude::*;

    const NOW: u64 = 10_000;

    fn ends() -> JobEnds {
        let config = "OverTimeLimit = 2 min\nKillWait = 30 sec\nUnkillableStepTimeout = 60 sec\n";
        let partition =
            |name, over| format!("PartitionName={name} Nodes=cn1 OverTimeLimit={over} State=UP\n");
        let text = ["batch", "long", "free"].map(|name| match name {
            "long" => partition(name, "10"),
            "free" => partition(name, "UNLIMITED"),
            _ => partition(name, "NONE"),
        });
        JobEnds::new(&SlurmConfig::parse(config), &parse_partitions(&text.concat()).items)
    }

    fn job(state: &str, end: &str, limit: &str, partition: &str) -> Job {
        let line = format!("7|7|{state}|0|5|{end}|{limit}|{partition}|cn1|");
        parse_jobs(&line).items.remove(0)
    }

    fn node(state: &str) -> NodeInfo {
        NodeInfo { state: state.split('+').map(str::to_owned).collect(), ..NodeInfo::default() }
    }

    #[test]
    fn the_end_of_a_job_depends_on_its_state_and_limits() {
        let id = JobId::Single(7);
        for (state, end, limit, partition, expected) in [
            // 2 minutes OverTimeLimit, 30 s KillWait, 30 s until slurmctld looks.
            ("R", "20000", "5:00", "batch", Ok(20_180)),
            ("CF", "20000", "5:00", "batch", Ok(20_180)),
            ("ST", "20000", "5:00", "batch", Ok(20_180)),
            ("R", "20000", "5:00", "unknown", Ok(20_180)),
            ("R", "20000", "5:00", "long", Ok(20_660)),
            ("R", "20000", "5:00", "free", Err(NoEnd::Unlimited(id))),
            ("R", "20000", "INVALID", "batch", Ok(20_180)),
            ("R", "9820", "5:00", "batch", Ok(10_000)),
            ("R", "9819", "5:00", "batch", Err(NoEnd::Overdue(id))),
            ("R", "NONE", "UNLIMITED", "batch", Err(NoEnd::Unlimited(id))),
            ("R", "9000", "UNLIMITED", "batch", Err(NoEnd::Unlimited(id))),
            ("R", "N/A", "5:00", "batch", Err(NoEnd::NotShown(id))),
            ("S", "20000", "5:00", "batch", Err(NoEnd::Suspended(id))),
            ("CG", "9950", "5:00", "batch", Ok(10_040)),
            ("CG", "9950", "UNLIMITED", "free", Ok(10_040)),
            ("CG", "9909", "5:00", "batch", Err(NoEnd::StillCompleting(id))),
            ("CG", "N/A", "5:00", "batch", Err(NoEnd::NotShown(id))),
        ] {
            let found = ends().latest_end(&job(state, end, limit, partition), NOW);
            assert_eq!(found, expected, "{state} {end} {limit} {partition}");
        }
    }

    #[test]
    fn a_node_is_free_when_its_last_job_has_ended() {
        let (early, late) = (job("R", "20000", "5:00", "batch"), job("R", "30000", "5:00", "batch"));
        let suspended = job("S", "20000", "5:00", "batch");
        for (state, jobs, expected) in [
            ("IDLE", vec![], FreeAt::Now),
            ("IDLE+DRAIN", vec![], FreeAt::Now),
            ("MIXED", vec![&late, &early], FreeAt::At(30_180)),
            // The node was read after its last job had ended, or the job has only started.
            ("IDLE", vec![&early], FreeAt::At(20_180)),
            // Slurm shows IDLE if all jobs are suspended.
            ("IDLE", vec![&suspended], FreeAt::Unknown(NoEnd::Suspended(suspended.id))),
            ("MIXED", vec![&early, &suspended], FreeAt::Unknown(NoEnd::Suspended(suspended.id))),
            ("ALLOCATED", vec![], FreeAt::Unknown(NoEnd::JobNotKnown)),
            ("MIXED+DRAIN", vec![], FreeAt::Unknown(NoEnd::JobNotKnown)),
            ("IDLE+COMPLETING", vec![], FreeAt::Unknown(NoEnd::JobNotKnown)),
        ] {
            assert_eq!(free_at(&node(state), &jobs, &ends(), NOW), expected, "{state} {jobs:?}");
        }
    }

    #[test]
    fn no_end_is_before_now_and_none_overflows() {
        let far = job("R", &u64::MAX.to_string(), "5:00", "long");
        assert_eq!(ends().latest_end(&far, NOW), Ok(u64::MAX));
        let far = job("CG", &u64::MAX.to_string(), "5:00", "long");
        assert_eq!(ends().latest_end(&far, u64::MAX), Ok(u64::MAX));
    }

    proptest! {
        #[test]
        fn a_further_job_never_frees_a_node_earlier(
            times in prop::collection::vec((0u64..40_000, any::<bool>()), 0..6),
        ) {
            let jobs: Vec<Job> = times
                .iter()
                .map(|(end, endless)| {
                    let limit = if *endless { "UNLIMITED" } else { "5:00" };
                    job("R", &end.to_string(), limit, "batch")
                })
                .collect();
            let jobs: Vec<&Job> = jobs.iter().collect();
            let rank = |jobs: &[&Job]| match free_at(&node("IDLE"), jobs, &ends(), NOW) {
                FreeAt::Now => 0,
                FreeAt::At(end_s) => end_s,
                FreeAt::Unknown(_) => u64::MAX,
            };
            for count in 1..=jobs.len() {
                prop_assert!(rank(&jobs[..count]) >= rank(&jobs[..count - 1]));
                prop_assert!(rank(&jobs[..count]) >= NOW);
            }
        }
    }
}
