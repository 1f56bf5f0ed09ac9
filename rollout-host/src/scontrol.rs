//! Runs `scontrol`, `squeue`, `scancel` and `sbatch`: shows what Slurm has, and asks it for changes.
//!
//! | module | holds |
//! |---|---|
//! | `reboots` | requests of reboots, and their withdrawal |
//! | `jobs` | `squeue`, and what is asked of jobs |
//! | `reservations` | reservations |
//! | `batch` | batch jobs of ours |
//! | `arguments` | checks of arguments, and lists that are too long for one |
//!
//! No argument goes through a shell. Slurm accepts requests that have no effect, so callers read the result back.

use crate::run::{Program, RunError};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::next_state::drained_at_request;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::node::parse::parse_nodes;
use rollout_core::slurm::node_name::parse_aliases;
use rollout_core::slurm::parsed::Parsed;
use rollout_core::slurm::partitions::{Partition, parse_partitions};
use rollout_core::slurm::reason::Reason;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod arguments;
mod batch;
mod jobs;
mod reboots;
mod reservations;
#[cfg(test)]
mod tests;

use arguments::MAX_ARGUMENT;
pub use arguments::SlurmError;
pub use batch::NewJob;
pub use reboots::RebootRequest;
pub use reservations::{NewReservation, NodesChange, ReservationChange, ReservationFlag};

/// Paths, environment and time limit of `scontrol` and of the commands beside it.
#[derive(Debug, Clone)]
pub struct Scontrol {
    path: PathBuf,
    squeue: PathBuf,
    slurm_conf: Option<PathBuf>,
    conf_server: Option<String>,
    limit: Duration,
}

impl Scontrol {
    /// Runs the `scontrol` at `path`, with `squeue`, `scancel` and `sbatch` beside it. Sets `SLURM_CONF` if `slurm_conf` is
    /// given, else Slurm's default counts.
    #[must_use]
    pub fn new(path: PathBuf, slurm_conf: Option<PathBuf>, limit: Duration) -> Self {
        Self { squeue: path.with_file_name("squeue"), path, slurm_conf, conf_server: None, limit }
    }

    /// Runs the `squeue` at this path, if there is one.
    #[must_use]
    pub fn with_squeue(self, squeue: Option<PathBuf>) -> Self {
        Self { squeue: squeue.unwrap_or(self.squeue), ..self }
    }

    /// Sets `SLURM_CONF_SERVER`, the slurmctld to fetch the configuration from: `HOST[:PORT]`, or several with commas.
    /// scontrol asks it only if it finds no configuration file (`_establish_config_source` in
    /// `src/common/read_config.c`, 22.05 to 26.05).
    #[must_use]
    pub fn fetching_from(self, conf_server: Option<String>) -> Self {
        Self { conf_server, ..self }
    }

    /// Returns the same with a different time limit.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Returns these nodes as Slurm shows them, including hidden ones. Unknown nodes are missing from the answer.
    /// Takes one RPC for any number of nodes: scontrol filters on its own side.
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
        // Exit code 1 may also mean that one of the nodes is unknown.
        let unknown = output.stderr.contains("not found") || output.stdout.contains("not found");
        if output.status.success() || !found.is_empty() || unknown {
            Ok(found)
        } else {
            Err(program.failed(&output))
        }
    }

    /// Returns all nodes as Slurm shows them, including hidden ones.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn show_all_nodes(&self) -> Result<Vec<NodeInfo>, RunError> {
        Ok(parse_nodes(&self.program(["show", "node", "-o", "-a"]).run()?.stdout))
    }

    /// Returns the nodes with this NodeHostName. scontrol reads its configuration and asks slurmctld only if it has to
    /// fetch that (`_print_aliases` in `src/scontrol/scontrol.c`, 22.05 to 26.05).
    ///
    /// # Errors
    /// If scontrol fails or does not end in time.
    pub fn aliases(&self, host_name: &str) -> Result<Vec<String>, RunError> {
        Ok(parse_aliases(&self.program(["show", "aliases"]).arg(host_name).run()?.stdout))
    }

    /// Returns for each of these nodes whether it had DRAIN when its reboot was requested. Nodes for which Slurm does
    /// not tell are missing.
    ///
    /// # Errors
    /// If scontrol fails, does not answer in time or has no JSON: before 23.02, or without `serializer_json.so`.
    pub fn drained_at_request(&self, nodes: &NodeSet) -> Result<BTreeMap<String, bool>, RunError> {
        let program = self.program(["--json", "show", "node", "-a"]).arg(nodes.to_string());
        let output = program.run()?;
        drained_at_request(&output.stdout).map_err(|_| program.failed(&output))
    }

    /// Returns the configuration that slurmctld has loaded.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn show_config(&self) -> Result<SlurmConfig, RunError> {
        Ok(SlurmConfig::parse(&self.program(["show", "config"]).run()?.stdout))
    }

    /// Returns all partitions, including hidden ones.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn show_partitions(&self) -> Result<Parsed<Partition>, RunError> {
        Ok(parse_partitions(&self.program(["show", "part", "-o", "-a"]).run()?.stdout))
    }

    /// Sets the Reason of nodes with one RPC. Slurm keeps it only on nodes that are DOWN, DRAIN or FAIL.
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

    /// Removes DRAIN from nodes and leaves everything else as it is.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn undrain(&self, nodes: &NodeSet) -> Result<(), RunError> {
        self.update(nodes, &["State=UNDRAIN"])
    }

    /// Removes DRAIN from nodes that are down, and sets their Reason with the same RPC, which leaves them down
    /// (`update_node` in `src/slurmctld/node_mgr.c`, 26.11).
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn undrain_with_reason(&self, nodes: &NodeSet, reason: &Reason) -> Result<(), RunError> {
        self.update(nodes, &["State=UNDRAIN", &format!("Reason={reason}")])
    }

    /// Puts nodes back into service.
    ///
    /// # Errors
    /// If scontrol fails or does not answer in time.
    pub fn resume(&self, nodes: &NodeSet) -> Result<(), RunError> {
        self.update(nodes, &["State=RESUME"])
    }

    fn update(&self, nodes: &NodeSet, settings: &[&str]) -> Result<(), RunError> {
        self.program(["update"]).arg(format!("NodeName={nodes}")).args(settings).run().map(drop)
    }

    fn program<const N: usize>(&self, arguments: [&str; N]) -> Program {
        self.program_at(&self.path, arguments)
    }

    fn program_at<const N: usize>(&self, path: &Path, arguments: [&str; N]) -> Program {
        // scontrol prints times without a zone: set one, so that they can be parsed.
        let program = Program::new(path, self.limit).args(arguments).env("TZ", "UTC0");
        match (&self.slurm_conf, &self.conf_server) {
            (Some(path), _) => program.env("SLURM_CONF", path),
            (None, Some(server)) => program.env("SLURM_CONF_SERVER", server),
            (None, None) => program,
        }
    }
}

/// Has times printed as seconds since 1970.
fn with_epochs(program: Program) -> Program {
    program.env("SLURM_TIME_FORMAT", "%s")
}
