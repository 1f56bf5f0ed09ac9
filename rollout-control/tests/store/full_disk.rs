//! Full disks: all of it or nothing.

use crate::prelude::*;
use std::fs::File;
use std::io::Write;
use std::thread;

/// Runs a test with a tiny file system, in a mount namespace of its own thread: nothing stays mounted, however it ends.
fn with_tiny_disk(test: impl FnOnce(&Path) + Send + 'static) {
    use nix::mount::{MsFlags, mount};
    needs_root();
    let run = move || {
        let dir = tempfile::tempdir().unwrap();
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("root may");
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tiny"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256k,nr_inodes=200"))
            .unwrap();
        test(dir.path());
        nix::mount::umount(dir.path()).unwrap();
    };
    thread::spawn(run).join().unwrap();
}

/// Fills the disk, except for this number of pages.
fn fill(dir: &Path, free: u64) {
    let path = dir.join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(free * 4096) / 4096 * 4096).unwrap();
}

#[test]
fn on_a_full_disk_nothing_is_half_staged() {
    with_tiny_disk(|dir| {
        let store = StoreWriter::open(dir, "test").unwrap();
        let old = staged(&store, "old", "old[1-3]");
        let long = text("driver", "n[1-3]") + &"# filler\n".repeat(2000);
        let manifest = Manifest::parse(&long).unwrap();
        let (mut failed, mut fitted) = (0, 0);
        for room in 0..12 {
            fill(dir, room);
            let before: Vec<_> = files(&dir.join("rollouts")).into_keys().collect();
            match store.stage(&long, &manifest) {
                Ok(Staged::New(id)) => {
                    fitted += 1;
                    assert_eq!(store.manifest_text(&id).unwrap(), long);
                    assert_eq!(armed(&store, &id), "n[1-3]");
                    store.unstage(&id, None).unwrap_or_default();
                    fs::remove_dir_all(dir.join("rollouts").join(id)).unwrap();
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => {
                    failed += 1;
                    let text = error.to_string();
                    assert!(text.contains("No space left on device") && !text.contains('\n'), "{text}");
                    assert!(text.contains(dir.to_str().unwrap()), "{text}");
                    assert_eq!(open(&store), [old.as_str()], "{room} pages of room");
                    let after: Vec<_> = files(&dir.join("rollouts")).into_keys().collect();
                    assert_eq!(after, before, "nothing is left");
                }
            }
            fs::remove_file(dir.join("filler")).unwrap();
        }
        assert!(failed > 2 && fitted > 2, "{failed} failed, {fitted} fitted");
        assert_eq!(armed(&store, &old), "old[1-3]");
    });
}

#[test]
fn on_a_full_disk_a_journal_takes_all_lines_or_none() {
    with_tiny_disk(|dir| {
        let store = StoreWriter::open(dir, "test").unwrap();
        let driver = staged(&store, "driver", "n[1-3]");
        store.record(None, vec![ordered("n1", 1)]).unwrap();
        let why = "x".repeat(2000);
        let refused = |number| Entry::Refused { nodes: set("n1"), order: id(number), why: why.clone() };
        let many = || (0..10).map(refused).collect();
        let journal = || fs::read(dir.join("rollouts/driver/journal")).unwrap();
        for room in 0..4 {
            fill(dir, room);
            let before = (store.rollout(&driver).unwrap().lines, journal());
            let error = store.record(Some(&driver), many()).unwrap_err().to_string();
            assert!(error.contains("journal: cannot be written: No space left on device"), "{error}");
            let after = (store.rollout(&driver).unwrap().lines, journal());
            assert!(after == before, "{room} pages of room");
            // No node is claimed if the claim cannot be recorded.
            if room == 0 {
                let all: Vec<_> = handed("plain[1-4000]").into_iter().step_by(2).collect();
                let claims = store.claim(&all, None, HOLD_MS);
                assert!(claims.is_err(), "{claims:?}");
                assert_eq!(store.snapshot().unwrap().plain_reboots.len(), 1);
            }
            fs::remove_file(dir.join("filler")).unwrap();
        }
        store.record(Some(&driver), many()).unwrap();
        assert_eq!(lines(&store, &driver), 11);
    });
}

/// The rollout stays open and is closed once there is room.
#[test]
fn on_a_full_disk_nothing_is_half_closed() {
    with_tiny_disk(|dir| {
        let store = StoreWriter::open(dir, "test").unwrap();
        let driver = staged(&store, "driver", "n[1-3]");
        settle(&store, &driver, "n[1-3]", Phase::Updated);
        fill(dir, 0);
        let error = store.close_settled(&NodeSet::default()).unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
        assert!(!store.is_closed(&driver));
        assert_eq!(open(&store), [driver.as_str()]);
        fs::remove_file(dir.join("filler")).unwrap();
        assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), [driver.as_str()]);
        assert!(open(&store).is_empty());
    });
}
