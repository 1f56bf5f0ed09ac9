//! Which reboots apply what is staged, which drains they clear, and nodes that they do not reach.

use crate::prelude::*;
use std::time::Instant;

/// Power saving that only happens if an admin asks for it. Its programs do nothing: the test turns nodes off and on.
const POWER_SAVING: &str =
    "SuspendTime=86400\nSuspendTimeout=1\nSuspendProgram=/usr/bin/true\nResumeProgram=/usr/bin/true\n";

fn configure(site: &Site, text: &str) {
    site.cluster.controller().write_file("/etc/slurm-rollout/controller.d/apply.toml", text, 0o644).unwrap();
}

/// `scontrol reboot ASAP nextstate=resume`, and waits until the node is back.
fn reboot(site: &Site, node: &str, reason: &str) {
    reboot_with(site, node, &["reboot", "ASAP", "nextstate=resume", &format!("reason={reason}"), node]);
}

fn reboot_with(site: &Site, node: &str, request: &[&str]) {
    let boots = site.cluster.node(node).boot_count();
    site.cluster.scontrol(request).unwrap();
    site.cluster.node(node).wait_boots(boots + 1, MINUTES).unwrap();
}

fn drain(site: &Site, node: &str, reason: &str) {
    let node = format!("nodename={node}");
    site.cluster.scontrol(&["update", &node, "state=drain", &format!("reason={reason}")]).unwrap();
}

fn only_a_reboot_that_names_the_rollout(site: &Site) {
    configure(site, "apply = \"named\"\n");
    site.stage(Manifest::tool("1.1").nodes("cn01")).unwrap();
    let not_applied = || {
        site.wait_idle(&["cn01"], MINUTES).unwrap();
        assert_eq!(site.tool("cn01").unwrap(), OLD_TOOL);
        site.wait_phase("tool-1.1", "cn01", "staged").unwrap();
        site.cluster.node("cn01").wait_file(ORDER_FILE, false).unwrap();
    };
    let begin = Instant::now();
    reboot(site, "cn01", "xid-79");
    not_applied();
    // The agent goes on to look whether Slurm has taken the node back, and takes a Reason of ours for one of its own. Its
    // pauses double, from 2 s on: the last one is no longer than all before it and 2 s.
    std::thread::sleep(begin.elapsed() + Duration::from_secs(2));
    // An old Reason of ours, which Slurm keeps if the request has none.
    drain(site, "cn01", "slurm-rollout tool-1.1: held: nhc");
    site.rollout(&["reconcile"]).unwrap();
    reboot_with(site, "cn01", &["reboot", "ASAP", "nextstate=resume", "cn01"]);
    not_applied();
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

/// Stages a manifest, or tries to, and returns all that is printed.
fn stage(site: &Site, options: &[&str], manifest: &Manifest) -> Output {
    site.cluster.controller().write_file("/root/rollout.toml", manifest.to_string(), 0o644).unwrap();
    site.rollout(&[&["stage"], options, &["/root/rollout.toml"]].concat()).unwrap()
}

/// The nodes run Debian, which has no IMAGE_ID.
fn an_image_that_cannot_prove_itself(site: &Site) {
    let image = Manifest::new("image", "cn02").image("ostree", "compute", "2").value("ref", "compute/2");
    let staged = stage(site, &["--dry-run"], &image);
    let warns = staged.stderr.contains("warning: no node's os-release has an IMAGE_ID. If that of compute 2");
    assert!(staged.success() && warns, "{staged:?}");
}

/// As docs/ways-in.md has it: the node is drained while it comes up, and gets its change before any job.
fn a_node_that_is_powered_down(site: &Site) {
    let node = site.cluster.node("cn02");
    let boots = node.boot_count();
    assert_eq!(site.tool("cn02").unwrap(), OLD_TOOL);
    site.cluster.scontrol(&["update", "nodename=cn02", "state=power_down"]).unwrap();
    node.power_cut();
    site.cluster.wait_state("cn02", |state| state.contains("POWERED_DOWN"), MINUTES).unwrap();
    let staged = stage(site, &[], &Manifest::tool("1.1").named("asleep").nodes("cn02"));
    let words = "warning: cn02: powered down, and `scontrol reboot` passes them over";
    assert!(staged.success() && staged.stderr.contains(words), "{staged:?}");
    let reboot = ["scontrol", "reboot", "ASAP", "nextstate=resume", "reason=asleep", "cn02"];
    // Slurm does not call it an error.
    site.cluster.controller().exec(&reboot).unwrap();
    let state = site.cluster.node_state("cn02").unwrap();
    assert!(state.contains("POWERED_DOWN") && !state.contains("REBOOT"), "{state}");

    site.cluster.scontrol(&["update", "nodename=cn02", "state=power_up"]).unwrap();
    site.cluster.wait_state("cn02", |state| state.contains("POWERING_UP"), MINUTES).unwrap();
    site.cluster.controller().run(&reboot).unwrap();
    let drained = |state: &str| state.contains("DRAIN") && state.contains("REBOOT_REQUESTED");
    site.cluster.wait_state("cn02", drained, MINUTES).unwrap();
    let job = "cat /usr/share/tool/version >>/root/job-saw; touch /root/job-done";
    let job = ["sbatch", "--chdir=/tmp", "--output=/dev/null", "-w", "cn02", "--wrap", job];
    site.cluster.controller().run(&job).unwrap();
    // Slurm counts in whole seconds, and takes an earlier boot for the one before.
    std::thread::sleep(Duration::from_secs(2));
    node.power_on();
    node.wait_boots(boots + 2, MINUTES).unwrap();
    site.wait_end("asleep", "cn02", "updated").unwrap();
    node.wait_file("/root/job-done", true).unwrap();
    assert_eq!(node.read_file("/root/job-saw").unwrap(), "1.1\n");
    assert_eq!(node.boot_count(), boots + 2);
    site.wait_idle(&["cn02"], MINUTES).unwrap();
}

fn reboots_and_drains(base: Base) {
    let slurm_conf_extra = POWER_SAVING.to_owned();
    let slurmctld_parameters = vec!["power_save_interval=1".to_owned()];
    // It is also the time in which a node must come back that is powered up.
    let resume_timeout_s = 600;
    let spec = ClusterSpec { base, slurm_conf_extra, slurmctld_parameters, resume_timeout_s, ..nodes(2) };
    let site = &start_with_tool(spec);
    in_cases(|cases| {
        cases.check("only a reboot that names the rollout", || only_a_reboot_that_names_the_rollout(site));
        cases.check("a drain right before the reboot", || a_drain_right_before_the_reboot(site));
        cases.check("a drain that a reboot cures", || a_drain_that_a_reboot_cures(site));
        cases.check("an image that cannot prove itself", || an_image_that_cannot_prove_itself(site));
        cases.check("a node that is powered down", || a_node_that_is_powered_down(site));
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
