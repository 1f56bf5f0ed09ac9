//! Jobs that must live through a rollout.

use std::time::Duration;

use crate::error::{LabError, Result};
use crate::product::site::Site;

/// A busy machine starts it within seconds.
const START_LIMIT: Duration = Duration::from_secs(240);

/// A job that has started.
#[derive(Debug)]
pub struct Job {
    /// Its id.
    pub id: String,
    /// Where it runs.
    pub node: String,
}

impl Site {
    /// Starts a job that runs for so long on a node.
    pub fn start_job(&self, node: &str, time: Duration) -> Result<Job> {
        let script = format!("sleep {}; touch /root/job-done", time.as_secs());
        let argv =
            ["sbatch", "--parsable", "--chdir=/tmp", "--output=/dev/null", "-w", node, "--wrap", &script];
        let id = self.cluster.controller().run(&argv)?.trim().to_owned();
        self.cluster.wait_state(node, |state| state.starts_with("ALLOCATED"), START_LIMIT)?;
        Ok(Job { id, node: node.to_owned() })
    }
}

impl Job {
    /// An error unless it ended by itself, in its first run, with all done.
    pub fn ended_well(&self, site: &Site) -> Result<()> {
        let text = site.cluster.scontrol(&["show", "job", "-o", &self.id])?;
        let as_wanted =
            ["JobState=COMPLETED", "Restarts=0", "ExitCode=0:0"].iter().all(|word| text.contains(word));
        let node = site.cluster.node(&self.node);
        let done = !node.has_disk() || node.exec(&["test", "-e", "/root/job-done"])?.success();
        if as_wanted && done {
            Ok(())
        } else {
            Err(LabError::Setup(format!("the job on {}, done {done}: {text}", self.node)))
        }
    }
}
