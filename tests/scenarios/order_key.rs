//! Clusters without MUNGE: `AuthType=auth/slurm`, and orders sealed with Slurm's key or with one of their own.

use crate::prelude::*;

const KEY: &str = "/etc/slurm-rollout/order.key";
const OWN_KEY: &str = "order_key = \"/etc/slurm-rollout/order.key\"\n";

fn site(base: Base, own_key: bool) -> Site {
    let change = move |root: &NodeRoot| {
        root.run(&[
            "rm",
            "-f",
            "/etc/munge/munge.key",
            "/etc/systemd/system/multi-user.target.wants/munge.service",
        ])?;
        root.run(&["ln", "-sf", "/dev/null", "/etc/systemd/system/munge.service"])?;
        let auth = "s,^AuthType=.*,AuthType=auth/slurm\\nCredType=cred/slurm,";
        root.run(&["sed", "-i", auth, "/etc/slurm/slurm.conf"])?;
        root.write_file("/etc/slurm/slurm.key", [7; 64], 0o600)?;
        root.run(&["chown", "slurm:", "/etc/slurm/slurm.key"])?;
        if own_key {
            let config = if root.is_controller() { "controller.d" } else { "agent.d" };
            root.write_file(&format!("/etc/slurm-rollout/{config}/key.toml"), OWN_KEY, 0o644)?;
            root.write_file(KEY, [8; 32], 0o600)?;
            root.run(&["chown", "slurm:", KEY])?;
        }
        if root.is_controller() { root.enable_units(&[RECONCILE_TIMER]) } else { Ok(()) }
    };
    start_with_tool(ClusterSpec { base, prepare: prepare(change), ..nodes(2) })
}

fn a_rollout_without_munge(base: Base, own_key: bool) {
    let site = site(base, own_key);
    site.stage(Manifest::tool("1.1").nodes("cn[01-02]")).unwrap();
    site.reboot("cn[01-02]").unwrap();
    for node in ["cn01", "cn02"] {
        site.wait_phase("tool-1.1", node, "updated").unwrap();
    }
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    let key = if own_key { KEY } else { "/etc/slurm/slurm.key" };
    for host in [site.cluster.controller(), site.cluster.node("cn01")] {
        let doctor = if host.name().starts_with("cn") { "slurm-rollout-agent" } else { "slurm-rollout" };
        let found = host.exec(&[doctor, "doctor"]).unwrap().stdout;
        assert!(found.contains(&format!("orders are sealed with {key}")), "{found}");
    }
    if own_key {
        // A node with another key refuses the order, and its Reason tells why.
        site.cluster.node("cn02").write_file(KEY, [9; 32], 0o600).unwrap();
        site.stage(Manifest::tool("1.0").nodes("cn02")).unwrap();
        site.reboot("cn02").unwrap();
        site.wait_reason("cn02", "was not sealed with this node's key").unwrap();
        assert_eq!(site.cluster.node("cn02").boot_count(), 2);
    }
}

#[test]
fn with_the_key_of_slurm_24_11() {
    a_rollout_without_munge(Base::Trixie, false);
}

#[test]
fn with_a_key_of_its_own_on_slurm_26_05() {
    a_rollout_without_munge(Base::Forky, true);
}
