//! Scenario 10: Slurm gives up on a node, which then comes back good. It is put back into service if, and only if,
//! Slurm's Reason shows that it was our reboot that it was waiting for.

use std::time::Duration;

use rollout_lab::{Base, ClusterSpec, Product, Site, TOOL_1_1};

const MINUTES: Duration = Duration::from_secs(240);

fn late(base: Base) {
    // Slurm looks for nodes that are late every 30 s.
    let spec = ClusterSpec { base, nodes: 3, resume_timeout_s: 5, ..ClusterSpec::default() };
    let site = Site::with_tool(&Product::build().unwrap(), spec).unwrap();
    let (head, _) = TOOL_1_1.split_once("commands").unwrap();
    let slow = "commands = [[\"/usr/bin/sh\", \"-c\", \"while [ ! -e /run/go ]; do sleep 0.2; done\"]]\n";
    site.stage(&format!("{}{slow}", head.replace("cn[01-04]", "cn[01-03]"))).unwrap();
    // nextstate=down is what the admin asked for cn03: it stays down.
    site.reboot("cn[01-02]").unwrap();
    site.cluster.scontrol(&["reboot", "ASAP", "nextstate=down", "reason=update", "cn03"]).unwrap();
    for node in ["cn01", "cn02", "cn03"] {
        let gave_up = |state: &str| state.starts_with("DOWN") && !state.contains("REBOOT");
        site.cluster.wait_state(node, gave_up, MINUTES).unwrap();
        assert!(site.reason(node).unwrap().ends_with("reboot timed out"), "{}", site.reason(node).unwrap());
    }
    site.cluster.scontrol(&["update", "nodename=cn02", "reason=bad DIMM"]).unwrap();
    for node in site.cluster.compute_nodes() {
        // Its boot does not end before slurmd may start.
        let go = || node.exec(&["touch", "/run/go"]);
        rollout_lab::until("the boot", MINUTES, go, |done| node.boot_count() == 2 && done.success()).unwrap();
    }
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    for node in ["cn02", "cn03"] {
        let registered = || site.cluster.node(node).exec(&["systemctl", "is-active", "slurmd"]);
        rollout_lab::until("slurmd", MINUTES, registered, |output| output.success()).unwrap();
    }
    // Both had as much time as cn01 took, and more.
    std::thread::sleep(Duration::from_secs(10));
    for node in ["cn02", "cn03"] {
        assert!(site.cluster.node_state(node).unwrap().starts_with("DOWN"), "{node}");
        assert_eq!(site.phase("tool-1.1", node).unwrap().phase, "updated");
    }
    assert_eq!(site.reason("cn02").unwrap(), "bad DIMM");
}

#[test]
fn a_late_node_slurm_24_11() {
    late(Base::Trixie);
}

#[test]
fn a_late_node_slurm_22_05() {
    late(Base::Bookworm);
}

#[test]
fn a_late_node_slurm_26_05() {
    late(Base::Forky);
}
