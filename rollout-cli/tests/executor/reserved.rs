//! Nodes that are reserved from the end of their jobs.

use crate::site::{ID, Site, tick};
use rollout_cli::executor::Tick;
use rollout_core::controller::conduct;
use rollout_core::hostlist::NodeSet;
use rollout_host::clock;
use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const NAME: &str = "slurm-rollout-driver@n1";
const REBOOT: &str = "scontrol reboot nextstate=resume reason=driver n1";
const HOUR_S: u64 = 3600;

/// A site whose first nodes have a job each, and none of whose others is in the rollout.
fn busy(nodes: usize) -> Site {
    let site = Site::started("[strategy]\njobs.wait = 'end'\n");
    let rest = NodeSet::parse(&format!("n[{}-6]", nodes + 1)).unwrap();
    site.store.unstage(ID, Some(&rest)).unwrap();
    (1..=nodes).for_each(|number| site.set(&format!("n{number}"), "MIXED", ""));
    write_jobs(&site);
    site
}

/// Has each node that Slurm shows in use run a job for another hour.
fn write_jobs(site: &Site) {
    let now_s = clock::now_ms() / 1000;
    let (start_s, end_s) = (now_s - HOUR_S, now_s + HOUR_S);
    let busy = (1..=6).filter(|number| site.state(&format!("n{number}")).starts_with("MIXED"));
    let jobs: String =
        busy.map(|n| format!("{n}|{n}|R|1000|{start_s}|{end_s}|2:00:00|batch|n{n}|\n")).collect();
    let new = site.path("jobs.new");
    fs::write(&new, jobs).unwrap();
    fs::rename(new, site.path("jobs")).unwrap();
}

/// Ends the job of a node whose reboot is requested.
fn end_job(site: &Site, node: &str) {
    site.set(node, "IDLE+REBOOT_REQUESTED", "");
    write_jobs(site);
}

fn reservations(site: &Site) -> Vec<String> {
    let files = fs::read_dir(site.path("reservations")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_busy_node_is_reserved_until_it_is_handed_over() {
    let site = busy(1);
    let mut executor = site.executor();
    let report = tick(&mut executor);
    assert_eq!(report.failed, [""; 0]);
    assert_eq!(report.done, ["driver: n1 reboot requested from Slurm and reserved for it"]);
    let calls = site.calls();
    let [create, reboot] = &calls[..] else { panic!("{calls:?}") };
    let words: Vec<&str> = create.split(' ').collect();
    let reservation = format!("scontrol create reservation reservationname={NAME} users=root");
    assert_eq!(words[..5].join(" "), reservation);
    assert_eq!(words[7..], ["nodes=n1", "flags=maint,ignore_jobs"]);
    let seconds = |word: &str, key: &str| -> u64 { word.strip_prefix(key).unwrap().parse().unwrap() };
    let (start_s, end_s) = (seconds(words[5], "starttime=uts"), seconds(words[6], "endtime=uts"));
    // KillWait, and until slurmctld looks.
    let latest_s = clock::now_ms() / 1000 + HOUR_S + 60;
    assert!(start_s <= latest_s && start_s + 20 > latest_s && end_s == start_s + HOUR_S / 2, "{create}");
    assert_eq!(reboot, REBOOT);
    assert_eq!(tick(&mut executor).done, ["driver: n1 reboot accepted by Slurm"]);
    for _ in 0..2 {
        assert_eq!(tick(&mut executor).done, [""; 0]);
    }
    assert_eq!(site.calls(), [""; 0]);
    end_job(&site, "n1");
    assert_eq!((tick(&mut executor).done, reservations(&site)), (vec![], vec![NAME.to_owned()]));
    site.advance();
    tick(&mut executor);
    assert_eq!(site.calls(), [format!("scontrol delete reservationname={NAME}")]);
    assert_eq!(tick(&mut executor).done, ["driver: n1 no longer reserved for the update"]);
    site.advance();
    assert_eq!((executor.tick().unwrap(), reservations(&site)), (Tick::Idle, vec![]));
    assert!(site.is_updated());
}

#[test]
fn a_pause_leaves_no_reservation() {
    let site = busy(1);
    let mut executor = site.executor();
    for _ in 0..2 {
        tick(&mut executor);
    }
    site.calls();
    site.decide(|snapshot, id| conduct::pause(snapshot, id, None));
    tick(&mut executor);
    let delete = format!("scontrol delete reservationname={NAME}");
    assert_eq!(site.calls(), ["scontrol cancel_reboot n1".to_owned(), delete]);
    let done = tick(&mut executor).done;
    assert!(done.len() == 1 && done[0].starts_with("driver: n1 request withdrawn: "), "{done:?}");
    assert_eq!(tick(&mut executor).done, ["driver: n1 no longer reserved for the update"]);
    assert_eq!((site.state("n1").as_str(), reservations(&site)), ("MIXED", vec![]));
    assert_eq!(executor.tick().unwrap(), Tick::Idle);
    site.decide(conduct::resume);
    tick(&mut executor);
    assert_eq!((site.state("n1").as_str(), reservations(&site).len()), ("MIXED+REBOOT_REQUESTED", 1));
}

#[test]
fn a_reservation_that_somebody_deleted_is_created_again() {
    let site = busy(1);
    let mut executor = site.executor();
    for _ in 0..2 {
        tick(&mut executor);
    }
    fs::remove_file(site.path("reservations").join(NAME)).unwrap();
    site.calls();
    assert_eq!(tick(&mut executor).failed, [""; 0]);
    assert_eq!((site.calls().len(), reservations(&site).len()), (1, 1));
}

#[test]
fn a_reservation_that_its_rollout_no_longer_needs_is_found_after_a_crash() {
    let site = busy(1);
    tick(&mut site.executor());
    end_job(&site, "n1");
    for _ in 0..2 {
        site.advance();
    }
    assert!(site.rollout().is_settled() && !site.is_updated(), "the reservation is left");
    let mut executor = site.executor();
    for _ in 0..2 {
        tick(&mut executor);
    }
    assert_eq!((executor.tick().unwrap(), reservations(&site)), (Tick::Idle, vec![]));
    assert!(site.is_updated());
}

#[test]
fn no_reservation_is_lost_when_the_executor_dies_at_any_step() {
    let site = busy(3);
    let begin = Instant::now();
    let (mut kills, mut executor) = (0, None::<Child>);
    while !site.is_updated() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{kills} kills: {:?}", site.journal());
        if executor.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
            // The next call that changes anything kills its caller, first before its effect and then after it.
            if kills < 14 {
                fs::write(site.path("die"), if kills % 2 == 0 { "before" } else { "after" }).unwrap();
                kills += 1;
            }
            let mut command = site.command("reconcile --wait");
            executor = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        }
        let left = reservations(&site);
        let state = site.rollout();
        assert!(left.len() <= 1, "one node at a time: {left:?}");
        for (node, name) in left.iter().filter_map(|name| Some((name.split_once('@')?.1, name))) {
            let is_recorded = state.records[node].reserved;
            assert!(is_recorded || !reservations(&site).contains(name), "{name}: {:?}", site.journal());
            if site.state(node) == "MIXED+REBOOT_REQUESTED" {
                end_job(&site, node);
            }
        }
        site.advance();
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(kills, 14);
    if let Some(mut child) = executor {
        child.wait().unwrap();
    }
    assert_eq!((site.out(), reservations(&site)), (vec![], vec![]));
    let journal = site.journal();
    for number in 1..=3 {
        let line = format!("n{number} reboot requested from Slurm and reserved for it");
        assert_eq!(journal.iter().filter(|entry| **entry == line).count(), 1, "{journal:?}");
    }
}
