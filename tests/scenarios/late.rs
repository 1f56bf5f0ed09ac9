//! Scenario 10: Slurm gives up on a node, which then comes back good. It is put back into service if, and only if,
//! Slurm's Reason shows that Slurm was waiting for our reboot.

use crate::prelude::*;

fn late(base: Base) {
    // Slurm looks for late nodes every 30 s.
    let spec = ClusterSpec { base, nodes: 3, resume_timeout_s: 5, ..ClusterSpec::default() };
    let site = start_with_tool(spec);
    let slow = "while [ ! -e /run/go ]; do sleep 0.2; done";
    site.stage(Manifest::tool("1.1").nodes("cn[01-03]").verify_script(slow)).unwrap();
    // cn03 stays down: the admin asked for nextstate=down.
    site.reboot("cn[01-02]").unwrap();
    site.cluster.scontrol(&["reboot", "ASAP", "nextstate=down", "reason=update", "cn03"]).unwrap();
    for node in ["cn01", "cn02", "cn03"] {
        let gave_up = |state: &str| state.starts_with("DOWN") && !state.contains("REBOOT");
        site.cluster.wait_state(node, gave_up, MINUTES).unwrap();
        let reason = site.wait_reason(node, "reboot timed out").unwrap();
        assert!(reason.ends_with("reboot timed out"), "{reason}");
    }
    site.cluster.scontrol(&["update", "nodename=cn02", "reason=bad DIMM"]).unwrap();
    for node in site.cluster.compute_nodes() {
        // Its boot does not end before slurmd may start.
        let go = || node.exec(&["touch", "/run/go"]);
        until("the boot", MINUTES, go, |done| node.boot_count() == 2 && done.success()).unwrap();
    }
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    for node in ["cn02", "cn03"] {
        site.cluster.node(node).wait_active("slurmd.service").unwrap();
    }
    // More time than cn01 took.
    std::thread::sleep(Duration::from_secs(10));
    for node in ["cn02", "cn03"] {
        assert!(site.cluster.node_state(node).unwrap().starts_with("DOWN"), "{node}");
        site.wait_phase("tool-1.1", node, "updated").unwrap();
    }
    assert_eq!(site.reason("cn02").unwrap(), "bad DIMM");
}

#[test]
fn a_late_node_slurm_22_05() {
    late(Base::Bookworm);
}

#[test]
fn a_late_node_slurm_26_05() {
    late(Base::Forky);
}
