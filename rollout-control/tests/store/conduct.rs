//! Started rollouts, the freeze and the lease.

use crate::prelude::*;
use rollout_control::store::{Changed, ConductError, this_process};
use rollout_core::controller::conduct::{Decision, Refusal, pause, start, stop};
use rollout_core::controller::freeze::Freeze;
use rollout_core::controller::lease::{DURATION_MS, Holder, Lease, Verdict};
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::rollout::journal::{ConductState, Way};
use rollout_host::clock;
use std::process::Command;

fn state(store: &StoreReader, id: &str) -> ConductState {
    store.snapshot().unwrap().rollout(id).unwrap().conduct.state.clone()
}

fn requested(nodes: &str) -> Entry {
    Entry::Requested { nodes: set(nodes), way: Way::Asap, drained: None }
}

fn withdrawn(nodes: &str) -> Entry {
    Entry::Withdrawn { nodes: set(nodes), why: "stopped".to_owned(), cancelled: false }
}

#[test]
fn a_decision_is_recorded_once() {
    let (dir, store) = store();
    let driver = staged(&store, "driver", "n[1-2]");
    let started = store.decide(&driver, |snapshot| start(snapshot, &driver)).unwrap();
    assert_eq!(started.entries, [Entry::Started]);
    assert_eq!(state(&store, &driver), ConductState::Running);
    let conduct = store.rollout(&driver).unwrap().state.conduct;
    assert_eq!((conduct.state, conduct.by.as_str()), (ConductState::Running, "test root@here"));
    let before = files(dir.path());
    let again = store.decide(&driver, |snapshot| start(snapshot, &driver)).unwrap();
    assert!(again.entries.is_empty());
    let refused = store.decide("other", |snapshot| start(snapshot, "other"));
    assert!(matches!(refused, Err(ConductError::Refused(Refusal::Over { .. }))));
    assert_eq!(files(dir.path()), before);
    let lost =
        store.decide("other", |_| Ok(Decision { entries: vec![Entry::Started], report: String::new() }));
    assert!(matches!(lost, Err(ConductError::Store(_))), "there is no such rollout");
}

#[test]
fn a_started_rollout_is_closed_when_its_nodes_have_ended_and_nothing_of_it_is_left_in_slurm() {
    let (_dir, store) = store();
    let close = || store.close_settled(&NodeSet::default()).unwrap();
    let driver = staged(&store, "driver", "n[1-3]");
    store.decide(&driver, |snapshot| start(snapshot, &driver)).unwrap();
    settle(&store, &driver, "n1", Phase::Updated);
    assert!(close().is_empty());
    store.record(Some(&driver), vec![requested("n2")]).unwrap();
    assert_eq!(
        store.unstage(&driver, None).unwrap(),
        set("n3"),
        "the request for n2 must be withdrawn first"
    );
    assert!(close().is_empty());
    store.decide(&driver, |snapshot| pause(snapshot, &driver, None)).unwrap();
    store.decide(&driver, |snapshot| stop(snapshot, &driver)).unwrap();
    assert_eq!(state(&store, &driver), ConductState::Stopped);
    assert!(close().is_empty());
    store.record(Some(&driver), vec![withdrawn("n2")]).unwrap();
    assert!(close().is_empty(), "n2 still waits");
    assert_eq!(store.unstage(&driver, None).unwrap(), set("n2"));
    store.record(Some(&driver), vec![Entry::KeptOut { nodes: set("n1"), reason: None }]).unwrap();
    assert!(close().is_empty(), "its drain is still there");
    store.record(Some(&driver), vec![Entry::LetIn { nodes: set("n1") }]).unwrap();
    assert_eq!(close(), [driver.as_str()]);
    let summary = &store.closed().unwrap()[0].1;
    assert_eq!(summary.conduct.as_ref().map(|conduct| conduct.state.as_str()), Some("stopped"));
    // Staged again, it waits for an admin.
    settle(&store, &staged(&store, "other", "n5"), "n5", Phase::Updated);
    assert_eq!(store.stage_again(&driver, &set("n1")).unwrap(), set("n1"));
    assert_eq!(state(&store, &driver), ConductState::NotStarted);
}

#[test]
fn a_rollout_that_ran_to_its_end_is_closed_as_done() {
    let (_dir, store) = store();
    let driver = staged(&store, "driver", "n1");
    store.decide(&driver, |snapshot| start(snapshot, &driver)).unwrap();
    store.record(Some(&driver), vec![requested("n1")]).unwrap();
    settle(&store, &driver, "n1", Phase::Updated);
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), [driver.as_str()]);
    let closed = store.closed().unwrap();
    let conduct = closed[0].1.conduct.clone().unwrap();
    assert_eq!((conduct.state.as_str(), conduct.by.as_str()), ("done", "test root@here"));
}

#[test]
fn a_site_is_frozen_until_it_is_thawed() {
    let (dir, store) = store();
    assert_eq!((store.frozen(), store.snapshot().unwrap().frozen), (None, None));
    assert_eq!(store.thaw().unwrap(), Changed { before: None, now: None });
    let begin = clock::now_ms();
    let Changed { before: None, now: Some(freeze) } = store.freeze(Some("smoke".to_owned())).unwrap() else {
        panic!("it was not frozen")
    };
    assert_eq!((freeze.by.as_str(), freeze.why.as_deref()), ("test root@here", Some("smoke")));
    assert!((begin..=clock::now_ms()).contains(&freeze.since_ms));
    assert_eq!(StoreReader::new(dir.path()).snapshot().unwrap().frozen, Some(freeze.clone()));
    let again = store.by("other").freeze(None).unwrap();
    assert_eq!(
        again,
        Changed { before: Some(freeze.clone()), now: Some(freeze.clone()) },
        "the first one counts"
    );
    assert_eq!(store.thaw().unwrap(), Changed { before: Some(freeze), now: None });
    assert_eq!(store.snapshot().unwrap().frozen, None);
}

#[test]
fn a_freeze_that_cannot_be_read_is_a_freeze() {
    let (dir, store) = store();
    let path = dir.path().join("freeze.json");
    let why = |freeze: Option<Freeze>| freeze.unwrap().why.unwrap();
    fs::write(&path, "{torn").unwrap();
    assert!(why(store.snapshot().unwrap().frozen).contains("cannot be read"));
    assert!(why(store.freeze(None).unwrap().now).contains("cannot be read"));
    assert!(store.thaw().unwrap().before.is_some());
    assert_eq!(store.frozen(), None);
    fs::create_dir(&path).unwrap();
    assert!(why(store.frozen()).contains("cannot be read"));
    assert!(store.thaw().is_err(), "an admin looks at that");
}

#[test]
fn only_the_holder_of_the_lease_plans_and_its_lines_are_written_at_once() {
    let (dir, store) = store();
    let driver = staged(&store, "driver", "n[1-3]");
    let me = this_process().unwrap();
    let request = |snapshot: Snapshot| {
        let waiting = snapshot.rollout("driver").unwrap().records.len();
        (waiting, vec![("driver".to_owned(), requested("n1")), ("driver".to_owned(), requested("n2"))])
    };
    let before = lines(&store, &driver);
    assert!(store.plan(&me, request).unwrap().is_none(), "it has no lease");
    let other = Holder { host: "ctl2".to_owned(), ..me.clone() };
    store.take_lease(&other).unwrap();
    assert!(store.plan(&me, request).unwrap().is_none());
    store.return_lease(&other).unwrap();
    let over = Lease { holder: me.clone(), until_ms: clock::now_ms() - 1 };
    fs::write(dir.path().join("lease.json"), serde_json::to_vec(&over).unwrap()).unwrap();
    assert!(store.plan(&me, request).unwrap().is_none(), "it is over");
    assert_eq!(lines(&store, &driver), before);
    store.take_lease(&me).unwrap();
    let (waiting, unwritten) = store.plan(&me, request).unwrap().unwrap();
    assert!(waiting == 3 && unwritten.is_empty(), "{unwritten:?}");
    assert_eq!(lines(&store, &driver), before + 2);
    assert!(record_of(&store, &driver, "n2").request.is_some());
}

#[test]
fn a_journal_that_cannot_be_written_keeps_no_other_rollout_from_its_lines() {
    let (_dir, store) = store();
    let (first, last) = (staged(&store, "a", "n[1-3]"), staged(&store, "c", "n[7-9]"));
    let me = this_process().unwrap();
    store.take_lease(&me).unwrap();
    // There is no rollout b.
    let lines_of_all = ["a", "b", "c"].map(|id| (id.to_owned(), requested("n[1-9]")));
    let ((), unwritten) = store.plan(&me, |_| ((), lines_of_all.to_vec())).unwrap().unwrap();
    assert_eq!(unwritten.keys().collect::<Vec<_>>(), ["b"], "{unwritten:?}");
    for (id, node) in [(first, "n1"), (last, "n9")] {
        assert!(record_of(&store, &id, node).request.is_some(), "{id}");
    }
}

/// Returns a process of this host that does not exist.
fn gone() -> Holder {
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    Holder { pid, ..this_process().unwrap() }
}

#[test]
fn a_lease_is_taken_renewed_and_returned() {
    let (dir, store) = store();
    let me = this_process().unwrap();
    assert_eq!(me.pid, std::process::id());
    assert!(!me.host.is_empty() && me.boot_id.len() == 36, "{me:?}");
    let other = Holder { host: "ctl2".to_owned(), ..me.clone() };
    let begin = clock::now_ms();
    assert_eq!(store.take_lease(&me).unwrap(), Verdict::Take);
    let lease = store.lease().unwrap().unwrap();
    assert_eq!(lease.holder, me);
    assert!((begin + DURATION_MS..=clock::now_ms() + DURATION_MS).contains(&lease.until_ms));
    let held = Verdict::Held { by: me.clone(), until_ms: lease.until_ms };
    assert_eq!(store.take_lease(&other).unwrap(), held);
    store.return_lease(&other).unwrap();
    assert_eq!(store.lease().unwrap(), Some(lease), "it was not theirs");
    assert_eq!(store.take_lease(&me).unwrap(), Verdict::Take);
    store.return_lease(&me).unwrap();
    assert_eq!(store.lease().unwrap(), None);
    store.return_lease(&me).unwrap();
    assert_eq!(store.take_lease(&other).unwrap(), Verdict::Take);
    fs::write(dir.path().join("lease.json"), "{torn").unwrap();
    assert_eq!(store.take_lease(&me).unwrap(), Verdict::Take, "nobody can have written that");
}

#[test]
fn the_lease_of_a_dead_process_is_free() {
    let (dir, store) = store();
    let me = this_process().unwrap();
    let until_ms = clock::now_ms() + DURATION_MS;
    // Init runs, and may belong to somebody else.
    let init = Holder { pid: 1, ..me.clone() };
    for (holder, free) in [
        (gone(), true),
        (init.clone(), false),
        (Holder { boot_id: "earlier".to_owned(), ..init }, true),
        (Holder { host: "ctl2".to_owned(), ..gone() }, false),
        (Holder { pid: 0, ..me.clone() }, true),
        (Holder { pid: u32::MAX, ..me.clone() }, true),
    ] {
        let lease = Lease { holder: holder.clone(), until_ms };
        fs::write(dir.path().join("lease.json"), serde_json::to_vec(&lease).unwrap()).unwrap();
        assert_eq!(store.take_lease(&me).unwrap() == Verdict::Take, free, "{holder:?}");
    }
}
