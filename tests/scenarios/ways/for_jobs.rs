//! Reboots that jobs ask for.

use super::{manifest, site, site_with};
use crate::prelude::*;

/// A job with `--reboot` gets a plain reboot, whatever is staged, with both kinds of hand-over.
fn for_a_job(base: Base) {
    for_a_job_with(base, "reboot_from_controller.conf");
    for_a_job_with(base, "reboot_by_slurmd.conf");
}

fn for_a_job_with(base: Base, snippet: &'static str) {
    let site = site(base, 1, snippet);
    site.stage(manifest("cn01")).unwrap();
    let node = site.cluster.node("cn01");
    let boots = node.boot_count();
    let job = ["sbatch", "--reboot", "--output=/dev/null", "--wrap", "true"];
    site.cluster.controller().run(&job).unwrap();
    node.wait_boots(boots + 1, MINUTES).unwrap();
    let done = || site.cluster.controller().run(&["squeue", "--noheader"]);
    until("the job", MINUTES, done, |jobs| jobs.trim().is_empty()).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), OLD_TOOL);
    site.wait_phase("tool-1.1", "cn01", "staged").unwrap();
    // It is still there for the admin's reboot.
    site.reboot_to_idle("cn01").unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW_TOOL);
}

#[test]
fn for_a_job_22_05() {
    for_a_job(Base::Bookworm);
}

#[test]
fn for_a_job_26_05() {
    for_a_job(Base::Forky);
}

/// helpers.conf, in single lines: Slurm 22.05 has no lists of features. No NodeName has them as its Features:
/// slurmctld would take all of them for active, and refuse a node with one of them.
const HELPERS: &str = "Feature=quad Helper=/usr/local/sbin/mode\nFeature=flat Helper=/usr/local/sbin/mode\n\
                       MutuallyExclusive=quad,flat\n";

/// Prints the mode of the node or, if slurmd sets features, sets it.
const MODE_HELPER: &str = "#!/bin/sh\nif [ $# -gt 0 ]; then echo \"$1\" >/etc/mode; else cat /etc/mode; fi\n";

/// A job with a feature for which its node has to boot: the reboot is plain, whatever is staged, and the job finds the
/// feature. If slurmctld runs RebootProgram the agent has it set, otherwise slurmd does.
fn with_features(base: Base, snippet: &'static str) {
    let site = site_with(base, 1, snippet, |root| {
        let plugin = "echo NodeFeaturesPlugins=node_features/helpers >>/etc/slurm/slurm.conf";
        root.run(&["sh", "-c", plugin])?;
        root.write_file("/etc/slurm/helpers.conf", HELPERS, 0o644)?;
        root.write_file("/usr/local/sbin/mode", MODE_HELPER, 0o755)?;
        root.write_file("/etc/mode", "quad\n", 0o644)
    });
    let node = site.cluster.node("cn01");
    let by_agent = snippet == "reboot_from_controller.conf";
    if by_agent {
        node.write_file("/usr/local/sbin/set-mode", "#!/bin/sh\necho \"$@\" >/etc/mode\n", 0o755).unwrap();
        let config = "features_program = \"/usr/local/sbin/set-mode\"\n";
        node.write_file("/etc/slurm-rollout/agent.d/features.toml", config, 0o644).unwrap();
        node.run(&["systemctl", "restart", AGENT_UNIT]).unwrap();
    }
    site.stage(manifest("cn01")).unwrap();
    // The second job would find the feature, but asks for a boot.
    for (reboot, feature) in [(None, "flat"), (Some("--reboot"), "flat")] {
        let boots = node.boot_count();
        let job = [&format!("--constraint={feature}"), "--output=/root/mode", "--wrap", "cat /etc/mode"];
        let argv: Vec<&str> = std::iter::once("sbatch").chain(reboot).chain(job).collect();
        site.cluster.controller().run(&argv).unwrap();
        node.wait_boots(boots + 1, MINUTES).unwrap();
        let done = || site.cluster.controller().run(&["squeue", "--noheader"]);
        until("the job", MINUTES, done, |jobs| jobs.trim().is_empty()).unwrap();
        site.wait_idle(&["cn01"], MINUTES).unwrap();
        assert_eq!(node.read_file("/root/mode").unwrap(), format!("{feature}\n"));
        let info = || site.cluster.scontrol(&["show", "node", "cn01"]);
        let active = format!("ActiveFeatures={feature}");
        let is_known = |info: &String| info.contains("AvailableFeatures=quad,flat") && info.contains(&active);
        until(&active, MINUTES, info, is_known).unwrap();
        assert_eq!((node.boot_count(), site.tool("cn01").unwrap().as_str()), (boots + 1, OLD_TOOL));
    }
    site.wait_phase("tool-1.1", "cn01", "staged").unwrap();
}

#[test]
fn features_of_a_job_by_slurmd_24_11() {
    with_features(Base::Trixie, "reboot_by_slurmd.conf");
}

#[test]
fn features_of_a_job_22_05() {
    with_features(Base::Bookworm, "reboot_from_controller.conf");
}

#[test]
fn features_of_a_job_26_05() {
    with_features(Base::Forky, "reboot_from_controller.conf");
}
