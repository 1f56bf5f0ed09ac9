//! The slurm.conf snippets, as a real slurmctld of each version loads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{Base, ClusterSpec, NodeRoot, Product, REBOOT_PROGRAM, Site, workspace};

const MINUTES: Duration = Duration::from_secs(240);
const SNIPPET: &str = "/etc/slurm/reboot_from_controller.conf";

/// What the snippet sets.
const KEYS: [&str; 4] = ["RebootProgram", "ResumeTimeout", "ReturnToService", "SlurmctldParameters"];

/// What the snippet sets is removed from the lab's slurm.conf, and the snippet included instead.
fn include_the_snippet(root: &NodeRoot) -> rollout_lab::Result<()> {
    let remove: String = KEYS.iter().map(|key| format!("/^{key}=/d;")).collect();
    root.run(&["sed", "-i", &remove, "/etc/slurm/slurm.conf"])?;
    root.run(&["sh", "-c", &format!("echo 'Include {SNIPPET}' >>/etc/slurm/slurm.conf")])?;
    root.copy_in(&workspace().join("slurm-conf-snippets/reboot_from_controller.conf"), SNIPPET, 0o644)
}

fn is_loaded_and_works(base: Base) {
    let prepare = Some(Arc::new(include_the_snippet) as _);
    let spec = ClusterSpec { base, nodes: 1, prepare, ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap(), spec).unwrap();
    let output = site.cluster.controller().exec(&["scontrol", "show", "config"]).unwrap();
    assert_eq!(output.stderr, "", "nothing of it is refused, unknown or there twice");
    let text = output.into_stdout().unwrap();
    let config: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.trim(), v.trim())).collect();
    assert_eq!(config["RebootProgram"], REBOOT_PROGRAM);
    assert_eq!(config["SlurmctldParameters"], "reboot_from_controller");
    assert_eq!(config["ResumeTimeout"], "1800 sec");
    assert_eq!(config["ReturnToService"], "1");
    let log = site.cluster.slurmctld_log().unwrap();
    let complaint =
        log.lines().find(|line| line.contains("error") && KEYS.iter().any(|key| line.contains(key)));
    assert_eq!(complaint, None);

    site.reboot("cn01").unwrap();
    site.cluster.node("cn01").wait_boots(2, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    let said = ["journalctl", "-t", "slurm-rollout-reboot-program", "-o", "cat"];
    let said = site.cluster.controller().run(&said).unwrap();
    assert!(said.contains("cn01: 1 of 1 ordered"), "{said}");
}

#[test]
fn reboot_from_controller_is_loaded_by_slurm_22_05() {
    is_loaded_and_works(Base::Bookworm);
}

#[test]
fn reboot_from_controller_is_loaded_by_slurm_24_11() {
    is_loaded_and_works(Base::Trixie);
}

#[test]
fn reboot_from_controller_is_loaded_by_slurm_26_05() {
    is_loaded_and_works(Base::Forky);
}
