//! `unstage ROLLOUT [NODES]`: calls off what is staged and not yet ordered.

use crate::context::Context;
use crate::failure::Failure;
use crate::table::out;
use crate::unstaging::unstage;
use rollout_cli::args::UnstageArgs;
use rollout_core::hostlist::NodeSet;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &UnstageArgs) -> Result<ExitCode, Failure> {
    let wanted = args.nodes.as_deref().map(|nodes| context.nodes(nodes)).transpose()?;
    let store = context.writer()?;
    let id = store.find(&args.rollout)?;
    let rollout = store.rollout(&id)?.state;
    let asked: NodeSet = wanted.clone().unwrap_or_else(|| rollout.records.keys().cloned().collect());
    let done = unstage(context, &store, &id, &asked)?;
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
