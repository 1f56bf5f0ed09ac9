//! The package slurm-rollout on a host that is no SlurmctldHost: it reports that, and leaves all nodes alone.

use crate::prelude::*;

const CLI: &str = "/usr/bin/slurm-rollout";
const SERVICE: &str = "slurm-rollout-reconcile.service";
const STATE: &str = "/var/lib/slurm-rollout";
/// Path of RebootProgram while Slurm cannot start it.
const AWAY: &str = "/usr/libexec/slurm-rollout/away";

/// Installs on cn02 what the package of the controller would.
fn install_on_a_node(site: &Site) -> &Node {
    let (controller, node) = (site.cluster.controller(), site.cluster.node("cn02"));
    let unit = format!("usr/lib/systemd/system/{SERVICE}");
    for (file, mode) in [(CLI.trim_start_matches('/'), 0o755), (unit.as_str(), 0o644)] {
        node.copy_in(&controller.root().join(file), &format!("/{file}"), mode).unwrap();
    }
    node.run(&["install", "-d", "-o", "slurm", "-g", "slurm", STATE]).unwrap();
    node.run(&["systemctl", "daemon-reload"]).unwrap();
    node
}

/// Asserts that this is refused, with the host that it should be run on.
fn is_refused(node: &Node, args: &[&str]) {
    let output = node.exec(&[&[CLI], args].concat()).unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{args:?}: {output:?}");
    let told = output.stderr.contains("cn02 is no SlurmctldHost") && output.stderr.contains("ctl");
    assert!(told, "{args:?}: {output:?}");
}

#[test]
fn only_a_controller_acts_as_one() {
    let site = start_with_tool(ClusterSpec { resume_timeout_s: 600, ..nodes(2) });
    let (controller, node) = (site.cluster.controller(), install_on_a_node(&site));
    site.stage(Manifest::tool("1.1").nodes("cn01")).unwrap();
    // An order that Slurm loses: cn02 would reboot cn01 plainly.
    controller.run(&["systemctl", "stop", "slurm-rollout-reconcile.timer"]).unwrap();
    controller.run(&["mv", REBOOT_PROGRAM, AWAY]).unwrap();
    site.reboot("cn01").unwrap();
    site.cluster.wait_state("cn01", |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    let reason = site.reason("cn01").unwrap();

    is_refused(node, &["reconcile"]);
    for _ in 0..3 {
        node.run(&["systemctl", "start", SERVICE]).unwrap();
    }
    let journal = node.wait_journal(SERVICE, "cn02 is no SlurmctldHost").unwrap();
    assert_eq!(journal.matches("is no SlurmctldHost").count(), 1, "{journal}");
    node.write_file("/root/rollout.toml", Manifest::tool("1.1").nodes("cn01").to_string(), 0o644).unwrap();
    for args in [&["stage", "/root/rollout.toml"][..], &["release", "cn01"], &["retry", "cn01"]] {
        is_refused(node, args);
    }
    assert_eq!(node.run(&["ls", "-A", STATE]).unwrap(), "", "nothing is recorded");
    assert_eq!(site.reason("cn01").unwrap(), reason);
    assert_eq!(site.cluster.node("cn01").boot_count(), 1);

    controller.run(&["mv", AWAY, REBOOT_PROGRAM]).unwrap();
    let ordered = || site.rollout(&["reconcile"]);
    let has_ordered = |output: &Output| output.stdout.contains("cn01: handed over by Slurm and never told");
    until("the lost order", MINUTES, ordered, has_ordered).unwrap();
    site.wait_phase("tool-1.1", "cn01", "updated").unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW_TOOL);
}
