//! Staging and unstaging.

use crate::prelude::*;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_new_rollout_is_stored_as_it_was_written() {
    let (dir, store) = store();
    assert_eq!(staged(&store, "driver", "n[1-3]"), "driver");
    let rollout = store.rollout("driver").unwrap();
    assert_eq!(rollout.state.manifest, Ok(manifest("driver", "n[1-3]")));
    assert_eq!(store.manifest_text("driver").unwrap(), text("driver", "n[1-3]"));
    assert_eq!(rollout.lines.len(), 1);
    assert_eq!(rollout.state.by, "test root@here");
    assert_eq!(rollout.state.staged_ms, rollout.lines[0].t_ms);
    assert_eq!(armed(&store, "driver"), "n[1-3]");
    for file in ["rollouts/driver/manifest.toml", "rollouts/driver/journal"] {
        assert_eq!(fs::metadata(dir.path().join(file)).unwrap().mode() & 0o777, 0o644, "{file}");
    }
    let snapshot = StoreReader::new(dir.path()).snapshot().unwrap();
    assert_eq!(snapshot.rollouts, [rollout.state]);
}

#[test]
fn staging_the_same_twice_is_done_once() {
    let (dir, store) = store();
    staged(&store, "driver", "n[1-3]");
    let before = files(dir.path());
    assert_eq!(stage(&store, "driver", "n[1-3]").unwrap(), Staged::Already("driver".to_owned()));
    // The content counts, not the notation.
    let other_text = format!("# a comment\n{}", text("driver", "n3,n2,n1"));
    let manifest = Manifest::parse(&other_text).unwrap();
    assert_eq!(store.stage(&other_text, &manifest).unwrap(), Staged::Already("driver".to_owned()));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_node_has_one_thing_staged_at_a_time() {
    let (dir, store) = store();
    staged(&store, "driver", "n[1-3]");
    staged(&store, "kernel", "m[1-3]");
    let before = files(dir.path());
    for (name, nodes, taken, by) in [
        ("other", "n[3-5]", "n3", "driver"),
        ("other", "n[1-3]", "n[1-3]", "driver"),
        ("driver", "n[1-4]", "n[1-3]", "driver"),
        ("driver", "n[1-2]", "n[1-2]", "driver"),
        ("other", "m2", "m2", "kernel"),
    ] {
        let error = stage(&store, name, nodes).unwrap_err();
        let message = format!("{taken}: already staged for {by}; first `slurm-rollout unstage {by} {taken}`");
        assert_eq!(error.to_string(), message);
    }
    assert_eq!(files(dir.path()), before, "nothing was written");
}

/// Otherwise the older rollout would be armed again if the agent stays silent, beside the newer one.
#[test]
fn a_node_whose_order_is_being_sent_is_taken() {
    let (dir, store) = store();
    staged(&store, "driver", "n[1-2]");
    let back = staged(&store, "back", "m1");
    settle(&store, &back, "m1", Phase::RolledBack);
    store.record(Some(&back), vec![Entry::Staged { nodes: set("m1") }]).unwrap();
    assert_eq!(claimed(&claim(&store, "n1,m1")).len(), 2);
    let before = files(dir.path());
    for (name, nodes, by) in
        [("kernel", "n1", "driver"), ("driver", "n1", "driver"), ("kernel", "m1", "back")]
    {
        match stage(&store, name, nodes) {
            Err(StageError::Taken { nodes: taken, rollout }) => {
                assert_eq!((taken, rollout), (set(nodes), by.to_owned()))
            }
            other => panic!("{name} on {nodes}: {other:?}"),
        }
        assert!(matches!(store.would_stage(&manifest(name, nodes)), Err(StageError::Taken { .. })));
    }
    assert!(store.stage_again(&back, &set("n[1-2],m1")).unwrap().is_empty());
    assert_eq!(files(dir.path()), before);
    // Silence arms the same rollout again, and no other one.
    let order = record_of(&store, "driver", "n1").order.unwrap();
    let silent = Entry::Unreachable { nodes: set("n1"), order, why: "silence".to_owned() };
    store.record(Some("driver"), vec![silent]).unwrap();
    assert!(matches!(stage(&store, "kernel", "n1"), Err(StageError::Taken { .. })));
    assert_eq!(armed(&store, "driver"), "n[1-2]");
}

#[test]
fn a_dry_run_gives_the_same_answers_and_writes_nothing() {
    let (dir, store) = store();
    staged(&store, "driver", "n[1-3]");
    fs::remove_file(dir.path().join("lock")).unwrap();
    let before = files(dir.path());
    let reader = StoreReader::new(dir.path());
    let dry = |name: &str, nodes: &str| reader.would_stage(&manifest(name, nodes));
    assert_eq!(dry("kernel", "m1").unwrap(), Staged::New("kernel".to_owned()));
    assert_eq!(dry("driver", "m1").unwrap(), Staged::New("driver@2".to_owned()));
    assert_eq!(dry("driver", "n[1-3]").unwrap(), Staged::Already("driver".to_owned()));
    assert!(matches!(dry("kernel", "n1"), Err(StageError::Taken { .. })));
    assert_eq!(files(dir.path()), before, "not even a lock");
    // Nor does it need a state directory at all.
    let nowhere = StoreReader::new(&dir.path().join("nowhere"));
    assert_eq!(nowhere.would_stage(&manifest("driver", "n1")).unwrap(), Staged::New("driver".to_owned()));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_name_that_was_used_before_gets_a_number() {
    let (_dir, store) = store();
    assert_eq!(staged(&store, "driver", "n1"), "driver");
    assert_eq!(staged(&store, "driver-x", "x1"), "driver-x");
    assert_eq!(store.unstage("driver", None).unwrap(), set("n1"));
    assert_eq!(staged(&store, "driver", "n1"), "driver@2");
    assert_eq!(staged(&store, "driver", "n2"), "driver@3");
    assert_eq!(open(&store), ["driver", "driver-x", "driver@2", "driver@3"]);
    for (name, id) in [
        ("driver", "driver@3"),
        ("driver@1", "driver"),
        ("driver@2", "driver@2"),
        ("driver@3", "driver@3"),
        ("driver-x", "driver-x"),
    ] {
        assert_eq!(store.find(name).unwrap(), id);
    }
    for unknown in ["drive", "driver@4", "", "@2", "../rollouts/driver", "."] {
        let error = store.find(unknown).unwrap_err();
        assert!(matches!(&error, StoreError::NoSuchRollout(name) if name == unknown), "{error}");
    }
}

#[test]
fn unstaging_calls_off_what_is_still_to_come() {
    let (_dir, store) = store();
    let id = staged(&store, "driver", "n[1-4]");
    store.record(Some(&id), vec![ordered("n1", 1)]).unwrap();
    store.record(Some(&id), vec![ordering("n1", 2, u64::MAX)]).unwrap();
    assert_eq!(store.unstage(&id, Some(&set("n[1-2],m1"))).unwrap(), set("n2"));
    assert_eq!(armed(&store, &id), "n[3-4]");
    let before = lines(&store, &id);
    assert!(store.unstage(&id, Some(&set("n2"))).unwrap().is_empty());
    assert_eq!(lines(&store, &id), before, "there is nothing to record");
    assert_eq!(store.unstage(&id, None).unwrap(), set("n[3-4]"));
    assert_eq!(store.rollout(&id).unwrap().state.records.keys().collect::<Vec<_>>(), ["n1"]);
    assert_eq!(staged(&store, "other", "n[2-4]"), "other", "they are free again");
    for unknown in ["no-such", "driver@2"] {
        assert!(matches!(store.unstage(unknown, None), Err(StoreError::NoSuchRollout(_))), "{unknown}");
        let again = store.stage_again(unknown, &set("n1"));
        assert!(matches!(again, Err(StoreError::NoSuchRollout(_))), "{unknown}");
    }
}

#[test]
fn nodes_that_went_back_are_staged_again_unless_they_have_something_else() {
    let (_dir, store) = store();
    let id = staged(&store, "driver", "n[1-3]");
    settle(&store, &id, "n[1-3]", Phase::RolledBack);
    assert_eq!(armed(&store, &id), "");
    staged(&store, "kernel", "n3");
    let nodes = set("n[1-3]");
    assert_eq!(store.stage_again(&id, &nodes).unwrap(), set("n[1-2]"));
    assert_eq!(armed(&store, &id), "n[1-2]");
    assert!(store.stage_again(&id, &nodes).unwrap().is_empty(), "they are staged by now");
}

#[test]
fn what_a_crash_left_half_staged_is_not_there() {
    let (dir, store) = store();
    let half = dir.path().join("rollouts/.driver");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("manifest.toml"), "name = 'dri").unwrap();
    let snapshot = store.snapshot().unwrap();
    assert!(snapshot.rollouts.is_empty() && snapshot.unreadable.is_empty(), "{snapshot:?}");
    assert_eq!(staged(&store, "driver", "n1"), "driver");
    assert!(!half.exists());
}
