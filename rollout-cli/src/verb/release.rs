//! `release NODE`: gives a held node back as it is.

use crate::context::{Context, limits};
use crate::failure::Failure;
use crate::table::out;
use rollout_cli::args::ReleaseArgs;
use rollout_control::held;
use rollout_core::controller::held::{Hold, hold};
use rollout_host::random;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &ReleaseArgs) -> Result<ExitCode, Failure> {
    let nodes = context.nodes(&args.node)?;
    let store = context.writer()?;
    if nodes.len() > 1 {
        return Err(Failure(format!("{nodes}: one node at a time, each on your word that it is good")));
    }
    let view = context.survey(store.snapshot_with_past_of(&nodes)?, &nodes);
    // Its agent tells a node that is not held what it is instead.
    let unknown = || Hold { rollout: None, order: random::order_id() };
    let holds =
        nodes.iter().map(|name| (name.to_owned(), hold(view.node(name)).unwrap_or_else(unknown))).collect();
    let told = held::release(&context.config, &store, &view, holds, limits())?;
    for name in told.done.iter() {
        out(&format!("{name}: is given back\n"));
    }
    let failed: Vec<_> = told.failed.into_iter().map(|(name, why)| format!("{name}: {why}")).collect();
    if failed.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure(failed.join("\nslurm-rollout: "))) }
}
