//! Arguments of the verbs that start rollouts and steer them.

#[derive(Debug, clap::Args)]
#[command(after_help = "\
The reboots of its nodes are requested from Slurm, a few at a time, as the
strategy in the manifest and the limits of the site allow. Until then a staged
rollout waits for your own scontrol reboot, which remains possible.

It ends by itself when all its nodes have ended: as staged, or rolled back. If
something fails repeatedly it halts, and waits for resume or stop. A rollout
that was started already is left as it is.

A rollout whose strategy.after names one that was never staged is refused: it
would wait for nothing. So is one whose nodes, by earlier rollouts, take longer
than ResumeTimeout in slurm.conf: Slurm would give up nodes that are only slow.
If the time limits of the manifest alone add up to more, there is a warning.

Refused as well is a rollout whose changes failed in an earlier one on the same
kind of hardware: the same Arch and AvailableFeatures in Slurm. It was rolled
back, held or lost there, and no node of this kind was updated with these
changes since. Correct the cause and start it with --again, or leave the nodes
out. scontrol reboot and retry go on to work for them.

Examples:
  slurm-rollout plan driver-580      show how it would go, and any refusal
  slurm-rollout start driver-580
  slurm-rollout status driver-580    show how far it is
  slurm-rollout pause driver-580

Exit codes:
  0  started, or running already
  1  not started, for example because no node waits, the changes failed
     before, or ResumeTimeout is too short; standard error has the reason
  2  invalid command line")]
pub struct StartArgs {
    /// The rollout; without @NUMBER the newest of this name
    pub rollout: String,
    /// Start it although its changes failed before on the same kind of hardware
    #[arg(long)]
    pub again: bool,
    /// Start it although its nodes take longer than ResumeTimeout
    #[arg(long)]
    pub accept_resume_timeout: bool,
    /// JSON: rollout, changed, report, conduct, frozen
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Requests that Slurm has not begun to carry out are withdrawn: these nodes return
to service, or stay drained if somebody else had drained them. Nodes that Slurm
is rebooting finish. A rollout that is paused already, or has halted, is left as
it is.

Examples:
  slurm-rollout pause driver-580
  slurm-rollout pause driver-580 --why 'benchmark until noon'
  slurm-rollout resume driver-580

Exit codes:
  0  paused, or nothing is requested anyway
  1  not paused, for example because it is not started; standard error has the
     reason
  2  invalid command line")]
pub struct PauseArgs {
    /// The rollout; without @NUMBER the newest of this name
    pub rollout: String,
    /// Reason, for status and history
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// JSON: rollout, changed, report, conduct, frozen
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
After a halt, look for the cause first: status and history show it. Failures so
far no longer count for the next halt. Nodes whose reboot was cancelled with
scontrol cancel_reboot are requested again.

While the site is frozen, nothing is requested before thaw.

Examples:
  slurm-rollout status driver-580    show why it halted
  slurm-rollout resume driver-580

Exit codes:
  0  resumed, or running already
  1  not resumed, for example because it was stopped; standard error has the
     reason
  2  invalid command line")]
pub struct ResumeArgs {
    /// The rollout; without @NUMBER the newest of this name
    pub rollout: String,
    /// JSON: rollout, changed, report, conduct, frozen
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nodes that still wait are unstaged. Requests that Slurm has not begun to carry
out are withdrawn first. Nodes that Slurm is rebooting finish. Updated nodes
stay as they are: see undo.

A stopped rollout is over. To continue for a while later, pause it instead.

Examples:
  slurm-rollout stop driver-580
  slurm-rollout undo driver-580    restore the nodes that were updated

Exit codes:
  0  stopped, or over already
  1  not stopped, because it is not started, or not unstaged for all its nodes;
     standard error has the reason
  2  invalid command line")]
pub struct StopArgs {
    /// The rollout; without @NUMBER the newest of this name
    pub rollout: String,
    /// JSON: rollout, changed, report, conduct, frozen, unstaged
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Waves are counted from 1. The strategy in the manifest names those after which
the rollout waits for an approval. An approval may be given while the wave is
still under way.

Examples:
  slurm-rollout status driver-580       show how the first wave went
  slurm-rollout approve driver-580 1

Exit codes:
  0  approved, now or before
  1  not approved, for example because it is not started; standard error has
     the reason
  2  invalid command line")]
pub struct ApproveArgs {
    /// The rollout; without @NUMBER the newest of this name
    pub rollout: String,
    /// The wave after which the next one may begin
    pub wave: u32,
    /// JSON: rollout, changed, report, conduct, frozen
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
For all rollouts at once: no reboot is requested, and requests that Slurm has
not begun to carry out are withdrawn. Nodes that Slurm is rebooting finish. Your
own scontrol reboot still works.

Rollouts may be started, paused and resumed meanwhile. They go on at thaw.

Examples:
  slurm-rollout freeze --why 'file system trouble'
  slurm-rollout thaw

Exit codes:
  0  frozen, now or before
  1  not frozen; standard error has the reason
  2  invalid command line")]
pub struct FreezeArgs {
    /// Reason, for status
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,
    /// JSON: changed, report, frozen
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Rollouts that were running go on. Paused and halted ones remain so.

Examples:
  slurm-rollout status    show who froze the site, and why
  slurm-rollout thaw

Exit codes:
  0  not frozen any more
  1  still frozen; standard error has the reason
  2  invalid command line")]
pub struct ThawArgs {
    /// JSON: changed, report, frozen
    #[arg(long)]
    pub json: bool,
}
