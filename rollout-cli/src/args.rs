//! The command line and its help.

use clap::{Parser, Subcommand};
use rollout_control::config;
use std::path::PathBuf;

/// Updates the nodes of a Slurm cluster while their jobs go on.
#[derive(Debug, Parser)]
#[command(
    name = "slurm-rollout",
    version,
    after_help = "\
A rollout:
  slurm-rollout stage driver.toml
  scontrol reboot ASAP nextstate=resume reason=driver-580 cn[001-128]
  slurm-rollout status driver-580

Exit codes:
  0  done
  1  not done, or not for all nodes; standard error says why
  2  called wrongly
  3  status: a node is held, failed, unreachable or rolled back
     doctor: there is a problem"
)]
pub struct Args {
    /// Configuration file; drop-ins are in the directory of the same name ending in .d
    #[arg(long, value_name = "FILE", default_value = config::PATH, global = true)]
    pub config: PathBuf,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Record a manifest as what its nodes shall become; touches no node
    Stage(StageArgs),
    /// Call off what is staged and not yet ordered
    Unstage(UnstageArgs),
    /// Where the nodes stand, by journal, agents and Slurm
    Status(StatusArgs),
    /// A rollout's manifest and all that happened to it
    Show(ShowArgs),
    /// All rollouts, oldest first
    History(HistoryArgs),
    /// Carry out again what failed: at once on held nodes, else at their next scontrol reboot
    Retry(RetryArgs),
    /// Give a held node back to Slurm as it is, on your word
    Release(ReleaseArgs),
    /// What is wrong with this installation, why it matters and what to do
    Doctor(DoctorArgs),
    /// The configuration of this host
    #[command(subcommand)]
    Config(ConfigVerb),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slurm-rollout stage --dry-run driver.toml
  slurm-rollout stage driver.toml

A manifest:
  name  = \"driver-580\"
  nodes = \"cn[001-128]\"
  [[change]]
  kind    = \"packages\"
  install = [\"nvidia-driver-580.65.06\"]
  [[change]]
  kind   = \"symlink\"
  path   = \"/opt/slurm/current\"
  target = \"/opt/slurm/24.11.5\"
  [verify]
  commands   = [[\"/usr/sbin/nhc\"]]
  on_failure = \"rollback\"")]
pub struct StageArgs {
    /// The manifest; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Check everything, record nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slurm-rollout unstage driver-580
  slurm-rollout unstage driver-580 cn[001-004]")]
pub struct UnstageArgs {
    /// The rollout
    pub rollout: String,
    /// Only these of its nodes
    #[arg(value_name = "NODES")]
    pub nodes: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slurm-rollout status                 rollouts that are not finished, or the newest
  slurm-rollout status driver-580
  slurm-rollout status -N cn[001-004]  node by node
  slurm-rollout status --json driver-580

Phases: staged, draining, ordered, applying, rebooting, verifying, updated; rolled-back, held, released; failed (the
agent refused), unreachable. Exit code 3 if a node is held, failed, unreachable or rolled back.")]
pub struct StatusArgs {
    /// A rollout, or nodes
    #[arg(value_name = "ROLLOUT|NODES")]
    pub what: Option<String>,
    /// A line a node
    #[arg(short = 'N', long)]
    pub nodes: bool,
    /// JSON, always a line a node
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slurm-rollout show driver-580")]
pub struct ShowArgs {
    /// The rollout
    pub rollout: String,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct HistoryArgs {
    /// JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slurm-rollout retry cn[017,044]")]
pub struct RetryArgs {
    /// Nodes that are held, rolled back, failed or unreachable
    #[arg(value_name = "NODES")]
    pub nodes: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  slurm-rollout release cn017")]
pub struct ReleaseArgs {
    /// The held node
    #[arg(value_name = "NODE")]
    pub node: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slurm-rollout doctor              this controller, Slurm, and the agents of all nodes
  slurm-rollout doctor cn[001-004]  the agents of these nodes only
  slurm-rollout doctor --json

Best as root on a SlurmctldHost: others cannot try what SlurmUser may do. It changes nothing. On a node without slurmctld
it says what was left out, and shows what `slurm-rollout-agent doctor` finds there.

Each finding is ok, a warning (it works, until something happens) or a problem (rollouts fail, or will). Problems come
last, each with why it matters and what to do.

Exit codes: 0 no problem, 3 a problem was found, 1 doctor itself failed.")]
pub struct DoctorArgs {
    /// Ask the agents of these nodes only
    #[arg(value_name = "NODES")]
    pub nodes: Option<String>,
    /// JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check it: which files were read, every key's value and where it comes from, every mistake
    Check(ConfigCheckArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slurm-rollout config check
  slurm-rollout --config /tmp/controller.toml config check --json

Exit codes: 0 it can be used, 1 it cannot: every program of slurm-rollout refuses it, too.")]
pub struct ConfigCheckArgs {
    /// JSON
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        super::Args::command().debug_assert();
    }
}
