//! `undo ROLLOUT`: stages the changes that take its nodes back to their state before it.

use crate::after_staging::pre_stage_and_print_next;
use crate::context::{Context, limits};
use crate::failure::Failure;
use crate::table::out;
use rollout_cli::args::UndoArgs;
use rollout_control::agents::address::HostAddresses;
use rollout_control::agents::ask_all::ask_agents;
use rollout_control::agents::client::AgentClient;
use rollout_core::agent::changes_made::NodeChanges;
use rollout_core::controller::conduct::still_runs;
use rollout_core::controller::reversal::{undo_name, way_back};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::manifest::{DesiredState, Manifest};
use std::collections::BTreeMap;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &UndoArgs) -> Result<ExitCode, Failure> {
    let only = args.nodes.as_deref().map(|nodes| context.nodes(nodes)).transpose()?;
    if !args.dry_run {
        context.writer()?;
    }
    let rollout = context.rollout(&args.rollout)?.state;
    if let Some(why) = still_runs(&rollout).filter(|_| !args.dry_run) {
        return Err(Failure(why));
    }
    let wanted = rollout.records.keys().filter(|name| only.as_ref().is_none_or(|only| only.contains(name)));
    let wanted: NodeSet = wanted.cloned().collect();
    let snapshot = context.store.snapshot_with_past_of(&wanted)?;
    let changes = ask_for_changes(context, &wanted);
    let mut ways: Vec<(DesiredState, Vec<String>)> = Vec::new();
    let mut not: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in wanted.iter() {
        match way_back(&rollout, name, &snapshot, changes.get(name)) {
            Ok(desired) => match ways.iter_mut().find(|(known, _)| *known == desired) {
                Some((_, names)) => names.push(name.to_owned()),
                None => ways.push((desired, vec![name.to_owned()])),
            },
            Err(why) => not.entry(why).or_default().push(name.to_owned()),
        }
    }
    for (desired, names) in ways {
        stage(context, &rollout.id, desired, names.into_iter().collect(), args.dry_run)?;
    }
    let not: Vec<String> = not
        .into_iter()
        .map(|(why, names)| format!("{}: {why}", names.into_iter().collect::<NodeSet>()))
        .collect();
    if not.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure(not.join("\nslurm-rollout: "))) }
}

/// Asks the agents for the changes of the rollouts that their nodes became.
fn ask_for_changes(context: &Context, nodes: &NodeSet) -> BTreeMap<String, Result<Vec<NodeChanges>, String>> {
    let ask = |_: &str, host: &HostAddresses, client: &AgentClient| client.pasts(host);
    let answers = ask_agents(&context.config, nodes, &context.store.addresses(), limits(), ask);
    let cause = |(name, answer): (String, Result<_, rollout_control::agents::client::NoAnswer>)| {
        (name, answer.map_err(|no_answer| no_answer.cause().to_owned()))
    };
    answers.into_iter().map(cause).collect()
}

fn stage(
    context: &Context,
    rollout: &str,
    desired: DesiredState,
    nodes: NodeSet,
    dry_run: bool,
) -> Result<(), Failure> {
    let manifest = Manifest { name: undo_name(rollout), nodes, desired };
    let text = format!(
        "# What brings these nodes back to what they were before {rollout}.\n{}",
        manifest.to_toml()?
    );
    // Through the same checks as an admin's file.
    let manifest = Manifest::parse(&text)?;
    let nodes = &manifest.nodes;
    if dry_run {
        out(&format!("{text}\n"));
        return Ok(());
    }
    let store = context.writer()?;
    let id = store.stage(&text, &manifest)?.into_id();
    out(&format!("{id}: staged for {nodes}; `slurm-rollout show {id}` tells what it is\n"));
    pre_stage_and_print_next(context, &store, &id, nodes)
}
