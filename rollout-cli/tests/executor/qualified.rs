//! Nodes that qualify a wave with a job before users get them.

use crate::site::{Site, tick, touch};
use rollout_cli::executor::{Executor, Tick};
use rollout_core::agent::phase::Phase;
use rollout_core::rollout::journal::Progress;
use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const NAME: &str = "slurm-rollout-driver@@1";

/// A site whose first two nodes qualify the only wave.
fn site() -> Site {
    Site::started(
        "[strategy]\nmax_out = 2\n[verify.job]\nscript = '/etc/site/qualify.sh'\nnodes = 2\ntime_limit = '10m'\n\
         options = ['--exclusive']\n",
    )
}

/// Has the first nodes chosen and updated. Returns the lines of the tick that follows.
fn updated(site: &Site, executor: &mut Executor) -> Vec<String> {
    for _ in 0..3 {
        tick(executor);
    }
    assert_eq!(site.out(), ["n1", "n2"]);
    for _ in 0..2 {
        site.advance();
    }
    site.calls();
    tick(executor).done
}

fn end_job(site: &Site, state: &str) {
    let runs = fs::read_to_string(site.path("runs")).unwrap();
    let new = site.path("runs.new");
    fs::write(&new, runs.replace("|RUNNING|None|", &format!("|{state}|NonZeroExitCode|"))).unwrap();
    fs::rename(new, site.path("runs")).unwrap();
}

fn reservations(site: &Site) -> Vec<String> {
    let files = fs::read_dir(site.path("reservations")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_job_runs_in_the_reservation_before_users_get_the_nodes() {
    let site = site();
    let mut executor = site.executor();
    assert_eq!(tick(&mut executor).done, ["driver: n[1-2] to qualify wave 1, reserved until then"]);
    let calls = site.calls();
    let [create] = &calls[..] else { panic!("{calls:?}") };
    let words: Vec<&str> = create.split(' ').collect();
    let reservation = format!("scontrol create reservation reservationname={NAME} users=root starttime=now");
    assert_eq!(words[..6].join(" "), reservation);
    assert_eq!(words[7..], ["nodes=n[1-2]", "flags=maint,ignore_jobs"]);
    assert_eq!(tick(&mut executor).done, ["driver: n[1-2] reboot requested from Slurm"]);
    assert_eq!(site.calls(), ["scontrol reboot ASAP nextstate=resume reason=driver n[1-2]"]);
    let line = "driver: n[1-2] qualifying wave 1: job to be submitted";
    assert_eq!(updated(&site, &mut executor), [line]);
    let calls = site.calls();
    let [submit] = &calls[..] else { panic!("{calls:?}") };
    let words: Vec<&str> = submit.split(' ').collect();
    let fixed = ["sbatch", "--chdir=/", "--output=/dev/null", "--exclusive", "--parsable", "--no-requeue"];
    assert_eq!(words[..6], fixed);
    assert!(words[6].starts_with(&format!("--job-name={NAME}.")), "{submit}");
    let rest = "--nodes=2 --nodelist=n[1-2] --time=10 /etc/site/qualify.sh";
    assert_eq!(words[7..].join(" "), format!("--reservation={NAME} {rest}"));
    assert_eq!(tick(&mut executor).done, ["driver: n[1-2] qualifying with job 1"]);
    for _ in 0..2 {
        assert_eq!(tick(&mut executor).done, [""; 0]);
    }
    let (_, why) = site.run("why n[2-3]");
    for node in ["n2", "n3"] {
        let line = format!("{node}: driver: waits for the qualification job 1 of wave 1 (n[1-2])");
        assert!(why.contains(&line), "{why}");
    }
    let (_, status) = site.run("status driver");
    assert!(status.contains("waits for the qualification job 1 of wave 1 (n[1-2])"), "{status}");
    assert_eq!((site.calls(), reservations(&site)), (vec![], vec![NAME.to_owned()]));
    end_job(&site, "COMPLETED");
    assert_eq!(tick(&mut executor).done, ["driver: n[1-2] qualified, and so is wave 1"]);
    assert_eq!(tick(&mut executor).done, [""; 0]);
    assert_eq!(site.calls(), [format!("scontrol delete reservationname={NAME}")]);
    tick(&mut executor);
    assert_eq!(reservations(&site), [""; 0]);
    while !site.is_updated() {
        tick(&mut executor);
        site.advance();
    }
    let calls = site.calls();
    assert!(calls.iter().all(|call| call.starts_with("scontrol reboot ASAP")), "{calls:?}");
    assert_eq!((executor.tick().unwrap(), site.out()), (Tick::Idle, vec![]));
}

#[test]
fn nodes_that_do_not_qualify_are_drained_before_their_reservation_is_deleted() {
    let site = site();
    let mut executor = site.executor();
    updated(&site, &mut executor);
    tick(&mut executor);
    end_job(&site, "FAILED");
    site.calls();
    let line = "driver: n[1-2] of wave 1 not qualified: job 1 FAILED (NonZeroExitCode)";
    assert_eq!(tick(&mut executor).done, [line]);
    let reason = "slurm-rollout driver: not qualified: job 1 FAILED (NonZeroExitCode)";
    assert_eq!(site.calls(), [format!("scontrol update NodeName=n[1-2] State=DRAIN Reason={reason}")]);
    let halted = "driver: halted: 2 nodes failed (n1, …): job 1 FAILED (NonZeroExitCode)";
    assert_eq!(tick(&mut executor).done, [halted]);
    assert_eq!(site.calls(), [format!("scontrol delete reservationname={NAME}")]);
    tick(&mut executor);
    assert_eq!((executor.tick().unwrap(), reservations(&site)), (Tick::Idle, vec![]));
    assert_eq!(site.out(), ["n1", "n2"]);
    assert_eq!((site.state("n1").as_str(), site.reason("n1").as_str()), ("IDLE+DRAIN", reason));
    assert!(site.store.drains().is_empty(), "it is ours, and no reboot keeps it");
    let (_, status) = site.run("status driver");
    assert!(status.contains("not qualified: job 1 FAILED"), "{status}");
    let (_, retried) = site.run("retry n[1-2]");
    assert!(retried.contains("n[1-2] staged again"), "{retried}");
    site.decide(rollout_core::controller::conduct::resume);
    tick(&mut executor);
    assert_eq!(site.journal().last().unwrap(), "n[1-2] to qualify wave 1, reserved until then");
}

#[test]
fn a_job_that_slurm_refuses_qualifies_nothing() {
    let site = site();
    touch(&site.path("refuse-job"));
    let mut executor = site.executor();
    let done = updated(&site, &mut executor);
    let refused = done.last().unwrap();
    let words = ["n[1-2] of wave 1 not qualified: its job is refused: ", "Invalid partition name"];
    assert!(words.iter().all(|words| refused.contains(words)), "{done:?}");
    for _ in 0..3 {
        tick(&mut executor);
    }
    assert_eq!((executor.tick().unwrap(), reservations(&site)), (Tick::Idle, vec![]));
    assert_eq!((site.out().len(), site.state("n1").as_str()), (2, "IDLE+DRAIN"));
}

/// Returns whether users get a node that is updated and not qualified.
fn is_given_away(site: &Site, node: &str) -> bool {
    let is_open = || site.state(node) == "IDLE" && !reservations(site).contains(&NAME.to_owned());
    let is_updated = site.rollout().records[node].progress == Progress::Seen(Phase::Updated);
    is_open() && is_updated && !site.rollout().conduct.qualified.contains(&1) && is_open()
}

#[test]
fn no_node_is_given_away_when_the_executor_dies_at_any_step() {
    let site = site();
    let begin = Instant::now();
    let (mut kills, mut executor) = (0, None::<Child>);
    while !site.is_updated() {
        assert!(begin.elapsed() < Duration::from_secs(120), "{kills} kills: {:?}", site.journal());
        if executor.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
            // The next call that changes anything kills its caller. A job that was not submitted is missed later.
            if kills < 8 {
                let is_before = kills % 2 == 0 && kills < 4;
                fs::write(site.path("die"), if is_before { "before" } else { "after" }).unwrap();
                kills += 1;
            }
            let mut command = site.command("reconcile --wait");
            executor = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        }
        for node in ["n1", "n2"] {
            assert!(!is_given_away(&site, node), "{node}: {:?}", site.journal());
        }
        let has_job = |entry: &String| entry.contains("qualifying with job");
        if site.journal().iter().any(has_job) {
            end_job(&site, "COMPLETED");
        }
        site.advance();
        thread::sleep(Duration::from_millis(100));
    }
    if let Some(mut child) = executor {
        child.wait().unwrap();
    }
    assert_eq!((kills, site.out(), reservations(&site)), (8, vec![], vec![]));
    let runs = fs::read_to_string(site.path("runs")).unwrap();
    assert_eq!(runs.lines().count(), 1, "the job is found again, and not submitted twice: {runs}");
}
