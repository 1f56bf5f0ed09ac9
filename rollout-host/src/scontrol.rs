//! Running `scontrol`: what Slurm says of nodes, and telling it a Reason.

use crate::run::{Program, RunError};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::node::{NodeInfo, parse_nodes};
use rollout_core::slurm::reason::Reason;
use std::path::PathBuf;
use std::time::Duration;

/// Linux takes 128 KiB in one argument (MAX_ARG_STRLEN).
const MAX_ARGUMENT: usize = 100 * 1024;

/// How `scontrol` is run.
#[derive(Debug, Clone)]
pub struct Scontrol {
    path: PathBuf,
    slurm_conf: Option<PathBuf>,
    limit: Duration,
}

impl Scontrol {
    /// `scontrol` by its path, with `SLURM_CONF` if it is not Slurm's default.
    #[must_use]
    pub fn new(path: PathBuf, slurm_conf: Option<PathBuf>, limit: Duration) -> Self {
        Self { path, slurm_conf, limit }
    }

    /// The same with another time limit.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// What Slurm says of these nodes, hidden ones too; those that it does not know are not in the answer. One RPC,
    /// whatever their number: scontrol filters on its own side.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn show_nodes(&self, nodes: &NodeSet) -> Result<Vec<NodeInfo>, RunError> {
        let list = nodes.to_string();
        let mut program = self.program(["show", "node", "-o", "-a"]);
        if list.len() < MAX_ARGUMENT {
            program = program.arg(list);
        }
        let output = program.output()?;
        let mut found = parse_nodes(&output.stdout);
        found.retain(|node| nodes.contains(&node.name));
        // Exit code 1 also stands for "one of them is unknown".
        let unknown = output.stderr.contains("not found") || output.stdout.contains("not found");
        if output.status.success() || !found.is_empty() || unknown {
            Ok(found)
        } else {
            Err(program.failed(&output))
        }
    }

    /// What Slurm says of all its nodes, hidden ones too.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn show_all_nodes(&self) -> Result<Vec<NodeInfo>, RunError> {
        Ok(parse_nodes(&self.program(["show", "node", "-o", "-a"]).run()?.stdout))
    }

    /// Slurm's configuration as slurmctld has it.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn show_config(&self) -> Result<SlurmConfig, RunError> {
        Ok(SlurmConfig::parse(&self.program(["show", "config"]).run()?.stdout))
    }

    /// Sets the Reason of nodes, one RPC. Slurm keeps it only on nodes that are DOWN, DRAIN or FAIL.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn set_reason(&self, nodes: &NodeSet, reason: &Reason) -> Result<(), RunError> {
        self.update(nodes, &[&format!("Reason={reason}")])
    }

    /// Drains nodes with a Reason.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn drain(&self, nodes: &NodeSet, reason: &Reason) -> Result<(), RunError> {
        self.update(nodes, &["State=DRAIN", &format!("Reason={reason}")])
    }

    /// Puts nodes back into service.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn resume(&self, nodes: &NodeSet) -> Result<(), RunError> {
        self.update(nodes, &["State=RESUME"])
    }

    fn update(&self, nodes: &NodeSet, what: &[&str]) -> Result<(), RunError> {
        self.program(["update"]).arg(format!("NodeName={nodes}")).args(what).run().map(drop)
    }

    fn program<const N: usize>(&self, arguments: [&str; N]) -> Program {
        // Times without a zone are only good in a zone that is known.
        let program = Program::new(&self.path, self.limit).args(arguments).env("TZ", "UTC0");
        match &self.slurm_conf {
            Some(path) => program.env("SLURM_CONF", path),
            None => program,
        }
    }
}
