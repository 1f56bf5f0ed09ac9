//! `stage FILE`: checks a manifest and records it as the desired state of its nodes.

mod image;

use crate::after_staging::pre_stage_and_print_next;
use crate::context::Context;
use crate::failure::Failure;
use crate::manifest_file::ManifestFile;
use crate::table::out;
use rollout_cli::args::StageArgs;
use rollout_control::store::Staged;
use rollout_core::controller::node_states::{check_one_slurmd_per_host, doubts};
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::node::NodeInfo;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &StageArgs) -> Result<ExitCode, Failure> {
    let file = args.file.display();
    // Read first, with the groups: a writer of the state directory has no access to root's own files any more.
    let ManifestFile { text, manifest } = ManifestFile::read(&context.config, &args.file)?;
    let store = if args.dry_run { None } else { Some(context.writer()?) };
    let in_file = |Failure(why)| Failure(format!("{file}: {why}"));
    let drains = context.store.drains();
    let infos = known_to_slurm(context, &manifest.nodes).map_err(in_file)?;
    if let Some(store) = &store {
        store.learn_addresses(&infos)?;
        store.learn_drains(&infos, &drains, &context.config.cured_by_reboot())?;
    }
    for doubt in doubts(&infos) {
        eprintln!("slurm-rollout: warning: {doubt}");
    }
    for doubt in image::check(context, &manifest, &infos).map_err(in_file)? {
        eprintln!("slurm-rollout: warning: {doubt}");
    }
    for warning in manifest.desired.without_undo() {
        eprintln!("slurm-rollout: warning: {warning}");
    }
    let nodes = &manifest.nodes;
    let staged = match &store {
        Some(store) => store.stage(&text, &manifest)?,
        None => context.store.would_stage(&manifest)?,
    };
    let what = match &staged {
        Staged::New(_) if args.dry_run => "would be staged",
        Staged::New(_) => "staged",
        Staged::Already(_) => "is staged already",
    };
    let id = staged.into_id();
    let plural = if nodes.len() == 1 { "" } else { "s" };
    out(&format!("{id}: {what} for {} node{plural}: {nodes}\n", nodes.len()));
    if let Some(store) = &store {
        pre_stage_and_print_next(context, store, &id, nodes)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns Slurm's report about the nodes, and refuses nodes that it does not have.
fn known_to_slurm(context: &Context, nodes: &NodeSet) -> Result<Vec<NodeInfo>, Failure> {
    let mut infos = match context.config.scontrol().show_all_nodes() {
        Ok(infos) => infos,
        Err(error) => {
            eprintln!("slurm-rollout: warning: not checked whether Slurm has these nodes: {error}");
            return Ok(Vec::new());
        }
    };
    check_one_slurmd_per_host(nodes, &infos).map_err(|why| Failure(format!("nodes: {why}")))?;
    infos.retain(|info| nodes.contains(&info.name));
    let known: NodeSet = infos.iter().map(|info| info.name.clone()).collect();
    let unknown = nodes.difference(&known);
    if unknown.is_empty() { Ok(infos) } else { Err(Failure(format!("nodes: Slurm has no {unknown}"))) }
}
