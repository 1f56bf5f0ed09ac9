//! `retry NODES`: held nodes carry out their order once more, at once; nodes that went back are staged again for their
//! next `scontrol reboot`.

use crate::after_staging::pre_stage_and_print_next;
use crate::context::{Context, limits};
use crate::failure::Failure;
use crate::table::out;
use rollout_cli::args::RetryArgs;
use rollout_control::held::{self, Holds};
use rollout_core::controller::held::{Retry, retry};
use rollout_core::hostlist::NodeSet;
use std::collections::BTreeMap;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &RetryArgs) -> Result<ExitCode, Failure> {
    let wanted = context.nodes(&args.nodes)?;
    let store = context.writer()?;
    let view = context.survey(store.snapshot_with_past_of(&wanted)?, &wanted);
    let mut holds = Holds::new();
    let mut again: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut nothing = Vec::new();
    for name in wanted.iter() {
        match retry(view.node(name)) {
            Retry::Held(hold) => drop(holds.insert(name.to_owned(), hold)),
            Retry::StageAgain { rollout } => again.entry(rollout).or_default().push(name.to_owned()),
            Retry::Nothing(why) => nothing.push(format!("{name}: {why}")),
        }
    }
    for (rollout, names) in again {
        let names: NodeSet = names.into_iter().collect();
        let staged = store.stage_again(&rollout, &names)?;
        if !staged.is_empty() {
            out(&format!("{rollout}: {staged} staged again\n"));
            pre_stage_and_print_next(context, &store, &rollout, &staged)?;
        }
        let taken = names.difference(&staged);
        if !taken.is_empty() {
            nothing.push(format!("{taken}: has something else staged by now"));
        }
    }
    if !holds.is_empty() {
        let told = held::retry(&context.config, &store, &view, holds, limits())?;
        for name in told.done.iter() {
            out(&format!("{name}: carries out its order once more\n"));
        }
        nothing.extend(told.failed.into_iter().map(|(name, why)| format!("{name}: {why}")));
    }
    if nothing.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure(nothing.join("\nslurm-rollout: "))) }
}
