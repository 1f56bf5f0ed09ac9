//! Pause, resume and freeze while nodes drain, some of them drained by others.

use super::*;

/// cn01 and cn02 have jobs. cn03 has one too and was drained by somebody. cn04 is idle.
fn steered(base: Base) {
    let site = start_running(ClusterSpec { base, ..nodes(4) });
    let jobs = ["cn01", "cn02", "cn03"].map(|node| site.start_job(node).unwrap());
    drain(&site, "cn03", "bad fan");
    run(&site, "steered", &link_to("steered", "cn[01-04]", "[strategy]\nmax_out = 4\n"));
    wait_requested(&site, "cn01");
    wait_requested(&site, "cn02");
    wait_why(&site, "cn03", "drained by root: bad fan");
    wait_updated(&site, "steered", &["cn04"]);

    order(&site, &["pause", "steered", "--why", "benchmark until noon"]);
    wait_state(&site, "cn01", "ALLOCATED", "");
    wait_state(&site, "cn02", "ALLOCATED", "");
    wait_why(&site, "cn01", "paused by root");
    std::thread::sleep(A_WHILE);
    assert_eq!(site.cluster.node_state("cn01").unwrap(), "ALLOCATED");
    wait_state(&site, "cn03", "ALLOCATED+DRAIN", "bad fan");

    order(&site, &["resume", "steered"]);
    wait_requested(&site, "cn01");
    wait_requested(&site, "cn02");
    // The request of a node that somebody drains meanwhile is withdrawn, and the drain stays.
    drain(&site, "cn02", "bad DIMM");
    wait_state(&site, "cn02", "ALLOCATED+DRAIN", "bad DIMM");

    order(&site, &["freeze", "--why", "file system trouble"]);
    wait_state(&site, "cn01", "ALLOCATED", "");
    wait_why(&site, "cn01", "file system trouble");
    order(&site, &["thaw"]);
    wait_requested(&site, "cn01");

    for job in &jobs {
        job.let_end(&site).unwrap();
    }
    wait_updated(&site, "steered", &["cn01", "cn02", "cn03"]);
    for job in &jobs {
        job.ended_well(&site).unwrap();
    }
    // 24.11 may keep the Reason of the reboot.
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    wait_state(&site, "cn02", "IDLE+DRAIN", "bad DIMM");
    wait_state(&site, "cn03", "IDLE+DRAIN", "bad fan");
    for node in site.cluster.compute_nodes() {
        assert_eq!(node.boot_count(), 2, "{}", node.name());
    }
}

fn wait_requested(site: &Site, node: &str) {
    site.cluster.wait_state(node, |state| state.contains("REBOOT_REQUESTED"), MINUTES).unwrap();
}

/// Waits for a state and a Reason.
fn wait_state(site: &Site, node: &str, state: &str, reason: &str) {
    let seen = || Ok((site.cluster.node_state(node)?, site.reason(node)?));
    let is_so = |(seen, why): &(String, String)| seen == state && why == reason;
    until(&format!("{node} {state} {reason:?}"), MINUTES, seen, is_so).unwrap();
}

#[test]
fn steered_with_slurm_22_05() {
    steered(Base::Bookworm);
}

#[test]
fn steered_with_slurm_24_11() {
    steered(Base::Trixie);
}

#[test]
fn steered_with_slurm_26_05() {
    steered(Base::Forky);
}
