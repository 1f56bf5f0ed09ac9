//! Power actions of Slurm 26.05.

use super::{manifest, site, site_with};
use crate::prelude::*;

/// `scontrol reboot action=rollout` applies the staged change, and a plain `scontrol reboot` stays plain.
fn by_action(snippet: &'static str) {
    let site = site(Base::Forky, 2, snippet);
    if snippet == "power_action_by_slurmd.conf" {
        let drop_in = "/etc/slurm-rollout/controller.d/deliver.toml";
        site.cluster.controller().write_file(drop_in, "deliver = \"always\"\n", 0o644).unwrap();
    }
    site.stage(manifest("cn[01-02]")).unwrap();
    let cn02 = site.cluster.node("cn02");
    let boots = cn02.boot_count();
    // It stays plain when it is lost, too.
    cn02.run(&["systemctl", "stop", AGENT_UNIT]).unwrap();
    site.reboot("cn02").unwrap();
    let action = ["reboot", "action=rollout", "ASAP", "nextstate=resume", "reason=update", "cn01"];
    site.cluster.scontrol(&action).unwrap();
    site.wait_reason("cn02", ": not ordered: ").unwrap();
    cn02.run(&["systemctl", "start", AGENT_UNIT]).unwrap();
    let again = || site.rollout(&["reconcile"]);
    until("the lost order", MINUTES, again, |said| said.stdout.contains("cn02: handed over by Slurm"))
        .unwrap();
    cn02.wait_boots(boots + 1, MINUTES).unwrap();
    site.wait_phase("tool-1.1", "cn01", "updated").unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    assert_eq!(
        (site.tool("cn01").unwrap().as_str(), site.tool("cn02").unwrap().as_str()),
        (NEW_TOOL, OLD_TOOL)
    );
    site.wait_phase("tool-1.1", "cn02", "staged").unwrap();
}

#[test]
fn an_action_of_slurmctld_applies_and_a_plain_reboot_does_not() {
    by_action("power_action.conf");
}

#[test]
fn an_action_of_slurmd_applies_and_a_plain_reboot_does_not() {
    by_action("power_action_by_slurmd.conf");
}

/// The other choice: RebootProgram is the action, and every reboot applies.
#[test]
fn every_reboot_is_the_action() {
    let every = "s,^RebootProgram=.*,RebootProgram=rollout,";
    let site = site_with(Base::Forky, 1, "power_action.conf", move |root| {
        root.run(&["sed", "-i", every, "/etc/slurm/power_action.conf"]).map(drop)
    });
    site.stage(manifest("cn01")).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("tool-1.1", "cn01", "updated").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW_TOOL);
}
