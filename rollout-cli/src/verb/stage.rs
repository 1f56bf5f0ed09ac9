//! `stage FILE`: checks a manifest and records it as what its nodes shall become.

mod image;

use crate::context::{Context, Failure};
use crate::table::out;
use rollout_cli::args::StageArgs;
use rollout_control::pre_stage::{deliver, is_wanted};
use rollout_control::store::Staged;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::manifest::{MAX_BYTES, Manifest};
use rollout_core::slurm::node::NodeInfo;
use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &StageArgs) -> Result<ExitCode, Failure> {
    if !args.dry_run {
        context.must_write()?;
    }
    let file = args.file.display();
    let text = read(args).map_err(|error| Failure(format!("{file}: {error}")))?;
    let manifest = Manifest::parse(&text).map_err(|error| Failure(format!("{file}: {error}")))?;
    let in_file = |Failure(why)| Failure(format!("{file}: {why}"));
    let infos = known_to_slurm(context, &manifest.nodes, args.dry_run).map_err(in_file)?;
    for doubt in image::check(context, &manifest, &infos).map_err(in_file)? {
        eprintln!("slurm-rollout: warning: {doubt}");
    }
    let nodes = &manifest.nodes;
    let staged = context.store.stage(&text, &manifest, args.dry_run)?;
    let (id, what) = match &staged {
        Staged::New(id) if args.dry_run => (id, "would be staged"),
        Staged::New(id) => (id, "staged"),
        Staged::Already(id) => (id, "is staged already"),
    };
    out(&format!(
        "{id}: {what} for {} node{}: {nodes}\n",
        nodes.len(),
        if nodes.len() == 1 { "" } else { "s" }
    ));
    if !args.dry_run {
        give_to_agents(context, id, nodes)?;
        out(&format!("Next:  scontrol reboot ASAP nextstate=resume reason={id} {nodes}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where slurmd runs RebootProgram, agents have to have it before. Those that do not answer get it later.
pub(crate) fn give_to_agents(context: &Context, id: &str, nodes: &NodeSet) -> Result<(), Failure> {
    let wanted = is_wanted(&context.config, || context.config.scontrol().show_config());
    if !wanted.unwrap_or_else(|error| {
        eprintln!("slurm-rollout: warning: not given to agents, if that is needed here: {error}");
        false
    }) {
        return Ok(());
    }
    let told = deliver(&context.config, &context.store, id, nodes)?;
    if !told.nodes.is_empty() {
        out(&format!("{id}: the agents of {} have it\n", told.nodes));
    }
    for (why, nodes) in told.failed {
        eprintln!(
            "slurm-rollout: warning: {nodes}: not given to its agent yet, `slurm-rollout reconcile` tries again: {why}"
        );
    }
    Ok(())
}

fn read(args: &StageArgs) -> io::Result<String> {
    let mut text = String::new();
    // One byte more than is taken, so that what is too long is seen to be.
    let limit = MAX_BYTES as u64 + 1;
    if args.file.as_os_str() == "-" {
        io::stdin().take(limit).read_to_string(&mut text)?;
    } else {
        File::open(&args.file)?.take(limit).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Refuses nodes that Slurm does not have, and keeps the addresses of those that it has.
fn known_to_slurm(context: &Context, nodes: &NodeSet, dry_run: bool) -> Result<Vec<NodeInfo>, Failure> {
    let infos = match context.config.scontrol().show_nodes(nodes) {
        Ok(infos) => infos,
        Err(error) => {
            eprintln!("slurm-rollout: warning: not checked whether Slurm has these nodes: {error}");
            return Ok(Vec::new());
        }
    };
    let known: NodeSet = infos.iter().map(|info| info.name.clone()).collect();
    let unknown = nodes.difference(&known);
    if !unknown.is_empty() {
        return Err(Failure(format!("nodes: Slurm has no {unknown}")));
    }
    if !dry_run {
        context.store.learn_addresses(&infos)?;
        context.store.learn_drains(&infos)?;
    }
    Ok(infos)
}
