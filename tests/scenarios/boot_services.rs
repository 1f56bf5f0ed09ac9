//! Images that a site's own program or a service sets: from the manifest over stage, Slurm's reboot, RebootProgram
//! and the provider to the node's agent and its proof. The services are simulated by their published APIs; the
//! program is one as in docs/image-providers.md. The lab's boot server has the nodes boot the image that these name.

// The simulated services keep nothing that must survive a power cut.
#![allow(clippy::disallowed_methods)]

mod bos;
mod bss;
mod openchami;
mod program;
mod server;

use crate::prelude::*;

const XNAMES: [&str; 2] = ["x1000c0s0b0n0", "x1000c0s0b0n1"];

/// Boots two nodes without a disk. `config` is a drop-in of controller.toml, `nodes` the site's file of nodes. Image
/// 4 boots as a different version.
fn site(config: impl Into<String>, nodes: &'static str) -> Site {
    let config = config.into();
    let change = move |root: &NodeRoot| {
        if root.is_controller() {
            root.write_file(IMAGES_CONFIG_FILE, &config, 0o644)?;
            root.write_file("/etc/slurm-rollout/nodes.toml", nodes, 0o644)?;
            root.write_file(program::PATH, program::SET_IMAGE, 0o755)?;
            return root.enable_units(&[RECONCILE_TIMER]);
        }
        make_ledger_volatile(root)
    };
    let different = NetImage { served_as: "compute-4".into(), ..NetImage::new("compute", "3.9") };
    let images = vec![NetImage::new("compute", "1"), NetImage::new("compute", "2"), different];
    start(ClusterSpec { images, disks: false, prepare: prepare(change), ..ClusterSpec::default() })
}

fn manifest(via: &str, version: &str, nodes: &str) -> Manifest {
    Manifest::new(&format!("image-{version}"), nodes).image(via, "compute", version)
}

/// Returns the version that a node runs, and how often it was booted.
fn running(site: &Site, node: &str) -> (String, u32) {
    let node = site.cluster.node(node);
    let text = node.run(&["cat", "/usr/lib/os-release"]).unwrap();
    let version = text.lines().find_map(|line| line.strip_prefix("IMAGE_VERSION=")).unwrap().to_owned();
    (version, node.boot_count())
}

fn boot_file(site: &Site, node: &str) -> String {
    site.cluster.controller().read_file(&format!("{BOOT_DIRECTORY}/{node}.boot")).unwrap()
}
