//! The archive: closed rollouts that are only kept.

use crate::prelude::*;
use rollout_control::store::Archived;
use rollout_core::controller::closing::Retention;
use std::fs::File;
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Retention that archives nothing.
const LONG: Retention = Retention { age: DAY, count: 1000 };

fn archived(dir: &TempDir) -> Vec<String> {
    let names = fs::read_dir(dir.path().join("archive")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Makes the last entry of an archived rollout's journal this old.
fn age(dir: &TempDir, id: &str, age: Duration) {
    let journal =
        File::options().write(true).open(dir.path().join("archive").join(id).join("journal")).unwrap();
    journal.set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn an_archived_rollout_is_kept_and_no_longer_read() {
    let (dir, store) = store();
    let driver = closed(&store, "driver", "n[1-3]");
    closed(&store, "kernel", "m1");
    staged(&store, "open", "o1");
    let journal = fs::read(dir.path().join("closed/driver/journal")).unwrap();
    let ids = ["driver", "open", "no-such", "../closed/kernel"].map(str::to_owned);
    assert_eq!(store.archive(&ids).unwrap().archived, [driver.as_str()], "only a closed rollout");
    assert_eq!(archived(&dir), ["driver"]);
    assert_eq!(Vec::from_iter(store.ids_ever().unwrap()), ["driver", "kernel", "open"]);
    assert_eq!(fs::read(dir.path().join("archive/driver/journal")).unwrap(), journal);
    let manifest = fs::read_to_string(dir.path().join("archive/driver/manifest.toml")).unwrap();
    assert_eq!(manifest, text("driver", "n[1-3]"));
    assert!(!dir.path().join("closed/driver").exists() && !store.is_closed(&driver));
    assert_eq!(store.closed().unwrap().into_iter().map(|(id, _)| id).collect::<Vec<_>>(), ["kernel"]);
    assert!(
        store.snapshot_with_past_of(&set("n1")).unwrap().rollouts.iter().all(|rollout| rollout.id != driver)
    );
    let before = files(dir.path());
    assert!(matches!(store.find("driver"), Err(StoreError::NoSuchRollout(_))));
    assert!(matches!(store.rollout(&driver), Err(StoreError::NoSuchRollout(_))));
    assert!(matches!(store.stage_again(&driver, &set("n1")), Err(StoreError::NoSuchRollout(_))));
    assert!(matches!(store.unstage(&driver, None), Err(StoreError::NoSuchRollout(_))));
    assert!(store.record(Some(&driver), vec![ordered("n1", 1)]).is_err());
    assert_eq!(store.archive(&[driver]).unwrap(), Archived::default());
    assert_eq!(store.archive(&[]).unwrap(), Archived::default());
    assert_eq!(files(dir.path()), before, "nothing was made anew");
    assert_eq!(staged(&store, "driver", "n1"), "driver@2", "its name stays taken");
}

#[test]
fn a_rollout_that_cannot_be_moved_does_not_hold_up_the_others() {
    let (dir, store) = store();
    let ids = ["one", "two"].map(|name| closed(&store, name, "n1"));
    fs::create_dir_all(dir.path().join("archive/one/by-hand")).unwrap();
    let found = store.archive(&ids).unwrap();
    assert_eq!(found.archived, ["two"]);
    assert!(matches!(&found.failed[..], [error] if error.contains("closed/one")), "{found:?}");
    assert!(store.is_closed("one") && dir.path().join("closed/one/journal").exists());
}

#[test]
fn closed_rollouts_are_archived_by_age_and_by_count() {
    let (dir, store) = store();
    for name in ["one", "two", "three"] {
        closed(&store, name, "n1");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(store.archive_expired(LONG, None).unwrap().archived.is_empty());
    assert!(!dir.path().join("archive").exists());
    let two = Retention { count: 2, ..LONG };
    assert_eq!(store.archive_expired(two, None).unwrap().archived, ["one"]);
    assert!(store.archive_expired(two, None).unwrap().archived.is_empty());
    let at_once = Retention { age: Duration::ZERO, ..LONG };
    assert_eq!(store.archive_expired(at_once, None).unwrap().archived, ["two", "three"]);
    assert_eq!(archived(&dir), ["one", "three", "two"]);
    assert!(store.closed().unwrap().is_empty());
}

#[test]
fn archived_rollouts_are_deleted_once_they_are_old() {
    let (dir, store) = store();
    let ids = ["old", "young", "half", "kept"].map(|name| closed(&store, name, "n1"));
    store.archive(&ids).unwrap();
    age(&dir, "old", 3 * DAY);
    age(&dir, "young", DAY);
    // A crash came in the middle of deleting it.
    fs::remove_file(dir.path().join("archive/half/journal")).unwrap();
    let deleted = |age: Option<Duration>| store.archive_expired(LONG, age).unwrap().deleted;
    assert!(deleted(None).is_empty());
    assert_eq!(deleted(Some(2 * DAY)), ["old"]);
    assert_eq!(archived(&dir), ["half", "kept", "young"]);
    let half = File::open(dir.path().join("archive/half")).unwrap();
    half.set_modified(SystemTime::now() - 3 * DAY).unwrap();
    assert_eq!(deleted(Some(2 * DAY)), ["half"]);
    assert_eq!(archived(&dir), ["kept", "young"]);
    assert_eq!(staged(&store, "old", "n1"), "old", "its name is free again");
}
