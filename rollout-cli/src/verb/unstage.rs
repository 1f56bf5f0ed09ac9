//! `unstage ROLLOUT [NODES]`: calls off what is staged and not yet ordered.

use crate::context::{Context, Failure, nodes};
use crate::table::out;
use rollout_cli::args::UnstageArgs;
use rollout_control::pre_stage::take_back;
use rollout_core::hostlist::NodeSet;
use rollout_host::clock;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &UnstageArgs) -> Result<ExitCode, Failure> {
    context.must_write()?;
    let id = context.store.find(&args.rollout)?;
    let wanted = args.nodes.as_deref().map(nodes).transpose()?;
    // What an agent has it applies when slurmd tells it to: so it is taken back first.
    let given = context.store.delivered(&id, wanted.as_ref())?;
    let mut kept = NodeSet::default();
    if !given.is_empty() {
        let told = take_back(&context.config, &context.store, &id, &given)?;
        for (why, nodes) in told.failed {
            eprintln!("slurm-rollout: {nodes}: still has it, and stays staged: {why}");
            kept = kept.union(&nodes);
        }
    }
    let fold = context.rollout(&id)?.nodes();
    let asked: NodeSet = wanted.clone().unwrap_or_else(|| fold.keys().cloned().collect());
    let now_ms = clock::now_ms();
    let ours = |name: &&str| {
        fold.get(*name).is_some_and(|node| node.progress.is_armed(now_ms) && node.boots_ours().is_some())
    };
    let ours: NodeSet = asked.iter().filter(ours).map(str::to_owned).collect();
    if !ours.is_empty() {
        eprintln!(
            "slurm-rollout: {ours}: boots the image already; `slurm-rollout reconcile` puts back what it had, then unstage it"
        );
    }
    let done = context.store.unstage(&id, Some(&asked.difference(&kept)))?;
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
