//! An agent that a user on a different node floods with requests: orders still get through, and the agent's memory
//! does not grow.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use rollout_core::rollout::journal::{Entry, lines};
use rollout_lab::{
    AGENT_UNIT, CONTROLLER_STATE_DIR, ClusterSpec, Flood, MINUTES, Manifest, Node, NodeRoot, Product, Site,
    until,
};

const IDLE: u32 = 1000;
const SENDERS: u32 = 3;

/// Memory limit of the agent, in kB. An idle agent has 3 MB.
const MEMORY: u64 = 16 * 1024;

fn properties(node: &Node) -> String {
    node.run(&["systemctl", "show", "--value", "-p", "MainPID", "-p", "NRestarts", AGENT_UNIT]).unwrap()
}

/// Peak of the agent's memory since its start, in kB.
fn peak(node: &Node) -> u64 {
    let pid = node.property(AGENT_UNIT, "MainPID").unwrap();
    let line = node.run(&["grep", "VmHWM", &format!("/proc/{pid}/status")]).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Waits until this many more bad requests have been sent.
fn wait_for_more(flood: &Flood<'_>, more: u64) {
    let before = flood.sent().unwrap();
    until(&format!("{more} bad requests"), MINUTES, || flood.sent(), |sent| *sent >= before + more).unwrap();
}

/// Asserts that the agent's lines about a flood leave room in the journal.
fn the_log_is_limited(node: &Node) {
    let log = node.wait_journal(AGENT_UNIT, "more lines such as these were left out").unwrap();
    assert!(log.contains("hung up: too many at the same time"), "{log:.4000}");
    assert!(log.lines().count() < 5000, "{} lines", log.lines().count());
}

#[test]
fn orders_get_through_a_flood_from_another_node() {
    let prepare = |root: &NodeRoot| root.run(&["mkdir", "-p", "/opt/1", "/opt/2"]).map(drop);
    let spec = ClusterSpec { nodes: 2, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap(), spec).unwrap();
    let controller = site.cluster.controller();
    // A lost order must be seen, not mended.
    controller.run(&["systemctl", "disable", "--now", "slurm-rollout-reconcile.timer"]).unwrap();
    let (attacked, attacker) = (site.cluster.node("cn01"), site.cluster.node("cn02"));
    site.stage(Manifest::new("link", "cn01").symlink("/opt/current", "/opt/2")).unwrap();

    let flood = Flood::start(attacker, attacked.address(), IDLE, SENDERS).unwrap();
    for round in 0..3 {
        let before = properties(attacked);
        wait_for_more(&flood, 2000);
        if round == 0 {
            the_log_is_limited(attacked);
        }
        // Requests that are not part of the flood are answered meanwhile.
        attacked.run(&["slurm-rollout-agent", "status"]).unwrap();
        let (line, boots) = (site.phase("link", "cn01").unwrap(), attacked.boot_count());
        assert_ne!(line.phase, "unreachable", "round {round}: {line:?}");
        assert_eq!(properties(attacked), before, "round {round}: the agent is the same");
        println!("round {round}: {} bad requests, {} kB", flood.sent().unwrap(), peak(attacked));
        assert!(peak(attacked) < MEMORY, "round {round}: the agent took {} kB", peak(attacked));

        site.reboot("cn01").unwrap();
        attacked.wait_boots(boots + 1, MINUTES).unwrap();
        site.wait_idle(&["cn01"], MINUTES).unwrap();
    }
    drop(flood);

    assert_eq!(attacked.run(&["readlink", "/opt/current"]).unwrap().trim(), "/opt/2");
    for (journal, orders) in [("rollouts/link/journal", 1), ("plain-reboots", 2)] {
        let text = controller.read_file(&format!("{CONTROLLER_STATE_DIR}/{journal}")).unwrap();
        let count = |wanted: fn(&Entry) -> bool| lines(&text).filter(|line| wanted(&line.entry)).count();
        assert_eq!(count(|entry| matches!(entry, Entry::Ordered { .. })), orders, "{text}");
        assert_eq!(count(|entry| matches!(entry, Entry::Unreachable { .. })), 0, "{text}");
    }
}
