//! The lock: every write goes through it, and no reading.

use crate::prelude::*;
use nix::fcntl::{Flock, FlockArg};
use rollout_control::config::Config;
use rollout_core::controller::closing::Retention;
use rollout_core::slurm::node::NodeInfo;
use std::fs::{File, OpenOptions};
use std::thread;
use std::time::Duration;

fn hold(dir: &Path) -> Flock<File> {
    let file = OpenOptions::new().write(true).open(dir.join("lock")).unwrap();
    Flock::lock(file, FlockArg::LockExclusive).unwrap()
}

#[test]
fn a_lock_that_is_held_too_long_is_an_error_and_holds_up_no_reader() {
    let (dir, store) = store();
    staged(&store, "driver", "n1");
    let lock = hold(dir.path());
    assert_eq!(store.snapshot().unwrap().rollouts.len(), 1);
    let error = store.claim(&handed("n1"), None, HOLD_MS).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("lock: locked by another process for more than 3 s"), "{error}");
    drop(lock);
    assert_eq!(claim(&store, "n1").claims.len(), 1);
}

#[test]
fn nothing_is_written_without_the_lock() {
    let (dir, store) = store();
    staged(&store, "driver", "n[1-3]");
    closed(&store, "old", "o[1-3]");
    let settled = staged(&store, "settled", "s[1-3]");
    settle(&store, &settled, "s[1-3]", Phase::RolledBack);
    let change = Entry::BootChange {
        nodes: set("n3"),
        order: id(1),
        before: [("n3".to_owned(), rollout_core::rollout::journal::Booted::default())].into(),
        until_ms: 0,
    };
    store.record(Some("driver"), vec![ordering("n3", 1, 0), change]).unwrap();
    let before = files(dir.path());
    let lock = hold(dir.path());
    type Write = fn(&StoreWriter) -> Result<(), StageError>;
    let info = || NodeInfo {
        name: "n1".to_owned(),
        address: "10.0.0.1".to_owned(),
        state: ["IDLE", "DRAIN"].map(str::to_owned).into_iter().collect(),
        reason: Some("bad disk".to_owned()),
        ..NodeInfo::default()
    };
    let infos = [info()];
    let writes: [(&str, Write); 10] = [
        ("stage", |store| stage(store, "kernel", "m1").map(drop)),
        ("unstage", |store| Ok(store.unstage("driver", None).map(drop)?)),
        ("stage_again", |store| Ok(store.stage_again("settled", &set("s1")).map(drop)?)),
        ("claim", |store| Ok(store.claim(&handed("n1,plain1"), None, HOLD_MS).map(drop)?)),
        ("record", |store| Ok(store.record(None, vec![ordered("n1", 1)])?)),
        ("save_boot_sources", |store| {
            Ok(store.save_boot_sources("driver", [("n1".to_owned(), "old".into())].into())?)
        }),
        ("claim_restoring", |store| {
            let orders = [("n3".to_owned(), id(1))].into();
            Ok(store.claim_restoring("driver", &orders, HOLD_MS, false).map(drop)?)
        }),
        ("close_settled", |store| Ok(store.close_settled(&NodeSet::default()).map(drop)?)),
        ("archive", |store| Ok(store.archive(&["old".to_owned()]).map(drop)?)),
        ("archive_expired", |store| {
            let retention = Retention { age: Duration::ZERO, count: 0 };
            Ok(store.archive_expired(retention, Some(Duration::ZERO)).map(drop)?)
        }),
    ];
    let locked_out = |name: &str, result: Result<(), StageError>| {
        let locked = matches!(result, Err(StageError::Store(StoreError::Locked { .. })));
        assert!(locked, "{name}: {result:?}");
    };
    // All at once: each of them waits for seconds.
    thread::scope(|scope| {
        for (name, write) in &writes {
            scope.spawn(|| locked_out(name, write(&store)));
        }
        // This one does not wait.
        scope.spawn(|| store.learn_addresses(&infos).unwrap());
        scope.spawn(|| {
            locked_out(
                "learn_drains",
                store
                    .learn_drains(&infos, &store.drains(), &Config::default().cured_by_reboot())
                    .map_err(StageError::from),
            )
        });
    });
    assert_eq!(files(dir.path()), before);
    drop(lock);
    for (name, write) in writes {
        write(&store).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_ne!(files(dir.path()), before, "{name}");
    }
}

/// Reading under the lock continues a reading before it. Both together must see what the journal holds at the end.
#[test]
fn a_journal_that_changes_while_a_claim_waits_for_the_lock_is_read_to_its_end() {
    for change in ["appended", "torn", "replaced", "staged"] {
        let (dir, store) = store();
        staged(&store, "driver", "n[1-3]");
        store.record(None, vec![ordered("other1", 1)]).unwrap();
        let journal = dir.path().join("rollouts/driver/journal");
        if change == "torn" {
            fs::write(
                &journal,
                fs::read_to_string(&journal).unwrap() + "{\"t_ms\":1,\"by\":\"x\",\"is\":\"unsta",
            )
            .unwrap();
        }
        let (reached, go) = (std::sync::Barrier::new(2), hold(dir.path()));
        let claims = thread::scope(|scope| {
            let claims = scope.spawn(|| {
                reached.wait();
                claim(&store, "n[1-3],m1,plain1")
            });
            reached.wait();
            // Long enough for the reading before the lock, short enough for the wait.
            thread::sleep(Duration::from_millis(500));
            let append = |path: &Path, begin: &str, entry: Entry| {
                let line = rollout_core::rollout::journal::Line { t_ms: 2, by: "x".to_owned(), entry };
                let text = fs::read_to_string(path).unwrap_or_default();
                fs::write(path, text + begin + &serde_json::to_string(&line).unwrap() + "\n").unwrap();
            };
            match change {
                "appended" => append(&journal, "", ordering("n2", 1, u64::MAX)),
                "torn" => append(&journal, "\n", ordering("n2", 1, u64::MAX)),
                "replaced" => {
                    let manifest_only = text("driver", "n[1-3]");
                    fs::remove_file(&journal).unwrap();
                    append(&journal, "", Entry::Staged { nodes: set("n[1-3]") });
                    append(&journal, "", ordering("n2", 1, u64::MAX));
                    assert_eq!(store.manifest_text("driver").unwrap(), manifest_only);
                }
                _ => {
                    append(&journal, "", ordering("n2", 1, u64::MAX));
                    let kernel = dir.path().join("rollouts/kernel");
                    fs::create_dir(&kernel).unwrap();
                    fs::write(kernel.join("manifest.toml"), text("kernel", "m1")).unwrap();
                    append(&kernel.join("journal"), "", Entry::Staged { nodes: set("m1") });
                }
            }
            append(&dir.path().join("plain-reboots"), "", ordering("plain1", 9, u64::MAX));
            drop(go);
            claims.join().unwrap()
        });
        let mut expected = vec![(Some("driver"), "n1,n3".to_owned())];
        match change {
            "staged" => expected.push((Some("kernel"), "m1".to_owned())),
            _ => expected.insert(0, (None, "m1".to_owned())),
        }
        let mut found = claimed(&claims);
        found.iter_mut().for_each(|(_, nodes)| *nodes = nodes.replace("n[1,3]", "n1,n3"));
        assert_eq!(found, expected, "{change}");
        assert_eq!(claims.skipped[&Skipped::BeingOrdered], ["n2", "plain1"], "{change}");
    }
}

#[test]
fn errors_name_the_file_in_one_line() {
    let (dir, store) = store();
    let one_line = |error: &StoreError, named: &str| {
        let text = error.to_string();
        assert!(text.contains(named) && !text.contains('\n'), "{text}");
    };
    staged(&store, "driver", "n1");
    one_line(&store.rollout("no-such").unwrap_err(), "no-such");
    one_line(&store.record(Some("no-such"), vec![ordered("n1", 1)]).unwrap_err(), "no-such/journal");
    assert!(!dir.path().join("rollouts/no-such").exists());
    store.record(Some("no-such"), Vec::new()).unwrap();
    fs::remove_file(dir.path().join("rollouts/driver/journal")).unwrap();
    fs::create_dir(dir.path().join("rollouts/driver/journal")).unwrap();
    one_line(&store.rollout("driver").unwrap_err(), "rollouts/driver/journal");
    one_line(&store.unstage("driver", None).unwrap_err(), "rollouts/driver/journal");
    let file = dir.path().join("a-file");
    File::create(&file).unwrap();
    one_line(&StoreWriter::open(&file, "test").unwrap_err(), "a-file/rollouts");
    one_line(&StoreWriter::open(&dir.path().join("no/such"), "test").unwrap_err(), "no/such");
    assert!(open(&StoreReader::new(&dir.path().join("nowhere"))).is_empty());
}
