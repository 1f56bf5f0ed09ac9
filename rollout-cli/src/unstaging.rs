//! Unstaging nodes, with the agents that hold the order in advance.

use crate::context::Context;
use crate::failure::Failure;
use rollout_control::pre_stage::take_back;
use rollout_control::store::StoreWriter;
use rollout_core::controller::pre_staging::pre_staged;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::NodeRecord;
use rollout_host::clock;

/// Unstages these nodes of a rollout, as far as possible, and returns those. The reasons for others are printed.
pub(crate) fn unstage(
    context: &Context,
    store: &StoreWriter,
    id: &str,
    asked: &NodeSet,
) -> Result<NodeSet, Failure> {
    let rollout = store.rollout(id)?.state;
    let of = |is_so: fn(&NodeRecord) -> bool| -> NodeSet {
        let waits = |record: &NodeRecord| record.progress.is_pending();
        let chosen =
            |name: &&str| rollout.records.get(*name).is_some_and(|record| waits(record) && is_so(record));
        asked.iter().filter(chosen).map(str::to_owned).collect()
    };
    // An agent with a pre-staged order applies it when slurmd tells it to: so the order is taken back first.
    let busy = of(NodeRecord::has_traces_in_slurm);
    let held = pre_staged(&store.snapshot()?, id, clock::now_ms()).intersection(asked).difference(&busy);
    let mut kept = NodeSet::default();
    if !held.is_empty() {
        for (why, nodes) in take_back(&context.config, store, id, &held)?.failed {
            eprintln!("slurm-rollout: {nodes}: still has it, and stays staged: {why}");
            kept = kept.union(&nodes);
        }
    }
    let boots_ours = of(|record| record.unsettled_boot_change().is_some());
    if !boots_ours.is_empty() {
        eprintln!(
            "slurm-rollout: {boots_ours}: boots the image already; `slurm-rollout reconcile` puts back what it had, then unstage it"
        );
    }
    let requested = of(|record| record.request.is_some());
    if !requested.is_empty() {
        eprintln!(
            "slurm-rollout: {requested}: its reboot is requested from Slurm; first `scontrol cancel_reboot {requested}`, or `slurm-rollout stop {id}`"
        );
    }
    let kept_out = of(|record| record.request.is_none() && record.kept_out.is_some());
    if !kept_out.is_empty() {
        eprintln!(
            "slurm-rollout: {kept_out}: drained until it is updated; `slurm-rollout stop {id}` ends that"
        );
    }
    let reserved = of(|record| record.request.is_none() && record.kept_out.is_none() && record.reserved);
    if !reserved.is_empty() {
        eprintln!(
            "slurm-rollout: {reserved}: its reservation in Slurm is about to be deleted; unstage it afterwards"
        );
    }
    Ok(store.unstage(id, Some(&asked.difference(&kept)))?)
}
