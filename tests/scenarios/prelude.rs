//! Names that the scenarios share: `use crate::prelude::*`. All of the lab is among them.

pub(crate) use std::sync::Arc;
pub(crate) use std::time::Duration;

pub(crate) use crate::cases::{Cases, in_cases};
pub(crate) use rollout_lab::*;

/// RebootProgram that does nothing: Slurm hands nodes over, and the test runs the real one.
pub(crate) const NO_PROGRAM: &str = "/usr/libexec/lab/nothing";
/// Content of [`NO_PROGRAM`].
pub(crate) const DOES_NOTHING: &str = "#!/bin/sh\n";

/// Keys that the snippets in `slurm-conf-snippets` set.
pub(crate) const SNIPPET_KEYS: [&str; 5] =
    ["RebootProgram", "ResumeTimeout", "ReturnToService", "SlurmctldParameters", "PowerAction"];

/// Drop-in for the controller and what it has, for images that a boot server takes from a file for each node.
pub(crate) const IMAGES_CONFIG_FILE: &str = "/etc/slurm-rollout/controller.d/images.toml";
pub(crate) const BOOT_FILE_CONFIG: &str = "[boot_file]\ndirectory = \"/srv/boot\"\nname = \"{node}.boot\"\n\
                                           template = \"/etc/slurm-rollout/boot.template\"\n";
/// Template that this configuration names.
pub(crate) const BOOT_TEMPLATE_FILE: &str = "/etc/slurm-rollout/boot.template";

/// Boots a cluster with slurm-rollout installed.
pub(crate) fn start(spec: ClusterSpec) -> Site {
    Site::start(&Product::build().unwrap(), spec).unwrap()
}

/// Boots a cluster with slurm-rollout and `tool` installed, see [`Site::with_tool`].
pub(crate) fn start_with_tool(spec: ClusterSpec) -> Site {
    Site::with_tool(&Product::build().unwrap(), spec).unwrap()
}

/// A cluster of this many nodes, and of the default in all else.
pub(crate) fn nodes(nodes: u8) -> ClusterSpec {
    ClusterSpec { nodes, ..ClusterSpec::default() }
}

/// Changes each root before its first boot.
pub(crate) fn prepare(change: impl Fn(&NodeRoot) -> Result<()> + Send + Sync + 'static) -> Option<Prepare> {
    Some(Arc::new(change))
}

/// Changes the root of each compute node before its first boot.
pub(crate) fn prepare_nodes(
    change: impl Fn(&NodeRoot) -> Result<()> + Send + Sync + 'static,
) -> Option<Prepare> {
    prepare(move |root| if root.is_controller() { Ok(()) } else { change(root) })
}

/// Lets a compute node keep no ledger on disk.
pub(crate) fn make_ledger_volatile(root: &NodeRoot) -> Result<()> {
    root.write_file("/etc/slurm-rollout/agent.d/volatile.toml", "ledger = \"volatile\"\n", 0o644)
}

/// Stops the agent of a node: connections to it are established, and nobody reads from them.
pub(crate) fn freeze_agent(node: &Node) {
    node.run(&["systemctl", "kill", "-s", "STOP", "--kill-whom=main", AGENT_UNIT]).unwrap();
}

/// Kills a stopped agent, with everything that it has not read. systemd starts another one.
pub(crate) fn replace_frozen_agent(node: &Node) {
    node.run(&["systemctl", "kill", "-s", "KILL", "--kill-whom=main", AGENT_UNIT]).unwrap();
}

/// Removes from slurm.conf what the snippets set.
pub(crate) fn remove_snippet_keys(root: &NodeRoot) -> Result<()> {
    let remove: String = SNIPPET_KEYS.iter().map(|key| format!("/^{key}=/d;")).collect();
    root.run(&["sed", "-i", &remove, "/etc/slurm/slurm.conf"]).map(drop)
}
