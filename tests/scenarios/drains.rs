//! A drain belongs to whoever set it: a rollout neither gives such a node to users nor forgets why it was drained.

use std::time::Duration;

use rollout_lab::{Base, ClusterSpec, Product, Site, TOOL_1_1, until};

const MINUTES: Duration = Duration::from_secs(240);

fn drain(site: &Site, node: &str, reason: &str) {
    let node = format!("nodename={node}");
    site.cluster.scontrol(&["update", &node, "state=drain", &format!("reason={reason}")]).unwrap();
}

/// cn01 was drained before, cn02 is drained while it reboots, cn03 was drained and is held: it stays drained when it
/// is released. cn04 is nobody's.
fn drains_stay(base: Base) {
    let spec = ClusterSpec { base, nodes: 4, ..ClusterSpec::default() };
    let site = Site::with_tool(&Product::build().unwrap(), spec).unwrap();
    let (head, _) = TOOL_1_1.split_once("commands").unwrap();
    // cn03 fails, and cn02 waits for its turn to be drained.
    let script =
        "test $(hostname) != cn03; while [ $(hostname) = cn02 ] && [ ! -e /run/go ]; do sleep 0.2; done";
    let verify = format!("commands = [[\"/usr/bin/sh\", \"-ec\", \"{script}\"]]\non_failure = \"hold\"\n");
    drain(&site, "cn01", "bad disk");
    drain(&site, "cn03", "bad fan");
    site.stage(&format!("{head}{verify}")).unwrap();
    let staged = site.phase("tool-1.1", "cn01").unwrap();
    assert_eq!(staged.note.as_deref(), Some("drained by root, and stays so: bad disk"), "{staged:?}");
    site.reboot("cn[01-04]").unwrap();
    for node in ["cn01", "cn02", "cn03", "cn04"] {
        site.cluster.wait_state(node, |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    }
    drain(&site, "cn02", "bad DIMM");
    let cn02 = site.cluster.node("cn02");
    until(
        "its boot",
        MINUTES,
        || cn02.exec(&["touch", "/run/go"]),
        |done| cn02.boot_count() == 2 && done.success(),
    )
    .unwrap();
    site.wait_idle(&["cn04"], MINUTES).unwrap();
    for (node, phase) in [("cn01", "updated"), ("cn02", "updated"), ("cn03", "held")] {
        until(phase, MINUTES, || site.phase("tool-1.1", node), |line| line.phase == phase).unwrap();
    }
    stays_drained(&site, "cn01", "bad disk");
    stays_drained(&site, "cn02", "bad DIMM");
    site.rollout(&["release", "cn03"]).unwrap().into_stdout().unwrap();
    stays_drained(&site, "cn03", "bad fan");
    // The admin takes it away, and all is as ever.
    site.cluster.scontrol(&["update", "nodename=cn01,cn02,cn03", "state=resume"]).unwrap();
    site.wait_idle(&["cn01", "cn02", "cn03", "cn04"], MINUTES).unwrap();
    site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    assert_eq!(site.phase("tool-1.1", "cn01").unwrap().note, None);
}

/// slurmd is up and registered, no job is started there, and the Reason is theirs.
fn stays_drained(site: &Site, node: &str, reason: &str) {
    let up = || site.cluster.node(node).exec(&["systemctl", "is-active", "slurmd"]);
    until("slurmd", MINUTES, up, |output| output.success()).unwrap();
    let registered = |state: &str| !state.contains("NOT_RESPONDING") && !state.contains('*');
    site.cluster.wait_state(node, registered, MINUTES).unwrap();
    // As long as the node that nobody drained took to come into service, and more.
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
