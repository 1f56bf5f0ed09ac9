//! Before an image is staged: its provider is there and has it, it is for these nodes' architecture, and SlurmUser, as
//! whom RebootProgram runs, may do what will have to be done.

use crate::context::{Context, limits};
use crate::failure::Failure;
use crate::verb::doctor::files;
use rollout_control::agents::ask_all::ask_agents;
use rollout_control::boot::change::provider_and_nodes;
use rollout_control::pre_stage::is_wanted;
use rollout_core::doctor::access::Identity;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::image::{Image, Running, Via};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::config::SlurmUser;
use rollout_core::slurm::node::NodeInfo;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time limit for a provider. A person waits.
const LIMIT: Duration = Duration::from_secs(30);

/// Returns warnings, one line each. An image that cannot work is an error.
pub(super) fn check(
    context: &Context,
    manifest: &Manifest,
    infos: &[NodeInfo],
) -> Result<Vec<String>, Failure> {
    let Some(image) = manifest.desired.image() else { return Ok(Vec::new()) };
    fits(image, infos)?;
    if let Some(rollout) = &image.restores {
        context.rollout(rollout)?;
    }
    let mut doubts: Vec<String> = unproven(context, image, manifest, infos).into_iter().collect();
    if !image.via.is_on_controller() {
        return Ok(doubts);
    }
    let by_slurmd = is_wanted(&context.config, || context.config.scontrol().show_config());
    if by_slurmd.unwrap_or(false) {
        return Err(Failure(format!(
            "change: via {:?}: here slurmd runs RebootProgram on each node, and nobody would change what a node boots when it is \
             handed over; let slurmctld run it (docs/ways-in.md)",
            image.via.name()
        )));
    }
    let mut addresses = context.store.addresses();
    addresses.learn(infos);
    let (provider, nodes) =
        provider_and_nodes(&context.config, image.via, &manifest.nodes, &addresses).map_err(Failure)?;
    if image.restores.is_none() {
        doubts.extend(provider.check(image, &nodes, Instant::now() + LIMIT).map_err(Failure)?);
    }
    if let (Via::BootFile, Some(config)) = (image.via, &context.config.boot_file) {
        doubts.extend(writable_for_slurm_user(&context.config.state_dir, &config.directory)?);
    }
    Ok(doubts)
}

/// Returns the doubt that the image can prove itself, by what the nodes are running now.
fn unproven(context: &Context, image: &Image, manifest: &Manifest, infos: &[NodeInfo]) -> Option<String> {
    if !image.proof.os_release || image.restores.is_some() {
        return None;
    }
    let mut addresses = context.store.addresses();
    addresses.learn(infos);
    let answers = ask_agents(&context.config, &manifest.nodes, &addresses, limits(), |_, host, client| {
        client.status(host)
    });
    let running: Vec<Running> = answers.into_values().filter_map(|answer| answer.ok()?.running).collect();
    image.doubts_os_release(&running)
}

fn fits(image: &Image, infos: &[NodeInfo]) -> Result<(), Failure> {
    let Some(arch) = &image.arch else { return Ok(()) };
    let others = infos.iter().filter(|info| info.arch.as_ref().is_some_and(|other| other != arch));
    let others: NodeSet = others.map(|info| info.name.clone()).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Failure(format!(
        "nodes: {others}: the image is for {arch}, and Slurm says that these are of another architecture"
    )))
}

/// SlurmUser owns the state directory.
fn writable_for_slurm_user(state_dir: &Path, directory: &Path) -> Result<Option<String>, Failure> {
    let owner =
        std::fs::metadata(state_dir).map_err(|error| Failure(format!("{}: {error}", state_dir.display())))?;
    let Some(user) = nix::unistd::User::from_uid(owner.uid().into()).ok().flatten() else {
        return Ok(Some(format!("{}: not tried whether SlurmUser may write there", directory.display())));
    };
    let user: Identity = files::identity(&SlurmUser { name: user.name, uid: owner.uid() });
    match files::can_write(&user, directory) {
        Some(true) => Ok(None),
        Some(false) => Err(Failure(format!(
            "{}: {} cannot write there, and RebootProgram runs as {}: give it to that user",
            directory.display(),
            user.name,
            user.name
        ))),
        None => Ok(Some(format!("{}: not tried whether {} may write there", directory.display(), user.name))),
    }
}
