//! `unstage ROLLOUT [NODES]`: calls off what is staged and not yet ordered.

use crate::context::Context;
use crate::failure::Failure;
use crate::table::out;
use rollout_cli::args::UnstageArgs;
use rollout_control::pre_stage::take_back;
use rollout_core::controller::pre_staging::pre_staged;
use rollout_core::hostlist::NodeSet;
use rollout_host::clock;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &UnstageArgs) -> Result<ExitCode, Failure> {
    let wanted = args.nodes.as_deref().map(|nodes| context.nodes(nodes)).transpose()?;
    let store = context.writer()?;
    let id = store.find(&args.rollout)?;
    let rollout = store.rollout(&id)?.state;
    let asked: NodeSet = wanted.clone().unwrap_or_else(|| rollout.records.keys().cloned().collect());
    // An agent with a pre-staged order applies it when slurmd tells it to: so the order is taken back first.
    let held = pre_staged(&store.snapshot()?, &id, clock::now_ms()).intersection(&asked);
    let mut kept = NodeSet::default();
    if !held.is_empty() {
        for (why, nodes) in take_back(&context.config, &store, &id, &held)?.failed {
            eprintln!("slurm-rollout: {nodes}: still has it, and stays staged: {why}");
            kept = kept.union(&nodes);
        }
    }
    let boots_ours = |name: &&str| {
        let record = rollout.records.get(*name);
        record.is_some_and(|record| record.progress.is_pending() && record.unsettled_boot_change().is_some())
    };
    let boots_ours: NodeSet = asked.iter().filter(boots_ours).map(str::to_owned).collect();
    if !boots_ours.is_empty() {
        eprintln!(
            "slurm-rollout: {boots_ours}: boots the image already; `slurm-rollout reconcile` puts back what it had, then unstage it"
        );
    }
    let done = store.unstage(&id, Some(&asked.difference(&kept)))?;
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
