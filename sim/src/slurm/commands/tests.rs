//! Behavior that live tests of 22.05.8, 24.11.5 and 26.05.5 have shown.

use super::*;
use crate::slurm::registration::Registration;
use crate::slurm::{Config, Partition};

const RELEASES: [Release; 3] =
    [Release { year: 22, month: 5 }, Release { year: 24, month: 11 }, Release { year: 26, month: 5 }];

fn slurm(release: Release) -> Slurm {
    let config = Config {
        release,
        resume_timeout_ms: 600_000,
        slurmd_timeout_ms: 300_000,
        return_to_service: 1,
        kill_wait_ms: 30_000,
        has_accounting: true,
    };
    let partition = Partition { name: "batch".to_owned(), nodes: vec![0] };
    Slurm::new(config, vec![Node::new("n1".to_owned(), 4, 0)], vec![partition])
}

fn call(asap: bool, next: Option<Next>, reason: Option<&str>) -> Reboot {
    Reboot { asap, next, reason: reason.map(str::to_owned), by: By::Us }
}

fn drain(slurm: &mut Slurm, reason: &str) {
    let update = Update::Drain { reason: reason.to_owned() };
    slurm.update(&[0], &update, By::Others, 1_000).unwrap();
}

fn shown(slurm: &Slurm) -> (bool, Option<String>) {
    let info = slurm.show_node(0, 3_000).unwrap();
    (info.has("DRAIN"), info.reason)
}

#[test]
fn a_cancel_removes_the_drain_that_the_release_removes() {
    let hw = || Some("hw".to_owned());
    let r = || Some("R".to_owned());
    let resume = Some(Next::Resume);
    for (request, old, new) in [
        (call(false, None, None), (false, None), (false, None)),
        (call(false, None, Some("R")), (false, None), (false, None)),
        (call(true, None, None), (true, hw()), (false, None)),
        (call(true, None, Some("R")), (true, r()), (false, None)),
        (call(true, resume, Some("R")), (true, r()), (true, r())),
        (call(false, resume, Some("R")), (true, r()), (true, r())),
        (call(false, Some(Next::Down), Some("R")), (true, r()), (true, r())),
    ] {
        for (release, expected) in RELEASES.into_iter().zip([&old, &new, &new]) {
            let mut slurm = slurm(release);
            drain(&mut slurm, "hw");
            slurm.reboot(&[0], &request, 2_000);
            slurm.cancel_reboot(&[0], By::Others);
            assert_eq!(&shown(&slurm), expected, "{release:?} {request:?}");
        }
    }
}

#[test]
fn a_cancel_returns_a_node_that_was_in_service() {
    for release in RELEASES {
        for request in
            [call(false, None, None), call(true, None, None), call(true, Some(Next::Resume), Some("R"))]
        {
            let mut slurm = slurm(release);
            slurm.reboot(&[0], &request, 2_000);
            assert_eq!(shown(&slurm).0, request.asap, "{release:?} {request:?}");
            slurm.cancel_reboot(&[0], By::Us);
            assert_eq!(shown(&slurm), (false, None), "{release:?} {request:?}");
        }
        // An admin's drain after ASAP is lost, too.
        let mut slurm = slurm(release);
        slurm.reboot(&[0], &call(true, None, None), 2_000);
        drain(&mut slurm, "later");
        slurm.cancel_reboot(&[0], By::Others);
        assert_eq!(shown(&slurm), (false, None), "{release:?}");
    }
}

#[test]
fn a_boot_ends_the_drain_that_the_request_ends() {
    let back = Registration { boot_ms: 60_000, slurmd_start_ms: 61_000, is_valid: true };
    for (request, kept_by_old, kept_by_new) in [
        (call(false, None, None), true, true),
        (call(true, None, None), false, true),
        (call(true, Some(Next::Resume), Some("R")), false, false),
        (call(false, Some(Next::Resume), Some("R")), false, false),
    ] {
        for (release, kept) in RELEASES.into_iter().zip([kept_by_old, kept_by_new, kept_by_new]) {
            let mut slurm = slurm(release);
            drain(&mut slurm, "hw");
            slurm.reboot(&[0], &request, 2_000);
            slurm.issue(3_000);
            let info = slurm.show_node(0, 3_000).unwrap();
            assert!(info.has("DOWN") && info.has("REBOOT_ISSUED") && !info.has("REBOOT_REQUESTED"));
            assert!(info.reason.unwrap().ends_with("reboot issued"));
            // A registration from before the boot changes nothing.
            slurm.register(0, Registration { boot_ms: 0, ..back }, 4_000);
            assert!(slurm.show_node(0, 4_000).unwrap().has("REBOOT_ISSUED"));
            slurm.register(0, back, 62_000);
            let info = slurm.show_node(0, 62_000).unwrap();
            assert_eq!((info.has("DRAIN"), info.has("IDLE")), (kept, true), "{release:?} {request:?}");
        }
    }
}

#[test]
fn a_node_that_does_not_boot_in_time_is_down() {
    for (release, is_drained) in RELEASES.into_iter().zip([false, true, true]) {
        let mut slurm = slurm(release);
        slurm.reboot(&[0], &call(true, Some(Next::Resume), Some("R")), 2_000);
        slurm.issue(3_000);
        slurm.look_at_timers(603_000);
        assert!(slurm.show_node(0, 603_000).unwrap().has("REBOOT_ISSUED"));
        slurm.look_at_timers(603_001);
        let info = slurm.show_node(0, 603_001).unwrap();
        assert_eq!(
            (info.has("DOWN"), info.has("REBOOT_ISSUED"), info.has("DRAIN")),
            (true, false, is_drained)
        );
        assert_eq!(info.reason.as_deref(), Some("R : reboot issued : reboot timed out"));
    }
}

#[test]
fn a_node_that_registers_with_too_little_waits_without_an_end() {
    for release in RELEASES {
        let mut slurm = slurm(release);
        slurm.reboot(&[0], &call(true, Some(Next::Resume), Some("R")), 2_000);
        slurm.issue(3_000);
        let back = Registration { boot_ms: 60_000, slurmd_start_ms: 61_000, is_valid: false };
        slurm.register(0, back, 62_000);
        slurm.look_at_timers(10_000_000);
        let info = slurm.show_node(0, 10_000_000).unwrap();
        assert!(info.has("INVALID_REG") && info.has("REBOOT_ISSUED") && info.has("DOWN"), "{info:?}");
        assert!(slurm.update(&[0], &Update::Resume, By::Others, 10_000_000).is_err());
        slurm.register(0, Registration { is_valid: true, ..back }, 10_000_000);
        assert!(slurm.show_node(0, 10_000_000).unwrap().has("IDLE"), "{release:?}");
    }
}
