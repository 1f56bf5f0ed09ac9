//! A node that is never empty, and is reserved from the end of its jobs.

use super::users::with_jobs;
use super::*;

/// Jobs share nodes here.
const SHARED: &str = "PartitionName=shared Nodes=ALL OverSubscribe=FORCE:4\n";

const RESERVATION: &str = "slurm-rollout-lane@cn01";

/// A job with a limit of four minutes, and shorter ones that are submitted all the time: more than the node can run, so
/// it is not idle before the reservation has them wait.
#[test]
fn reserved_from_the_end_of_its_jobs() {
    let site = start_running(ClusterSpec { slurm_conf_extra: SHARED.into(), ..nodes(1) });
    let long = start_long_job(&site);
    let short = ["--time=1", "--partition=shared", "--nodelist=cn01"];
    let ((), _) = with_jobs(&site, &[&short], 20, || {
        run(&site, "lane", &link_to("lane", "cn01", "[strategy.jobs]\nwait = \"end\"\n"));
        wait_reserved(&site);
        let started = wait_started(&site, 0);

        order(&site, &["pause", "lane"]);
        wait_unreserved(&site);
        site.cluster.wait_state("cn01", |state| !state.contains("REBOOT"), MINUTES).unwrap();
        std::thread::sleep(A_WHILE);
        assert_eq!(reservations(&site).unwrap(), "", "none returns while it is paused");

        order(&site, &["resume", "lane"]);
        wait_reserved(&site);
        wait_started(&site, started);
        let state = site.cluster.node_state("cn01").unwrap();
        assert!(state.contains("REBOOT_REQUESTED") && !state.contains("DRAIN"), "{state}");
        site.cluster.node("cn01").run(&["touch", "/run/job-may-end"]).unwrap();
        wait_updated(&site, "lane", &["cn01"]);
        wait_unreserved(&site);
    });
    let show = site.cluster.scontrol(&["show", "job", "-o", &long]).unwrap();
    let ended_well =
        ["JobState=COMPLETED", "Restarts=0", "ExitCode=0:0"].iter().all(|word| show.contains(word));
    assert!(ended_well, "{show}");
    assert_eq!(site.cluster.node("cn01").boot_count(), 2);
    site.wait_idle(&["cn01"], MINUTES).unwrap();
    let ways: Vec<String> = site
        .journal("lane")
        .unwrap()
        .iter()
        .filter(|line| line["is"] == "requested")
        .map(|line| line["way"].to_string())
        .collect();
    assert_eq!(ways, ["\"reserved\"", "\"reserved\""]);
}

fn start_long_job(site: &Site) -> String {
    let common = ["sbatch", "--parsable", "--time=4", "--chdir=/tmp", "--output=/dev/null"];
    let script = "until [ -e /run/job-may-end ]; do sleep 0.2; done";
    let argv = [&common[..], &["--partition=shared", "--nodelist=cn01", "--wrap", script]].concat();
    let id = site.cluster.controller().run(&argv).unwrap().trim().to_owned();
    site.cluster.wait_state("cn01", |state| state.starts_with("ALLOCATED"), MINUTES).unwrap();
    id
}

/// Returns the reservations of rollouts, one a line.
fn reservations(site: &Site) -> Result<String> {
    let text = site.cluster.scontrol(&["show", "res", "-o"])?;
    Ok(text.lines().filter(|line| line.contains("slurm-rollout")).collect())
}

fn wait_reserved(site: &Site) {
    let is_there = |text: &String| text.contains(&format!("ReservationName={RESERVATION} "));
    let text = until("the reservation", MINUTES, || reservations(site), is_there).unwrap();
    for words in ["Nodes=cn01 ", "Flags=MAINT,IGNORE_JOBS", "Users=root "] {
        assert!(text.contains(words), "{text}");
    }
    site.cluster.wait_state("cn01", |state| state.contains("REBOOT_REQUESTED"), MINUTES).unwrap();
}

fn wait_unreserved(site: &Site) {
    until("no reservation", MINUTES, || reservations(site), String::is_empty).unwrap();
}

/// Waits until more than `before` jobs of users have started, four of them after now. Returns their number.
fn wait_started(site: &Site, before: usize) -> usize {
    let started = || {
        let text = site.cluster.scontrol(&["show", "job", "-o"])?;
        let has_started = |line: &&str| line.contains("JobName=users ") && !line.contains("JobState=PENDING");
        Ok(text.lines().filter(has_started).count())
    };
    let at_least = before.max(started().unwrap()) + 4;
    until("jobs that start meanwhile", MINUTES, started, |number| *number >= at_least).unwrap()
}
