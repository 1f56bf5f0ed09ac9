//! `reconcile --wait`, killed at every step, and twice at once.

use crate::site::Site;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

fn reconcile(site: &Site) -> Child {
    let mut command = site.command("reconcile --wait");
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Returns how often each node was requested.
fn requests(site: &Site) -> Vec<usize> {
    let calls = site.calls();
    let of = |number: usize| {
        let end = format!(" n{number}");
        calls.iter().filter(|line| line.starts_with("scontrol reboot") && line.ends_with(&end)).count()
    };
    (1..=6).map(of).collect()
}

#[test]
fn a_rollout_survives_the_death_of_its_executor_at_every_step() {
    let site = Site::started("");
    let begin = Instant::now();
    let (mut kills, mut executor) = (0, None::<Child>);
    while !site.is_updated() {
        assert!(begin.elapsed() < LIMIT, "{kills} kills: {:?}", site.journal());
        let is_gone = executor.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
        if is_gone {
            // The next call that changes anything kills its caller, first before its effect and then after it.
            if kills < 12 {
                fs::write(site.path("die"), if kills % 2 == 0 { "before" } else { "after" }).unwrap();
                kills += 1;
            }
            executor = Some(reconcile(&site));
        }
        assert!(site.out().len() <= 1, "one at a time: {:?}", site.out());
        site.advance();
        thread::sleep(PAUSE);
    }
    assert_eq!(kills, 12);
    if let Some(mut child) = executor {
        child.wait().unwrap();
    }
    assert_eq!(site.out(), Vec::<String>::new());
    let journal = site.journal();
    for number in 1..=6 {
        let line = format!("n{number} reboot requested from Slurm");
        assert_eq!(journal.iter().filter(|entry| **entry == line).count(), 1, "{journal:?}");
    }
    // The last one may have been killed as well.
    let is_gone = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
    assert!(site.store.lease().unwrap().is_none_or(|lease| is_gone(lease.holder.pid)));
}

#[test]
fn of_two_executors_one_acts_and_the_other_takes_over() {
    let site = Site::started("");
    let mut first = reconcile(&site);
    let begin = Instant::now();
    while site.store.lease().unwrap().is_none() {
        assert!(begin.elapsed() < LIMIT);
        thread::sleep(PAUSE);
    }
    // There is nothing to wait for.
    assert!(reconcile(&site).wait().unwrap().success());
    assert!(first.try_wait().unwrap().is_none());
    while site.rollout().records.values().filter(|record| record.progress.is_pending()).count() > 4 {
        assert!(begin.elapsed() < LIMIT, "{:?}", site.journal());
        site.advance();
        thread::sleep(PAUSE);
    }
    while site.out().is_empty() {
        assert!(begin.elapsed() < LIMIT, "{:?}", site.journal());
        thread::sleep(PAUSE);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = reconcile(&site);
    while !site.is_updated() {
        assert!(begin.elapsed() < LIMIT, "{:?}", site.journal());
        assert!(site.out().len() <= 1);
        site.advance();
        thread::sleep(PAUSE);
    }
    assert!(second.wait().unwrap().success());
    assert_eq!(requests(&site), [1; 6]);
}
