//! Batch jobs of ours.

use super::Scontrol;
use super::arguments::{SlurmError, check_name, one_argument};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::jobs::{JobRun, RUN_FORMAT, parse_runs};
use rollout_core::slurm::parsed::Parsed;
use std::time::Duration;

/// A batch job to submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewJob<'a> {
    /// Absolute path of the script, which sbatch reads.
    pub script: &'a str,
    pub name: &'a str,
    pub reservation: &'a str,
    /// It runs on all of these nodes.
    pub nodes: &'a NodeSet,
    /// In whole minutes for Slurm.
    pub time_limit: Duration,
    /// The user who runs it. Only root can submit jobs of others.
    pub user: Option<&'a str>,
    /// Further options. Those that are set by the other fields take precedence.
    pub options: &'a [String],
}

impl Scontrol {
    /// Submits a batch job, which is not requeued. It runs in `/`, and without an option for it, its output is lost.
    ///
    /// # Errors
    /// If an argument is refused, or sbatch fails or does not answer in time. Slurm may have the job all the same: look
    /// for its name.
    pub fn submit(&self, job: &NewJob<'_>) -> Result<(), SlurmError> {
        check_name("job name", job.name)?;
        check_name("reservation", job.reservation)?;
        if !job.script.starts_with('/') {
            return Err(SlurmError::argument("script", job.script, "not an absolute path"));
        }
        if let Some(option) = job.options.iter().find(|option| !option.starts_with("--")) {
            return Err(SlurmError::argument("option", option, "it does not begin with --"));
        }
        let user =
            job.user.map(|user| check_name("user", user).map(|()| format!("--uid={user}"))).transpose()?;
        let program =
            self.program_at(&self.path.with_file_name("sbatch"), ["--chdir=/", "--output=/dev/null"]);
        let program = program.args(job.options).args(user).args([
            "--parsable".to_owned(),
            "--no-requeue".to_owned(),
            format!("--job-name={}", job.name),
            format!("--reservation={}", job.reservation),
            format!("--nodes={}", job.nodes.len()),
            format!("--nodelist={}", one_argument(job.nodes)?),
            format!("--time={}", job.time_limit.as_secs().div_ceil(60)),
            job.script.to_owned(),
        ]);
        Ok(program.run().map(drop)?)
    }

    /// Returns the jobs with these names, with those that ended less than MinJobAge ago.
    ///
    /// # Errors
    /// If a name is refused, or squeue fails or does not answer in time.
    pub fn runs(&self, names: &[String]) -> Result<Parsed<JobRun>, SlurmError> {
        names.iter().try_for_each(|name| check_name("job name", name))?;
        let program = self.program_at(&self.squeue, ["-h", "-a", "-t", "all", "-o", RUN_FORMAT]);
        let output = program.arg(format!("--name={}", names.join(","))).run()?;
        Ok(parse_runs(&output.stdout))
    }
}
