//! Jobs on requested nodes, at their deadline.

use crate::site::{Site, tick};
use rollout_cli::executor::Executor;
use rollout_host::clock;
use std::fs;
use std::thread;
use std::time::Duration;

/// Returns a site that has jobs on n1, the only node that is taken.
fn site(deadline: &str, jobs: u32) -> Site {
    let site = Site::started(&format!("[strategy]\nnever = 'n[2-6]'\njobs = {deadline}\n"));
    let now_s = clock::now_ms() / 1000;
    let (start_s, end_s) = (now_s - 3600, now_s + 3600);
    let line = |job| format!("{job}|{job}|R|1000|{start_s}|{end_s}|2:00:00|batch|n1|\n");
    fs::write(site.path("jobs"), (1..=jobs).map(line).collect::<String>()).unwrap();
    site
}

/// Has n1 requested.
fn request(site: &Site, executor: &mut Executor) {
    tick(executor);
    site.set("n1", "MIXED+DRAIN+REBOOT_REQUESTED", "driver");
    tick(executor);
    assert_eq!(site.journal().last().unwrap(), "n1 reboot accepted by Slurm");
    site.calls();
}

#[test]
fn a_warning_that_slurm_refuses_keeps_no_job_from_its_end() {
    let site = site("{ at_most = '9s', then = 'requeue', warn = '5s' }", 1);
    let mut executor = site.executor();
    request(&site, &mut executor);
    thread::sleep(Duration::from_secs(4));
    let mut warn = |error: &str| {
        fs::write(site.path("notify"), error).unwrap();
        let report = tick(&mut executor);
        let [failed] = &report.failed[..] else { panic!("{report:?}") };
        assert!(
            failed.starts_with("driver: users of job 1 not warned: ") && failed.contains(error),
            "{failed}"
        );
        assert_eq!((report.done, site.calls().len()), (vec![], 1));
        site.journal().len()
    };
    assert_eq!(warn("job notify failure: Unable to contact slurm controller (connect failure)"), 2);
    assert_eq!(warn("job notify failure: Requested operation is presently disabled"), 3);
    assert_eq!(site.journal()[2], "n1 users of job 1 warned of its end");
    thread::sleep(Duration::from_secs(5));
    assert_eq!(tick(&mut executor).done, ["driver: n1 job 1 requeued"]);
    assert!(site.calls()[0].starts_with("scontrol requeue 1"));
}

#[test]
fn a_job_counts_as_ended_only_once_that_was_tried() {
    let site = site("{ at_most = '4s', then = 'requeue' }", 3);
    let mut executor = site.executor();
    request(&site, &mut executor);
    thread::sleep(Duration::from_secs(4));
    // The third one has no turn in this tick.
    fs::write(site.path("slow-requeue"), "5").unwrap();
    let done = tick(&mut executor).done;
    let lines = ["n1 job 1 requeued", "n1 job 2 requeued"];
    assert_eq!(done, lines.map(|line| format!("driver: {line}")));
    assert_eq!(site.journal()[2..], lines);
    assert_eq!(site.calls(), ["scontrol requeue 1", "scontrol requeue 2"]);
    fs::write(site.path("slow-requeue"), "0").unwrap();
    tick(&mut executor);
    let again = ["scontrol requeue 3", "scontrol requeue 1", "scontrol requeue 2"];
    assert_eq!((site.calls(), site.journal().len()), (again.map(str::to_owned).to_vec(), 5));
}

#[test]
fn the_part_of_their_limits_that_jobs_use_is_learned_from_those_that_end() {
    let site = site("{ at_most = '10h' }", 21);
    let mut executor = site.executor();
    tick(&mut executor);
    assert_eq!(site.store.used_limits().median(), None);
    let jobs = fs::read_to_string(site.path("jobs")).unwrap();
    fs::write(site.path("jobs"), jobs.lines().next_back().unwrap()).unwrap();
    // The request is a reason to look at jobs again.
    request(&site, &mut executor);
    assert_eq!(site.store.used_limits().median(), Some(50));
    let why = site.run("why n1").1;
    assert!(why.contains("job 21 of uid 1000 until about "), "{why}");
}
