//! The state directory of a cluster with a long history and a large rollout.

use crate::{stage, start_together, words};
use rollout_control::store::StoreWriter;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, Line, Progress};
use std::fs;
use std::path::Path;

/// Slurm up to 25.11 starts one RebootProgram for all nodes that came free in the same second, so there may be many at
/// once. Past rollouts and a large open one must not make them wait for each other beyond the lock's limit.
#[test]
fn many_invocations_at_once_each_get_their_node() {
    const INVOCATIONS: usize = 64;
    let dir = tempfile::tempdir().unwrap();
    let store = StoreWriter::open(dir.path(), "test").unwrap();
    for number in 0..50 {
        past_rollout(dir.path(), &format!("past{number}"), 1000);
    }
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap().len(), 50);
    stage(&store, "driver", "n[0-9999]");
    open_rollout_under_way(dir.path(), "driver");
    let mut ordered = Vec::new();
    for mut child in start_together("claim-one", dir.path(), INVOCATIONS) {
        let (words, status) = words(&mut child);
        assert!(status.success(), "{status}");
        ordered.extend(words.iter().map(|word| word.rsplit_once(' ').unwrap().0.to_owned()));
    }
    ordered.sort_unstable();
    let mut expected: Vec<_> = (0..INVOCATIONS).map(|number| format!("n{number} driver")).collect();
    expected.sort_unstable();
    assert_eq!(ordered, expected);
    let records = store.rollout("driver").unwrap().state.records;
    let is_ordered = |number: usize| records[&format!("n{number}")].progress == Progress::Ordered;
    assert!((0..INVOCATIONS).all(is_ordered));
}

/// Writes a rollout whose nodes were ordered in batches of 20 and are all updated.
fn past_rollout(dir: &Path, name: &str, nodes: usize) {
    let rollout = dir.join("rollouts").join(name);
    fs::create_dir_all(&rollout).unwrap();
    let all = format!("n[0-{}]", nodes - 1);
    let text = format!(
        "name = '{name}'\nnodes = '{all}'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n"
    );
    fs::write(rollout.join("manifest.toml"), text).unwrap();
    let mut entries = vec![Entry::Staged { nodes: NodeSet::parse(&all).unwrap() }];
    for first in (0..nodes).step_by(20) {
        let nodes = NodeSet::parse(&format!("n[{first}-{}]", first + 19)).unwrap();
        let order = OrderId::from_random(first as u128);
        entries.push(Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: 2 });
        entries.push(Entry::Seen { nodes, order, phase: Phase::Updated, error: None, notes: Vec::new() });
    }
    append(&rollout.join("journal"), entries);
}

/// Lets all nodes of a rollout but the first hundred have been ordered in batches of 20.
fn open_rollout_under_way(dir: &Path, name: &str) {
    let mut entries = Vec::new();
    for first in (100..10_000).step_by(20) {
        let nodes = NodeSet::parse(&format!("n[{first}-{}]", first + 19)).unwrap();
        let order = OrderId::from_random(first as u128);
        entries.push(Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: 2 });
        entries.push(Entry::Ordered { nodes, order, volatile: false });
    }
    append(&dir.join("rollouts").join(name).join("journal"), entries);
}

fn append(journal: &Path, entries: Vec<Entry>) {
    let mut text = fs::read_to_string(journal).unwrap_or_default();
    for entry in entries {
        text += &serde_json::to_string(&Line { t_ms: 1, by: "past".to_owned(), entry }).unwrap();
        text.push('\n');
    }
    fs::write(journal, text).unwrap();
}
