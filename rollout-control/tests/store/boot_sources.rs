//! Boot sources: saved once, restored by one process, for SlurmUser alone.

use crate::prelude::*;
use rollout_core::rollout::journal::{Booted, Restoration};
use rollout_host::clock;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

fn change(store: &StoreWriter, rollout: &str, nodes: &str, order: u128, until_ms: u64) {
    let before = set(nodes).iter().map(|node| (node.to_owned(), Booted::default())).collect();
    let entry = Entry::BootChange { nodes: set(nodes), order: id(order), before, until_ms };
    store.record(Some(rollout), vec![ordering(nodes, order, until_ms), entry]).unwrap();
}

fn restored(store: &StoreWriter, rollout: &str, nodes: &str, order: u128) {
    let entry = Entry::BootRestored { nodes: set(nodes), order: id(order), why: "nhc".to_owned() };
    store.record(Some(rollout), vec![entry]).unwrap();
}

/// Claims nodes for restoring after this order, as a process other than the one that changed them.
fn claim_restoring(store: &StoreWriter, rollout: &str, nodes: &str, order: u128) -> String {
    let orders = set(nodes).iter().map(|node| (node.to_owned(), id(order))).collect();
    store.claim_restoring(rollout, &orders, HOLD_MS, false).unwrap().to_string()
}

fn claim_restoring_as_owner(store: &StoreWriter, rollout: &str, nodes: &str, order: u128) -> String {
    let orders = set(nodes).iter().map(|node| (node.to_owned(), id(order))).collect();
    store.claim_restoring(rollout, &orders, HOLD_MS, true).unwrap().to_string()
}

#[test]
fn what_nodes_booted_from_is_kept_for_slurm_user_alone_until_it_is_restored() {
    let (dir, store) = store();
    let image = staged(&store, "image", "n[1-2]");
    let give = |order, source: &str| {
        let saved = ["n1", "n2"].map(|node| (node.to_owned(), source.into())).into();
        store.save_boot_sources(&image, saved).unwrap();
        change(&store, &image, "n[1-2]", order, 0);
    };
    let saved = |node: &str| store.boot_sources(&image).unwrap()[node].clone();
    assert!(store.boot_sources(&image).unwrap().is_empty());
    give(1, "old");
    restored(&store, &image, "n2", 1);
    give(2, "newer");
    assert_eq!((saved("n1"), saved("n2")), ("old".into(), "newer".into()), "n1 booted ours the second time");
    let path = dir.path().join("rollouts/image/boot-sources.json");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert!(store.unstage(&image, None).unwrap().is_empty(), "nobody would restore it");
    let owner = |node: &str| {
        let snapshot = store.snapshot().unwrap();
        snapshot.boot_owners(node).next().and_then(|of| of.rollout_id().map(str::to_owned))
    };
    assert_eq!((owner("n1"), owner("n2")), (Some(image.clone()), Some(image.clone())));
    restored(&store, &image, "n1", 2);
    assert_eq!((owner("n1"), owner("n2")), (None, Some(image.clone())));
    assert_eq!(store.unstage(&image, None).unwrap(), set("n1"));
    fs::write(path, "{torn").unwrap();
    let error = store.boot_sources(&image).unwrap_err().to_string();
    assert!(error.contains("rollouts/image/boot-sources.json"), "{error}");
    assert!(store.save_boot_sources(&image, [("n1".to_owned(), "x".into())].into()).is_err());
}

#[test]
fn one_process_restores_a_boot_source() {
    let (dir, store) = store();
    let image = staged(&store, "image", "n[1-40]");
    change(&store, &image, "n[1-40]", 1, 0);
    let claimed: Vec<String> = thread::scope(|scope| {
        let (image, dir) = (&image, dir.path());
        let restore = move || {
            let store = StoreWriter::open(dir, "restorer").unwrap();
            claim_restoring(&store, image, "n[1-40]", 1)
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(restore)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let winners: Vec<_> = claimed.iter().filter(|nodes| !nodes.is_empty()).collect();
    assert_eq!(winners, ["n[1-40]"], "{claimed:?}");
    assert_eq!(claim_restoring_as_owner(&store, &image, "n1", 1), "", "not even the owner");
    restored(&store, &image, "n1", 1);
    assert_eq!(claim_restoring(&store, &image, "n1", 1), "", "it is restored");
}

#[test]
fn a_boot_source_is_not_restored_while_its_owner_holds_it() {
    let (_dir, store) = store();
    let image = staged(&store, "image", "n[1-3]");
    change(&store, &image, "n1", 1, u64::MAX);
    assert_eq!(claim_restoring(&store, &image, "n1", 1), "");
    assert_eq!(claim_restoring_as_owner(&store, &image, "n1", 1), "n1", "the owner gives up");
    // The owner recorded an outcome: its claim is over.
    change(&store, &image, "n2", 2, u64::MAX);
    let silent = Entry::Unreachable { nodes: set("n2"), order: id(2), why: "silence".to_owned() };
    store.record(Some(&image), vec![silent]).unwrap();
    assert_eq!(claim_restoring(&store, &image, "n2", 2), "n2");
    // The owner died: its claim expires.
    let soon = clock::now_ms() + 200;
    change(&store, &image, "n3", 3, soon);
    while clock::now_ms() <= soon {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(claim_restoring(&store, &image, "n3", 3), "n3");
}

#[test]
fn a_claim_for_restoring_expires() {
    let (_dir, store) = store();
    let image = staged(&store, "image", "n1");
    change(&store, &image, "n1", 1, 0);
    let orders = [("n1".to_owned(), id(1))].into();
    assert_eq!(store.claim_restoring(&image, &orders, 0, false).unwrap(), set("n1"));
    assert_eq!(claim_restoring(&store, &image, "n1", 1), "n1", "the one before died");
    let record = record_of(&store, &image, "n1");
    let change = record.unsettled_boot_change().unwrap();
    assert!(matches!(change.restoration, Restoration::Claimed { .. }), "{change:?}");
}

#[test]
fn a_late_restorer_of_an_earlier_order_gets_nothing() {
    let (_dir, store) = store();
    let image = staged(&store, "image", "n[1-3]");
    change(&store, &image, "n[1-2]", 1, 0);
    change(&store, &image, "n1", 2, 0);
    store.record(Some(&image), vec![seen("n2", 1, Phase::Updated)]).unwrap();
    let before = lines(&store, &image);
    assert_eq!(claim_restoring(&store, &image, "n[1-3]", 1), "");
    assert_eq!(claim_restoring_as_owner(&store, &image, "n1,m1", 1), "");
    assert_eq!(lines(&store, &image), before, "there is nothing to record");
    assert_eq!(claim_restoring(&store, &image, "n1", 2), "n1");
    // Its report comes late as well.
    restored(&store, &image, "n1", 1);
    assert!(record_of(&store, &image, "n1").unsettled_boot_change().is_some());
}
