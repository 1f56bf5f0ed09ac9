//! Images that ostree deploys on the node: real ostree, and the lab's machine boots what ostree has put first.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{ClusterSpec, Node, NodeRoot, Product, Result, Site, until};

const MINUTES: Duration = Duration::from_secs(300);

/// An image by its version, from a branch of the remote `site`.
fn manifest(version: &str) -> String {
    format!(
        "name = 'compute-{version}'\nnodes = 'cn01'\n[[change]]\nkind = 'image'\nvia = 'ostree'\nimage = 'compute'\n\
         version = '{version}'\nvalues.ref = 'site:compute/{version}'\n"
    )
}

/// Checksum and serial of the booted deployment, and whether it is the first one.
fn booted(node: &Node) -> (String, bool) {
    let status = node.run(&["ostree", "admin", "status"]).unwrap();
    let at = status.lines().position(|line| line.starts_with("* ")).unwrap();
    (status.lines().nth(at).unwrap().trim_start_matches("* lab ").to_owned(), at == 0)
}

fn image_version(node: &Node) -> String {
    node.run(&["sed", "-n", "s/^IMAGE_VERSION=//p", "/etc/os-release"]).unwrap().trim().to_owned()
}

#[test]
fn a_deployment_is_booted_and_one_that_is_not_what_it_should_be_is_left() {
    let prepare = |root: &NodeRoot| -> Result<()> {
        if root.is_controller() { Ok(()) } else { root.deploy_by_ostree() }
    };
    let spec = ClusterSpec { nodes: 1, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap(), spec).unwrap();
    let node = site.cluster.node("cn01");
    let (first, _) = booted(node);
    assert_eq!(image_version(node), "1");

    site.stage(&manifest("2")).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    until("updated", MINUTES, || site.phase("compute-2", "cn01"), |line| line.phase == "updated").unwrap();
    let (second, is_first) = booted(node);
    assert_eq!((image_version(node).as_str(), is_first, node.boot_count()), ("2", true, 2));
    assert_ne!(first, second);
    let status = node.run(&["slurm-rollout-agent", "status"]).unwrap();
    assert!(status.contains(second.split('.').next().unwrap()), "{status}");

    // This branch is not what its name says.
    site.stage(&manifest("3")).unwrap();
    site.reboot("cn01").unwrap();
    let rolled_back = |phase: &str| phase == "rolled-back";
    let line =
        until("rolled-back", MINUTES, || site.phase("compute-3", "cn01"), |line| rolled_back(&line.phase));
    let note = line.unwrap().note.unwrap_or_default();
    assert!(note.contains("os-release says compute 2, not compute 3"), "{note}");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!((booted(node), node.boot_count()), ((second, true), 4));

    // Nothing to be deployed: nothing is changed. Slurm still waits for a boot.
    site.stage(&manifest("4")).unwrap();
    site.reboot("cn01").unwrap();
    let line =
        until("rolled-back", MINUTES, || site.phase("compute-4", "cn01"), |line| rolled_back(&line.phase));
    let note = line.unwrap().note.unwrap_or_default();
    assert!(note.contains("pulling site:compute/4"), "{note}");
    assert_eq!(image_version(node), "2");
}
