//! Orders that Slurm loses: `slurm-rollout reconcile` finds nodes that were handed over and never ordered, and no
//! others.

use std::time::Instant;

use crate::prelude::*;

/// Path of RebootProgram while Slurm cannot start it.
const AWAY: &str = "/usr/libexec/slurm-rollout/away";

fn site(spec: ClusterSpec) -> Site {
    let spec = ClusterSpec { resume_timeout_s: 600, ..spec };
    start_with_tool(spec)
}

fn stage(site: &Site, nodes: &str) {
    site.stage(Manifest::tool("1.1").nodes(nodes)).unwrap();
}

fn reconcile(site: &Site) -> Output {
    site.rollout(&["reconcile"]).unwrap()
}

fn assert_nothing_to_do(output: &Output) {
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(0), "", ""));
}

/// Runs it until it has ordered exactly these nodes.
fn reconcile_until_ordered(site: &Site, nodes: &str) {
    let ordered = format!("{nodes}: handed over by Slurm and never told: ordered now\n");
    until("lost orders", MINUTES, || Ok(reconcile(site)), |output| output.stdout == ordered).unwrap();
}

fn wait_issued(site: &Site, nodes: &[&str]) {
    for node in nodes {
        site.cluster.wait_state(node, |state| state.contains("REBOOT_ISSUED"), MINUTES).unwrap();
    }
}

/// Counts the journal's lines of this kind for a node.
fn said(site: &Site, is: &str, node: &str) -> usize {
    let lines = site.journal("tool-1.1").unwrap();
    let of_node = |line: &&serde_json::Value| {
        let nodes = rollout_core::hostlist::expand(line["nodes"].as_str().unwrap()).unwrap();
        line["is"] == is && nodes.iter().any(|name| name == node)
    };
    lines.iter().filter(of_node).count()
}

/// Asserts that each node was ordered once, booted once, and has its change.
fn assert_updated_once(site: &Site, nodes: &[&str]) {
    for name in nodes {
        site.cluster.node(name).wait_boots(2, MINUTES).unwrap();
    }
    site.wait_idle(nodes, MINUTES).unwrap();
    for name in nodes {
        site.wait_phase("tool-1.1", name, "updated").unwrap();
        let node = site.cluster.node(name);
        assert_eq!(site.tool(name).unwrap(), NEW_TOOL, "{name}");
        assert_eq!((node.boot_count(), said(site, "ordered", name)), (2, 1), "{name}");
        let journal = node.journal(AGENT_UNIT).unwrap();
        assert_eq!(journal.matches(" taken").count(), 1, "{journal}");
    }
}

/// Lets RebootProgram wait for this many seconds for the answer of an agent.
fn be_patient(controller: &Node, seconds: u32) {
    let slow = format!("deadline = \"{}s\"\nagent_timeout = \"{seconds}s\"\n", seconds + 5);
    controller.write_file("/etc/slurm-rollout/controller.d/slow.toml", slow, 0o644).unwrap();
}

fn move_program(controller: &Node, from: &str, to: &str) {
    controller.run(&["mv", from, to]).unwrap();
}

/// An agent that was down when its node was handed over, and then comes back.
#[test]
fn an_agent_that_was_down() {
    let site = site(ClusterSpec { base: Base::Forky, ..ClusterSpec::default() });
    stage(&site, "cn[01-02]");
    let cn02 = site.cluster.node("cn02");
    cn02.run(&["systemctl", "stop", "slurm-rollout-agent"]).unwrap();
    site.reboot("cn[01-02]").unwrap();
    site.wait_phase("tool-1.1", "cn02", "unreachable").unwrap();
    // While the agent is down there is nothing new to record.
    for _ in 0..2 {
        let output = reconcile(&site);
        assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
        assert!(output.stderr.contains("cn02: no answer from its agent"), "{output:?}");
    }
    assert_eq!((said(&site, "ordering", "cn02"), said(&site, "unreachable", "cn02")), (1, 1));
    cn02.run(&["systemctl", "start", "slurm-rollout-agent"]).unwrap();
    reconcile_until_ordered(&site, "cn02");
    assert_updated_once(&site, &["cn01", "cn02"]);
    assert_nothing_to_do(&reconcile(&site));
}

/// An agent that cannot open its order, because munged is not there yet, gets it again.
#[test]
fn an_agent_that_cannot_open_its_order_yet() {
    let site = site(nodes(1));
    stage(&site, "cn01");
    let cn01 = site.cluster.node("cn01");
    cn01.run(&["systemctl", "stop", "munge"]).unwrap();
    site.reboot("cn01").unwrap();
    let note = site.wait_phase("tool-1.1", "cn01", "unreachable").unwrap();
    assert!(note.contains("refused for now: munged at "), "{note}");
    let output = reconcile(&site);
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{output:?}");
    assert!(output.stderr.contains("refused for now: munged at "), "{output:?}");
    cn01.run(&["systemctl", "start", "munge"]).unwrap();
    reconcile_until_ordered(&site, "cn01");
    assert_updated_once(&site, &["cn01"]);
    assert_nothing_to_do(&reconcile(&site));
}

/// RebootProgram is killed while it waits for agents, which never read their orders.
fn killed_in_the_middle(base: Base, kill: impl Fn(&Site)) {
    let site = site(ClusterSpec { base, ..ClusterSpec::default() });
    let controller = site.cluster.controller();
    be_patient(controller, 25);
    stage(&site, "cn[01-02]");
    for node in ["cn01", "cn02"] {
        freeze_agent(site.cluster.node(node));
    }
    site.reboot("cn[01-02]").unwrap();
    let begun = || Ok(said(&site, "ordering", "cn01"));
    until("RebootProgram in the middle", MINUTES, begun, |count| *count == 1).unwrap();
    kill(&site);
    let running = || Ok(controller.exec(&["pgrep", "-f", REBOOT_PROGRAM])?.success());
    until("its end", MINUTES, running, |running| !running).unwrap();
    assert_eq!(said(&site, "unreachable", "cn01"), 0, "it had no time to record anything");
    for node in ["cn01", "cn02"] {
        replace_frozen_agent(site.cluster.node(node));
    }
    // Its claim holds until it would have ended. A slurmctld that had not saved its state runs the program once more,
    // which then meets the claim.
    let ordered = || {
        reconcile(&site);
        Ok(["cn01", "cn02"].map(|node| said(&site, "ordered", node)))
    };
    until("lost orders", MINUTES, ordered, |count| *count == [1, 1]).unwrap();
    assert_updated_once(&site, &["cn01", "cn02"]);
}

#[test]
fn slurmctld_is_killed_22_05() {
    killed_with_slurmctld(Base::Bookworm);
}

#[test]
fn slurmctld_is_killed_26_05() {
    killed_with_slurmctld(Base::Forky);
}

/// Kills slurmctld with all in its control group, as systemd does.
fn killed_with_slurmctld(base: Base) {
    killed_in_the_middle(base, |site| {
        let controller = site.cluster.controller();
        controller.run(&["systemctl", "kill", "-s", "KILL", "slurmctld"]).unwrap();
        let gone = || Ok(controller.exec(&["systemctl", "is-active", "slurmctld"])?.success());
        until("its end", MINUTES, gone, |active| !active).unwrap();
        controller.run(&["systemctl", "reset-failed", "slurmctld"]).unwrap();
        controller.run(&["systemctl", "start", "slurmctld"]).unwrap();
    });
}

/// From 23.11 to 25.11 a reconfigure kills the programs that slurmctld has started.
#[test]
fn slurmctld_is_reconfigured_24_11() {
    killed_in_the_middle(Base::Trixie, |site| {
        site.reconfigure().unwrap();
    });
}

/// RebootProgram could not be started at all, which 26.05 would have reported. The nodes are in a hidden partition,
/// too.
#[test]
fn a_program_that_could_not_be_started() {
    let site = site(ClusterSpec { base: Base::Bookworm, ..ClusterSpec::default() });
    let controller = site.cluster.controller();
    site.cluster.scontrol(&["update", "partitionname=all", "hidden=yes"]).unwrap();
    stage(&site, "cn[01-02]");
    move_program(controller, REBOOT_PROGRAM, AWAY);
    let begun = Instant::now();
    site.reboot("cn[01-02]").unwrap();
    wait_issued(&site, &["cn01", "cn02"]);
    let output = reconcile(&site);
    // RebootProgram may still be on its way for 15 s. A very busy machine cannot show it.
    if begun.elapsed() < Duration::from_secs(15) {
        assert_nothing_to_do(&output);
    }
    move_program(controller, AWAY, REBOOT_PROGRAM);
    reconcile_until_ordered(&site, "cn[01-02]");
    assert_updated_once(&site, &["cn01", "cn02"]);
}

/// The timer of the package orders the nodes, as SlurmUser.
#[test]
fn the_timer_does_it() {
    let site = site(ClusterSpec::default());
    let controller = site.cluster.controller();
    controller.run(&["systemctl", "enable", "--now", RECONCILE_TIMER]).unwrap();
    stage(&site, "cn[01-02]");
    let cn02 = site.cluster.node("cn02");
    cn02.run(&["systemctl", "stop", "slurm-rollout-agent"]).unwrap();
    site.reboot("cn[01-02]").unwrap();
    site.wait_phase("tool-1.1", "cn02", "unreachable").unwrap();
    cn02.run(&["systemctl", "start", "slurm-rollout-agent"]).unwrap();
    assert_updated_once(&site, &["cn01", "cn02"]);
    let ordered = "cn02: handed over by Slurm and never told: ordered now";
    let log = controller.wait_journal("slurm-rollout-reconcile.service", ordered).unwrap();
    assert!(!log.contains("Failed"), "{log}");
}

/// It orders no node that Slurm has not handed over, and none that a different program is to reboot.
#[test]
fn what_is_not_handed_over_to_us_is_not_touched() {
    let site = site(nodes(3));
    let controller = site.cluster.controller();
    stage(&site, "cn[01-03]");
    // A job keeps cn01; cn02 is drained by an admin.
    let job = site.start_job("cn01").unwrap();
    site.reboot("cn01").unwrap();
    site.cluster.scontrol(&["update", "nodename=cn02", "state=drain", "reason=admin"]).unwrap();
    controller.write_file(NO_PROGRAM, DOES_NOTHING, 0o755).unwrap();
    let program = |path: &str| {
        let swap = format!("s,^RebootProgram=.*,RebootProgram={path},");
        controller.run(&["sed", "-i", &swap, "/etc/slurm/slurm.conf"]).unwrap();
        site.reconfigure().unwrap();
    };
    program(NO_PROGRAM);
    site.reboot("cn03").unwrap();
    wait_issued(&site, &["cn03"]);
    let refused =
        until("not ours", MINUTES, || Ok(reconcile(&site)), |output| output.code != Some(0)).unwrap();
    let why = "cn03: not ordered: slurmctld runs /usr/libexec/lab/nothing";
    assert!(refused.stdout.is_empty() && refused.stderr.contains(why), "{refused:?}");
    for node in ["cn01", "cn02", "cn03"] {
        assert_eq!((said(&site, "ordering", node), site.cluster.node(node).boot_count()), (0, 1), "{node}");
    }
    program(REBOOT_PROGRAM);
    reconcile_until_ordered(&site, "cn03");
    assert_updated_once(&site, &["cn03"]);
    assert_eq!(site.cluster.node("cn01").boot_count(), 1, "its job still runs");
    job.let_end(&site).unwrap();
    assert_updated_once(&site, &["cn01"]);
    job.ended_well(&site).unwrap();
    assert_nothing_to_do(&reconcile(&site));
    assert_eq!(site.cluster.node_state("cn02").unwrap(), "IDLE+DRAIN");
    assert_eq!(site.tool("cn02").unwrap(), OLD_TOOL);
}

/// Many reconciles at once, again and again, while nodes are ordered, reboot and come back.
#[test]
fn no_node_is_ordered_twice() {
    let site = site(nodes(4));
    let controller = site.cluster.controller();
    stage(&site, "cn[01-04]");
    let cn04 = site.cluster.node("cn04");
    cn04.run(&["systemctl", "stop", "slurm-rollout-agent"]).unwrap();
    let again = "while true; do slurm-rollout reconcile; sleep 0.3; done";
    let running: Vec<_> = (0..4).map(|_| controller.spawn(&["sh", "-c", again]).unwrap()).collect();
    // RebootProgram orders two nodes and does not reach a third; it is never started for the fourth.
    site.reboot("cn[01-02],cn04").unwrap();
    site.wait_phase("tool-1.1", "cn04", "unreachable").unwrap();
    move_program(controller, REBOOT_PROGRAM, AWAY);
    site.reboot("cn03").unwrap();
    cn04.run(&["systemctl", "start", "slurm-rollout-agent"]).unwrap();
    assert_updated_once(&site, &["cn01", "cn02", "cn03", "cn04"]);
    drop(running);
    for node in site.cluster.compute_nodes() {
        assert_eq!(node.boot_count(), 2);
    }
}

/// RebootProgram was killed between an agent's answer and the journal: the agent is asked, and not ordered again.
#[test]
fn an_order_whose_answer_was_lost() {
    let site = site(nodes(1));
    // The proof lasts until the claim is over.
    let slow = "while [ ! -e /run/go ]; do sleep 0.2; done";
    site.stage(Manifest::tool("1.1").nodes("cn01").verify_script(slow)).unwrap();
    site.reboot("cn01").unwrap();
    site.wait_phase("tool-1.1", "cn01", "verifying").unwrap();
    let journal = "/var/lib/slurm-rollout/rollouts/tool-1.1/journal";
    site.cluster.controller().run(&["sed", "-i", "/\"is\":\"ordered\"/d", journal]).unwrap();
    assert_eq!(said(&site, "ordered", "cn01"), 0);
    let look = || Ok((reconcile(&site), said(&site, "ordered", "cn01")));
    let (asked, _) =
        until("the order in the journal again", MINUTES, look, |(_, ordered)| *ordered == 1).unwrap();
    assert_eq!(asked.code, Some(0), "{asked:?}");
    assert_nothing_to_do(&reconcile(&site));
    site.cluster.node("cn01").run(&["touch", "/run/go"]).unwrap();
    assert_updated_once(&site, &["cn01"]);
}

/// A node that was handed over, never ordered, and then rebooted by itself: Slurm takes that for its reboot and may
/// start a job there at any moment, so the node is left alone. Its change stays staged.
#[test]
fn a_node_that_has_booted_since() {
    let site = site(nodes(1));
    let cn01 = site.cluster.node("cn01");
    stage(&site, "cn01");
    move_program(site.cluster.controller(), REBOOT_PROGRAM, AWAY);
    site.reboot("cn01").unwrap();
    wait_issued(&site, &["cn01"]);
    cn01.run(&["systemctl", "disable", "slurmd"]).unwrap();
    cn01.run(&["systemctl", "reboot"]).unwrap();
    cn01.wait_boots(2, MINUTES).unwrap();
    let asked =
        until("a word", MINUTES, || Ok(reconcile(&site)), |output| !output.stderr.is_empty()).unwrap();
    assert!(
        asked.stdout.is_empty() && asked.stderr.contains("cn01: not ordered: it has booted since"),
        "{asked:?}"
    );
    cn01.run(&["systemctl", "enable", "--now", "slurmd"]).unwrap();
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    assert_eq!((cn01.boot_count(), site.tool("cn01").unwrap().as_str()), (2, OLD_TOOL));
    site.wait_phase("tool-1.1", "cn01", "staged").unwrap();
}

/// The primary controller loses its power in the middle: one node was ordered, one is being ordered and does not
/// answer, one drains. The backup takes over, and all of them are updated.
#[test]
fn the_backup_controller_takes_over() {
    let spec = ClusterSpec {
        nodes: 3,
        backup_controller: true,
        slurm_conf_extra: "SlurmctldTimeout=10\n".into(),
        ..ClusterSpec::default()
    };
    let site = site(spec);
    let cluster = &site.cluster;
    be_patient(cluster.controller(), 50);
    stage(&site, "cn[01-03]");
    let job = site.start_job("cn03").unwrap();
    freeze_agent(cluster.node("cn02"));
    site.reboot("cn[01-03]").unwrap();
    until("cn01 is ordered", MINUTES, || Ok(said(&site, "ordered", "cn01")), |count| *count == 1).unwrap();
    // The backup would repeat anything that slurmctld had not saved.
    let saved = "touch /run/before; scontrol update nodename=cn03 comment=saved
        until find /var/spool/slurmctld/node_state -newer /run/before | grep .; do sleep 0.1; done";
    cluster.controller().run(&["sh", "-ec", saved]).unwrap();
    assert_eq!(said(&site, "unreachable", "cn02"), 0, "its answer is still waited for");
    cluster.controller().power_cut();
    replace_frozen_agent(cluster.node("cn02"));
    let backup = cluster.backup_controller();
    let up = || backup.exec(&["sh", "-c", "scontrol takeover; scontrol show node -o cn01"]);
    until("the backup has taken over", MINUTES, up, Output::success).unwrap();
    reconcile_until_ordered(&site, "cn02");
    job.let_end(&site).unwrap();
    assert_updated_once(&site, &["cn01", "cn02", "cn03"]);
    job.ended_well(&site).unwrap();
    assert_nothing_to_do(&reconcile(&site));
    let log = backup.read_file("/var/log/slurm/slurmctld.log").unwrap();
    assert!(log.contains("cn03"), "the backup had cn03 rebooted: {log}");
}
