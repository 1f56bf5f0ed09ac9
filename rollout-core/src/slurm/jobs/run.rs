//! Jobs of ours with their ends, as `squeue -t all -o RUN_FORMAT` prints them (`src/squeue/print.c`, 22.05 to 26.05).

use crate::slurm::parsed::Parsed;

/// Fields of a job of ours, for `squeue -o`. Users write the name, which comes last.
pub const RUN_FORMAT: &str = "%A|%T|%r|%v|%j";

/// Number of fields in [`RUN_FORMAT`].
const FIELDS: usize = 5;

/// States of a job that is over (`job_state_string` in `src/common/slurm_protocol_defs.c`, 22.05 to 26.05). A job in any
/// other state, or in one of a later release, is not.
const OVER: [&str; 12] = [
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "LAUNCH_FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "RECONFIG_FAIL",
    "REVOKED",
    "TIMEOUT",
];

/// A job that is pending, has nodes, or ended less than MinJobAge ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRun {
    pub job: u32,
    /// Such as `RUNNING`.
    pub state: String,
    /// Such as `NonZeroExitCode`, in the words of Slurm.
    pub reason: String,
    pub reservation: String,
    pub name: String,
}

impl JobRun {
    /// Returns whether the job is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        OVER.contains(&self.state.as_str())
    }

    /// Returns whether the job is over, and its script exited with 0.
    #[must_use]
    pub fn has_succeeded(&self) -> bool {
        self.state == "COMPLETED"
    }
}

/// Parses the output of squeue.
#[must_use]
pub fn parse_runs(text: &str) -> Parsed<JobRun> {
    Parsed::of(text.lines().filter(|line| !line.is_empty()), parse_run)
}

fn parse_run(line: &str) -> Result<JobRun, String> {
    let fields: Vec<&str> = line.splitn(FIELDS, '|').collect();
    let [job, state, reason, reservation, name] = fields[..] else {
        return Err(format!("this is no job: it has {} of {FIELDS} fields", fields.len()));
    };
    let job = job.parse().map_err(|_| format!("{job:?} is no job id"))?;
    let [state, reason, reservation, name] = [state, reason, reservation, name].map(str::to_owned);
    Ok(JobRun { job, state, reason, reservation, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_job_that_completed_has_succeeded() {
        let line =
            |state: &str| format!("7|{state}|NonZeroExitCode|slurm-rollout-a@@1|slurm-rollout-a@@1.5\n");
        for (state, is_over, has_succeeded) in [
            ("PENDING", false, false),
            ("RUNNING", false, false),
            ("COMPLETING", false, false),
            ("COMPLETED", true, true),
            ("FAILED", true, false),
            ("TIMEOUT", true, false),
            ("CANCELLED", true, false),
            ("NODE_FAIL", true, false),
            ("A_LATER_STATE", false, false),
        ] {
            let run = parse_runs(&line(state)).items.remove(0);
            assert_eq!((run.is_over(), run.has_succeeded()), (is_over, has_succeeded), "{state}");
            assert_eq!((run.job, run.reservation.as_str()), (7, "slurm-rollout-a@@1"));
            assert_eq!((run.name.as_str(), run.reason.as_str()), ("slurm-rollout-a@@1.5", "NonZeroExitCode"));
        }
        assert_eq!(RUN_FORMAT.split('|').count(), FIELDS);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_reported() {
        for line in ["slurm_load_jobs error", "x|RUNNING|None|r|n", "7|RUNNING|None|r"] {
            let parsed = parse_runs(line);
            assert!(parsed.items.is_empty() && parsed.unread.len() == 1, "{line}: {parsed:?}");
        }
        assert!(parse_runs("").is_complete());
    }
}
