//! Ownership and links: root and SlurmUser write into one directory.

use crate::prelude::*;
use rollout_core::slurm::node::NodeInfo;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

fn info() -> NodeInfo {
    NodeInfo { name: "n1".to_owned(), address: "10.0.0.1".to_owned(), ..NodeInfo::default() }
}

/// Runs a part of a test on a thread of its own: a writer keeps the rights of its directory's owner.
fn on_a_thread(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(test).join()).unwrap();
}

#[test]
fn what_root_writes_belongs_to_the_owner_of_the_directory() {
    needs_root();
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(12345), Some(23456)).unwrap();
    on_a_thread(|| write_everything(&dir));
    let paths: Vec<String> = files(dir.path()).into_keys().collect();
    // Files: 4 in the directory, 3 of each rollout. Directories: 3, and 3 of rollouts.
    assert_eq!(paths.len(), 19, "{paths:?}");
    for path in paths {
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (12345, 23456), "{path}");
    }
}

fn write_everything(dir: &tempfile::TempDir) {
    let store = StoreWriter::open(dir.path(), "root").unwrap();
    let driver = staged(&store, "driver", "n[1-3]");
    claim(&store, "n1,plain1");
    store.unstage(&driver, None).unwrap();
    store.learn_addresses(&[info()]).unwrap();
    store.save_boot_sources(&driver, [("n1".to_owned(), "old".into())].into()).unwrap();
    store.call_follow_up().unwrap();
    let old = closed(&store, "old", "m1");
    closed(&store, "older", "m2");
    store.archive(&[old]).unwrap();
}

/// The directory's owner may put links there. They must not lead root to a file of its own.
#[test]
fn links_in_the_directory_are_not_followed() {
    needs_root();
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let victim = elsewhere.path().join("shadow");
    fs::write(&victim, "secret").unwrap();
    let store = StoreWriter::open(dir.path(), "root").unwrap();
    chown(dir.path(), Some(12345), Some(12345)).unwrap();
    for name in ["lock", "plain-reboots", "addresses.json"] {
        symlink(&victim, dir.path().join(name)).unwrap();
    }
    let error = store.record(None, vec![ordered("n1", 1)]).unwrap_err().to_string();
    assert!(error.contains("lock: cannot be opened"), "{error}");
    fs::remove_file(dir.path().join("lock")).unwrap();
    let error = store.record(None, vec![ordered("n1", 1)]).unwrap_err().to_string();
    assert!(error.contains("plain-reboots: cannot be written"), "{error}");
    store.learn_addresses(&[info()]).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "secret");
    assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
    assert!(!fs::symlink_metadata(dir.path().join("addresses.json")).unwrap().is_symlink());
}

/// Directories of the owner may be links, too. Root has no more rights behind them than the owner has.
#[test]
fn a_linked_directory_leads_root_nowhere_that_its_owner_could_not_go() {
    needs_root();
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = elsewhere.path().join("journal");
    fs::write(&journal, "").unwrap();
    fs::set_permissions(elsewhere.path(), PermissionsExt::from_mode(0o755)).unwrap();
    chown(dir.path(), Some(12345), Some(12345)).unwrap();
    on_a_thread(|| {
        let store = StoreWriter::open(dir.path(), "root").unwrap();
        for linked in ["rollouts/driver", "closed"] {
            symlink(elsewhere.path(), dir.path().join(linked)).unwrap();
        }
        let error = store.record(Some("driver"), vec![ordered("n1", 1)]).unwrap_err().to_string();
        assert!(error.contains("journal: cannot be written: Permission denied"), "{error}");
    });
    assert_eq!(fs::read_to_string(&journal).unwrap(), "");
    assert_eq!(fs::metadata(&journal).unwrap().uid(), 0);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn root_does_not_make_the_directory_its_own() {
    needs_root();
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("state");
    let error = StoreWriter::open(&missing, "root").unwrap_err().to_string();
    assert!(error.contains(&format!("install -d -o slurm -g slurm -m 755 {}", missing.display())), "{error}");
    assert!(!missing.exists());
}
