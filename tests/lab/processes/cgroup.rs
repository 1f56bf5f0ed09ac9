//! The control groups a cluster's nodes boot in: one of its own for every boot of every node.
//!
//! systemd-nspawn puts the container's systemd next to itself; two nodes started from one group would share
//! `slurmd.service`.

use std::fs::create_dir_all;
use std::path::{Path, PathBuf};

use crate::error::{IoContext, Result};

/// The hierarchies that systemd uses on this host: one on a unified host, two on a hybrid one.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        return vec![root.to_path_buf()];
    }
    ["unified", "systemd"].iter().map(|name| root.join(name)).filter(|path| path.exists()).collect()
}

/// Paths of the groups of the cluster with this id, whether they exist or not.
pub(crate) fn of_cluster(id: &str) -> Vec<PathBuf> {
    hierarchies().into_iter().map(|path| path.join("rollout-lab").join(id)).collect()
}

/// Makes the groups for one boot of a node.
pub(crate) fn for_boot(id: &str, node: &str, boot: u32) -> Result<Vec<PathBuf>> {
    let groups: Vec<PathBuf> =
        of_cluster(id).iter().map(|path| path.join(format!("{node}-{boot}"))).collect();
    for group in &groups {
        create_dir_all(group).on("create", group)?;
    }
    Ok(groups)
}
