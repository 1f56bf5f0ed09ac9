//! `unstage ROLLOUT [NODES]`: calls off what is staged and not yet ordered.

use crate::context::{Context, Failure, nodes};
use crate::table::out;
use rollout_cli::args::UnstageArgs;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &UnstageArgs) -> Result<ExitCode, Failure> {
    context.must_write()?;
    let id = context.store.find(&args.rollout)?;
    let wanted = args.nodes.as_deref().map(nodes).transpose()?;
    let done = context.store.unstage(&id, wanted.as_ref())?;
    let left = wanted.map(|wanted| wanted.difference(&done)).unwrap_or_default();
    if !done.is_empty() {
        out(&format!("{id}: {done} unstaged\n"));
    }
    if done.is_empty() || !left.is_empty() {
        let which = if left.is_empty() { "no node".to_owned() } else { format!("{left}: not") };
        return Err(Failure(format!("{id}: {which} staged and waiting; see `slurm-rollout status {id}`")));
    }
    Ok(ExitCode::SUCCESS)
}
