//! One tick after another.

use crate::site::{ID, Site, tick, touch};
use rollout_cli::executor::Tick;
use rollout_core::controller::conduct;
use rollout_core::hostlist::NodeSet;
use std::fs;

const REQUEST: &str = "scontrol reboot ASAP nextstate=resume reason=driver";

#[test]
fn a_rollout_runs_to_its_end_one_node_at_a_time() {
    let site = Site::new("");
    let mut executor = site.executor();
    assert_eq!(executor.tick().unwrap(), Tick::Idle, "nobody started it");
    assert_eq!(site.calls(), [""; 0]);
    site.decide(conduct::start);
    for number in 1..=6 {
        let report = tick(&mut executor);
        assert_eq!(report.failed, [""; 0]);
        assert_eq!(report.done, [format!("driver: n{number} reboot requested from Slurm")]);
        assert_eq!(site.calls(), [format!("{REQUEST} n{number}")]);
        assert_eq!(tick(&mut executor).done, [format!("driver: n{number} reboot accepted by Slurm")]);
        for state in ["issued", "updated"] {
            assert_eq!(site.out(), [format!("n{number}")]);
            site.advance();
            // The last node may still halt it.
            if state == "issued" {
                assert_eq!(tick(&mut executor).done, [""; 0]);
            }
        }
        assert_eq!(site.calls(), [""; 0]);
    }
    assert!(site.store.lease().unwrap().is_some());
    assert_eq!(executor.tick().unwrap(), Tick::Idle);
    assert!(site.is_updated() && site.store.lease().unwrap().is_none());
    assert!(site.store.drains().is_empty(), "the drains of its requests are nobody else's");
}

#[test]
fn pause_freeze_and_resume_withdraw_and_go_on() {
    let site = Site::started("");
    let mut executor = site.executor();
    type Act = fn(&Site);
    let cases: [(Act, Act); 2] = [
        (
            |site| site.decide(|snapshot, id| conduct::pause(snapshot, id, None)),
            |site| site.decide(conduct::resume),
        ),
        (|site| drop(site.store.freeze(None).unwrap()), |site| drop(site.store.thaw().unwrap())),
    ];
    for (stop, go_on) in cases {
        tick(&mut executor);
        tick(&mut executor);
        assert_eq!((site.out().len(), site.calls().len()), (1, 1));
        stop(&site);
        tick(&mut executor);
        assert_eq!(site.calls(), ["scontrol cancel_reboot n1"]);
        assert_eq!(site.out(), [""; 0]);
        let withdrawn = tick(&mut executor).done;
        assert!(withdrawn[0].starts_with("driver: n1 request withdrawn: "), "{withdrawn:?}");
        // A paused rollout needs no executor any more.
        executor.tick().unwrap();
        assert_eq!((site.out(), site.calls()), (vec![], vec![]));
        go_on(&site);
    }
    tick(&mut executor);
    assert_eq!(site.calls(), [format!("{REQUEST} n1")]);
}

#[test]
fn what_slurm_has_issued_goes_on_and_stop_unstages_the_rest() {
    let site = Site::started("[strategy]\nmax_out = 2\n");
    let mut executor = site.executor();
    tick(&mut executor);
    assert_eq!(site.calls(), [format!("{REQUEST} n[1-2]")]);
    site.set("n1", "DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued");
    site.decide(conduct::stop);
    tick(&mut executor);
    assert_eq!(site.calls(), ["scontrol cancel_reboot n2"]);
    for _ in 0..3 {
        tick(&mut executor);
    }
    assert_eq!(site.out(), ["n1"]);
    let pending: Vec<String> = site
        .rollout()
        .records
        .into_iter()
        .filter(|(_, record)| record.progress.is_pending())
        .map(|(name, _)| name)
        .collect();
    assert_eq!(pending, ["n1"], "{:?}", site.journal());
    site.set("n1", "IDLE+DRAIN+REBOOT_REQUESTED", "driver");
    site.advance();
    site.advance();
    assert_eq!(executor.tick().unwrap(), Tick::Idle);
    assert!(site.is_updated());
}

#[test]
fn a_failure_is_reported_and_tried_again() {
    let site = Site::started("");
    let mut executor = site.executor();
    touch(&site.path("away"));
    let report = tick(&mut executor);
    assert!(report.failed.iter().any(|line| line.contains("Unable to contact")), "{report:?}");
    assert_eq!(site.journal(), [""; 0]);
    fs::remove_file(site.path("away")).unwrap();
    touch(&site.path("refuse"));
    for _ in 0..2 {
        let report = tick(&mut executor);
        let failed: Vec<&String> = report
            .failed
            .iter()
            .filter(|line| line.starts_with("driver: reboot of n1 not requested: "))
            .collect();
        assert!(failed.len() == 1 && failed[0].contains("permission denied"), "{report:?}");
    }
    assert_eq!(site.journal(), ["n1 reboot requested from Slurm"], "the line is written once");
    fs::remove_file(site.path("refuse")).unwrap();
    tick(&mut executor);
    assert_eq!(site.out(), ["n1"]);
}

#[test]
fn a_request_that_somebody_cancelled_waits_for_resume() {
    let site = Site::started("");
    let mut executor = site.executor();
    tick(&mut executor);
    tick(&mut executor);
    site.set("n1", "IDLE", "");
    assert_eq!(tick(&mut executor).done[0], "driver: n1 request cancelled: somebody cancelled it in Slurm");
    for _ in 0..2 {
        tick(&mut executor);
        assert_eq!(site.out(), ["n2"]);
    }
    site.advance();
    site.advance();
    site.decide(conduct::resume);
    tick(&mut executor);
    assert_eq!(site.out(), ["n1"]);
}

#[test]
fn a_node_that_is_down_is_kept_out_and_let_in() {
    let site = Site::started("");
    let mut executor = site.executor();
    site.set("n3", "DOWN", "Not responding");
    tick(&mut executor);
    assert_eq!((site.state("n3").as_str(), site.state("n1").contains("REQUESTED")), ("DOWN+DRAIN", true));
    assert!(site.reason("n3").starts_with("slurm-rollout driver: "));
    tick(&mut executor);
    assert!(site.store.drains().is_empty(), "it is ours");
    assert!(
        site.store.left_by_reboots().contains("n3"),
        "RebootProgram must not take it for somebody else's"
    );
    site.decide(conduct::stop);
    for _ in 0..4 {
        executor.tick().unwrap();
    }
    assert_eq!((site.state("n3").as_str(), site.reason("n3").as_str()), ("DOWN", "Not responding"));
    assert_eq!(site.out(), ["n3"]);
    assert!(site.is_updated(), "{:?}", site.journal());
}

#[test]
fn limits_are_read_again_and_a_mistake_in_them_lets_nothing_go() {
    let site = Site::started("");
    let config = fs::read_to_string(site.config_path()).unwrap();
    fs::write(site.config_path(), format!("{config}[limits]\nnever = 'n[1-'\n")).unwrap();
    let mut executor = site.executor();
    let report = tick(&mut executor);
    assert!(report.failed.iter().any(|line| line.contains("limits")), "{report:?}");
    assert_eq!(site.out(), [""; 0]);
    fs::write(site.config_path(), format!("{config}[limits]\nnever = 'n[1-2]'\n")).unwrap();
    tick(&mut site.executor());
    assert_eq!(site.out(), ["n3"]);
}

#[test]
fn a_lease_of_another_controller_is_respected() {
    let site = Site::started("");
    let other =
        rollout_core::controller::lease::Holder { host: "ctl2".to_owned(), boot_id: "b".to_owned(), pid: 1 };
    site.store.take_lease(&other).unwrap();
    assert_eq!(site.executor().tick().unwrap(), Tick::Held(other.clone()));
    let me = rollout_control::store::this_process().unwrap();
    let planned = site.store.plan(&me, |_| -> ((), Vec<_>) { panic!("it does not have the lease") });
    assert!(planned.unwrap().is_none());
    assert_eq!((site.calls(), site.journal()), (vec![], vec![]));
    site.store.return_lease(&other).unwrap();
    tick(&mut site.executor());
    assert_eq!(site.out(), ["n1"]);
}

#[test]
fn a_rollout_of_which_nodes_were_unstaged_ends() {
    let site = Site::started("");
    site.store.unstage(ID, Some(&NodeSet::parse("n[2-6]").unwrap())).unwrap();
    let mut executor = site.executor();
    tick(&mut executor);
    site.advance();
    site.advance();
    assert_eq!(executor.tick().unwrap(), Tick::Idle);
    assert_eq!(site.out(), [""; 0]);
}
