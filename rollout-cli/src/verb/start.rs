//! `start ROLLOUT`: has the reboots of its nodes requested.

use crate::before_start::{self, doubts, failed_before, unknown_after};
use crate::conducting::Conducting;
use crate::context::Context;
use crate::failure::Failure;
use crate::table::one_line;
use rollout_cli::args::StartArgs;
use rollout_cli::executor::history::{self, Findings};
use rollout_cli::executor::usage::Usage;
use rollout_core::controller::conduct;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::rollout::journal::ConductState;
use rollout_plan::budget::Doubt;
use rollout_plan::strategy::{self, Strategy};
use std::process::ExitCode;
use std::time::Duration;

/// Time limit for each question to Slurm.
const SLURM_LIMIT: Duration = Duration::from_secs(5);

pub(crate) fn run(context: &Context, args: &StartArgs) -> Result<ExitCode, Failure> {
    let id = context.store.find(&args.rollout)?;
    let snapshot = context.store.snapshot()?;
    let is_new = |rollout: &&RolloutState| rollout.conduct.state == ConductState::NotStarted;
    if let Some(rollout) = snapshot.rollout(&id).filter(is_new) {
        check(context, &snapshot, rollout, args)?;
    }
    let decide = |snapshot: &_, id: &str| conduct::start(snapshot, id);
    Conducting::decide(context, &id, decide)?.finish(args.json)
}

/// Refuses a rollout that would do something else than meant.
fn check(
    context: &Context,
    snapshot: &Snapshot,
    rollout: &RolloutState,
    args: &StartArgs,
) -> Result<(), Failure> {
    let id = &rollout.id;
    // If the manifest cannot be read, the decision names the error.
    let Ok(manifest) = &rollout.manifest else { return Ok(()) };
    let text = context.store.manifest_text(id)?;
    let strategy = strategy::of_manifest(&text, &manifest.nodes)
        .map_err(|error| Failure(format!("{id}: its strategy cannot be read: {error}")))?;
    if let Some(why) = unknown_after(context, id, &strategy)? {
        let remedy = format!("stage that one first, or unstage {id} and correct its manifest");
        return Err(Failure(format!("{id}: {why}; {remedy}")));
    }
    check_experience(context, snapshot, rollout, &strategy, args)
}

/// Refuses a rollout whose changes failed on the same kind of hardware, or whose nodes Slurm would give up, unless that
/// is accepted. Warns of limits.
fn check_experience(
    context: &Context,
    snapshot: &Snapshot,
    rollout: &RolloutState,
    strategy: &Strategy,
    args: &StartArgs,
) -> Result<(), Failure> {
    let id = &rollout.id;
    let warn = |why: &str| eprintln!("slurm-rollout: warning: {}", one_line(why));
    let scontrol = context.config.scontrol().within(SLURM_LIMIT);
    let usage = Usage::read_settings(&scontrol);
    usage.trouble.iter().for_each(|why| warn(why));
    let Findings { expected, ends } =
        history::read(&context.store, snapshot, &[rollout]).remove(id).unwrap_or_default();
    let nodes = if ends.is_without_failure() { Ok(Vec::new()) } else { scontrol.show_all_nodes() };
    let nodes = nodes.unwrap_or_else(|error| {
        warn(&format!("Slurm's nodes are not known: {error}"));
        Vec::new()
    });
    let slurm = nodes.into_iter().map(|info| (info.name.clone(), info)).collect();
    let bad = failed_before(snapshot, rollout, strategy, &ends, &slurm);
    let bad = bad.iter().map(|bad| (!args.again, before_start::text_of(bad)));
    let doubts = doubts(snapshot, rollout, strategy, usage.settings(), expected.as_ref());
    let refuses = |doubt: &Doubt| doubt.refuses() && !args.accept_resume_timeout;
    let doubts = doubts.iter().map(|doubt| (refuses(doubt), one_line(&doubt.to_string())));
    let (refused, accepted): (Vec<_>, Vec<_>) = bad.chain(doubts).partition(|(refuses, _)| *refuses);
    accepted.iter().for_each(|(_, why)| warn(why));
    let refused: Vec<String> = refused.into_iter().map(|(_, why)| why).collect();
    if refused.is_empty() { Ok(()) } else { Err(Failure(format!("{id}: {}", refused.join("\n")))) }
}
