//! Closed rollouts: no hand-over reads them, and everything else still finds them.

use crate::prelude::*;
use rollout_core::controller::closing::ClosedRollout;
use rollout_host::clock;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

#[test]
fn a_settled_rollout_is_closed_with_a_summary() {
    let (dir, store) = store();
    let driver = staged(&store, "driver", "n[1-3]");
    settle(&store, &driver, "n[1-2]", Phase::Updated);
    assert!(store.close_settled(&NodeSet::default()).unwrap().is_empty(), "n3 still waits");
    assert!(!dir.path().join("closed").exists());
    settle(&store, &driver, "n3", Phase::RolledBack);
    let (begin, staged_ms) = (clock::now_ms(), store.rollout(&driver).unwrap().state.staged_ms);
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), [driver.as_str()]);
    assert!(store.is_closed(&driver));
    let path = dir.path().join("closed/driver/summary.json");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    let summary: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let (closed_ms, pace) = (summary["closed_ms"].as_u64().unwrap(), &summary["pace"]);
    assert!((begin..=clock::now_ms()).contains(&closed_ms));
    let expected = json!({
        "staged_ms": staged_ms,
        "by": "test root@here",
        "closed_ms": closed_ms,
        "nodes": "n[1-3]",
        "phases": { "updated": 2, "rolled-back": 1 },
        "pace": { "updated": 2, "from_ms": pace["from_ms"], "until_ms": pace["until_ms"] },
    });
    assert!((staged_ms..=begin).contains(&pace["from_ms"].as_u64().unwrap()));
    assert_eq!(summary, expected);
    let typed: ClosedRollout = serde_json::from_value(expected).unwrap();
    assert_eq!(store.closed().unwrap(), [(driver, typed)]);
    let before = files(dir.path());
    assert!(store.close_settled(&NodeSet::default()).unwrap().is_empty());
    assert_eq!(files(dir.path()), before, "once");
}

#[test]
fn a_rollout_that_was_called_off_is_closed() {
    let (_dir, store) = store();
    let driver = staged(&store, "driver", "n[1-3]");
    store.unstage(&driver, None).unwrap();
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), [driver.as_str()]);
    let closed = store.closed().unwrap();
    assert!(closed[0].1.phases.is_empty());
    assert_eq!(closed[0].1.nodes, set("n[1-3]"));
}

#[test]
fn a_closed_rollout_is_found_and_not_read_by_a_snapshot() {
    let (dir, store) = store();
    let driver = closed(&store, "driver", "n[1-3]");
    closed(&store, "kernel", "m[1-3]");
    assert!(open(&store).is_empty());
    assert_eq!(store.find("driver").unwrap(), driver);
    let rollout = store.rollout(&driver).unwrap();
    assert_eq!((rollout.lines.len(), rollout.state.records.len()), (3, 3));
    assert_eq!(rollout.state.manifest, Ok(manifest("driver", "n[1-3]")));
    assert!(store.unstage(&driver, None).unwrap().is_empty());
    assert!(store.is_closed(&driver));
    for (nodes, ids) in [("n2", &["driver"][..]), ("n1,m3", &["driver", "kernel"]), ("x1", &[])] {
        let snapshot = store.snapshot_with_past_of(&set(nodes)).unwrap();
        let found: Vec<_> = snapshot.rollouts.iter().map(|rollout| rollout.id.as_str()).collect();
        assert_eq!(found, ids, "{nodes}");
    }
    assert_eq!(claimed(&claim(&store, "n1")), [(None, "n1".to_owned())], "it only reboots");
    // A snapshot would report a journal that it cannot read.
    let journal = dir.path().join("closed/driver/journal");
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    assert!(store.snapshot().unwrap().unreadable.is_empty());
    assert_eq!(store.snapshot_with_past_of(&set("n2")).unwrap().unreadable.len(), 1);
    assert_eq!(store.closed().unwrap().len(), 2);
}

#[test]
fn a_closed_rollout_that_is_staged_again_is_open() {
    let (dir, store) = store();
    let driver = staged(&store, "driver", "n[1-3]");
    settle(&store, &driver, "n[1-3]", Phase::RolledBack);
    store.close_settled(&NodeSet::default()).unwrap();
    staged(&store, "kernel", "n3");
    assert!(store.stage_again(&driver, &set("n3")).unwrap().is_empty());
    assert!(store.is_closed(&driver), "nothing was staged");
    assert_eq!(store.stage_again(&driver, &set("n[2-3]")).unwrap(), set("n2"));
    assert!(!store.is_closed(&driver));
    assert!(!dir.path().join("closed/driver").exists() && store.closed().unwrap().is_empty());
    assert_eq!(open(&store), ["driver", "kernel"]);
    assert_eq!(armed(&store, &driver), "n2");
    assert_eq!(
        claimed(&claim(&store, "n[1-2]")),
        [(None, "n1".to_owned()), (Some("driver"), "n2".to_owned())]
    );
    settle(&store, &driver, "n2", Phase::Updated);
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), [driver]);
    assert_eq!(
        store.closed().unwrap()[0].1.phases,
        [("rolled-back".to_owned(), 2), ("updated".to_owned(), 1)].into()
    );
}

#[test]
fn a_name_of_a_closed_rollout_is_not_used_again() {
    let (dir, store) = store();
    assert_eq!(closed(&store, "driver", "n1"), "driver");
    assert_eq!(closed(&store, "driver", "n1"), "driver@2");
    assert_eq!(staged(&store, "driver", "n1"), "driver@3");
    assert_eq!(open(&store), ["driver@3"]);
    for (name, id) in [("driver", "driver@3"), ("driver@1", "driver"), ("driver@2", "driver@2")] {
        assert_eq!(store.find(name).unwrap(), id);
    }
    // An earlier version, which knows no closed rollouts, used the name again.
    closed(&store, "kernel", "m1");
    let (kernel, other) = (dir.path().join("closed/kernel"), dir.path().join("kept"));
    fs::rename(&kernel, &other).unwrap();
    assert_eq!(staged(&store, "kernel", "m1"), "kernel");
    fs::rename(&other, &kernel).unwrap();
    assert_eq!(armed(&store, "kernel"), "m1");
    assert_eq!(store.closed().unwrap().len(), 2, "the open one is the one of that name");
    settle(&store, "kernel", "m1", Phase::Updated);
    settle(&store, "driver@3", "n1", Phase::Updated);
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), ["driver@3", "kernel"]);
    assert!(dir.path().join("archive/kernel/journal").exists(), "the older one");
    assert!(open(&store).is_empty());
}

/// The newer rollout is the only evidence that the older one never applies again.
#[test]
fn a_rollout_that_was_staged_over_an_older_one_stays_open_until_that_one_has_ended() {
    let (dir, store) = store();
    let driver = staged(&store, "driver", "n[1-2]");
    settle(&store, &driver, "n1", Phase::Updated);
    let kernel = staged(&store, "kernel", "n1");
    settle(&store, &kernel, "n1", Phase::Updated);
    // By a version that did not count an order that is being sent as staged.
    let journal = dir.path().join("rollouts/driver/journal");
    let written = fs::read_to_string(&journal).unwrap();
    let before_staging = written.lines().next().unwrap().to_owned() + "\n";
    fs::write(&journal, before_staging).unwrap();
    assert!(store.close_settled(&NodeSet::default()).unwrap().is_empty());
    assert_eq!(armed(&store, &driver), "n2", "n1 belongs to the newer one");
    let ended = Entry::Superseded { nodes: set("n1"), order: None, why: "kernel".to_owned() };
    store.record(Some(&driver), vec![ended]).unwrap();
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), [kernel]);
}

#[test]
fn a_damaged_summary_is_made_anew() {
    let (dir, store) = store();
    let driver = closed(&store, "driver", "n[1-3]");
    let kernel = closed(&store, "kernel", "m[1-3]");
    let whole = store.closed().unwrap();
    for damage in ["", "{torn", "[]", "{\"staged_ms\":1}"] {
        fs::write(dir.path().join("closed/driver/summary.json"), damage).unwrap();
        assert!(store.is_closed(&driver), "{damage}");
        assert!(open(&store).is_empty(), "{damage}");
        let found = store.closed().unwrap();
        let expected = ClosedRollout { closed_ms: 0, ..whole[0].1.clone() };
        assert_eq!(found, [(driver.clone(), expected), whole[1].clone()], "{damage}");
        // It may have any node.
        let past = store.snapshot_with_past_of(&set("x1")).unwrap();
        assert_eq!(past.rollouts.iter().map(|rollout| &rollout.id).collect::<Vec<_>>(), ["driver"]);
        assert!(claim(&store, "x1").broken.is_empty());
    }
    assert_eq!(store.stage_again(&driver, &set("n1")).unwrap(), set("n1"));
    assert_eq!(open(&store), [driver.as_str()]);
    // A rollout without a journal is not known.
    fs::write(dir.path().join("closed/kernel/summary.json"), "").unwrap();
    fs::remove_file(dir.path().join("closed/kernel/journal")).unwrap();
    assert!(store.closed().unwrap().is_empty());
    assert_eq!(store.archive(std::slice::from_ref(&kernel)).unwrap().archived, [kernel]);
    assert!(!dir.path().join("closed/kernel").exists());
}

/// A reader takes no lock. A rollout that moves meanwhile is in the one directory or in the other.
#[test]
fn a_reader_finds_a_rollout_that_is_just_closed_or_opened() {
    let (dir, store) = store();
    let driver = staged(&store, "driver", "n1");
    let reader = StoreReader::new(dir.path());
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ends.load(Relaxed) {
                assert!(reader.snapshot().unwrap().unreadable.is_empty());
                assert_eq!(reader.rollout("driver").unwrap().state.manifest, Ok(manifest("driver", "n1")));
            }
        });
        for _ in 0..200 {
            settle(&store, &driver, "n1", Phase::RolledBack);
            assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), [driver.as_str()]);
            assert_eq!(store.stage_again(&driver, &set("n1")).unwrap(), set("n1"));
        }
        ends.store(true, Relaxed);
    });
}

/// A crash can come between any two steps of closing: making the directory, writing the summary, moving the rollout.
#[test]
fn a_crash_while_closing_leaves_the_rollout_open_or_closed() {
    let (dir, store) = store();
    let driver = staged(&store, "driver", "n1");
    settle(&store, &driver, "n1", Phase::Updated);
    fs::create_dir(dir.path().join("closed")).unwrap();
    for half in [".summary.json.4711.new", "summary.json"] {
        fs::write(dir.path().join("rollouts/driver").join(half), "{\"staged").unwrap();
        assert!(!store.is_closed(&driver) && store.closed().unwrap().is_empty());
        assert_eq!(open(&store), ["driver"]);
    }
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), ["driver"]);
    assert!(open(&store).is_empty());
    // Staging again moves it back and then appends: in between, the rollout is settled and open.
    fs::rename(dir.path().join("closed/driver"), dir.path().join("rollouts/driver")).unwrap();
    assert_eq!(open(&store), ["driver"]);
    assert_eq!(armed(&store, &driver), "");
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), ["driver"]);
}
