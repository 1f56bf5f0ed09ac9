//! `start ROLLOUT`: has the reboots of its nodes requested.

use crate::before_start::unknown_after;
use crate::conducting::Conducting;
use crate::context::Context;
use crate::failure::Failure;
use rollout_cli::args::StartArgs;
use rollout_core::controller::conduct;
use rollout_core::controller::snapshot::RolloutState;
use rollout_core::rollout::journal::ConductState;
use rollout_plan::strategy;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &StartArgs) -> Result<ExitCode, Failure> {
    let id = context.store.find(&args.rollout)?;
    let snapshot = context.store.snapshot()?;
    let is_new = |rollout: &&RolloutState| rollout.conduct.state == ConductState::NotStarted;
    if let Some(rollout) = snapshot.rollout(&id).filter(is_new) {
        check(context, rollout)?;
    }
    let decide = |snapshot: &_, id: &str| conduct::start(snapshot, id);
    Conducting::decide(context, &id, decide)?.finish(args.json)
}

/// Refuses a rollout that would do something else than meant.
fn check(context: &Context, rollout: &RolloutState) -> Result<(), Failure> {
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
    Ok(())
}
