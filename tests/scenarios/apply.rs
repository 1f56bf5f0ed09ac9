//! Which reboots apply what is staged, and which drains they clear.

use crate::prelude::*;

fn configure(site: &Site, text: &str) {
    site.cluster.controller().write_file("/etc/slurm-rollout/controller.d/apply.toml", text, 0o644).unwrap();
}

/// `scontrol reboot ASAP nextstate=resume`, and waits until the node is back.
fn reboot(site: &Site, node: &str, reason: &str) {
    let boots = site.cluster.node(node).boot_count();
    let reason = format!("reason={reason}");
    site.cluster.scontrol(&["reboot", "ASAP", "nextstate=resume", &reason, node]).unwrap();
    site.cluster.node(node).wait_boots(boots + 1, MINUTES).unwrap();
}

fn drain(site: &Site, node: &str, reason: &str) {
    let node = format!("nodename={node}");
    site.cluster.scontrol(&["update", &node, "state=drain", &format!("reason={reason}")]).unwrap();
}

fn only_a_reboot_that_names_the_rollout(site: &Site) {
    configure(site, "apply = \"named\"\n");
    site.stage(Manifest::tool("1.1").nodes("cn01")).unwrap();
    reboot(site, "cn01", "xid-79");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), OLD_TOOL);
    site.wait_phase("tool-1.1", "cn01", "staged").unwrap();
    reboot(site, "cn01", "tool-1.1");
    site.wait_end("tool-1.1", "cn01", "updated").unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW_TOOL);
    configure(site, "");
}

/// No look of the timer has seen these drains.
fn a_drain_right_before_the_reboot(site: &Site) {
    site.cluster.controller().run(&["systemctl", "stop", "slurm-rollout-reconcile.timer"]).unwrap();
    drain(site, "cn02", "bad DIMM");
    let boots = site.cluster.node("cn02").boot_count();
    site.cluster.scontrol(&["reboot", "ASAP", "nextstate=resume", "cn02"]).unwrap();
    site.cluster.node("cn02").wait_boots(boots + 1, MINUTES).unwrap();
    let is_back =
        |state: &str| state.contains("DRAIN") && !state.contains("REBOOT") && !state.contains("NOT_");
    site.cluster.wait_state("cn02", is_back, MINUTES).unwrap();
    site.wait_reason("cn02", "bad DIMM").unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert!(site.cluster.node_state("cn02").unwrap().contains("DRAIN"));
    site.cluster.scontrol(&["update", "nodename=cn02", "state=resume"]).unwrap();
    site.wait_idle(&["cn02"], MINUTES).unwrap();
}

fn a_drain_that_a_reboot_cures(site: &Site) {
    drain(site, "cn02", "Kill task failed");
    site.rollout(&["reconcile"]).unwrap();
    reboot(site, "cn02", "unkillable");
    site.wait_idle(&["cn02"], MINUTES).unwrap();
}

fn reboots_and_drains(base: Base) {
    let site = &start_with_tool(ClusterSpec { base, ..nodes(2) });
    in_cases(|cases| {
        cases.check("only a reboot that names the rollout", || only_a_reboot_that_names_the_rollout(site));
        cases.check("a drain right before the reboot", || a_drain_right_before_the_reboot(site));
        cases.check("a drain that a reboot cures", || a_drain_that_a_reboot_cures(site));
    });
}

#[test]
fn reboots_and_drains_with_slurm_24_11() {
    reboots_and_drains(Base::Trixie);
}

#[test]
fn reboots_and_drains_with_slurm_26_05() {
    reboots_and_drains(Base::Forky);
}
