//! Nodes that are down when their turn comes, and nodes that do not come back.

use super::*;

#[test]
fn stragglers_and_lost_nodes() {
    let site = start_running(ClusterSpec { resume_timeout_s: 100, ..nodes(3) });
    in_cases(|cases| {
        cases.check("a straggler is updated before it takes jobs", || a_straggler_returns(&site));
        cases.check("a node that never returns", || a_node_never_returns(&site));
    });
}

fn a_straggler_returns(site: &Site) {
    let straggler = site.cluster.node("cn03");
    straggler.power_cut();
    scontrol(site, &["update", "nodename=cn03", "state=down", "reason=power supply"]);
    let script = "test $(readlink /opt/app/current) = /opt/app/late";
    let argv = [
        "sbatch",
        "--parsable",
        "--time=1",
        "--chdir=/tmp",
        "--output=/dev/null",
        "-w",
        "cn03",
        "--wrap",
        script,
    ];
    let job = site.cluster.controller().run(&argv).unwrap().trim().to_owned();
    run(site, "late", &link_to("late", "cn[02-03]", ""));
    wait_updated(site, "late", &["cn02"]);
    wait_why(site, "cn03", "down; drained, so that it takes no jobs before its update");
    site.cluster
        .wait_state("cn03", |state| state.contains("DOWN") && state.contains("DRAIN"), MINUTES)
        .unwrap();
    straggler.power_on();
    wait_updated(site, "late", &["cn03"]);
    let show = || site.cluster.scontrol(&["show", "job", "-o", &job]);
    let has_ended = |text: &String| text.contains("JobState=COMPLETED") && text.contains("ExitCode=0:0");
    until("the job of the straggler", MINUTES, show, has_ended).unwrap();
    site.wait_idle(&["cn03"], MINUTES).unwrap();
    assert_eq!(straggler.boot_count(), 3, "it returned, and was rebooted once");
}

/// Its boot ends in a network that loses all packets. It counts as failed and keeps its slot. When it comes back after
/// all, it finishes by itself.
fn a_node_never_returns(site: &Site) {
    let strategy = "[strategy]\norder = \"as-written\"\n";
    run(site, "lost", &link_to("lost", "cn[01-02]", strategy));
    let is_ordered = || Ok(lines(site, "lost", "ordered").len());
    until("its order", MINUTES, is_ordered, |count| *count == 1).unwrap();
    site.cluster.drop_packets("cn01", true).unwrap();
    let status = wait_status(site, "lost", "halted since");
    assert!(status.contains("1 node failed (cn01): "), "{status}");
    wait_why(site, "cn01", "lost");
    std::thread::sleep(A_WHILE);
    assert_eq!(requested(site, "lost"), ["cn01"]);
    site.cluster.drop_packets("cn01", false).unwrap();
    wait_updated(site, "lost", &["cn01"]);
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    order(site, &["resume", "lost"]);
    wait_updated(site, "lost", &["cn02"]);
}
