//! The command line and its help.
//!
//! What follows the options (`after_help`) is written for a terminal of 80 columns, and as `rollout_manual::help` reads
//! it: paragraphs, headings that end in a colon, lists indented by two, what is left as it is by four.

use clap::{Parser, Subcommand, ValueHint};
use rollout_control::config;
use std::path::PathBuf;

/// Updates the nodes of a Slurm cluster while their jobs go on.
#[derive(Debug, Parser)]
#[command(
    name = "slurm-rollout",
    version,
    subcommand_help_heading = "Verbs",
    subcommand_value_name = "VERB",
    after_help = "\
Stage a manifest, which names nodes and what they shall become. Nothing happens
to a node until Slurm hands it over, free of jobs, for `scontrol reboot`: then
it is changed, rebooted and proven, and given back, or goes back to what it was.

Run it on a SlurmctldHost. Everybody may look, root and SlurmUser may do the
rest. Each verb has examples: slurm-rollout VERB --help, or its manual page.

Examples:
  slurm-rollout stage driver.toml    check a manifest and record it
  scontrol reboot ASAP nextstate=resume reason=driver-580 cn[001-128]
                                     have Slurm free and reboot its nodes
  slurm-rollout status driver-580    see where they stand
  slurm-rollout status -N cn017      see why this one is not done
  slurm-rollout retry cn017          do it again after mending the cause

Exit codes:
  0  done
  1  not done, or not for all nodes; standard error says why
  2  called wrongly
  3  a node is held, failed, unreachable or rolled back (status);
     there is a problem (doctor)"
)]
pub struct Args {
    /// Configuration file; its drop-ins are in the directory of the same name with .d for .toml
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = config::PATH, global = true, display_order = 900)]
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
    /// Stage what brings nodes back to what they were before a rollout
    Undo(UndoArgs),
    /// Send the orders that got lost between Slurm and the nodes
    Reconcile(ReconcileArgs),
    /// What is wrong with this installation, why it matters and what to do
    Doctor(DoctorArgs),
    /// The configuration of this host
    #[command(subcommand)]
    Config(ConfigVerb),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything is checked first: the keys, the nodes (Slurm must have them), that
none of them has another rollout staged. Then all of it is recorded, or nothing.
The last line of output is the scontrol reboot to go on with.

To change what is staged, unstage it and stage it anew. A name may be used again
when its rollout is over; the second one is NAME@2.

Examples:
  slurm-rollout stage --dry-run driver.toml    only check it
  slurm-rollout stage driver.toml
  sed s/@NODES@/cn001/ driver.in | slurm-rollout stage -
                                               from standard input

Manifest:
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
    on_failure = \"rollback\"

All its keys are in slurm-rollout-manifest(5).")]
pub struct StageArgs {
    /// The manifest; - for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Check everything, record nothing; anybody may
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A node that has its order already carries it out to the end. A node that still
drains for its reboot goes on draining, and then is only rebooted: call that off
with scontrol cancel_reboot.

Examples:
  slurm-rollout unstage driver-580
  slurm-rollout unstage driver-580 cn[001-004]    only these of its nodes
  scontrol cancel_reboot cn[001-004]              and leave them in service")]
pub struct UnstageArgs {
    /// The rollout; without @NUMBER the newest of this name
    pub rollout: String,
    /// Only these of its nodes, as a hostlist; without it all of them
    #[arg(value_name = "NODES")]
    pub nodes: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slurm-rollout status                 what is not over, and the newest rollout
  slurm-rollout status driver-580      this one
  slurm-rollout status -N cn[001-004]  all about these nodes, a line a node
  slurm-rollout status --json | jq '.[] | select(.phase == \"held\")'
                                       all about the nodes that are held

Phases:
  staged       waits for a scontrol reboot of the node
  draining     Slurm waits for the node's jobs
  ordered      the node has its order
  applying     packages and links are being changed, or changed back
  rebooting    on its way down or up
  verifying    up again; changes, mounts and commands are being proven
  updated      what was staged, and given back to Slurm
  rolled-back  something failed; as it was before, and given back to Slurm
  held         something failed; kept out of service until you say retry or
               release
  released     was held, and given back on somebody's word
  failed       its agent refused the order, or takes none; nothing was changed,
               still staged
  unreachable  its agent did not answer; nothing was changed, still staged

The NOTE says what failed, or what is being waited for. Slurm's Reason
(`sinfo -R`) has it too while the node is out of service.

Exit codes:
  0  no node needs you
  1  not done, such as for want of such a rollout; standard error says why
  2  called wrongly
  3  a node is held, failed, unreachable or rolled back")]
pub struct StatusArgs {
    /// A rollout, or nodes as a hostlist; without it rollouts that are not over, and the newest
    #[arg(value_name = "ROLLOUT|NODES")]
    pub what: Option<String>,
    /// A line a node, with its state in Slurm
    #[arg(short = 'N', long)]
    pub nodes: bool,
    /// JSON, an object a node: node, rollout, phase, since_ms, slurm_state, boot_id, note
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks neither agents nor Slurm: what nodes are doing now, status says.

Examples:
  slurm-rollout show driver-580
  slurm-rollout show driver-580@1    the first of this name
  slurm-rollout show --json driver-580 | jq -r .manifest > again.toml")]
pub struct ShowArgs {
    /// The rollout; without @NUMBER the newest of this name
    pub rollout: String,
    /// JSON: rollout, manifest (its text), journal (an object an event)
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A line a rollout: when it was staged and by whom, its nodes, and how many are in
which phase as far as its journal knows. Asks neither agents nor Slurm: what
nodes are doing now, status says.

Examples:
  slurm-rollout history
  slurm-rollout history --json | jq -r '.[].rollout'")]
pub struct HistoryArgs {
    /// JSON, an object a rollout: rollout, staged_ms, by, nodes, phases
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
First mend what failed; `slurm-rollout status -N NODES` says what it was. Then:

  held                   the order is carried out once more, now: changes,
                         reboot, proof
  rolled-back, released  the change is staged again; the scontrol reboot to go
                         on with is printed
  failed, unreachable    the change is still staged: once the node is back in
                         service (scontrol update nodename=NODE state=resume),
                         scontrol reboot it again

Examples:
  slurm-rollout status -N cn[017,044]    what failed
  slurm-rollout retry cn[017,044]")]
pub struct RetryArgs {
    /// Nodes that are held, rolled back or released, as a hostlist
    #[arg(value_name = "NODES")]
    pub nodes: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is proven again: slurmd starts, and Slurm has the node. It is as it was
before the rollout, unless its note in status says that the undo failed. Look at
it first. To have the change as well, retry instead.

Examples:
  slurm-rollout status -N cn017    why it is held
  slurm-rollout release cn017")]
pub struct ReleaseArgs {
    /// The held node, one at a time
    #[arg(value_name = "NODE")]
    pub node: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Slurm runs RebootProgram once for a node, marks the node as being rebooted
first, and never asks again. So an order is lost where slurmctld was killed or
reconfigured at that moment, could not start the program, or where the node's
agent was down. This finds such nodes, asks their agents, and orders them as
RebootProgram would. A node that has booted since is left alone: Slurm takes
that boot for its reboot.

slurm-rollout-reconcile.timer runs it every half minute. It orders only nodes
that Slurm shows as REBOOT_ISSUED, says nothing where nothing is lost, and may
run on all SlurmctldHosts at once.

It also looks after nodes whose image is changed: a node without a disk is told
after its boot what it should be, and a node that did not come back, or went
back, gets again what it booted from before. RebootProgram has
slurm-rollout-reconcile.path start it, with --wait, when there are such nodes.

Examples:
  slurm-rollout reconcile
  systemctl status slurm-rollout-reconcile.timer
  journalctl -u slurm-rollout-reconcile          what it did

Exit codes:
  0  no order was lost, or all were sent
  1  some node did not get its order; the journal of its rollout says why")]
pub struct ReconcileArgs {
    /// JSON: lost, ordered, and failed nodes by their reasons
    #[arg(long)]
    pub json: bool,
    /// Stay until no node is on its way that has to be looked after
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
It asks the agents what the rollout made of their nodes, and the journal what
they booted, and stages that as rollouts of their own, undo-ROLLOUT: links to
where they pointed, packages in the versions from before, the image from
before. The next scontrol reboot does it. Nodes that were not the same before
get rollouts of their own.

It says for which nodes it stages nothing, and why: one that has had another
rollout since (undo that first), one that went back by itself, one whose agent
does not answer. Agents remember their last eight rollouts.

Examples:
  slurm-rollout undo --dry-run driver-580     show what would be staged
  slurm-rollout undo driver-580
  slurm-rollout undo driver-580 cn[001-004]

Exit codes:
  0  staged for all nodes
  1  not for all of them; what it says tells why
  2  called wrongly")]
pub struct UndoArgs {
    /// Its name or id
    pub rollout: String,
    /// Only these of its nodes
    pub nodes: Option<String>,
    /// Show the manifests and stage nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it as root on a SlurmctldHost: others cannot try what SlurmUser may do. It
changes nothing. On a node without slurmctld it says what was left out, and
shows what `slurm-rollout-agent doctor` finds there.

Each finding is ok, a warning (it works, until something happens) or a problem
(rollouts fail, or will). Problems come last, each with why it matters and what
to do.

Examples:
  slurm-rollout doctor              this controller, Slurm, all nodes' agents
  slurm-rollout doctor cn[001-004]  the agents of these nodes only
  slurm-rollout doctor --json

Exit codes:
  0  no problem
  1  doctor itself failed
  2  called wrongly
  3  a problem was found")]
pub struct DoctorArgs {
    /// Ask the agents of these nodes only
    #[arg(value_name = "NODES")]
    pub nodes: Option<String>,
    /// JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check the configuration: which files were read, every key's value and where it comes from, every mistake
    Check(ConfigCheckArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slurm-rollout config check
  slurm-rollout --config /tmp/new.toml config check    before it is installed

Exit codes:
  0  it can be used
  1  it cannot: every program of slurm-rollout refuses it, too
  2  called wrongly")]
pub struct ConfigCheckArgs {
    /// JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::Args;
    use clap::{Command, CommandFactory};

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_verb_has_examples_and_fits_a_terminal() {
        fn look_at(command: &Command) {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:\n  ") || command.has_subcommands(), "{name}: no examples");
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
            command.get_subcommands().for_each(look_at);
        }
        look_at(&Args::command());
    }
}
