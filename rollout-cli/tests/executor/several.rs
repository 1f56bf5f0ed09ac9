//! Several rollouts: none of them stops the others.

use crate::site::{OTHER, Site, tick};
use rollout_core::controller::conduct::{pause, start};
use std::fs::File;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Waits until something holds.
fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_rollout_whose_journal_cannot_be_written_stops_no_other_one() {
    let site = Site::started("");
    site.start_other();
    // Read-only for that process, which reads it as before.
    let journal = site.path("state/rollouts/driver/journal");
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
    let reconcile = site.command("reconcile --wait");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(journal).arg(reconcile.get_program());
    command.args(reconcile.get_args()).env("TZ", "UTC").stdout(Stdio::null());
    let errors = site.path("errors");
    let mut executor = command.stderr(File::create(&errors).unwrap()).spawn().unwrap();
    let is_requested = |node: &str| site.state(node).contains("REBOOT_REQUESTED");
    wait_for("n4 is requested", || is_requested("n4"));
    site.store.freeze(None).unwrap();
    wait_for("the request is withdrawn", || !is_requested("n4"));
    assert!(executor.try_wait().unwrap().is_none(), "it goes on");
    executor.kill().unwrap();
    executor.wait().unwrap();
    let has_line = site.rollout().records["n1"].request.is_some();
    assert!(!is_requested("n1") && !has_line, "no effect without its line");
    let errors = std::fs::read_to_string(errors).unwrap();
    let failures = errors.matches("driver: nothing is done for it: ").count();
    assert!(failures == 1 && errors.contains("Read-only file system"), "{errors}");
}

#[test]
fn withdrawals_of_all_rollouts_come_first() {
    let site = Site::new("");
    site.start_other();
    let mut executor = site.executor();
    for _ in 0..2 {
        tick(&mut executor);
    }
    assert_eq!(site.out(), ["n4"]);
    site.decide(start);
    site.store.decide(OTHER, |snapshot| pause(snapshot, OTHER, None)).unwrap();
    site.calls();
    tick(&mut executor);
    let request = "scontrol reboot ASAP nextstate=resume reason=driver n1";
    assert_eq!(site.calls(), ["scontrol cancel_reboot n4", request]);
}
