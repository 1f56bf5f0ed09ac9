//! The slurm.conf snippets in a real slurmctld of each version.

use std::collections::BTreeMap;

use crate::prelude::*;

const SNIPPET: &str = "/etc/slurm/reboot_from_controller.conf";

/// Replaces the keys of the snippet in the lab's slurm.conf by the snippet itself.
fn include_the_snippet(root: &NodeRoot) -> Result<()> {
    remove_snippet_keys(root)?;
    root.run(&["sh", "-c", &format!("echo 'Include {SNIPPET}' >>/etc/slurm/slurm.conf")])?;
    root.copy_in(&workspace().join("slurm-conf-snippets/reboot_from_controller.conf"), SNIPPET, 0o644)
}

fn is_loaded_and_works(base: Base) {
    let site = start(ClusterSpec { base, prepare: prepare(include_the_snippet), ..nodes(1) });
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
        log.lines().find(|line| line.contains("error") && SNIPPET_KEYS.iter().any(|key| line.contains(key)));
    assert_eq!(complaint, None);

    site.reboot_to_idle("cn01").unwrap();
    let syslog = ["journalctl", "-t", "slurm-rollout-reboot-program", "-o", "cat"];
    let said = || site.cluster.controller().run(&syslog);
    until("the order in syslog", MINUTES, said, |said| said.contains("cn01: 1 of 1 ordered")).unwrap();
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
