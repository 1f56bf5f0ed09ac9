//! Handing over many nodes: dead agents, hosts that drop packets, many RebootPrograms at once, one that is killed.

use crate::prelude::*;

/// Boots a cluster on which slurmctld's own RebootProgram does nothing.
fn start_without_program(count: u8) -> Site {
    let change = |root: &NodeRoot| {
        root.write_file(NO_PROGRAM, DOES_NOTHING, 0o755)?;
        let swap = format!("s,^RebootProgram=.*,RebootProgram={NO_PROGRAM},");
        root.run(&["sed", "-i", &swap, "/etc/slurm/slurm.conf"]).map(drop)
    };
    start_with_tool(ClusterSpec { prepare: prepare(change), ..nodes(count) })
}

fn hand_over(site: &Site, nodes: &[&str]) {
    site.reboot(&nodes.join(",")).unwrap();
    for node in nodes {
        site.cluster.wait_state(node, |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    }
}

/// Scenario 7: one agent is dead, one host drops packets. The others are ordered at once, and these are named.
#[test]
fn one_agent_dead_and_one_host_that_drops_packets() {
    let site = start_with_tool(nodes(6));
    let cluster = &site.cluster;
    site.stage(Manifest::tool("1.1").nodes("cn[01-06]")).unwrap();
    cluster.node("cn02").run(&["systemctl", "mask", "--now", "slurm-rollout-agent"]).unwrap();
    cluster.drop_packets("cn05", true).unwrap();
    site.reboot("cn[01-06]").unwrap();

    let journal = until(
        "all outcomes",
        MINUTES,
        || site.journal("tool-1.1"),
        |lines| lines.iter().filter(|line| line["is"] == "unreachable").count() == 2,
    );
    let journal = journal.unwrap();
    let time = |is: &str, node: &str| {
        let line =
            journal.iter().find(|line| line["is"] == is && names(&line["nodes"]).contains(&node.to_owned()));
        line.unwrap_or_else(|| panic!("{is} {node} in {journal:#?}"))["t_ms"].as_u64().unwrap()
    };
    for node in ["cn01", "cn03", "cn04", "cn06"] {
        // The promise is that no node waits for the dead, however busy this machine is. All times are of one clock.
        for dead in ["cn02", "cn05"] {
            assert!(time("ordered", node) < time("unreachable", dead), "{journal:#?}");
        }
    }
    for (node, why) in [("cn02", "refused"), ("cn05", "its host does not answer")] {
        let reason =
            site.wait_reason(node, "slurm-rollout tool-1.1: not ordered: no answer from its agent").unwrap();
        assert!(reason.contains(why), "{reason}");
        site.wait_phase("tool-1.1", node, "unreachable").unwrap();
    }
    site.wait_idle(&["cn01", "cn03", "cn04", "cn06"], MINUTES).unwrap();
    // Their change is still staged: mended, they are handed over again and get it.
    cluster.drop_packets("cn05", false).unwrap();
    cluster.node("cn02").run(&["systemctl", "unmask", "slurm-rollout-agent"]).unwrap();
    cluster.node("cn02").run(&["systemctl", "start", "slurm-rollout-agent"]).unwrap();
    cluster.scontrol(&["update", "nodename=cn02,cn05", "state=resume"]).unwrap();
    site.wait_idle(&["cn02", "cn05"], MINUTES).unwrap();
    site.reboot("cn02,cn05").unwrap();
    for node in ["cn02", "cn05"] {
        cluster.node(node).wait_boots(2, MINUTES).unwrap();
        site.wait_idle(&[node], MINUTES).unwrap();
        assert_eq!(site.tool(node).unwrap(), "/opt/app/2 1.1");
    }
}

/// Scenario 9: many RebootPrograms at once for nodes that overlap: each node is ordered once.
#[test]
fn many_reboot_programs_at_once() {
    let site = start_without_program(6);
    let controller = site.cluster.controller();
    site.stage(Manifest::tool("1.1").nodes("cn[01-06]")).unwrap();
    hand_over(&site, &["cn01", "cn02", "cn03", "cn04", "cn05", "cn06"]);
    let lists = ["cn[01-04]", "cn03,cn04,cn05,cn06", "cn[01-06]", "cn01,cn06"];
    let running: Vec<_> = lists
        .iter()
        .map(|list| controller.command(&[REBOOT_PROGRAM, list]).unwrap().user("slurm").spawn().unwrap())
        .collect();
    for program in running {
        assert_eq!(program.wait(), Some(0));
    }
    for node in site.cluster.node_names() {
        site.cluster.node(node).wait_boots(2, MINUTES).unwrap();
    }
    site.wait_idle(&site.cluster.node_names(), MINUTES).unwrap();
    let mut ordered: Vec<String> = site
        .journal("tool-1.1")
        .unwrap()
        .iter()
        .filter(|l| l["is"] == "ordered")
        .flat_map(|l| names(&l["nodes"]))
        .collect();
    ordered.sort();
    assert_eq!(ordered, site.cluster.node_names());
    for node in site.cluster.compute_nodes() {
        assert_eq!(node.boot_count(), 2);
        assert_eq!(site.tool(node.name()).unwrap(), "/opt/app/2 1.1");
        let taken = node.journal(AGENT_UNIT).unwrap();
        assert_eq!(taken.matches(" taken").count(), 1, "{taken}");
    }
}

/// Scenario 9: a RebootProgram that is killed in the middle. Its claim expires, and nothing is damaged.
#[test]
fn a_reboot_program_that_is_killed() {
    let site = start_without_program(2);
    let controller = site.cluster.controller();
    site.stage(Manifest::tool("1.1").nodes("cn[01-02]")).unwrap();
    // Its agents do not answer yet, which keeps it in the middle for its time limit.
    let slow = "deadline = \"25s\"\nagent_timeout = \"20s\"\n";
    controller.write_file("/etc/slurm-rollout/controller.d/slow.toml", slow, 0o644).unwrap();
    freeze_agent(site.cluster.node("cn01"));
    freeze_agent(site.cluster.node("cn02"));
    hand_over(&site, &["cn01", "cn02"]);
    let program = controller
        .spawn(&["setpriv", "--reuid=slurm", "--clear-groups", REBOOT_PROGRAM, "cn[01-02]"])
        .unwrap();
    until(
        "the claim",
        MINUTES,
        || site.journal("tool-1.1"),
        |lines| lines.iter().any(|l| l["is"] == "ordering"),
    )
    .unwrap();
    controller.run(&["pkill", "-KILL", "-f", "reboot-program cn"]).unwrap();
    assert_ne!(program.wait(), Some(0));
    // The journal is torn in the middle of a line, too.
    let path = "/var/lib/slurm-rollout/rollouts/tool-1.1/journal";
    controller.run(&["sh", "-c", &format!("printf '{{\"t_ms\":1,\"by\":' >> {path}")]).unwrap();
    replace_frozen_agent(site.cluster.node("cn01"));
    replace_frozen_agent(site.cluster.node("cn02"));
    // While the claim holds, no other RebootProgram orders them.
    let second = controller.exec_as("slurm", &[REBOOT_PROGRAM, "cn01,cn02"]).unwrap();
    assert!(second.stderr.contains("another RebootProgram is sending the order"), "{second:?}");
    // The next one does after the claim has expired.
    let third = until(
        "the claim is over",
        MINUTES,
        || controller.exec_as("slurm", &[REBOOT_PROGRAM, "cn01,cn02"]),
        |third| third.stderr.contains("2 of 2 ordered"),
    );
    assert_eq!(third.unwrap().code, Some(0));
    for node in ["cn01", "cn02"] {
        site.cluster.node(node).wait_boots(2, MINUTES).unwrap();
    }
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    for node in ["cn01", "cn02"] {
        site.wait_phase("tool-1.1", node, "updated").unwrap();
    }
}

fn names(list: &serde_json::Value) -> Vec<String> {
    rollout_core::hostlist::expand(list.as_str().unwrap()).unwrap()
}
