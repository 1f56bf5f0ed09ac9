//! State files of version 1 are readable for ever, and files of a newer version are readable as far as their keys are
//! known. These fixtures stay when the format changes, and new ones are added beside them.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::phase::{Event, Phase};
use rollout_core::agent::record::Before;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::AgentStatus;
use rollout_core::rollout::journal::{Progress, lines, replay};
use serde_json::{Value, json};

const JOURNAL: &str = include_str!("fixtures/journal-v1.jsonl");
const JOURNAL_OF_IMAGES: &str = include_str!("fixtures/journal-v1-images.jsonl");
const JOURNAL_OF_ANSWERS: &str = include_str!("fixtures/journal-v1-answers.jsonl");
const JOURNAL_OF_NOTES: &str = include_str!("fixtures/journal-v1-notes.jsonl");
const LEDGER: &str = include_str!("fixtures/ledger-v1.json");

/// Adds an unknown key to every object, except below the keys in `but`.
fn with_unknown_keys(value: &mut Value, but: &[&str]) {
    match value {
        Value::Object(object) => {
            for (_, inner) in object.iter_mut().filter(|(key, _)| !but.contains(&key.as_str())) {
                with_unknown_keys(inner, but);
            }
            object.insert("a-newer-key".to_owned(), json!({ "with": ["whatever", 1, null] }));
        }
        Value::Array(values) => values.iter_mut().for_each(|value| with_unknown_keys(value, but)),
        _ => {}
    }
}

#[test]
fn a_journal_of_version_1_is_read() {
    let read: Vec<_> = lines(JOURNAL).collect();
    assert_eq!(read.len(), JOURNAL.lines().count(), "no line is passed over");
    for (line, text) in read.iter().zip(JOURNAL.lines()) {
        assert_eq!(serde_json::to_string(line).unwrap(), text, "and this is still how it is written");
    }
    let nodes = replay(&read);
    let stands: Vec<_> = nodes.iter().map(|(name, node)| (name.as_str(), node.progress)).collect();
    assert_eq!(
        stands,
        [
            ("cn001", Progress::Seen(Phase::Updated)),
            ("cn002", Progress::Seen(Phase::Held)),
            ("cn003", Progress::Ordered),
            ("cn004", Progress::Seen(Phase::Released)),
            ("cn005", Progress::Refused),
            ("cn006", Progress::Unreachable),
        ]
    );
    assert_eq!(nodes["cn005"].why.as_deref(), Some("busy: other is applying"));
    assert_eq!(nodes["cn002"].why.as_deref(), Some("verify: /usr/sbin/nhc ended with exit code 1"));
}

#[test]
fn a_journal_of_images_is_read() {
    let read: Vec<_> = lines(JOURNAL_OF_IMAGES).collect();
    assert_eq!(read.len(), JOURNAL_OF_IMAGES.lines().count(), "no line is passed over");
    for (line, text) in read.iter().zip(JOURNAL_OF_IMAGES.lines()) {
        assert_eq!(serde_json::to_string(line).unwrap(), text, "and this is still how it is written");
    }
    let nodes = replay(&read);
    let before =
        |name: &str| nodes[name].unsettled_boot_change().map(|change| change.before.boot_id.as_str());
    assert_eq!((before("cn001"), before("cn002"), before("cn003")), (Some("b1"), None, None));
    assert_eq!(
        (nodes["cn001"].volatile, nodes["cn002"].why.as_deref()),
        (true, Some("the node was not back in time"))
    );
    assert_eq!(nodes["cn003"].progress, Progress::Unreachable);
}

#[test]
fn a_journal_of_answers_is_read() {
    let read: Vec<_> = lines(JOURNAL_OF_ANSWERS).collect();
    assert_eq!(read.len(), JOURNAL_OF_ANSWERS.lines().count(), "no line is passed over");
    for (line, text) in read.iter().zip(JOURNAL_OF_ANSWERS.lines()) {
        assert_eq!(serde_json::to_string(line).unwrap(), text, "and this is still how it is written");
    }
    let nodes = replay(&read);
    let stands: Vec<_> = nodes.iter().map(|(name, node)| (name.as_str(), node.progress)).collect();
    assert_eq!(
        stands,
        [
            ("cn001", Progress::Ordered),
            ("cn002", Progress::Ordered),
            ("cn003", Progress::Unreachable),
            ("cn004", Progress::Lost),
            ("cn005", Progress::Superseded),
            ("cn006", Progress::Covered),
            ("cn007", Progress::Superseded),
        ]
    );
    let order = |name: &str| nodes[name].order.as_ref().map(ToString::to_string);
    assert_eq!(order("cn001").as_deref(), Some("00000000000000000000000000000001"));
    assert_eq!(order("cn002").as_deref(), Some("00000000000000000000000000000002"));
    let change = nodes["cn003"].unsettled_boot_change().unwrap();
    assert!(change.is_being_restored(71_999) && !change.is_being_restored(72_000));
    let change = nodes["cn001"].unsettled_boot_change().unwrap();
    assert_eq!((change.order.to_string(), nodes["cn001"].volatile), (order("cn001").unwrap(), true));
}

#[test]
fn a_journal_of_notes_is_read() {
    let read: Vec<_> = lines(JOURNAL_OF_NOTES).collect();
    assert_eq!(read.len(), JOURNAL_OF_NOTES.lines().count(), "no line is passed over");
    for (line, text) in read.iter().zip(JOURNAL_OF_NOTES.lines()) {
        assert_eq!(serde_json::to_string(line).unwrap(), text, "and this is still how it is written");
    }
    let nodes = replay(&read);
    let found = |name: &str| (nodes[name].progress, nodes[name].why.as_deref(), nodes[name].notes.len());
    assert_eq!(found("cn001"), (Progress::Seen(Phase::Updated), None, 2));
    assert_eq!(found("cn002"), (Progress::Seen(Phase::Held), Some("nhc said no"), 1));
}

#[test]
fn a_journal_with_newer_keys_and_newer_kinds_of_lines_is_read() {
    let newer: String = JOURNAL
        .lines()
        .map(|line| {
            let mut value: Value = serde_json::from_str(line).unwrap();
            with_unknown_keys(&mut value, &[]);
            format!("{value}\n{{\"t_ms\":1,\"by\":\"x\",\"is\":\"powered-off\",\"nodes\":\"cn001\"}}\n")
        })
        .collect();
    assert_eq!(lines(&newer).collect::<Vec<_>>(), lines(JOURNAL).collect::<Vec<_>>());
}

#[test]
fn a_ledger_of_version_1_is_read() {
    let ledger: Ledger = serde_json::from_str(LEDGER).unwrap();
    assert_eq!(ledger.phase, Phase::Undoing);
    assert_eq!(ledger.order.rollout(), Some("driver-580@2"));
    assert_eq!(ledger.order.nodes, NodeSet::parse("cn[001-006]").unwrap());
    assert!(ledger.changed());
    let mut undone = ledger.clone();
    assert_eq!(undone.old_proven(), Event::OldProven { hold: true });
    assert!(!undone.changed());
    assert_eq!(ledger.records[1].before, Before::Symlink { target: Some("/opt/slurm/24.05.1".to_owned()) });
    assert!(
        ledger.records[0].after.as_ref().is_some_and(|after| after.changed)
            && ledger.records[1].after.is_none()
    );
    let (written, fixture): (Value, Value) =
        (serde_json::to_value(&ledger).unwrap(), serde_json::from_str(LEDGER).unwrap());
    assert_eq!(written, fixture, "and this is still how it is written");
}

#[test]
fn a_newer_ledger_is_read_as_far_as_its_keys_are_known() {
    let mut newer: Value = serde_json::from_str(LEDGER).unwrap();
    with_unknown_keys(&mut newer, &["aim"]);
    newer["version"] = json!(2);
    let (mut ledger, known): (Ledger, Ledger) =
        (serde_json::from_value(newer).unwrap(), serde_json::from_str(LEDGER).unwrap());
    assert_eq!(ledger.version, 2);
    ledger.version = known.version;
    assert_eq!(ledger, known);
}

#[test]
fn what_a_node_shall_become_is_never_half_understood() {
    let mut newer: Value = serde_json::from_str(LEDGER).unwrap();
    newer["order"]["what"]["aim"]["verify"]["a-newer-key"] = json!(true);
    let error = serde_json::from_value::<Ledger>(newer).unwrap_err().to_string();
    assert!(error.contains("a-newer-key"), "{error}");
}

#[test]
fn keys_that_came_later_may_be_missing() {
    let mut oldest: Value = serde_json::from_str(LEDGER).unwrap();
    for key in ["tries", "records", "error", "seen"] {
        oldest.as_object_mut().unwrap().remove(key);
    }
    let ledger: Ledger = serde_json::from_value(oldest).unwrap();
    assert_eq!(ledger.ordered_s, None);
    assert_eq!(
        (ledger.tries, ledger.records.len(), ledger.error, ledger.accepted_orders.len()),
        (0, 0, None, 0)
    );
}

#[test]
fn what_newer_agents_write_is_read_by_this_one_and_the_other_way_round() {
    let mut newer: Value = serde_json::from_str(LEDGER).unwrap();
    newer["ordered_s"] = json!(1_795_168_000);
    let ledger: Ledger = serde_json::from_value(newer.clone()).unwrap();
    assert_eq!(ledger.ordered_s, Some(1_795_168_000));
    assert_eq!(serde_json::to_value(&ledger).unwrap(), newer);

    let older = json!({ "version": "0.1.0", "node": "cn001", "boot_id": "b", "uptime_s": 60, "order": null });
    let status: AgentStatus = serde_json::from_value(older.clone()).unwrap();
    assert_eq!((status.clock_s, &status.trouble), (None, &None));
    assert_eq!(serde_json::to_value(&status).unwrap(), older, "and nothing new is in an answer without it");
}
