//! `rehearse FILE|ROLLOUT`: what a rollout would do on each node, according to the agents. Writes nothing.

use crate::context::Context;
use crate::failure::Failure;
use crate::manifest_file::{ManifestFile, names_file};
use crate::table::{self, out};
use rollout_cli::args::RehearseArgs;
use rollout_control::rehearse::rehearse;
use rollout_core::controller::rehearsal::{Group, Verdict};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::manifest::{Manifest, Verify};
use rollout_core::slurm::addresses::Addresses;
use rollout_host::exit_code::Exit;
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Time limit for Slurm.
const SLURM_LIMIT: Duration = Duration::from_secs(5);

/// The result as JSON.
#[derive(Serialize)]
struct Rehearsed<'a> {
    rollout: &'a str,
    verdict: Verdict,
    groups: Vec<Group<'a>>,
}

pub(crate) fn run(context: &Context, args: &RehearseArgs) -> Result<ExitCode, Failure> {
    if !context.is_root_or_slurm_user() {
        return Err(Failure("only root and SlurmUser may rehearse: agents run commands for it".to_owned()));
    }
    let (id, mut manifest) = manifest(context, &args.what)?;
    let nodes = nodes(context, args, &id, &manifest.nodes)?;
    if args.no_verify {
        manifest.desired.verify = Verify::default();
    }
    let rehearsed = rehearse(&context.config, &nodes, &addresses(context, &nodes), &manifest.desired);
    let verdict = rehearsed.verdict();
    if args.json {
        table::json(&Rehearsed { rollout: &id, verdict, groups: rehearsed.groups() })?;
    } else {
        out(&format!("{id}: {}", rehearsed.text()));
    }
    let exit = match verdict {
        Verdict::NothingToDo => Exit::Success,
        Verdict::Trouble => Exit::ProblemFound,
        Verdict::WouldChange => Exit::SomethingToDo,
    };
    Ok(exit.into())
}

/// Returns the manifest, and the id of its rollout or its name.
fn manifest(context: &Context, what: &str) -> Result<(String, Manifest), Failure> {
    if names_file(what) {
        let manifest = ManifestFile::read(&context.config, Path::new(what))?.manifest;
        return Ok((manifest.name.clone(), manifest));
    }
    let state = context.rollout(what)?.state;
    let manifest = state.manifest.map_err(|why| Failure(format!("{}: {why}", state.id)))?;
    Ok((state.id, manifest))
}

fn nodes(context: &Context, args: &RehearseArgs, id: &str, all: &NodeSet) -> Result<NodeSet, Failure> {
    let Some(text) = &args.nodes else { return Ok(all.clone()) };
    let nodes = context.nodes(text)?;
    let others = nodes.difference(all);
    if others.is_empty() { Ok(nodes) } else { Err(Failure(format!("{id} is not for {others}"))) }
}

/// Returns the addresses of these nodes. Without Slurm, those that it gave last have to do.
fn addresses(context: &Context, nodes: &NodeSet) -> Addresses {
    let mut addresses = context.store.addresses();
    match context.config.scontrol().within(SLURM_LIMIT).show_nodes(nodes) {
        Ok(known) => addresses.learn(&known),
        Err(error) => eprintln!("slurm-rollout: warning: Slurm was not asked: {error}"),
    }
    addresses
}
