//! Jobs of users: arrays, and jobs that have a node for themselves.

use super::watch::Seen;
use super::watched;
use crate::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Returns a script that fails if the node was changed or rebooted meanwhile.
fn script(seconds: u8) -> String {
    format!(
        "state() {{ readlink /opt/app/current; cat /proc/sys/kernel/random/boot_id; }}
before=$(state); sleep {seconds}; test \"$before\" = \"$(state)\""
    )
}

/// Time from one submission to the next.
const PAUSE: Duration = Duration::from_secs(4);

/// Has users submit jobs all the time, does the work, and returns when all jobs have ended: each by itself, in its first
/// run, on a node that nothing changed. Returns the nodes that were seen out meanwhile.
pub(super) fn with_users<T>(site: &Site, work: impl FnOnce() -> T) -> (T, Seen) {
    with_jobs(site, &[&["--array=1-4"], &["--exclusive"]], 2, work)
}

/// The same with jobs of these kinds, options of sbatch, which take so many seconds.
pub(super) fn with_jobs<T>(
    site: &Site,
    kinds: &[&[&str]],
    seconds: u8,
    work: impl FnOnce() -> T,
) -> (T, Seen) {
    let is_over = AtomicBool::new(false);
    let done = std::thread::scope(|scope| {
        let _end = End(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                kinds.iter().for_each(|kind| submit(site, kind, seconds));
                std::thread::sleep(PAUSE);
            }
        });
        watched(site, work)
    });
    all_ended_well(site);
    done
}

/// Ends a thread when its test is over or panics.
pub(super) struct End<'a>(pub(super) &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn submit(site: &Site, kind: &[&str], seconds: u8) {
    let common = ["sbatch", "--job-name=users", "--time=2", "--chdir=/tmp", "--output=/dev/null"];
    let script = script(seconds);
    let argv = [&common, kind, &["--wrap", &script]].concat();
    site.cluster.controller().run(&argv).unwrap();
}

fn all_ended_well(site: &Site) {
    let jobs = || {
        let text = site.cluster.scontrol(&["show", "job", "-o"])?;
        Ok(text.lines().filter(|line| line.contains("JobName=users ")).map(str::to_owned).collect())
    };
    let has_ended = |job: &String| {
        !["PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED"]
            .iter()
            .any(|state| job.contains(&format!("JobState={state}")))
    };
    let ended =
        until("the end of all jobs", MINUTES, jobs, |jobs: &Vec<String>| jobs.iter().all(has_ended)).unwrap();
    for job in &ended {
        let is_good =
            ["JobState=COMPLETED", "Restarts=0", "ExitCode=0:0"].iter().all(|word| job.contains(word));
        assert!(is_good, "{job}");
    }
    println!("{} jobs of users ended well", ended.len());
}
