//! Images that ostree deploys on the node: real ostree, and the lab's machine boots what ostree has put first.

use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{ClusterSpec, Node, NodeRoot, Product, Result, Site, until};

const MINUTES: Duration = Duration::from_secs(300);

/// The note of the node, once the rollout is over there; it has to end so.
fn note(site: &Site, rollout: &str, phase: &str) -> String {
    let over = |phase: &str| ["updated", "rolled-back", "held"].contains(&phase);
    let line = until("the end", MINUTES, || site.phase(rollout, "cn01"), |line| over(&line.phase)).unwrap();
    assert_eq!(line.phase, phase, "{line:?}");
    line.note.unwrap_or_default()
}

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
    note(&site, "compute-2", "updated");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    let (second, is_first) = booted(node);
    assert_eq!((image_version(node).as_str(), is_first, node.boot_count()), ("2", true, 2));
    assert_ne!(first, second);
    let status = node.run(&["slurm-rollout-agent", "status"]).unwrap();
    assert!(status.contains(second.split('.').next().unwrap()), "{status}");

    // This branch is not what its name says.
    site.stage(&manifest("3")).unwrap();
    site.reboot("cn01").unwrap();
    let note_3 = note(&site, "compute-3", "rolled-back");
    assert!(note_3.contains("os-release says compute 2, not compute 3"), "{note_3}");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!((booted(node), node.boot_count()), ((second, true), 4));

    // Nothing to be deployed: nothing is changed. Slurm still waits for a boot.
    site.stage(&manifest("4")).unwrap();
    site.reboot("cn01").unwrap();
    let note_4 = note(&site, "compute-4", "rolled-back");
    assert!(note_4.contains("pulling site:compute/4"), "{note_4}");
    assert_eq!(image_version(node), "2");
}
