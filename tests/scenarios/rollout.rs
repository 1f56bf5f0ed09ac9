//! The main task on a real cluster: nodes get the staged change while jobs run on.

use crate::prelude::*;

/// Scenario 1: idle nodes first, busy ones after the end of their jobs; all changed and in service; no job lost.
fn four_nodes_two_with_jobs(base: Base) {
    let site = start_with_tool(ClusterSpec { base, ..nodes(4) });
    let cluster = &site.cluster;
    let ids: Vec<_> = cluster.compute_nodes().iter().map(|node| node.boot_id().unwrap()).collect();
    let jobs = ["cn03", "cn04"].map(|node| site.start_job(node).unwrap());
    let said = site.stage(Manifest::tool("1.1")).unwrap();
    assert!(said.contains("scontrol reboot ASAP nextstate=resume reason=tool-1.1 cn[01-04]"), "{said}");
    site.reboot("cn[01-04]").unwrap();
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    for node in ["cn03", "cn04"] {
        site.wait_phase("tool-1.1", node, "draining").unwrap();
        assert!(cluster.node_state(node).unwrap().starts_with("ALLOCATED"));
    }
    jobs.iter().for_each(|job| job.let_end(&site).unwrap());
    site.wait_idle(&["cn03", "cn04"], MINUTES).unwrap();
    for (node, id) in cluster.compute_nodes().iter().zip(ids) {
        assert_ne!(node.boot_id().unwrap(), id);
        assert_eq!(node.boot_count(), 2);
        assert_eq!(site.tool(node.name()).unwrap(), NEW_TOOL);
    }
    for job in jobs {
        job.ended_well(&site).unwrap();
    }
    let is_done = |lines: &Vec<NodeLine>| {
        let is_done = |line: &NodeLine| {
            let state = (line.phase.as_str(), line.slurm_state.as_deref(), line.note.as_deref());
            state == ("updated", Some("IDLE"), None)
        };
        lines.len() == 4 && lines.iter().all(is_done)
    };
    until("status of all nodes", MINUTES, || site.status("tool-1.1"), is_done).unwrap();
}

#[test]
fn four_nodes_two_with_jobs_slurm_22_05() {
    four_nodes_two_with_jobs(Base::Bookworm);
}

#[test]
fn four_nodes_two_with_jobs_slurm_26_05() {
    four_nodes_two_with_jobs(Base::Forky);
}

#[test]
fn rehearsed_nothing_staged_and_already_so() {
    let site = start_with_tool(nodes(4));
    in_cases(|cases| {
        cases.check("rehearsed", || crate::rehearse::reports_and_leaves_no_trace(&site));
        cases.check("nothing staged", || nothing_staged(&site));
        cases.check("already so", || already_so(&site));
    });
}

/// Scenario 2: nothing is staged; the node gets a plain reboot and returns.
fn nothing_staged(site: &Site) {
    site.reboot_to_idle("cn01").unwrap();
    assert_eq!(site.tool("cn01").unwrap(), OLD_TOOL);
    site.cluster.node("cn01").wait_journal(AGENT_UNIT, "plain reboot: order").unwrap();
}

/// Scenario 11: the node has the staged change already; nothing is applied, the node is rebooted and returns.
fn already_so(site: &Site) {
    let node = site.cluster.node("cn01");
    node.run(&["ln", "-sfn", "/opt/app/2", "/opt/app/current"]).unwrap();
    node.run(&["dnf", "-y", "install", "tool-1.1"]).unwrap();
    let installed = node.run(&["stat", "-c", "%z", "/usr/share/tool/version"]).unwrap();
    let linked = node.run(&["stat", "-c", "%z", "/opt/app/current"]).unwrap();
    site.stage(Manifest::tool("1.1").nodes("cn01")).unwrap();
    site.reboot_to_idle("cn01").unwrap();
    site.wait_phase("tool-1.1", "cn01", "updated").unwrap();
    assert_eq!(node.run(&["stat", "-c", "%z", "/usr/share/tool/version"]).unwrap(), installed, "not touched");
    assert_eq!(node.run(&["stat", "-c", "%z", "/opt/app/current"]).unwrap(), linked, "not touched");
    let status = node.run(&["slurm-rollout-agent", "status"]).unwrap();
    assert!(status.contains("\"changed\":false"), "{status}");
}

/// Scenario 3: a change is applied only through Slurm's hand-over.
#[test]
fn a_node_that_reboots_by_itself_comes_back_unchanged() {
    let spec = ClusterSpec { nodes: 4, return_to_service: 2, ..ClusterSpec::default() };
    let site = start_with_tool(spec);
    site.stage(Manifest::tool("1.1")).unwrap();
    // A container's uptime begins with a whole second of the host's: it may seem to have booted a second earlier.
    std::thread::sleep(Duration::from_secs(3));
    let _ = site.cluster.node("cn01").exec(&["systemctl", "reboot"]);
    site.cluster.node("cn02").power_cut();
    site.cluster.node("cn02").power_on();
    for name in ["cn01", "cn02"] {
        let node = site.cluster.node(name);
        node.wait_boots(2, MINUTES).unwrap();
        node.wait_booted(MINUTES).unwrap();
        assert!(node.is_active("slurmd.service").unwrap());
        site.wait_idle(&[name], MINUTES).unwrap();
        assert_eq!(site.tool(name).unwrap(), OLD_TOOL);
        let why = Some("not applied: the node rebooted without an order");
        let is_noted = |line: &NodeLine| line.phase == "staged" && line.note.as_deref() == why;
        until("the note", MINUTES, || site.phase("tool-1.1", name), is_noted).unwrap();
    }
    until("no note", MINUTES, || site.phase("tool-1.1", "cn03"), |line| line.note.is_none()).unwrap();
    // The change is applied when Slurm hands the node over.
    site.reboot_to_idle("cn01").unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW_TOOL);
}
