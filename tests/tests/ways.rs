//! Every way in which Slurm hands nodes over: RebootProgram run by slurmctld (all other tests) and by slurmd, actions of
//! Slurm 26.05 on both sides, and reboots that jobs ask for.

// A test may panic.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rollout_lab::{Base, ClusterSpec, Product, REBOOT_PROGRAM, Site, TOOL_1_1, until};

const MINUTES: Duration = Duration::from_secs(240);
const REBOOT_NODE: &str = "/usr/libexec/slurm-rollout/reboot-node";
const OLD: &str = "/opt/app/1 1.0";
const NEW: &str = "/opt/app/2 1.1";

/// A site with `tool`, whose slurm.conf has these lines instead of the usual ones.
fn site(base: Base, nodes: u8, reboot_program: &str, from_controller: bool, extra: &str) -> Site {
    let spec = ClusterSpec { base, nodes, slurm_conf_extra: extra.to_owned(), ..ClusterSpec::default() };
    let way = |spec: &mut ClusterSpec| {
        reboot_program.clone_into(&mut spec.reboot_program);
        spec.reboot_from_controller = from_controller;
    };
    Site::with_tool_and(&Product::build().unwrap(), spec, way).unwrap()
}

fn manifest(nodes: &str) -> String {
    TOOL_1_1.replace("cn[01-04]", nodes)
}

fn wait_phase(site: &Site, node: &str, phase: &str) {
    until(phase, MINUTES, || site.phase("tool-1.1", node), |line| line.phase == phase).unwrap();
}

/// slurmd runs RebootProgram. What is staged is with the agents before; one that was down gets it when it is back.
fn run_by_slurmd(base: Base) {
    let site = site(base, 3, REBOOT_NODE, false, "");
    let cn03 = site.cluster.node("cn03");
    cn03.run(&["systemctl", "stop", "slurm-rollout-agent"]).unwrap();
    let staged = site.stage(&manifest("cn[01-03]")).unwrap();
    assert!(staged.contains("the agents of cn[01-02] have it"), "{staged}");
    for (node, note) in [("cn01", "its agent has it"), ("cn03", "agent: ")] {
        let line = site.phase("tool-1.1", node).unwrap();
        assert!(line.phase == "staged" && line.note.as_deref().unwrap_or("").contains(note), "{line:?}");
    }
    cn03.run(&["systemctl", "start", "slurm-rollout-agent"]).unwrap();
    let told = site.rollout(&["reconcile"]).unwrap().into_stdout().unwrap();
    assert_eq!(told, "tool-1.1: given to the agents of cn03\n");
    // What is called off is called off at the agents.
    site.rollout(&["unstage", "tool-1.1", "cn02"]).unwrap().into_stdout().unwrap();
    let boots: Vec<u32> = site.cluster.compute_nodes().iter().map(|node| node.boot_count()).collect();
    site.reboot("cn[01-03]").unwrap();
    for (node, before) in site.cluster.compute_nodes().iter().zip(boots) {
        node.wait_boots(before + 1, MINUTES).unwrap();
    }
    site.wait_idle(&["cn01", "cn02", "cn03"], MINUTES).unwrap();
    for (node, is) in [("cn01", NEW), ("cn02", OLD), ("cn03", NEW)] {
        assert_eq!(site.tool(node).unwrap(), is, "{node}");
    }
    for node in ["cn01", "cn03"] {
        wait_phase(&site, node, "updated");
    }
    // Nothing is applied twice: the next one is a plain reboot. And called by hand the program does nothing.
    let cn01 = site.cluster.node("cn01");
    let boots = cn01.boot_count();
    cn01.run(&[REBOOT_NODE]).unwrap();
    let refused = || cn01.journal("slurm-rollout-agent.service");
    let said = "Slurm has not handed the node over";
    until("a word of it", MINUTES, refused, |journal| journal.contains(said)).unwrap();
    assert_eq!(cn01.boot_count(), boots);
    site.reboot("cn01").unwrap();
    cn01.wait_boots(boots + 1, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW);
}

#[test]
fn run_by_slurmd_22_05() {
    run_by_slurmd(Base::Bookworm);
}

#[test]
fn run_by_slurmd_24_11() {
    run_by_slurmd(Base::Trixie);
}

#[test]
fn run_by_slurmd_26_05() {
    run_by_slurmd(Base::Forky);
}

/// A job that wants its node rebooted gets a plain reboot, whatever is staged. Both kinds of hand-over.
fn for_a_job(base: Base, program: &str, from_controller: bool) {
    let site = site(base, 1, program, from_controller, "");
    site.stage(&manifest("cn01")).unwrap();
    let node = site.cluster.node("cn01");
    let boots = node.boot_count();
    let job = ["sbatch", "--reboot", "--output=/dev/null", "--wrap", "true"];
    site.cluster.controller().run(&job).unwrap();
    node.wait_boots(boots + 1, MINUTES).unwrap();
    let done = || site.cluster.controller().run(&["squeue", "--noheader"]);
    until("the job", MINUTES, done, |jobs| jobs.trim().is_empty()).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), OLD);
    assert_eq!(site.phase("tool-1.1", "cn01").unwrap().phase, "staged");
    // It is still there for the admin's reboot.
    site.reboot("cn01").unwrap();
    node.wait_boots(boots + 2, MINUTES).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW);
}

#[test]
fn for_a_job_22_05() {
    for_a_job(Base::Bookworm, REBOOT_PROGRAM, true);
    for_a_job(Base::Bookworm, REBOOT_NODE, false);
}

#[test]
fn for_a_job_24_11() {
    for_a_job(Base::Trixie, REBOOT_PROGRAM, true);
    for_a_job(Base::Trixie, REBOOT_NODE, false);
}

#[test]
fn for_a_job_26_05() {
    for_a_job(Base::Forky, REBOOT_PROGRAM, true);
    for_a_job(Base::Forky, REBOOT_NODE, false);
}

/// `scontrol reboot action=rollout` applies what is staged, and a plain `scontrol reboot` stays plain.
fn by_action(location: &str, program: &str, plain: &str, from_controller: bool) {
    let action = format!("PowerAction=rollout Location={location} Program={program}\n");
    let site = site(Base::Forky, 2, plain, from_controller, &action);
    if location == "slurmd" {
        let drop_in = "/etc/slurm-rollout/controller.d/deliver.toml";
        site.cluster.controller().write_file(drop_in, "deliver = \"always\"\n", 0o644).unwrap();
    }
    site.stage(&manifest("cn[01-02]")).unwrap();
    let cn02 = site.cluster.node("cn02");
    let boots = cn02.boot_count();
    site.reboot("cn02").unwrap();
    let action = ["reboot", "action=rollout", "ASAP", "nextstate=resume", "reason=update", "cn01"];
    site.cluster.scontrol(&action).unwrap();
    cn02.wait_boots(boots + 1, MINUTES).unwrap();
    wait_phase(&site, "cn01", "updated");
    site.wait_idle(&["cn01", "cn02"], MINUTES).unwrap();
    assert_eq!((site.tool("cn01").unwrap().as_str(), site.tool("cn02").unwrap().as_str()), (NEW, OLD));
    assert_eq!(site.phase("tool-1.1", "cn02").unwrap().phase, "staged");
}

#[test]
fn an_action_of_slurmctld_applies_and_a_plain_reboot_does_not() {
    by_action("slurmctld", REBOOT_PROGRAM, &format!("\"{REBOOT_PROGRAM} --plain\""), true);
}

#[test]
fn an_action_of_slurmd_applies_and_a_plain_reboot_does_not() {
    by_action("slurmd", REBOOT_NODE, &format!("\"{REBOOT_NODE} --plain\""), false);
}

/// The other choice: RebootProgram is the action, and every reboot applies.
#[test]
fn every_reboot_is_the_action() {
    let action = format!("PowerAction=rollout Location=slurmctld Program={REBOOT_PROGRAM}\n");
    let site = site(Base::Forky, 1, "rollout", false, &action);
    site.stage(&manifest("cn01")).unwrap();
    site.reboot("cn01").unwrap();
    wait_phase(&site, "cn01", "updated");
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!(site.tool("cn01").unwrap(), NEW);
}
