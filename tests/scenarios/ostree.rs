//! Images that ostree deploys on the node: real ostree, and the lab's machine boots the deployment that ostree has
//! put first.

use crate::prelude::*;

/// A manifest for an image by its version, from a branch of the remote `site`.
fn manifest(version: &str) -> Manifest {
    Manifest::new(&format!("compute-{version}"), "cn01")
        .image("ostree", "compute", version)
        .value("ref", &format!("site:compute/{version}"))
}

/// Returns checksum and serial of the booted deployment, and whether it is the first one.
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
    let site = start(ClusterSpec { prepare: prepare_nodes(NodeRoot::deploy_by_ostree), ..nodes(1) });
    let node = site.cluster.node("cn01");
    let (first, _) = booted(node);
    assert_eq!(image_version(node), "1");

    site.stage(manifest("2")).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_end("compute-2", "cn01", "updated").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    let (second, is_first) = booted(node);
    assert_eq!((image_version(node).as_str(), is_first, node.boot_count()), ("2", true, 2));
    assert_ne!(first, second);
    let status = node.run(&["slurm-rollout-agent", "status"]).unwrap();
    assert!(status.contains(second.split('.').next().unwrap()), "{status}");

    // The content of this branch does not match its name.
    site.stage(manifest("3")).unwrap();
    site.reboot("cn01").unwrap();
    let note_3 = site.wait_end("compute-3", "cn01", "rolled-back").unwrap();
    assert!(note_3.contains("os-release says compute 2, not compute 3"), "{note_3}");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!((booted(node), node.boot_count()), ((second, true), 4));

    // There is nothing to deploy, and nothing is changed. Slurm still waits for a boot.
    site.stage(manifest("4")).unwrap();
    site.reboot("cn01").unwrap();
    let note_4 = site.wait_end("compute-4", "cn01", "rolled-back").unwrap();
    assert!(note_4.contains("pulling site:compute/4"), "{note_4}");
    assert_eq!(image_version(node), "2");
}
