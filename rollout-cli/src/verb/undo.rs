//! `undo ROLLOUT`: stages what brings its nodes back to what they were before it.

use crate::context::{Context, Failure, nodes};
use crate::survey::ask_agents;
use crate::table::out;
use crate::verb::stage::give_to_agents;
use rollout_cli::args::UndoArgs;
use rollout_control::agents::client::AgentClient;
use rollout_control::store::Rollout;
use rollout_core::agent::changes_made::{ChangeMade, NodeChanges};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Booted, NodeRecord};
use rollout_core::rollout::manifest::{DesiredState, Manifest};
use rollout_core::rollout::undo::reverse;
use std::collections::BTreeMap;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &UndoArgs) -> Result<ExitCode, Failure> {
    if !args.dry_run {
        context.must_write()?;
    }
    let rollout = context.rollout(&args.rollout)?;
    let only = args.nodes.as_deref().map(nodes).transpose()?;
    let fold = rollout.nodes();
    let wanted: NodeSet =
        fold.keys().filter(|name| only.as_ref().is_none_or(|only| only.contains(name))).cloned().collect();
    let pasts =
        ask_agents(context, &wanted, &context.store.addresses(), |_, address, client: &AgentClient| {
            client.pasts(address).map_err(|error| error.to_string())
        });
    let newest = newest_orders(context)?;
    let mut ways: Vec<(DesiredState, Vec<String>)> = Vec::new();
    let mut not: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, record) in fold.iter().filter(|(name, _)| wanted.contains(name)) {
        match way_back(&rollout, newest.get(name), record, pasts.get(name)) {
            Ok(desired) => match ways.iter_mut().find(|(known, _)| *known == desired) {
                Some((_, names)) => names.push(name.clone()),
                None => ways.push((desired, vec![name.clone()])),
            },
            Err(why) => not.entry(why).or_default().push(name.clone()),
        }
    }
    for (desired, names) in ways {
        stage(context, &rollout, desired, names.into_iter().collect(), args.dry_run)?;
    }
    let not: Vec<String> = not
        .into_iter()
        .map(|(why, names)| format!("{}: {why}", names.into_iter().collect::<NodeSet>()))
        .collect();
    if not.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure(not.join("\nslurm-rollout: "))) }
}

/// What brings one node back, or why nothing can.
fn way_back(
    rollout: &Rollout,
    newest: Option<&(u64, String)>,
    record: &NodeRecord,
    pasts: Option<&Result<Vec<NodeChanges>, String>>,
) -> Result<DesiredState, String> {
    if let Some((_, other)) = newest.filter(|(_, newest)| *newest != rollout.id) {
        return Err(format!("has had {other} since, undo that first"));
    }
    let kept = match pasts {
        Some(Ok(pasts)) => pasts.iter().rfind(|past| past.rollout == rollout.id).cloned(),
        Some(Err(why)) => return Err(format!("its agent does not say what was made of it: {why}")),
        None => return Err("its agent was not asked".to_owned()),
    };
    let past = kept.or_else(|| by_journal(&rollout.id, record));
    let past =
        past.ok_or_else(|| "nothing to undo: it is not known to have become what was staged".to_owned())?;
    reverse(&rollout.manifest.desired, &past)?
        .ok_or_else(|| "nothing to undo: nothing was another than before".to_owned())
}

/// The rollout that each node was last ordered for, and when.
fn newest_orders(context: &Context) -> Result<BTreeMap<String, (u64, String)>, Failure> {
    let mut newest: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for rollout in context.store.load_all()? {
        for (node, record) in rollout.nodes() {
            let Some(ordering_ms) = record.ordering_ms else { continue };
            let of = (ordering_ms, rollout.id.clone());
            newest.entry(node).and_modify(|known| *known = of.clone().max(known.clone())).or_insert(of);
        }
    }
    Ok(newest)
}

/// What the journal says of a node that keeps no ledger: all that was made of it is its image.
fn by_journal(rollout: &str, record: &NodeRecord) -> Option<NodeChanges> {
    let Booted { running, .. } = &record.boots_ours()?.before;
    let running = running.clone().filter(|_| record.volatile)?;
    Some(NodeChanges { rollout: rollout.to_owned(), made: vec![ChangeMade::Image { running, saved: None }] })
}

fn stage(
    context: &Context,
    rollout: &Rollout,
    desired: DesiredState,
    nodes: NodeSet,
    dry_run: bool,
) -> Result<(), Failure> {
    let name = format!("undo-{}", rollout.id.replace('@', "-"));
    let manifest = Manifest { name: name.chars().take(64).collect(), nodes, desired };
    let text = format!(
        "# What brings these nodes back to what they were before {}.\n{}",
        rollout.id,
        manifest.to_toml()?
    );
    // Through the same checks as what a person writes.
    let manifest = Manifest::parse(&text)?;
    let nodes = &manifest.nodes;
    if dry_run {
        out(&format!("{text}\n"));
        return Ok(());
    }
    let id = context.store.stage(&text, &manifest, false)?.into_id();
    out(&format!("{id}: staged for {nodes}; `slurm-rollout show {id}` tells what it is\n"));
    give_to_agents(context, &id, nodes)?;
    out(&format!("Next:  scontrol reboot ASAP nextstate=resume reason={id} {nodes}\n"));
    Ok(())
}
