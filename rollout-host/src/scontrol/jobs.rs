//! Jobs, and what is asked of them.

use super::arguments::SlurmError;
use super::{Scontrol, with_epochs};
use crate::run::{Program, RunError};
use rollout_core::slurm::jobs::{FORMAT, Job, JobId, parse_jobs};
use rollout_core::slurm::parsed::Parsed;
use rollout_core::text::one_line;

/// Number of characters of a message to a job.
const MAX_MESSAGE: usize = 500;

impl Scontrol {
    /// Returns all jobs that are pending or have nodes, of all users and partitions. PrivateData may hide those of
    /// others from all but root, SlurmUser and operators.
    ///
    /// # Errors
    /// If squeue fails or does not answer in time.
    pub fn jobs(&self) -> Result<Parsed<Job>, RunError> {
        let squeue = self.program_at(&self.squeue, ["-h", "-a", "-o", FORMAT]);
        Ok(parse_jobs(&with_epochs(squeue).run()?.stdout))
    }

    /// Sends a message to the standard error of a running job, by the id of its record. Root, SlurmUser and the job's
    /// owner may.
    ///
    /// # Errors
    /// If the message is empty or begins with `-`, or scontrol fails or does not answer in time.
    pub fn notify(&self, record: u32, message: &str) -> Result<(), SlurmError> {
        let line = one_line(message, MAX_MESSAGE);
        if line.is_empty() || line.starts_with('-') {
            return Err(SlurmError::argument("message", line, "scontrol would take it for an option"));
        }
        Ok(self.program(["notify"]).arg(record.to_string()).arg(line).run().map(drop)?)
    }

    /// Ends a batch job and puts it back into the queue. Slurm refuses jobs that were submitted with `--no-requeue` and
    /// interactive ones.
    ///
    /// # Errors
    /// If the job has no nodes, or scontrol fails or does not answer in time.
    pub fn requeue(&self, job: JobId) -> Result<(), SlurmError> {
        Ok(self.program(["requeue"]).arg(target(job)?).run().map(drop)?)
    }

    /// Sends SIGUSR1 to the script of a batch job, and to no step.
    ///
    /// # Errors
    /// If the job has no nodes, or scancel fails or does not answer in time.
    pub fn signal_script(&self, job: JobId) -> Result<(), SlurmError> {
        Ok(self.scancel(&["--signal=USR1", "--batch"]).arg(target(job)?).run().map(drop)?)
    }

    /// Cancels a job for good.
    ///
    /// # Errors
    /// If the job has no nodes, or scancel fails or does not answer in time.
    pub fn cancel(&self, job: JobId) -> Result<(), SlurmError> {
        Ok(self.scancel(&[]).arg(target(job)?).run().map(drop)?)
    }

    fn scancel(&self, options: &[&str]) -> Program {
        self.program_at(&self.path.with_file_name("scancel"), []).args(options)
    }
}

fn target(job: JobId) -> Result<String, SlurmError> {
    job.target().ok_or_else(|| SlurmError::argument("job", job.to_string(), "these tasks are pending"))
}
