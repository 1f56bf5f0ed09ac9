//! Handing over many nodes: dead agents, hosts that drop packets, two RebootPrograms at once, one that is killed.

use std::sync::Arc;
use std::time::Duration;

use rollout_lab::{ClusterSpec, NodeRoot, Product, REBOOT_PROGRAM, Site, TOOL_1_1, until};

const MINUTES: Duration = Duration::from_secs(240);

/// A RebootProgram that does nothing: the nodes are handed over, and the test calls the real one.
const NOTHING: &str = "/usr/libexec/lab/nothing";

/// A site where slurmctld's own RebootProgram does nothing.
fn site_without_program(nodes: u8) -> Site {
    let prepare = |root: &NodeRoot| {
        root.write_file(NOTHING, "#!/bin/sh\n", 0o755)?;
        let swap = format!("s,^RebootProgram=.*,RebootProgram={NOTHING},");
        root.run(&["sed", "-i", &swap, "/etc/slurm/slurm.conf"]).map(drop)
    };
    let spec = ClusterSpec { nodes, prepare: Some(Arc::new(prepare)), ..ClusterSpec::default() };
    Site::with_tool(&Product::build().unwrap(), spec).unwrap()
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
    let spec = ClusterSpec { nodes: 6, ..ClusterSpec::default() };
    let site = Site::with_tool(&Product::build().unwrap(), spec).unwrap();
    let cluster = &site.cluster;
    site.stage(&TOOL_1_1.replace("cn[01-04]", "cn[01-06]")).unwrap();
    cluster.node("cn02").run(&["systemctl", "mask", "--now", "slurm-rollout-agent"]).unwrap();
    cluster.drop_packets("cn05", true).unwrap();
    site.reboot("cn[01-06]").unwrap();

    let journal = until(
        "all outcomes",
        MINUTES,
        || journal(&site),
        |lines| lines.iter().filter(|line| line["is"] == "unreachable").count() == 2,
    );
    let journal = journal.unwrap();
    let time = |is: &str, node: &str| {
        let line =
            journal.iter().find(|line| line["is"] == is && names(&line["nodes"]).contains(&node.to_owned()));
        line.unwrap_or_else(|| panic!("{is} {node} in {journal:#?}"))["t_ms"].as_u64().unwrap()
    };
    for node in ["cn01", "cn03", "cn04", "cn06"] {
        // Only this is a promise of ours: that nobody waits for the dead. Both times are of one clock.
        assert!(time("ordered", node) - time("ordering", node) < 1000, "{journal:#?}");
    }
    time("unreachable", "cn02");
    time("unreachable", "cn05");
    for (node, why) in [("cn02", "refused"), ("cn05", "its host does not answer")] {
        let reason =
            until("a Reason", MINUTES, || site.reason(node), |r| r.starts_with("slurm-rollout ")).unwrap();
        assert!(
            reason.contains("tool-1.1: not ordered: no answer from its agent") && reason.contains(why),
            "{reason}"
        );
        assert_eq!(site.phase("tool-1.1", node).unwrap().phase, "unreachable");
    }
    site.wait_idle(&["cn01", "cn03", "cn04", "cn06"], MINUTES).unwrap();
    // What was staged for them still is: mended, they are handed over again and get it.
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
    let site = site_without_program(6);
    let controller = site.cluster.controller();
    site.stage(&TOOL_1_1.replace("cn[01-04]", "cn[01-06]")).unwrap();
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
    let mut ordered: Vec<String> = journal(&site)
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
        let taken = node.journal("slurm-rollout-agent.service").unwrap();
        assert_eq!(taken.matches(" taken").count(), 1, "{taken}");
    }
}

/// Scenario 9: a RebootProgram that is killed in the middle. Its claim ends by itself, and nothing is damaged.
#[test]
fn a_reboot_program_that_is_killed() {
    let site = site_without_program(2);
    let controller = site.cluster.controller();
    site.stage(&TOOL_1_1.replace("cn[01-04]", "cn[01-02]")).unwrap();
    // Its agents do not answer yet, so it is in the middle for as long as it is given.
    site.cluster.drop_packets("cn01", true).unwrap();
    site.cluster.drop_packets("cn02", true).unwrap();
    let issued = site.reboot("cn[01-02]");
    issued.unwrap();
    for node in ["cn01", "cn02"] {
        site.cluster.wait_state(node, |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    }
    let program = controller
        .spawn(&["setpriv", "--reuid=slurm", "--clear-groups", REBOOT_PROGRAM, "cn[01-02]"])
        .unwrap();
    until("the claim", MINUTES, || journal(&site), |lines| lines.iter().any(|l| l["is"] == "ordering"))
        .unwrap();
    controller.run(&["pkill", "-KILL", "-f", "reboot-program cn"]).unwrap();
    assert_ne!(program.wait(), Some(0));
    // Torn in the middle of a line, too.
    let path = "/var/lib/slurm-rollout/rollouts/tool-1.1/journal";
    controller.run(&["sh", "-c", &format!("printf '{{\"t_ms\":1,\"by\":' >> {path}")]).unwrap();
    site.cluster.drop_packets("cn01", false).unwrap();
    site.cluster.drop_packets("cn02", false).unwrap();
    // While the claim holds, nobody else orders them.
    let second = controller.exec_as("slurm", &[REBOOT_PROGRAM, "cn01,cn02"]).unwrap();
    assert!(second.stderr.contains("another RebootProgram is sending the order"), "{second:?}");
    // When it is over, the next one does.
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
    for line in site.status("tool-1.1").unwrap() {
        assert_eq!(line.phase, "updated");
    }
}

/// The lines of the rollout's journal that are whole.
fn journal(site: &Site) -> rollout_lab::Result<Vec<serde_json::Value>> {
    let text = site.cluster.controller().read_file("/var/lib/slurm-rollout/rollouts/tool-1.1/journal")?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn names(list: &serde_json::Value) -> Vec<String> {
    rollout_core::hostlist::expand(list.as_str().unwrap()).unwrap()
}
