//! Anything that cannot be read blocks nothing else.

use crate::prelude::*;
use rollout_core::controller::closing::Retention;
use std::time::Duration;

/// Nodes of the rollout `bad`, which is damaged.
const BAD: &str = "b[1-2]";

/// Damages the rollout `bad`, or puts something else beside it. Returns the name to be reported.
type Damage = fn(&Path) -> &'static str;

fn replace_by_directory(path: &Path) {
    fs::remove_file(path).unwrap();
    fs::create_dir(path).unwrap();
}

/// Runs a check on a state directory with each damage that leaves no journal to read.
fn with_each_unreadable(check: impl Fn(&str, &TempDir, &StoreWriter, &str)) {
    let damages: [(&str, Damage); 5] = [
        ("a stray file", |rollouts| {
            fs::write(rollouts.join("README"), "by hand").unwrap();
            "README"
        }),
        ("an empty directory", |rollouts| {
            fs::create_dir(rollouts.join("empty")).unwrap();
            "empty"
        }),
        ("a journal that cannot be read", |rollouts| {
            replace_by_directory(&rollouts.join("bad/journal"));
            "bad"
        }),
        ("a missing journal", |rollouts| {
            fs::remove_file(rollouts.join("bad/journal")).unwrap();
            "bad"
        }),
        ("neither journal nor manifest", |rollouts| {
            replace_by_directory(&rollouts.join("bad/journal"));
            replace_by_directory(&rollouts.join("bad/manifest.toml"));
            "bad"
        }),
    ];
    for (name, damage) in damages {
        let (dir, store) = store();
        staged(&store, "driver", "n[1-4]");
        staged(&store, "bad", BAD);
        let reported = damage(&dir.path().join("rollouts"));
        check(name, &dir, &store, reported);
    }
}

#[test]
fn it_is_reported_by_name_with_its_file() {
    with_each_unreadable(|damage, _, store, name| {
        let snapshot = store.snapshot().unwrap();
        let [unreadable] = snapshot.unreadable.as_slice() else { panic!("{damage}: {snapshot:?}") };
        assert_eq!(unreadable.id, name, "{damage}");
        let file = format!("rollouts/{name}/journal: cannot be read");
        assert!(unreadable.error.contains(&file), "{damage}: {}", unreadable.error);
        let knows_nodes = matches!(damage, "a journal that cannot be read" | "a missing journal");
        assert_eq!(unreadable.nodes, if knows_nodes { set(BAD) } else { NodeSet::default() }, "{damage}");
        assert!(snapshot.rollouts.iter().any(|rollout| rollout.id == "driver"), "{damage}");
        assert!(store.rollout(name).is_err(), "{damage}");
        let past = store.snapshot_with_past_of(&set("n1")).unwrap();
        assert_eq!(past.unreadable, snapshot.unreadable, "{damage}");
    });
}

#[test]
fn it_blocks_no_other_rollout() {
    with_each_unreadable(|damage, dir, store, _| {
        assert_eq!(
            claimed(&claim(store, "n1,plain1")),
            [(None, "plain1".to_owned()), (Some("driver"), "n1".to_owned())],
            "{damage}"
        );
        assert_eq!(store.unstage("driver", Some(&set("n2"))).unwrap(), set("n2"), "{damage}");
        assert_eq!(staged(store, "kernel", "n2"), "kernel", "{damage}");
        assert_eq!(store.find("driver").unwrap(), "driver", "{damage}");
        settle(store, "kernel", "n2", Phase::RolledBack);
        assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), ["kernel"], "{damage}");
        assert_eq!(store.stage_again("kernel", &set("n2")).unwrap(), set("n2"), "{damage}");
        settle(store, "kernel", "n2", Phase::RolledBack);
        store.close_settled(&NodeSet::default()).unwrap();
        let at_once = Retention { age: Duration::ZERO, count: 0 };
        assert_eq!(store.archive_expired(at_once, None).unwrap().archived, ["kernel"], "{damage}");
        assert!(dir.path().join("archive/kernel/journal").exists());
    });
}

/// Such a node may have any order, and boot anything: nothing can be known without the journal.
#[test]
fn nodes_of_a_rollout_without_a_readable_journal_are_not_ordered() {
    let (dir, store) = store();
    staged(&store, "driver", "n1");
    staged(&store, "bad", BAD);
    replace_by_directory(&dir.path().join("rollouts/bad/journal"));
    let claims = claim(&store, "n1,b1,plain1");
    assert_eq!(claimed(&claims), [(None, "plain1".to_owned()), (Some("driver"), "n1".to_owned())]);
    let [(nodes, error)] = claims.broken.as_slice() else { panic!("{claims:?}") };
    assert_eq!(nodes.to_string(), "b1");
    assert!(error.contains("rollouts/bad/journal"), "{error}");
    // The admin repairs it.
    fs::remove_dir(dir.path().join("rollouts/bad/journal")).unwrap();
    fs::write(dir.path().join("rollouts/bad/journal"), "").unwrap();
    assert_eq!(claimed(&claim(&store, "b1")), [(None, "b1".to_owned())]);
}

#[test]
fn a_manifest_that_cannot_be_read_holds_up_only_its_own_nodes() {
    let newer = "name = 'bad'\nnodes = 'b[1-2]'\n[[change]]\nkind = 'of a newer version'\n";
    for damage in [Some("name = 'bad'\nrm = '-rf'\n"), Some(newer), Some(""), None] {
        let (dir, store) = store();
        staged(&store, "driver", "n[1-2]");
        staged(&store, "bad", BAD);
        let path = dir.path().join("rollouts/bad/manifest.toml");
        match damage {
            Some(text) => fs::write(&path, text).unwrap(),
            None => replace_by_directory(&path),
        }
        let snapshot = store.snapshot().unwrap();
        assert!(snapshot.unreadable.is_empty());
        let error = snapshot.rollout("bad").unwrap().manifest.as_ref().unwrap_err();
        assert!(error.contains("rollouts/bad/manifest.toml"), "{error}");
        let claims = claim(&store, "n1,b1,plain1");
        assert_eq!(claimed(&claims), [(None, "plain1".to_owned()), (Some("driver"), "n1".to_owned())]);
        let broken = (set("b1"), error.clone());
        assert_eq!(claims.broken, [broken]);
        assert_eq!(armed(&store, "bad"), BAD, "it was not claimed");
        // It can be called off, and then closed.
        assert!(matches!(stage(&store, "kernel", "b1"), Err(StageError::Taken { .. })));
        assert_eq!(store.unstage("bad", None).unwrap(), set(BAD));
        assert_eq!(staged(&store, "kernel", "b1"), "kernel");
        assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), ["bad"]);
    }
}

/// By a newer version: the rest of the journal counts.
#[test]
fn lines_that_cannot_be_read_are_skipped() {
    let (dir, store) = store();
    staged(&store, "driver", "n[1-2]");
    let journal = dir.path().join("rollouts/driver/journal");
    let newer = "{\"t_ms\":1,\"by\":\"x\",\"is\":\"of-a-newer-version\",\"nodes\":\"n1\"}\n";
    fs::write(&journal, newer.to_owned() + &fs::read_to_string(&journal).unwrap()).unwrap();
    assert_eq!(armed(&store, "driver"), "n[1-2]");
    let rollout = store.rollout("driver").unwrap().state;
    assert_eq!(rollout.by, "test root@here");
    assert_eq!(store.snapshot().unwrap().rollouts, [rollout]);
}
