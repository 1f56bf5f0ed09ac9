//! A drain belongs to its author: a rollout neither gives a drained node to users nor forgets the reason of the drain.

use crate::prelude::*;

fn drain(site: &Site, node: &str, reason: &str) {
    let node = format!("nodename={node}");
    site.cluster.scontrol(&["update", &node, "state=drain", &format!("reason={reason}")]).unwrap();
}

/// cn01 was drained before, cn02 is drained while it reboots, cn03 was drained and is held: it stays drained after its
/// release. cn04 is not drained.
fn drains_stay(base: Base) {
    let site = start_with_tool(ClusterSpec { base, ..nodes(4) });
    // cn03 fails, and cn02 waits until it has been drained.
    let script = "[ $(hostname) != cn03 ] || exit 1; while [ $(hostname) = cn02 ] && [ ! -e /run/go ]; do sleep 0.2; done";
    drain(&site, "cn01", "bad disk");
    drain(&site, "cn03", "bad fan");
    let manifest =
        Manifest::tool("1.1").verify_script(script).verify_with("timeout", "60s").on_failure("hold");
    site.stage(manifest).unwrap();
    let note = site.wait_phase("tool-1.1", "cn01", "staged").unwrap();
    assert_eq!(note, "drained by root, and stays so: bad disk");
    site.reboot("cn[01-04]").unwrap();
    // Not the others: they may be back before cn02 is looked at.
    site.cluster.wait_state("cn02", |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    drain(&site, "cn02", "bad DIMM");
    let cn02 = site.cluster.node("cn02");
    let go = || cn02.exec(&["touch", "/run/go"]);
    until("its boot", MINUTES, go, |done| cn02.boot_count() == 2 && done.success()).unwrap();
    site.wait_idle(&["cn04"], MINUTES).unwrap();
    for (node, phase) in [("cn01", "updated"), ("cn02", "updated"), ("cn03", "held")] {
        site.wait_phase("tool-1.1", node, phase).unwrap();
    }
    stays_drained(&site, "cn01", "bad disk");
    stays_drained(&site, "cn02", "bad DIMM");
    site.rollout(&["release", "cn03"]).unwrap().into_stdout().unwrap();
    stays_drained(&site, "cn03", "bad fan");
    // The admin takes the drains away, and the nodes are in service again.
    site.cluster.scontrol(&["update", "nodename=cn01,cn02,cn03", "state=resume"]).unwrap();
    site.wait_idle(&["cn01", "cn02", "cn03", "cn04"], MINUTES).unwrap();
    site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    assert_eq!(site.wait_phase("tool-1.1", "cn01", "updated").unwrap(), "");
}

/// Asserts that slurmd is up and registered, that no job can start there, and that the Reason is the drain's.
fn stays_drained(site: &Site, node: &str, reason: &str) {
    site.cluster.node(node).wait_active("slurmd.service").unwrap();
    let registered = |state: &str| {
        let answers = !state.contains("NOT_RESPONDING") && !state.contains('*');
        answers && state.contains("DRAIN") && !state.contains("REBOOT")
    };
    site.cluster.wait_state(node, registered, MINUTES).unwrap();
    site.wait_reason(node, reason).unwrap();
    // Longer than the node without a drain took to come into service.
    std::thread::sleep(Duration::from_secs(5));
    let state = site.cluster.node_state(node).unwrap();
    assert!(state.contains("DRAIN") && !state.contains("REBOOT"), "{node}: {state}");
    assert_eq!(site.reason(node).unwrap(), reason, "{node}: {state}");
}

#[test]
fn drains_stay_with_slurm_22_05() {
    drains_stay(Base::Bookworm);
}

#[test]
fn drains_stay_with_slurm_24_11() {
    drains_stay(Base::Trixie);
}

#[test]
fn drains_stay_with_slurm_26_05() {
    drains_stay(Base::Forky);
}
