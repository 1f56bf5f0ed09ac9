//! Configless nodes: slurm.conf is on the controller alone, and `/run/slurm/conf` exists only while slurmd runs.

use crate::prelude::*;

const CONFIGLESS: &str = "/etc/default/slurmd";

fn site(base: Base) -> Site {
    let change = |root: &NodeRoot| {
        if root.is_controller() {
            return root.enable_units(&[RECONCILE_TIMER]);
        }
        root.run(&["rm", "/etc/slurm/slurm.conf", "/etc/slurm/cgroup.conf"])?;
        if root.name() == "cn04" {
            make_ledger_volatile(root)?;
        }
        // Slurm 22.05 of Debian 12 starts with a file only.
        let unconditionally = "[Unit]\nConditionPathExists=\n";
        root.write_file("/etc/systemd/system/slurmd.service.d/configless.conf", unconditionally, 0o644)?;
        root.write_file(CONFIGLESS, "SLURMD_OPTIONS=\"--conf-server ctl:6817\"\n", 0o644)
    };
    let slurmctld_parameters = vec!["enable_configless".to_owned()];
    start_with_tool(ClusterSpec { base, slurmctld_parameters, prepare: prepare(change), ..nodes(4) })
}

/// cn01 is as any node; cn02 was drained, and stays so; cn03 fails, and is held with its Reason; cn04 keeps no ledger.
fn nodes_ask_slurm_before_slurmd_runs(base: Base) {
    let site = site(base);
    site.cluster.scontrol(&["update", "nodename=cn02", "state=drain", "reason=bad disk"]).unwrap();
    let script = "test $(hostname) != cn03";
    site.stage(Manifest::tool("1.1").nodes("cn[01-03]").verify_script(script).on_failure("hold")).unwrap();
    site.wait_phase("tool-1.1", "cn02", "staged").unwrap();
    site.reboot("cn[01-03]").unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    for (node, phase) in [("cn01", "updated"), ("cn02", "updated"), ("cn03", "held")] {
        site.wait_phase("tool-1.1", node, phase).unwrap();
        assert!(!site.cluster.node(node).journal(AGENT_UNIT).unwrap().contains("nobody knows"), "{node}");
    }
    site.wait_reason("cn02", "bad disk").unwrap();
    site.cluster.node("cn02").wait_active("slurmd.service").unwrap();
    site.wait_reason("cn03", "held").unwrap();
    let found = site.cluster.node("cn03").exec(&["slurm-rollout-agent", "doctor"]).unwrap().stdout;
    assert!(found.contains("scontrol fetches it from ctl:6817"), "{found}");

    // Without a ledger and without a reboot that Slurm knows of, the node asks Slurm whether it expects anything.
    let cn04 = site.cluster.node("cn04");
    cn04.power_cut();
    cn04.power_on();
    cn04.wait_boots(2, MINUTES).unwrap();
    cn04.wait_journal(AGENT_UNIT, "Slurm expects nothing of this node").unwrap();
    cn04.wait_active("slurmd.service").unwrap();
}

#[test]
fn nodes_ask_slurm_before_slurmd_runs_with_24_11() {
    nodes_ask_slurm_before_slurmd_runs(Base::Trixie);
}

#[test]
fn nodes_ask_slurm_before_slurmd_runs_with_22_05() {
    nodes_ask_slurm_before_slurmd_runs(Base::Bookworm);
}
