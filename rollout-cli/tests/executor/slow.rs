//! Slurm that answers late, or not all questions.

use crate::site::{ID, Site, tick, touch};
use rollout_control::store::this_process;
use rollout_core::controller::conduct;
use rollout_core::controller::lease::{DURATION_MS, Holder, Lease};
use rollout_host::clock;
use std::fs;
use std::thread;
use std::time::Duration;

#[test]
fn what_could_not_be_read_is_not_read_again_in_every_tick() {
    let site = Site::started("");
    touch(&site.path("no-jobs"));
    // A request would be a reason to read it again.
    let config = fs::read_to_string(site.config_path()).unwrap();
    fs::write(site.config_path(), config + "[limits]\nnever = 'n[1-6]'\n").unwrap();
    let mut executor = site.executor();
    for _ in 0..3 {
        let failed = tick(&mut executor).failed;
        assert!(failed.len() == 1 && failed[0].starts_with("Slurm's jobs are not known: "), "{failed:?}");
    }
    let calls = fs::read_to_string(site.path("calls")).unwrap();
    let asked = |words: &str| calls.lines().filter(|line| line.starts_with(words)).count();
    assert_eq!((asked("squeue"), asked("scontrol show part")), (1, 1));
    assert!(asked("scontrol show node") >= 3);
}

#[test]
fn the_lease_has_its_whole_time_for_the_effects_of_a_plan() {
    let site = Site::started("");
    fs::write(site.path("slow"), "3").unwrap();
    tick(&mut site.executor());
    assert_eq!(site.journal(), ["n1 reboot requested from Slurm"]);
    let planned_ms = site.store.rollout(ID).unwrap().lines.last().unwrap().t_ms;
    let renewed_ms = site.store.lease().unwrap().unwrap().until_ms - DURATION_MS;
    assert!(renewed_ms + 2000 > planned_ms, "{renewed_ms} {planned_ms}");
}

#[test]
fn a_lease_that_was_lost_meanwhile_is_reported() {
    let site = Site::started("");
    fs::write(site.path("slow"), "4").unwrap();
    let path = site.path("state/lease.json");
    let other = thread::spawn(move || {
        thread::sleep(Duration::from_secs(2));
        let holder = Holder { host: "ctl2".to_owned(), ..this_process().unwrap() };
        let lease = Lease { holder, until_ms: clock::now_ms() + 60_000 };
        fs::write(path, serde_json::to_vec(&lease).unwrap()).unwrap();
    });
    let report = tick(&mut site.executor());
    other.join().unwrap();
    assert_eq!(report.failed, ["nothing is planned: the lease of this process is over"]);
    assert_eq!((site.calls(), site.journal()), (vec![], vec![]));
}

/// A board is replaced in weeks.
#[test]
fn slurm_is_seldom_asked_while_only_nodes_that_are_down_are_awaited() {
    let site = Site::started("[strategy]\nnever = 'n6'\n");
    (1..=5).for_each(|number| site.set(&format!("n{number}"), "DOWN", "Not responding"));
    let mut executor = site.executor();
    let asked = || {
        let calls = fs::read_to_string(site.path("calls")).unwrap();
        calls.lines().filter(|line| line.starts_with("scontrol show node")).count()
    };
    for _ in 0..8 {
        tick(&mut executor);
    }
    let before = asked();
    for _ in 0..4 {
        assert_eq!(tick(&mut executor).failed, [""; 0]);
    }
    assert_eq!(asked(), before, "{:?}", site.journal());
    site.decide(conduct::stop);
    tick(&mut executor);
    assert!(asked() > before, "an admin's decision is carried out at once");
}
