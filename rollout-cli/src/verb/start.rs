//! `start ROLLOUT`: has the reboots of its nodes requested.

use crate::before_start::{doubts, unknown_after};
use crate::conducting::Conducting;
use crate::context::Context;
use crate::failure::Failure;
use crate::table::one_line;
use rollout_cli::args::StartArgs;
use rollout_cli::executor::history;
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
    check_resume_timeout(context, snapshot, rollout, &strategy, args.accept_resume_timeout)
}

/// Refuses a rollout whose nodes Slurm would give up, and warns of limits.
fn check_resume_timeout(
    context: &Context,
    snapshot: &Snapshot,
    rollout: &RolloutState,
    strategy: &Strategy,
    is_accepted: bool,
) -> Result<(), Failure> {
    let id = &rollout.id;
    let warn = |why: &str| eprintln!("slurm-rollout: warning: {}", one_line(why));
    let usage = Usage::read_settings(&context.config.scontrol().within(SLURM_LIMIT));
    usage.trouble.iter().for_each(|why| warn(why));
    let expected = history::read(&context.store, snapshot, &[rollout]).remove(id);
    let doubts = doubts(snapshot, rollout, strategy, usage.settings(), expected.as_ref());
    let (refused, accepted): (Vec<Doubt>, Vec<Doubt>) =
        doubts.into_iter().partition(|doubt| doubt.refuses() && !is_accepted);
    accepted.iter().for_each(|doubt| warn(&doubt.to_string()));
    let refused: Vec<String> = refused.iter().map(|doubt| one_line(&doubt.to_string())).collect();
    if refused.is_empty() { Ok(()) } else { Err(Failure(format!("{id}: {}", refused.join("\n")))) }
}
