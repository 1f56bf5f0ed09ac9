//! The executor is killed, slurmctld is restarted, and the backup controller takes over: no node is requested or
//! rebooted twice, and none is forgotten.

use super::*;

#[test]
fn controllers_fail_midway() {
    let spec = ClusterSpec {
        base: Base::Bookworm,
        backup_controller: true,
        slurm_conf_extra: "SlurmctldTimeout=10\n".into(),
        ..nodes(4)
    };
    let site = start_running(spec);
    let cluster = &site.cluster;
    let primary = cluster.controller();
    let nodes = ["cn01", "cn02", "cn03", "cn04"];
    let ((), seen) = watched(&site, || {
        run(&site, "failover", &link_to("failover", "cn[01-04]", "[strategy]\norder = \"as-written\"\n"));
        cluster.wait_state("cn01", |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
        // The timer starts it again.
        primary.run(&["systemctl", "kill", "-s", "KILL", "slurm-rollout-reconcile.service"]).unwrap();
        primary.run(&["systemctl", "restart", "slurmctld"]).unwrap();
        let is_next = || Ok(requested(&site, "failover"));
        until("the next node", MINUTES, is_next, |nodes| nodes.len() == 2).unwrap();
        cluster.wait_state("cn02", |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
        // The backup would repeat anything that slurmctld had not saved.
        let saved = "touch /run/before; scontrol update nodename=cn04 comment=saved
            until find /var/spool/slurmctld/node_state -newer /run/before | grep .; do sleep 0.1; done";
        primary.run(&["sh", "-ec", saved]).unwrap();
        primary.power_cut();
        let backup = cluster.backup_controller();
        let up = || backup.exec(&["sh", "-c", "scontrol takeover; scontrol show node -o cn01"]);
        until("the backup has taken over", MINUTES, up, Output::success).unwrap();
        wait_updated(&site, "failover", &nodes);
    });
    site.wait_idle(&nodes, MINUTES).unwrap();
    assert_eq!(seen.most(), 1, "{seen:?}");
    assert_eq!(requested(&site, "failover"), nodes);
    for node in nodes {
        assert_eq!(cluster.node(node).boot_count(), 2, "{node}");
    }
}
