//! Changes that failed before on the same kind of hardware.

use crate::site::Site;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::Entry;
use serde_json::Value;

/// The changes of the rollout that is staged, and others.
const SAME: &str = "path = '/a'\ntarget = '/b'\n";
const OTHER: &str = "path = '/a'\ntarget = '/c'\n";

/// Adds a rollout of one node that ended so after a number of seconds.
fn add(site: &Site, name: &str, link: &str, node: &str, phase: Phase, seconds: u64) {
    let (nodes, order) = (NodeSet::parse(node).unwrap(), OrderId::from_random(7));
    let error = (phase != Phase::Updated).then(|| "verify: nhc\tfailed".to_owned());
    let ordering = Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: u64::MAX };
    let seen = Entry::Seen { nodes: nodes.clone(), order, phase, error, notes: Vec::new() };
    site.add_closed(name, link, &[(0, Entry::Staged { nodes }), (0, ordering), (seconds * 1000, seen)]);
}

/// A site with nodes of two kinds, on the first of which the changes failed.
fn site(link: &str, phase: Phase) -> Site {
    let site = Site::new("");
    for (node, features) in [("n1", "ib,gpu"), ("n2", "gpu,ib"), ("n3", "gpu,ib")] {
        site.set_kind(node, "x86_64", features);
    }
    ["n4", "n5", "n6"].iter().for_each(|node| site.set_kind(node, "x86_64", "ib"));
    add(&site, "old", link, "n1", phase, 60);
    site
}

#[test]
fn changes_that_failed_are_started_again_only_on_request() {
    let line = "n[1-3]: the same changes failed in old: n1 rolled-back at 1970-01-01T00:01:00: verify: nhc failed; n1 \
                is of the same kind of hardware (x86_64 gpu,ib); correct the cause and start it with --again, or \
                leave n[1-3] out (`slurm-rollout unstage`)\n";
    let site = site(SAME, Phase::RolledBack);
    let (code, plan) = site.run("plan driver");
    assert!(code == 3 && plan.starts_with(&format!("driver: would be refused: {line}")), "{code} {plan}");
    let (code, plan) = site.run("plan --json driver");
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let bad = &plan["failed_before"][0];
    assert_eq!((code, bad["text"].as_str()), (3, Some(line.trim_end())));
    assert_eq!((&bad["nodes"], &bad["failed"]["node"]), (&"n[1-3]".into(), &"n1".into()));
    assert_eq!(site.run("start driver"), (1, format!("slurm-rollout: driver: {line}")));
    let started = "driver: started for 6 nodes: n[1-6]\n";
    let again = site.run("start driver --again");
    assert_eq!(again, (0, format!("{started}slurm-rollout: warning: {line}")));
    // It was asked for.
    let (code, plan) = site.run("plan driver");
    assert!(code == 0 && !plan.contains("failed"), "{code} {plan}");
}

#[test]
fn other_changes_cured_causes_and_other_hardware_are_started() {
    let started = |nodes: &str| (0, format!("driver: started for {nodes}\n"));
    for (link, phase) in [(OTHER, Phase::RolledBack), (SAME, Phase::Updated)] {
        let site = site(link, phase);
        assert_eq!(site.run("plan driver").0, 0);
        assert_eq!(site.run("start driver"), started("6 nodes: n[1-6]"), "{link} {phase:?}");
    }
    let cured = site(SAME, Phase::Held);
    add(&cured, "earlier", SAME, "n2", Phase::Updated, 50);
    assert_eq!(cured.run("start driver").0, 1);
    add(&cured, "later", SAME, "n3", Phase::Updated, 70);
    assert_eq!(cured.run("start driver"), started("6 nodes: n[1-6]"));
    let left_out = site(SAME, Phase::Held);
    left_out.run("unstage driver n[1-3]");
    assert_eq!(left_out.run("start driver"), started("3 nodes: n[4-6]"));
}

#[test]
fn an_unknown_kind_is_any_kind() {
    let site = site(SAME, Phase::Held);
    std::fs::write(site.path("away"), "").unwrap();
    let (code, out) = site.run("start driver");
    assert!(code == 1 && out.contains("driver: n[1-6]: the same changes failed in old: n1 held"), "{out}");
    assert!(out.contains("warning: Slurm's nodes are not known: "), "{out}");
}
