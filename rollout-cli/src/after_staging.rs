//! The end of every verb that stages something: agents that must hold the order in advance get it, and the admin gets
//! the next command.

use crate::context::Context;
use crate::failure::Failure;
use crate::table::out;
use rollout_control::pre_stage::{is_wanted, pre_stage};
use rollout_control::store::StoreWriter;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::ConductState;

/// Gives agents the staged order if slurmd runs RebootProgram, and prints the command to go on with. Agents that do not
/// answer get the order later.
pub(crate) fn pre_stage_and_print_next(
    context: &Context,
    store: &StoreWriter,
    id: &str,
    nodes: &NodeSet,
) -> Result<(), Failure> {
    let wanted = is_wanted(&context.config, || context.config.scontrol().show_config());
    let wanted = wanted.unwrap_or_else(|error| {
        eprintln!("slurm-rollout: warning: not given to agents, if that is needed here: {error}");
        false
    });
    if wanted {
        let told = pre_stage(&context.config, store, id, nodes)?;
        if !told.nodes.is_empty() {
            out(&format!("{id}: the agents of {} have it\n", told.nodes));
        }
        for (why, nodes) in told.failed {
            eprintln!(
                "slurm-rollout: warning: {nodes}: not given to its agent yet, `slurm-rollout reconcile` tries again: {why}"
            );
        }
    }
    let next = match store.rollout(id)?.state.conduct.state {
        ConductState::NotStarted | ConductState::Stopped => {
            format!(
                "scontrol reboot ASAP nextstate=resume reason={id} {nodes}\nor:    slurm-rollout start {id}"
            )
        }
        ConductState::Running => format!("{id} is running and requests the reboot"),
        ConductState::Paused { .. } | ConductState::Halted { .. } => format!("slurm-rollout resume {id}"),
    };
    out(&format!("Next:  {next}\n"));
    Ok(())
}
