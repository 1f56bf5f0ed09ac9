//! Jobs that must live through a rollout.

use crate::error::Result;
use crate::product::site::Site;
use crate::wait::{MINUTES, until};

/// File on the node for which the job waits.
const MAY_END: &str = "/run/job-may-end";

/// A running job.
#[derive(Debug)]
pub struct Job {
    id: String,
    /// Node that the job keeps busy.
    pub node: String,
}

impl Site {
    /// Starts a job that keeps a node busy until [`Job::let_end`].
    pub fn start_job(&self, node: &str) -> Result<Job> {
        let script = format!("until [ -e {MAY_END} ]; do sleep 0.2; done; touch /root/job-done");
        let argv =
            ["sbatch", "--parsable", "--chdir=/tmp", "--output=/dev/null", "-w", node, "--wrap", &script];
        let id = self.cluster.controller().run(&argv)?.trim().to_owned();
        self.cluster.wait_state(node, |state| state.starts_with("ALLOCATED"), MINUTES)?;
        Ok(Job { id, node: node.to_owned() })
    }
}

impl Job {
    /// Lets the job end within a second.
    pub fn let_end(&self, site: &Site) -> Result<()> {
        site.cluster.node(&self.node).run(&["touch", MAY_END]).map(drop)
    }

    /// Waits until the job has ended by itself, in its first run, with all done.
    pub fn ended_well(&self, site: &Site) -> Result<()> {
        let show = || site.cluster.scontrol(&["show", "job", "-o", &self.id]);
        let ended_well = |text: &String| {
            ["JobState=COMPLETED", "Restarts=0", "ExitCode=0:0"].iter().all(|word| text.contains(word))
        };
        until(&format!("the good end of the job on {}", self.node), MINUTES, show, ended_well)?;
        let node = site.cluster.node(&self.node);
        if node.has_disk() { node.run(&["test", "-e", "/root/job-done"]).map(drop) } else { Ok(()) }
    }
}
