//! An agent that is called by somebody with an account on another node, as often as that can: orders still get through,
//! and the agent stays as small as it is.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use rollout_core::journal::{Entry, lines};
use rollout_lab::{ClusterSpec, Flood, Node, NodeRoot, Product, Site, until};

const MINUTES: Duration = Duration::from_secs(240);
const AGENT: &str = "slurm-rollout-agent.service";
const STATE: &str = "/var/lib/slurm-rollout";
const IDLE: u32 = 1000;
const SENDERS: u32 = 3;

/// What the agent may ever have in memory, in kB. It has 3 MB when it is idle.
const MEMORY: u64 = 16 * 1024;

const LINK: &str = r#"
name = "link"
nodes = "cn01"
[[change]]
kind = "symlink"
path = "/opt/current"
target = "/opt/2"
"#;

fn properties(node: &Node) -> String {
    node.run(&["systemctl", "show", "--value", "-p", "MainPID", "-p", "NRestarts", AGENT]).unwrap()
}

/// The most that the agent has had in memory since it was started, in kB.
fn peak(node: &Node) -> u64 {
    let pid = node.run(&["systemctl", "show", "--value", "-p", "MainPID", AGENT]).unwrap();
    let line = node.run(&["grep", "VmHWM", &format!("/proc/{}/status", pid.trim())]).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Waits until so many more bad requests have been sent.
fn wait_for_more(flood: &Flood<'_>, more: u64) {
    let before = flood.sent().unwrap();
    until(&format!("{more} bad requests"), MINUTES, || flood.sent(), |sent| *sent >= before + more).unwrap();
}

/// What the agent says of a flood leaves room for all else in the journal.
fn only_so_much_is_logged(node: &Node) {
    let told = |log: &String| log.contains("more lines such as these were left out");
    let log = until("lines left out", MINUTES, || node.journal(AGENT), told).unwrap();
    assert!(log.contains("hung up: too many at the same time"), "{log:.4000}");
    assert!(log.lines().count() < 5000, "{} lines", log.lines().count());
}

#[test]
fn orders_get_through_a_flood_from_another_node() {
    let prepare = |root: &NodeRoot| root.run(&["mkdir", "-p", "/opt/1", "/opt/2"]).map(drop);
    let spec = ClusterSpec { nodes: 2, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    let site = Site::start(&Product::build().unwrap(), spec).unwrap();
    let controller = site.cluster.controller();
    // What is lost is to be seen, not mended.
    controller.run(&["systemctl", "disable", "--now", "slurm-rollout-reconcile.timer"]).unwrap();
    let (attacked, attacker) = (site.cluster.node("cn01"), site.cluster.node("cn02"));
    site.stage(LINK).unwrap();

    let flood = Flood::start(attacker, attacked.address(), IDLE, SENDERS).unwrap();
    for round in 0..3 {
        let before = properties(attacked);
        wait_for_more(&flood, 2000);
        if round == 0 {
            only_so_much_is_logged(attacked);
        }
        // Whoever has nothing to do with the flood is answered meanwhile.
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
        let text = controller.read_file(&format!("{STATE}/{journal}")).unwrap();
        let count = |wanted: fn(&Entry) -> bool| lines(&text).filter(|line| wanted(&line.entry)).count();
        assert_eq!(count(|entry| matches!(entry, Entry::Ordered { .. })), orders, "{text}");
        assert_eq!(count(|entry| matches!(entry, Entry::Unreachable { .. })), 0, "{text}");
    }
}
