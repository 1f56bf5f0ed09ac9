//! Ten thousand nodes at once: a real slurmctld hands them over, and each agent gets its order once.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_core::rollout::journal::{NodeRecords, Progress, lines, replay};
use rollout_lab::{Base, Crowd, MINUTES, Manifest, ManyNodes, Product, until};

const COUNT: usize = 10_000;

/// Boots a crowd with the rollout `all` staged for every node.
fn crowd(base: Base, nodes: ManyNodes) -> Crowd {
    let crowd = nodes.start(&Product::build().unwrap(), base, None).unwrap();
    let controller = crowd.controller();
    // Limits for a busy machine.
    let patient = "deadline = \"60s\"\nagent_timeout = \"15s\"\n";
    controller.write_file("/etc/slurm-rollout/controller.d/patient.toml", patient, 0o644).unwrap();
    let manifest = Manifest::new("all", &nodes.list()).symlink("/opt/app/current", "/opt/app/2");
    controller.write_file("/root/rollout.toml", manifest.to_string(), 0o644).unwrap();
    controller.run(&["slurm-rollout", "stage", "/root/rollout.toml"]).unwrap();
    crowd
}

fn journal(crowd: &Crowd) -> NodeRecords {
    let text = crowd.controller().read_file("/var/lib/slurm-rollout/rollouts/all/journal").unwrap();
    replay(&lines(&text).collect::<Vec<_>>())
}

/// Waits until the journal has the outcome of every node.
fn wait_known(crowd: &Crowd) -> NodeRecords {
    let known = |fold: &NodeRecords| {
        let ended = |stand| matches!(stand, Progress::Ordered | Progress::Unreachable | Progress::Refused);
        fold.values().all(|node| ended(node.progress))
    };
    until("all outcomes", MINUTES, || Ok(journal(crowd)), known).unwrap()
}

fn standing(journal: &NodeRecords, stand: Progress) -> BTreeSet<&str> {
    journal.iter().filter(|(_, node)| node.progress == stand).map(|(name, _)| name.as_str()).collect()
}

/// Asserts that each of these addresses, and no other, got one order, which names its node. Opened as by root on a
/// node.
fn assert_each_got_its_order_once(crowd: &Crowd, nodes: &ManyNodes, names: &[String]) {
    let orders: BTreeMap<IpAddr, Vec<String>> = crowd.agents.take_orders();
    let addresses: BTreeSet<IpAddr> = names.iter().map(|name| nodes.address(name).unwrap()).collect();
    assert_eq!(addresses.len(), names.len());
    assert_eq!(orders.keys().copied().collect::<BTreeSet<_>>(), addresses);
    let twice: Vec<_> = orders.iter().filter(|(_, orders)| orders.len() != 1).collect();
    assert!(twice.is_empty(), "{twice:.2000?}");
    let mut opened: BTreeMap<&str, NodeSet> = BTreeMap::new();
    for name in names {
        let sealed = orders[&nodes.address(name).unwrap()][0].as_str();
        let named = opened.entry(sealed).or_insert_with(|| open(crowd, sealed));
        assert!(named.contains(name), "{name}");
    }
}

/// The nodes that a sealed order is for.
fn open(crowd: &Crowd, sealed: &str) -> NodeSet {
    let unmunge = crowd.controller().command(&["unmunge", "--metadata=/dev/null"]).unwrap();
    let payload = unmunge.stdin(sealed.as_bytes()).run().unwrap();
    let order = Order::parse(payload.as_bytes()).unwrap();
    assert!(matches!(&order.kind, OrderKind::Apply(apply) if apply.rollout == "all"));
    order.nodes
}

/// 26.05 folds the list of nodes.
#[test]
fn all_at_once_26_05() {
    let nodes = ManyNodes { prefix: "cn", count: COUNT, dead: 0 };
    let crowd = crowd(Base::Forky, nodes);
    crowd.hand_over().unwrap();
    let journal = wait_known(&crowd);
    assert_eq!(standing(&journal, Progress::Ordered).len(), COUNT);
    assert_each_got_its_order_once(&crowd, &nodes, &nodes.fates().0);
    // No order is lost or sent twice.
    let output = crowd.controller().exec(&["slurm-rollout", "reconcile"]).unwrap();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(crowd.agents.count(), 0);
}

/// 5 % of the nodes are dead: half of them refuse connections, half are silent. The others get their orders, the dead
/// get their Reasons, and when they are back reconcile sends them their orders.
#[test]
fn one_in_twenty_is_dead_24_11() {
    let nodes = ManyNodes { prefix: "cn", count: COUNT, dead: COUNT / 20 };
    let crowd = crowd(Base::Trixie, nodes);
    crowd.hand_over().unwrap();
    let known = wait_known(&crowd);
    let (living, dead) = nodes.fates();
    assert_eq!(standing(&known, Progress::Ordered), living.iter().map(String::as_str).collect());
    assert_eq!(standing(&known, Progress::Unreachable), dead.iter().map(String::as_str).collect());
    assert_each_got_its_order_once(&crowd, &nodes, &living);
    let controller = crowd.controller();
    let (refused, silent) = (&dead[0], &dead[COUNT / 40]);
    for (node, why) in [(refused, "refused"), (silent, "its host does not answer")] {
        let shown = || controller.run(&["scontrol", "show", "node", "-o", node]);
        let reason = format!("Reason=slurm-rollout all: not ordered: no answer from its agent: {why}");
        let words =
            |line: &String| line.contains("Reason=slurm-rollout all: not ordered") && line.contains(why);
        until(&reason, MINUTES, shown, words).unwrap();
    }
    crowd.raise_the_dead().unwrap();
    let reconcile = controller.command(&["slurm-rollout", "reconcile"]).unwrap().limit(MINUTES);
    until("all are ordered", MINUTES, || reconcile.output(), |_| crowd.agents.count() >= dead.len()).unwrap();
    assert_each_got_its_order_once(&crowd, &nodes, &dead);
    assert_eq!(standing(&journal(&crowd), Progress::Ordered).len(), COUNT);
}

/// Up to 25.11 all names are one argument, and Linux takes at most 128 KiB in one: Slurm cannot start the program at
/// all, and reports it in its log only. Reconcile sends all orders.
#[test]
fn names_too_long_for_slurm_to_start_the_program_22_05() {
    let nodes = ManyNodes { prefix: "compute-node-", count: COUNT, dead: 0 };
    let crowd = crowd(Base::Bookworm, nodes);
    crowd.hand_over().unwrap();
    let log = || crowd.cluster.slurmctld_log();
    let complaint = "error: RebootProgram exit status of 1";
    until(complaint, MINUTES, log, |log| log.contains(complaint)).unwrap();
    let syslog = ["journalctl", "--no-pager", "-t", "slurm-rollout-reboot-program", "--grep", "ordered"];
    assert!(!crowd.controller().exec(&syslog).unwrap().success(), "the program was started");
    assert_eq!((crowd.agents.count(), standing(&journal(&crowd), Progress::Staged).len()), (0, COUNT));
    let reconcile = crowd.controller().command(&["slurm-rollout", "reconcile"]).unwrap().limit(MINUTES);
    until("all are ordered", MINUTES, || reconcile.output(), |_| crowd.agents.count() >= COUNT).unwrap();
    assert_eq!(standing(&journal(&crowd), Progress::Ordered).len(), COUNT);
    assert_each_got_its_order_once(&crowd, &nodes, &nodes.fates().0);
}
