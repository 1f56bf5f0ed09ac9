//! RebootProgram run by slurmd.

use super::{manifest, site};
use crate::prelude::*;

/// File that tells users of a node about its update.
const NOTICE: &str = "/run/slurm-rollout-notice";

/// slurmd runs RebootProgram. Agents hold the staged change beforehand; one that was down gets it when it is back.
fn run_by_slurmd(base: Base) {
    let site = site(base, 3, "reboot_by_slurmd.conf");
    let image = Manifest::new("image", "cn01").image("boot-file", "x", "1");
    let said = site.stage(image).unwrap_err().to_string();
    assert!(said.contains("slurmd runs RebootProgram"), "{said}");
    let cn03 = site.cluster.node("cn03");
    cn03.run(&["systemctl", "stop", AGENT_UNIT]).unwrap();
    let staged = site.stage(manifest("cn[01-03]")).unwrap();
    assert!(staged.contains("the agents of cn[01-02] have it"), "{staged}");
    for (node, note) in [("cn01", "its agent has it"), ("cn03", "agent: ")] {
        let is_noted = |line: &NodeLine| {
            line.phase == "staged" && line.note.as_deref().unwrap_or_default().contains(note)
        };
        until(note, MINUTES, || site.phase("tool-1.1", node), is_noted).unwrap();
    }
    cn03.run(&["systemctl", "start", AGENT_UNIT]).unwrap();
    let told = site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    assert_eq!(told, "tool-1.1: given to the agents of cn03\n");
    // Users see it, as any of them may read. What they see is gone with the change.
    let notice =
        |node: &str| site.cluster.node(node).exec(&["su", "-s", "/bin/cat", "nobody", NOTICE]).unwrap();
    assert!(notice("cn02").stdout.starts_with("slurm-rollout: tool-1.1 is staged for this node"));
    // Unstaging reaches the agents.
    site.rollout(&["unstage", "tool-1.1", "cn02"]).unwrap().into_stdout().unwrap();
    let none = || Ok(notice("cn02").success());
    until("no notice on cn02", MINUTES, none, |is_there| !is_there).unwrap();
    let boots: Vec<u32> = site.cluster.compute_nodes().iter().map(|node| node.boot_count()).collect();
    site.reboot("cn[01-03]").unwrap();
    for (node, before) in site.cluster.compute_nodes().iter().zip(boots) {
        node.wait_boots(before + 1, MINUTES).unwrap();
    }
    site.wait_idle(&["cn01", "cn02", "cn03"], MINUTES).unwrap();
    for (node, is) in [("cn01", NEW_TOOL), ("cn02", OLD_TOOL), ("cn03", NEW_TOOL)] {
        assert_eq!(site.tool(node).unwrap(), is, "{node}");
    }
    for node in ["cn01", "cn03"] {
        site.wait_phase("tool-1.1", node, "updated").unwrap();
        assert!(!notice(node).success());
    }
    // No change is applied twice: the next reboot is plain. Called by hand, the program does nothing.
    let cn01 = site.cluster.node("cn01");
    let boots = cn01.boot_count();
    cn01.run(&[REBOOT_NODE]).unwrap();
    cn01.wait_journal(AGENT_UNIT, "Slurm has not handed the node over").unwrap();
    assert_eq!(cn01.boot_count(), boots);
    site.reboot_to_idle("cn01").unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW_TOOL);
}

#[test]
fn run_by_slurmd_22_05() {
    run_by_slurmd(Base::Bookworm);
}

#[test]
fn run_by_slurmd_26_05() {
    run_by_slurmd(Base::Forky);
}

/// Reconcile sends orders that a node never got, once, and leaves alone orders that it got.
fn lost_on_the_node(base: Base) {
    let site = site(base, 3, "reboot_by_slurmd.conf");
    let [cn01, cn02, cn03] = ["cn01", "cn02", "cn03"].map(|name| site.cluster.node(name));
    let wait = "test $(hostname) != cn03 || while [ ! -e /run/go ]; do sleep 0.2; done";
    site.stage(manifest("cn01,cn03").verify_script(wait)).unwrap();
    // The agent of cn01 is down. On cn02, which has nothing staged, slurmd is killed before the agent hears anything.
    cn01.run(&["systemctl", "stop", AGENT_UNIT]).unwrap();
    let away = format!("mv {REBOOT_NODE} /root/reboot-node");
    cn02.run(&["sh", "-ec", &away]).unwrap();
    cn02.write_file(REBOOT_NODE, "#!/bin/sh\ntouch /run/asked\nsleep 10000\n", 0o755).unwrap();
    site.reboot("cn[01-03]").unwrap();
    cn02.wait_file("/run/asked", true).unwrap();
    cn02.run(&["systemctl", "kill", "-s", "KILL", "slurmd"]).unwrap();
    cn02.run(&["mv", "/root/reboot-node", REBOOT_NODE]).unwrap();
    site.wait_reason("cn01", "slurm-rollout RebootProgram: not ordered: ").unwrap();
    site.wait_phase("tool-1.1", "cn03", "verifying").unwrap();
    // There is nothing to report while they are silent or do as they should.
    let quiet = || site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    let ordered = |node: &str| format!("{node}: handed over by Slurm and never told: ordered now\n");
    until("cn02 is ordered", MINUTES, || Ok(quiet()), |said| *said == ordered("cn02")).unwrap();
    assert_eq!(quiet(), "");
    cn01.run(&["systemctl", "start", AGENT_UNIT]).unwrap();
    until("cn01 is ordered", MINUTES, || Ok(quiet()), |said| *said == ordered("cn01")).unwrap();
    for node in [cn01, cn02] {
        node.wait_boots(2, MINUTES).unwrap();
    }
    cn03.run(&["touch", "/run/go"]).unwrap();
    site.wait_idle(&["cn01", "cn02", "cn03"], MINUTES).unwrap();
    for (node, is) in [(cn01, NEW_TOOL), (cn02, OLD_TOOL), (cn03, NEW_TOOL)] {
        assert_eq!((site.tool(node.name()).unwrap().as_str(), node.boot_count()), (is, 2), "{}", node.name());
        let journal = node.journal(AGENT_UNIT).unwrap();
        assert_eq!(journal.matches(" taken").count(), 1, "{journal}");
    }
    for node in ["cn01", "cn03"] {
        site.wait_phase("tool-1.1", node, "updated").unwrap();
    }
    assert_eq!(quiet(), "");
}

#[test]
fn lost_on_the_node_22_05() {
    lost_on_the_node(Base::Bookworm);
}

/// If slurmd runs RebootProgram, agents hear of drains with the staged change, and of drains set or taken away later.
fn drains_on_the_node(base: Base) {
    let site = site(base, 3, "reboot_by_slurmd.conf");
    let set = |node: &str, how: &[&str]| {
        let node = format!("nodename={node}");
        site.cluster.scontrol(&[&["update", &node], how].concat()).unwrap();
    };
    set("cn01", &["state=drain", "reason=bad disk"]);
    set("cn03", &["state=drain", "reason=bad DIMM"]);
    site.stage(manifest("cn[01-03]")).unwrap();
    set("cn02", &["state=drain", "reason=bad fan"]);
    set("cn03", &["state=resume"]);
    // As the timer does.
    site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    site.reboot("cn[01-03]").unwrap();
    for node in ["cn01", "cn02", "cn03"] {
        site.wait_phase("tool-1.1", node, "updated").unwrap();
        assert_eq!(site.tool(node).unwrap(), NEW_TOOL, "{node}");
    }
    site.wait_idle(&["cn03"], MINUTES).unwrap();
    for (node, reason) in [("cn01", "bad disk"), ("cn02", "bad fan")] {
        site.cluster.node(node).wait_active("slurmd.service").unwrap();
        site.cluster.wait_state(node, |state| state == "IDLE+DRAIN", MINUTES).unwrap();
        // Longer than the node without a drain took to come into service.
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(site.cluster.node_state(node).unwrap(), "IDLE+DRAIN", "{node}");
        assert_eq!(site.reason(node).unwrap(), reason, "{node}");
        assert_eq!(site.cluster.node(node).boot_count(), 2, "{node}");
    }
}

#[test]
fn drains_on_the_node_22_05() {
    drains_on_the_node(Base::Bookworm);
}

#[test]
fn drains_on_the_node_26_05() {
    drains_on_the_node(Base::Forky);
}
