//! Journals on disk: torn lines, and the journal of plain reboots, which no rollout ever ends.

use crate::prelude::*;
use rollout_core::rollout::journal::Line;
use rollout_host::clock;
use std::os::unix::fs::MetadataExt;

/// Age from which plain reboots are forgotten, and a bit more.
const OLD_MS: u64 = 25 * 3_600_000;

fn plain_reboots(store: &StoreReader) -> Vec<String> {
    store.snapshot().unwrap().plain_reboots.into_keys().collect()
}

fn line(age_ms: u64, entry: Entry) -> String {
    let t_ms = clock::now_ms() - age_ms;
    serde_json::to_string(&Line { t_ms, by: "test".to_owned(), entry }).unwrap() + "\n"
}

/// Puts lines of a plain reboot of long ago in front of the journal of plain reboots, so that it is long.
fn lengthen(dir: &Path, age_ms: u64) {
    let path = dir.join("plain-reboots");
    let line = line(age_ms, ordered("old1", 1));
    let text = line.repeat(300_000 / line.len() + 1) + &fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, text).unwrap();
}

/// A power cut may leave any part of the last line.
#[test]
fn a_journal_torn_at_any_byte_is_read_and_continued() {
    let (dir, store) = store();
    let driver = staged(&store, "driver", "n[1-3]");
    let why = "two\nlines, \"quoted\" — ü".to_owned();
    store.record(Some(&driver), vec![Entry::Refused { nodes: set("n1"), order: id(1), why }]).unwrap();
    let journal = dir.path().join("rollouts/driver/journal");
    let whole = fs::read(&journal).unwrap();
    let lines = store.rollout(&driver).unwrap().lines;
    let begin = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in begin..=whole.len() {
        fs::write(&journal, &whole[..cut]).unwrap();
        // A line of which only the newline is missing counts.
        let expected: &[Line] = if cut + 1 >= whole.len() { &lines } else { &lines[..1] };
        assert_eq!(store.rollout(&driver).unwrap().lines, expected, "cut at {cut}");
        store.record(Some(&driver), vec![ordered("n1", 2), ordered("n1", 3)]).unwrap();
        let after = store.rollout(&driver).unwrap().lines;
        assert_eq!(after.len(), expected.len() + 2, "cut at {cut}");
        assert_eq!(&after[..expected.len()], expected);
        let new: Vec<_> = after[expected.len()..].iter().map(|line| &line.entry).collect();
        assert_eq!(new, [&ordered("n1", 2), &ordered("n1", 3)]);
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.rollouts, [store.rollout(&driver).unwrap().state], "cut at {cut}");
    }
    // A file system may also return zeros for bytes that it had not written.
    fs::write(&journal, [&whole[..begin], &[0; 100]].concat()).unwrap();
    store.record(Some(&driver), vec![ordered("n1", 2)]).unwrap();
    assert_eq!(store.rollout(&driver).unwrap().lines.len(), 2);
}

#[test]
fn a_long_journal_of_plain_reboots_is_compacted_and_the_old_one_kept() {
    let (dir, store) = store();
    lengthen(dir.path(), 3 * OLD_MS);
    claim(&store, "plain1");
    assert_eq!(plain_reboots(&store), ["plain1"]);
    let length = |name: &str| fs::metadata(dir.path().join(name)).unwrap().len();
    assert!(length("plain-reboots") < 1000);
    assert!(length("plain-reboots.1") > 300_000);
    lengthen(dir.path(), 3 * OLD_MS);
    claim(&store, "plain2");
    assert_eq!(plain_reboots(&store), ["plain1", "plain2"]);
    let put_aside = fs::read_to_string(dir.path().join("plain-reboots.1")).unwrap();
    assert!(put_aside.contains("\"plain1\""), "it is replaced");
}

/// Otherwise two invocations would order the same node.
#[test]
fn compaction_does_not_forget_a_live_claim() {
    let (dir, store) = store();
    claim(&store, "plain1");
    lengthen(dir.path(), 3 * OLD_MS);
    for node in ["plain1,plain2", "plain1"] {
        let again = claim(&store, node);
        assert_eq!(again.skipped[&Skipped::BeingOrdered][0], "plain1");
        assert!(again.claims.iter().all(|claim| claim.order.nodes == set("plain2")));
    }
    assert!(dir.path().join("plain-reboots.1").exists(), "it was compacted in between");
    assert_eq!(plain_reboots(&store), ["plain1", "plain2"]);
}

/// The journal tells whether a node was ordered since Slurm handed it over.
#[test]
fn compaction_keeps_the_plain_reboots_of_a_day() {
    let (dir, store) = store();
    let hour = 3_600_000;
    let recent = line(20 * hour, ordering("new[1-2],late1", 2, 0)) + &line(19 * hour, ordered("new[1-2]", 2));
    let unknown = line(30 * hour, ordering("gone1", 3, 0));
    fs::write(dir.path().join("plain-reboots"), unknown + "torn\n" + &recent).unwrap();
    lengthen(dir.path(), 3 * OLD_MS);
    let before = store.snapshot().unwrap().plain_reboots;
    claim(&store, "plain1");
    let mut after = store.snapshot().unwrap().plain_reboots;
    after.remove("plain1").unwrap();
    assert_eq!(after.keys().collect::<Vec<_>>(), ["late1", "new1", "new2"]);
    assert!(after.iter().all(|(node, record)| before[node] == *record));
    let issued_ms = Some(clock::now_ms() - 21 * hour);
    let nodes: Vec<_> = handed("new1").into_iter().map(|node| HandedOver { issued_ms, ..node }).collect();
    let claims = store.claim(&nodes, None, HOLD_MS).unwrap();
    assert_eq!(claims.skipped[&Skipped::Ordered], ["new1"]);
}

/// After a plain reboot of a whole cluster the journal stays long for a day. Rewriting it for each claim would not
/// shorten it.
#[test]
fn a_journal_that_is_long_because_of_today_is_not_rewritten() {
    let (dir, store) = store();
    lengthen(dir.path(), OLD_MS);
    let file = || fs::metadata(dir.path().join("plain-reboots")).unwrap().ino();
    let before = file();
    claim(&store, "plain1");
    assert_eq!(file(), before);
    assert!(!dir.path().join("plain-reboots.1").exists());
    assert_eq!(plain_reboots(&store), ["old1", "plain1"]);
}
