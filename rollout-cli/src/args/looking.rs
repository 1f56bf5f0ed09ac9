//! The verbs that look ahead.

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "\
Asks Slurm for nodes, jobs, partitions and reservations, and plans as a started
rollout does: the waves, the likely times of each node, the largest number of
nodes that are out at once, and the reason for which each other node waits now.
Nothing is recorded or requested.

The times assume that jobs last until their limits and that no job starts
meanwhile. Times of approvals, other rollouts and failures are left out. Nodes
are away as long as nine of ten were in this rollout, else in earlier ones with
the same kinds of changes, else in those with the same nodes, else 15 minutes.

A reason for which start would refuse the rollout is shown, changes that failed
before on the same kind of hardware, and a ResumeTimeout of Slurm that is, or
may be, too short for its nodes.

FILE is a manifest: a path that contains a slash, ends in .toml or is - for
standard input. Everything else is the name of a rollout.

Examples:
  slurm-rollout plan driver.toml      before it is staged
  slurm-rollout plan driver-580       staged or started
  slurm-rollout plan -N driver-580    with the times of each node
  slurm-rollout plan --json driver-580 | jq .forecast.latest_ms

Exit codes:
  0  planned
  1  not planned, for example because the manifest has an error; standard error
     has the reason
  2  invalid command line
  3  planned, but it or some nodes would be refused, nobody knows when some are
     free, or ResumeTimeout is too short")]
pub struct PlanArgs {
    /// A manifest, or a rollout; without @NUMBER the newest of this name
    #[arg(value_name = "FILE|ROLLOUT")]
    pub what: String,
    /// The times of each node
    #[arg(short = 'N', long)]
    pub nodes: bool,
    /// JSON: rollout, conduct, frozen, refused, plan, forecast, resume_timeout,
    /// failed_before, waiting
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Each agent is asked what it would do if its node were handed over now: packages
with their versions, links with their targets, the image, the kernel arguments,
versions that commands change. It looks for what would make that fail: packages
that no repository offers, for the change or for the way back, missing targets
and programs, too little disk space. Then it tries each mount and command of
[verify] once, today.

Nothing is changed, downloaded or recorded, and nodes stay in service. Package
managers refresh their lists of packages. The probe of a command and those of
[verify] run as root on nodes that may have jobs; --no-verify leaves the latter
out, for example because one tests the new version and has to fail today. Files
are not downloaded, so a file that a mirror lists and lacks is found only later.

Only root and SlurmUser may rehearse, as agents run commands for it. A node that
is carrying out an order, is held or does not answer counts as trouble.

FILE is a manifest: a path that contains a slash, ends in .toml or is - for
standard input. Everything else is the name of a rollout.

Examples:
  slurm-rollout rehearse driver.toml           before it is staged
  slurm-rollout rehearse driver-580            all of its nodes
  slurm-rollout rehearse driver-580 -N cn[001-004]
  slurm-rollout rehearse --json driver-580 | jq -r '.groups[].nodes'

Exit codes:
  0  nothing to do: each node is as the manifest asks
  1  not rehearsed, for example because there is no such rollout; standard error
     has the reason
  2  invalid command line
  3  trouble on some node
  4  no trouble, and something would change")]
pub struct RehearseArgs {
    /// A manifest, or a rollout; without @NUMBER the newest of this name
    #[arg(value_name = "FILE|ROLLOUT")]
    pub what: String,
    /// Only these of its nodes, as a hostlist or node set
    #[arg(short = 'N', long, value_name = "NODES")]
    pub nodes: Option<String>,
    /// Try no mounts and commands of the table verify
    #[arg(long)]
    pub no_verify: bool,
    /// JSON: rollout, verdict, groups (nodes with equal reports: nodes, verdict, no_report, changes, checks, stopped)
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
One line per node, with its rollout and the reasons, the most decisive first: a
job and its limit, a limit or floor, a window, a wave, an approval, a drain, a
failure. Asks Slurm, and neither records nor requests anything.

Examples:
  slurm-rollout why driver-580
  slurm-rollout why cn017
  slurm-rollout why cn[001-004] gpu7
  slurm-rollout why '@partition:gpu'
  slurm-rollout why --json cn017 | jq -r '.[].why[].is'

Exit codes:
  0  shown
  1  not shown; standard error has the reason
  2  invalid command line")]
pub struct WhyArgs {
    /// A rollout, whose waiting nodes are meant, or nodes, as hostlists or node sets
    #[arg(value_name = "ROLLOUT|NODES", required = true)]
    pub what: Vec<String>,
    /// JSON, one object per node: node, rollout, phase, why (kind, data and text of each reason)
    #[arg(long)]
    pub json: bool,
}
