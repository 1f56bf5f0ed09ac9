//! The verb that switches nodes on and off.

use clap::{Args, ValueEnum};

/// What is to be done with the power of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PowerTask {
    /// Show whether nodes are on or off
    Status,
    /// Switch them on
    On,
    /// Cut their power, or with --soft have their systems shut down
    Off,
    /// Switch them off and, once they are read to be off, on again
    Cycle,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Uses Redfish, IPMI, powerman or a command of your site, by the first table
[[power]] of controller.toml that has the node. The keys are in
slurm-rollout-controller.toml(5). Only root and SlurmUser, who can read the
passwords, may use it.

Each change is read back: a node counts as off or on when its controller says
so, within time_limit of its table (2m). A node whose power cannot be read is
reported as unknown, and never as off. Nodes that are in the state already are
left as they are. 16 nodes are switched at a time.

off and cycle refuse all of the nodes if Slurm shows jobs on one of them, or has
it in service or handed over for a reboot, or does not answer: drain them first.
--force leaves Slurm unasked; jobs on the nodes die.

Slurm is told nothing. A node that is switched off stays as it is there: drained
or down. If a cycle is interrupted, look with status: the node may be off.

Examples:
  slurm-rollout power status cn[001-128]
  scontrol update nodename=cn017 state=drain reason='bad DIMM'
  slurm-rollout power off --soft cn017     once it is drained
  slurm-rollout power on cn017
  slurm-rollout power cycle '@state:down'
  slurm-rollout power cycle --force cn017  although it has jobs
  slurm-rollout power status --json cn017 | jq -r '.[].power'

Exit codes:
  0  done for all nodes, and read back; status: the power of all is known
  1  not done, or not for all nodes; the output and standard error have the
     reasons
  2  invalid command line")]
pub struct PowerArgs {
    #[arg(value_name = "ACTION")]
    pub task: PowerTask,
    /// Nodes, as a hostlist or node set
    #[arg(value_name = "NODES")]
    pub nodes: String,
    /// With off and cycle: ask the nodes' systems to shut down, and cut no power
    #[arg(long)]
    pub soft: bool,
    /// With off and cycle: do not ask Slurm whether nodes have jobs or are in service
    #[arg(long)]
    pub force: bool,
    /// JSON, one object per node: node, power (on, off or null), changed, error
    #[arg(long)]
    pub json: bool,
}
