//! The main job on a real cluster: what is staged is what the nodes become, while jobs run on.

use std::time::Duration;

use rollout_lab::{Base, ClusterSpec, Product, Site, TOOL_1_1};

const MINUTES: Duration = Duration::from_secs(240);

fn site(base: Base) -> Site {
    let spec = ClusterSpec { base, nodes: 4, ..ClusterSpec::default() };
    Site::with_tool(&Product::build().unwrap(), spec).unwrap()
}

/// Scenario 1: idle nodes first, busy ones when their jobs have ended; all changed and in service; no job lost.
fn four_nodes_two_with_jobs(base: Base) {
    let site = site(base);
    let cluster = &site.cluster;
    let ids: Vec<_> = cluster.compute_nodes().iter().map(|node| node.boot_id().unwrap()).collect();
    let jobs = ["cn03", "cn04"].map(|node| site.start_job(node, Duration::from_secs(30)).unwrap());
    let said = site.stage(TOOL_1_1).unwrap();
    assert!(said.contains("scontrol reboot ASAP nextstate=resume reason=tool-1.1 cn[01-04]"), "{said}");
    site.reboot("cn[01-04]").unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    for node in ["cn03", "cn04"] {
        assert_eq!(site.phase("tool-1.1", node).unwrap().phase, "draining");
        assert!(cluster.node_state(node).unwrap().starts_with("ALLOCATED"));
    }
    site.wait_idle(&["cn03", "cn04"], MINUTES).unwrap();
    for (node, id) in cluster.compute_nodes().iter().zip(ids) {
        assert_ne!(node.boot_id().unwrap(), id);
        assert_eq!(node.boot_count(), 2);
        assert_eq!(site.tool(node.name()).unwrap(), "/opt/app/2 1.1");
    }
    for job in jobs {
        job.ended_well(&site).unwrap();
    }
    for line in site.status("tool-1.1").unwrap() {
        assert_eq!(
            (line.phase.as_str(), line.slurm_state.as_deref(), line.note),
            ("updated", Some("IDLE"), None)
        );
    }
}

#[test]
fn four_nodes_two_with_jobs_slurm_24_11() {
    four_nodes_two_with_jobs(Base::Trixie);
}

#[test]
fn four_nodes_two_with_jobs_slurm_22_05() {
    four_nodes_two_with_jobs(Base::Bookworm);
}

#[test]
fn four_nodes_two_with_jobs_slurm_26_05() {
    four_nodes_two_with_jobs(Base::Forky);
}

/// Scenario 2: nothing is staged; the node gets a plain reboot and returns.
/// Scenario 11: what is staged is true already; nothing is applied, the node is rebooted and returns.
#[test]
fn nothing_staged_and_already_so() {
    let site = site(Base::Trixie);
    let node = site.cluster.node("cn01");
    site.reboot("cn01").unwrap();
    node.wait_boots(2, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), "/opt/app/1 1.0");
    let journal = node.journal("slurm-rollout-agent.service").unwrap();
    assert!(journal.contains("plain reboot: order"), "{journal}");

    node.run(&["ln", "-sfn", "/opt/app/2", "/opt/app/current"]).unwrap();
    node.run(&["dnf", "-y", "install", "tool-1.1"]).unwrap();
    let installed = node.run(&["stat", "-c", "%z", "/usr/share/tool/version"]).unwrap();
    let linked = node.run(&["stat", "-c", "%z", "/opt/app/current"]).unwrap();
    site.stage(&TOOL_1_1.replace("cn[01-04]", "cn01")).unwrap();
    site.reboot("cn01").unwrap();
    node.wait_boots(3, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.phase("tool-1.1", "cn01").unwrap().phase, "updated");
    assert_eq!(node.run(&["stat", "-c", "%z", "/usr/share/tool/version"]).unwrap(), installed, "not touched");
    assert_eq!(node.run(&["stat", "-c", "%z", "/opt/app/current"]).unwrap(), linked, "not touched");
    let status = node.run(&["slurm-rollout-agent", "status"]).unwrap();
    assert!(status.contains("\"changed\":false"), "{status}");
}

/// Scenario 3: what is staged is only applied through Slurm's hand-over.
#[test]
fn a_node_that_reboots_by_itself_comes_back_unchanged() {
    let spec = ClusterSpec { nodes: 4, return_to_service: 2, ..ClusterSpec::default() };
    let site = Site::with_tool(&Product::build().unwrap(), spec).unwrap();
    site.stage(TOOL_1_1).unwrap();
    // A container's uptime begins with a whole second of the host's: it may seem to have booted a second earlier.
    std::thread::sleep(Duration::from_secs(3));
    let _ = site.cluster.node("cn01").exec(&["systemctl", "reboot"]);
    site.cluster.node("cn02").power_cut();
    site.cluster.node("cn02").power_on();
    for name in ["cn01", "cn02"] {
        let node = site.cluster.node(name);
        node.wait_boots(2, MINUTES).unwrap();
        node.wait_booted(MINUTES).unwrap();
        assert_eq!(node.run(&["systemctl", "is-active", "slurmd"]).unwrap(), "active\n");
        site.wait_idle(&[name], MINUTES).unwrap();
        assert_eq!(site.tool(name).unwrap(), "/opt/app/1 1.0");
        let line = site.phase("tool-1.1", name).unwrap();
        assert_eq!(line.phase, "staged");
        assert_eq!(line.note.as_deref(), Some("not applied: the node rebooted without an order"));
    }
    assert_eq!(site.phase("tool-1.1", "cn03").unwrap().note, None);
    // It is still theirs when Slurm hands them over.
    site.reboot("cn01").unwrap();
    site.cluster.node("cn01").wait_boots(3, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), "/opt/app/2 1.1");
}
