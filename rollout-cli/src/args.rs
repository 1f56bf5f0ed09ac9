//! The command line and its help.
//!
//! The text after the options (`after_help`) is written for a terminal of 80 columns, in the format that
//! `rollout_manual::help` reads: paragraphs, headings that end in a colon, lists indented by two, verbatim text by
//! four.

mod looking;
mod power;
mod steering;

pub use looking::{PlanArgs, RehearseArgs, WhyArgs};
pub use power::{PowerArgs, PowerTask};
pub use steering::{ApproveArgs, FreezeArgs, PauseArgs, ResumeArgs, StartArgs, StopArgs, ThawArgs};

use clap::{Command, CommandFactory, Parser, Subcommand, ValueHint};
use rollout_control::config;
use std::path::PathBuf;

/// Updates the nodes of a Slurm cluster while jobs keep running.
#[derive(Debug, Parser)]
#[command(
    name = "slurm-rollout",
    version,
    subcommand_value_name = "VERB",
    after_help = "\
Stage a manifest, which names nodes and their desired state. A node is not
touched until Slurm hands it over, free of jobs, for `scontrol reboot`. It is
then changed, rebooted and verified, and returned to service, or rolled back.

Run it on a SlurmctldHost. Read-only verbs are for everybody, all others for
root and SlurmUser. Each verb has examples: slurm-rollout VERB --help, or its
manual page.

Examples:
  slurm-rollout stage driver.toml    check a manifest and record it
  slurm-rollout plan driver-580      show how it would go
  slurm-rollout start driver-580     have its nodes rebooted, step by step
  scontrol reboot ASAP nextstate=resume reason=driver-580 cn[001-128]
                                     or choose the nodes and the time yourself
  slurm-rollout status driver-580    show their state
  slurm-rollout status -N cn017      show why this one is not done
  slurm-rollout retry cn017          try again after fixing the cause

Exit codes:
  0  done
  1  not done, or not for all nodes; standard error has the reason
  2  invalid command line
  3  a node is held, failed, unreachable, lost or rolled back (status);
     a problem was found (doctor); something is in the way (rehearse)
  4  something would change (rehearse)"
)]
pub struct Args {
    /// Configuration file; its drop-ins are in the directory of the same name, with .d instead of .toml
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, default_value = config::PATH, global = true, display_order = 900)]
    pub config: PathBuf,
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs, in the order of [`GROUPS`].
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Record a manifest as the desired state of its nodes
    Stage(StageArgs),
    /// Show how a rollout would go, from live data of Slurm
    Plan(PlanArgs),
    /// Run a staged rollout: have its nodes rebooted, step by step
    Start(StartArgs),
    /// Show the state of nodes, from journal, agents and Slurm
    Status(StatusArgs),
    /// Stage the changes that take nodes back to before a rollout
    Undo(UndoArgs),
    /// Let a started rollout request no more reboots for now
    Pause(PauseArgs),
    /// Continue a rollout that was paused or has halted
    Resume(ResumeArgs),
    /// End a started rollout: withdraw its requests and unstage the rest
    Stop(StopArgs),
    /// Approve a wave: let the next one begin
    Approve(ApproveArgs),
    /// Emergency stop: keep all rollouts from requesting reboots
    Freeze(FreezeArgs),
    /// End a freeze
    Thaw(ThawArgs),
    /// Cancel staged changes that are not ordered yet
    Unstage(UnstageArgs),
    /// Ask agents what a rollout would do to their nodes
    Rehearse(RehearseArgs),
    /// Show why nodes are not updated yet
    Why(WhyArgs),
    /// Show a rollout's manifest and all its events
    Show(ShowArgs),
    /// List all rollouts, oldest first
    History(HistoryArgs),
    /// Retry failed nodes: held ones at once, others at their next reboot
    Retry(RetryArgs),
    /// Return a held node to service as it is, unverified
    Release(ReleaseArgs),
    /// Switch nodes on or off through their management controllers
    Power(PowerArgs),
    /// Send the orders that got lost between Slurm and the nodes
    Reconcile(ReconcileArgs),
    /// Move rollouts that are over out of the history
    Archive(ArchiveArgs),
    /// Report problems of this installation, their impact and the remedy
    Doctor(DoctorArgs),
    /// Inspect the configuration of this host
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Internal: doctor runs it as SlurmUser
    #[command(hide = true)]
    SealProbe { nodes: String },
}

/// The verbs by task, as `--help` lists them.
pub const GROUPS: [(&str, &[&str]); 5] = [
    ("Everyday", &["stage", "plan", "start", "status", "undo"]),
    ("Steering", &["pause", "resume", "stop", "approve", "freeze", "thaw", "unstage"]),
    ("Looking", &["rehearse", "why", "show", "history"]),
    ("Nodes that need a hand", &["retry", "release", "power"]),
    ("Background and installation", &["reconcile", "archive", "doctor", "config"]),
];

/// Returns the command line, with its verbs grouped by task in `--help`.
#[must_use]
pub fn command() -> Command {
    let command = Args::command();
    let styles = command.get_styles().clone();
    let (header, literal) = (styles.get_header(), styles.get_literal());
    let verbs = || GROUPS.iter().flat_map(|(_, verbs)| verbs.iter());
    let width = verbs().map(|verb| verb.len()).max().unwrap_or_default();
    let mut template = "{about-with-newline}\n{usage-heading} {usage}\n".to_owned();
    for (title, verbs) in GROUPS {
        template += &format!("\n{header}{title}:{header:#}\n");
        for verb in verbs {
            let about = command.find_subcommand(verb).and_then(Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            template += &format!("  {literal}{verb:width$}{literal:#}  {about}\n");
        }
    }
    template += &format!("\n{header}Options:{header:#}\n{{options}}{{after-help}}");
    command.help_template(template)
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything is checked first: the keys, the nodes (Slurm must have them), and
that none of them has a different rollout staged. Then all of it is recorded, or
nothing. The last lines of output are the two commands to continue with:
scontrol reboot, for nodes that you choose, or start, for all of them in turn.

Nodes are a hostlist or a node set, such as '@partition:gpu!cn017'. Its nodes
are determined now and do not change afterwards.

To change a staged rollout, unstage it and stage it again. A name may be used
again when its rollout is over; the second rollout is NAME@2.

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
    /// Check everything, record nothing; allowed for everybody
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A node that has its order already carries it out to the end. A node that still
drains for its reboot continues to drain, and then is only rebooted: cancel that
with scontrol cancel_reboot. A node that a started rollout has requested stays
staged until the request is cancelled; to end the whole rollout, stop it.

Examples:
  slurm-rollout unstage driver-580
  slurm-rollout unstage driver-580 cn[001-004]    only these of its nodes
  scontrol cancel_reboot cn[001-004]              leave them in service")]
pub struct UnstageArgs {
    /// The rollout; without @NUMBER the newest of this name
    pub rollout: String,
    /// Only these of its nodes, as a hostlist or node set; without it all of them
    #[arg(value_name = "NODES")]
    pub nodes: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slurm-rollout status                 unfinished rollouts, and the newest one
  slurm-rollout status driver-580      this rollout
  slurm-rollout status -N cn[001-004]  these nodes in full, one line per node
  slurm-rollout status --watch         until all of them are over
  slurm-rollout status --json | jq '.[] | select(.phase == \"held\")'
                                       held nodes in full

Phases:
  staged       waits for a scontrol reboot of the node
  draining     Slurm waits for the node's jobs
  ordered      the node has its order
  applying     packages and links are being changed, or changed back
  rebooting    on its way down or up
  verifying    up again; changes, mounts and commands are being verified
  registering  verified; slurmd starts, and Slurm has to accept the node
  updated      as staged, and returned to Slurm
  rolled-back  something failed; as it was before, and returned to Slurm
  held         something failed; kept out of service until you run retry or
               release
  released     was held, and returned to Slurm at an admin's request
  failed       its agent refused the order, or accepts none; nothing was
               changed, still staged
  unreachable  its agent did not answer; nothing was changed, still staged
  lost         it accepted the order and did not come back: Slurm has given up
               on it, or its time is over
  superseded   it has had another order since; how this one ended was not seen

Above the table is the state of rollouts that were started: running, paused,
halted, stopped or done, with their wave, the number of nodes by their standing,
their rate, the likely end, and the event that the whole rollout waits for. With
--watch, a terminal has a bar as well: # updated, ! failed, > requested or out.

The NOTE gives the failure, or the event being waited for. Slurm's Reason
(`sinfo -R`) has it too while the node is out of service. With -N and --json all
agents are asked, also those of nodes that wait or are updated.

Exit codes:
  0  no node needs attention
  1  not done, for example because there is no such rollout; standard error has
     the reason
  2  invalid command line
  3  a node is held, failed, unreachable, lost or rolled back")]
pub struct StatusArgs {
    /// A rollout, or nodes as a hostlist or node set; without it, unfinished rollouts and the newest one
    #[arg(value_name = "ROLLOUT|NODES")]
    pub what: Option<String>,
    /// One line per node, with its state in Slurm
    #[arg(short = 'N', long)]
    pub nodes: bool,
    /// Look again every 5 s until all rollouts shown are over; in a pipe, print only lines that are new
    #[arg(short = 'w', long, conflicts_with = "json")]
    pub watch: bool,
    /// JSON, one object per node: node, rollout, phase, since_ms, slurm_state, boot_id, note, conduct
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
If the rollout changes an image, agents and Slurm are asked which one each node
runs. For the present state of nodes, use status.

Examples:
  slurm-rollout show driver-580
  slurm-rollout show driver-580@1    the first of this name
  slurm-rollout show --json driver-580 | jq -r .manifest > again.toml")]
pub struct ShowArgs {
    /// The rollout; without @NUMBER the newest of this name
    pub rollout: String,
    /// JSON: rollout, manifest (its text), journal (one object per event)
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
One line per rollout: the time it was staged and the user who staged it, its
nodes, its state if it was started, the number of nodes in each phase according
to its journal, and the time from the first order to the last update. Asks
neither agents nor Slurm. For the present state of nodes, use status.

Examples:
  slurm-rollout history
  slurm-rollout history --json | jq -r '.[].rollout'")]
pub struct HistoryArgs {
    /// JSON, one object per rollout: rollout, staged_ms, by, nodes, phases, conduct
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
First fix the cause; `slurm-rollout status -N NODES` shows it. Then:

  held                   the order is carried out once more, now: changes,
                         reboot, verification
  rolled-back, released  the change is staged again; the scontrol reboot to
                         continue with is printed
  failed, unreachable    the change is still staged: once the node is back in
                         service (scontrol update nodename=NODE state=resume),
                         scontrol reboot it again

Examples:
  slurm-rollout status -N cn[017,044]    show the cause
  slurm-rollout retry cn[017,044]
  slurm-rollout retry '@partition:gpu&@state:drained'
                                         these of the partition")]
pub struct RetryArgs {
    /// Nodes that are held, rolled back or released, as a hostlist or node set
    #[arg(value_name = "NODES")]
    pub nodes: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The node is not verified again: slurmd starts, and Slurm has the node. It is as
it was before the rollout, unless its note in status says that the undo failed.
Inspect it first. To apply the change as well, retry instead.

Examples:
  slurm-rollout status -N cn017    show why it is held
  slurm-rollout release cn017")]
pub struct ReleaseArgs {
    /// The held node, one at a time
    #[arg(value_name = "NODE")]
    pub node: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Slurm runs RebootProgram once for a node, marks the node as being rebooted
first, and never asks again. An order is therefore lost if slurmctld was killed
or reconfigured at that moment or could not start the program, or if the node's
agent was down. Reconcile finds such nodes, asks their agents, and orders them
as RebootProgram would. A node that has booted since is left alone: Slurm takes
that boot for its reboot.

slurm-rollout-reconcile.timer runs it every half minute. It orders only nodes
that Slurm shows as REBOOT_ISSUED, prints nothing if no order is lost, and may
run on all SlurmctldHosts at once. On any other host it does nothing.

It also follows up on nodes whose image is changed. It tells a node without a
disk after its boot what it should be. If a node did not come back, or rolled
back, it puts back the node's previous boot source. RebootProgram has
slurm-rollout-reconcile.path start it, with --wait, if there are such nodes.

With --wait it also executes rollouts that were started: every 3 s it asks Slurm
and requests, withdraws or records what is due. One process does so at a time,
on one SlurmctldHost. If it is killed, the next one continues.

Examples:
  slurm-rollout reconcile
  systemctl status slurm-rollout-reconcile.timer
  journalctl -u slurm-rollout-reconcile          show its log

Exit codes:
  0  no order was lost, or all were sent
  1  some node did not get its order, is lost, or could not be followed up: the
     journal of its rollout, or standard error, has the reason")]
pub struct ReconcileArgs {
    /// JSON: lost, ordered, and failed nodes by their reasons
    #[arg(long)]
    pub json: bool,
    /// Run until no node under way needs a follow-up and no rollout runs
    #[arg(long)]
    pub wait: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks the agents for the changes that the rollout made on their nodes, and the
journal for their boot sources, and stages the reverse as rollouts of its own,
undo-ROLLOUT: links to their previous targets, packages in their previous
versions, the previous image. The next scontrol reboot applies it. Nodes that
differed before get rollouts of their own.

It lists the nodes for which it stages nothing, with the reason: a later rollout
(undo that first), a node that rolled back by itself, an agent that does not
answer. Agents remember their last eight rollouts.

Examples:
  slurm-rollout undo --dry-run driver-580     show the manifests
  slurm-rollout undo driver-580
  slurm-rollout undo driver-580 cn[001-004]

Exit codes:
  0  staged for all nodes
  1  not staged for all of them; the output has the reasons
  2  invalid command line")]
pub struct UndoArgs {
    /// Name or id of the rollout
    pub rollout: String,
    /// Only these of its nodes, as a hostlist or node set
    pub nodes: Option<String>,
    /// Show the manifests and stage nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A rollout is over when none of its nodes waits for anything. It stays in
history, and can be undone. An archived rollout cannot: it is only kept, as a
directory below archive/ in the state directory. Reconcile archives by itself,
by the retention in controller.toml.

Examples:
  slurm-rollout archive                what the retention allows, now
  slurm-rollout archive driver-570     this rollout, whatever its age

Exit codes:
  0  done
  1  a rollout is not over, or nothing could be written
  2  invalid command line")]
pub struct ArchiveArgs {
    /// Rollouts to archive; without them, those whose retention is over
    #[arg(value_name = "ROLLOUT")]
    pub rollouts: Vec<String>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Run it as root on a SlurmctldHost: other users cannot test SlurmUser's access.
It changes nothing. On a node without slurmctld it lists the checks left out,
and shows the findings of `slurm-rollout-agent doctor` there.

Each finding is ok, a warning (works, until something happens) or a problem
(rollouts fail, or will). Problems come last, each with its impact and the
remedy.

Examples:
  slurm-rollout doctor              this controller, Slurm, all nodes' agents
  slurm-rollout doctor cn[001-004]  the agents of these nodes only
  slurm-rollout doctor --json

Exit codes:
  0  no problem
  1  doctor itself failed
  2  invalid command line
  3  a problem was found")]
pub struct DoctorArgs {
    /// Ask the agents of these nodes only, a hostlist or node set
    #[arg(value_name = "NODES")]
    pub nodes: Option<String>,
    /// JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check the configuration: list the files read, every key's value and its origin, and every mistake
    Check(ConfigCheckArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  slurm-rollout config check
  slurm-rollout --config /tmp/new.toml config check    before installing it

Exit codes:
  0  the configuration is valid
  1  it is not: every program of slurm-rollout refuses it, too
  2  invalid command line")]
pub struct ConfigCheckArgs {
    /// JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests;
