//! Helpers of all modules.

pub(crate) use rollout_control::store::{Claims, StageError, Staged, StoreError, StoreReader, StoreWriter};
pub(crate) use rollout_core::agent::phase::Phase;
pub(crate) use rollout_core::controller::hand_over::{HandedOver, Skipped};
pub(crate) use rollout_core::hostlist::NodeSet;
pub(crate) use rollout_core::protocol::order::OrderId;
pub(crate) use rollout_core::rollout::journal::{Entry, NodeRecord, Progress};
pub(crate) use rollout_core::rollout::manifest::Manifest;
pub(crate) use std::fs;
pub(crate) use std::path::Path;
pub(crate) use tempfile::TempDir;

use std::collections::BTreeMap;

/// Duration of claims that no test outlives.
pub(crate) const HOLD_MS: u64 = 3_600_000;

pub(crate) fn store() -> (TempDir, StoreWriter) {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreWriter::open(dir.path(), "test root@here").unwrap();
    (dir, store)
}

pub(crate) fn needs_root() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root, as ./check does");
}

pub(crate) fn set(nodes: &str) -> NodeSet {
    NodeSet::parse(nodes).unwrap()
}

pub(crate) fn id(number: u128) -> OrderId {
    OrderId::from_random(number)
}

/// Returns a manifest with one symbolic link.
pub(crate) fn text(name: &str, nodes: &str) -> String {
    format!(
        "name = '{name}'\nnodes = '{nodes}'\n[[change]]\nkind = 'symlink'\npath = '/opt/{name}'\ntarget = '/opt/new'\n"
    )
}

pub(crate) fn manifest(name: &str, nodes: &str) -> Manifest {
    Manifest::parse(&text(name, nodes)).unwrap()
}

pub(crate) fn stage(store: &StoreWriter, name: &str, nodes: &str) -> Result<Staged, StageError> {
    store.stage(&text(name, nodes), &manifest(name, nodes))
}

/// Stages a rollout that must be new. Returns its id.
pub(crate) fn staged(store: &StoreWriter, name: &str, nodes: &str) -> String {
    match stage(store, name, nodes).unwrap() {
        Staged::New(id) => id,
        Staged::Already(id) => panic!("{id} was there"),
    }
}

/// Returns the ids of open rollouts, oldest first.
pub(crate) fn open(store: &StoreReader) -> Vec<String> {
    store.snapshot().unwrap().rollouts.into_iter().map(|rollout| rollout.id).collect()
}

/// Returns the nodes that get a rollout if Slurm hands them over now. A claim counts as expired.
pub(crate) fn armed(store: &StoreReader, id: &str) -> String {
    let snapshot = store.snapshot().unwrap();
    let gets_it = |node: &&str| {
        snapshot.armed(node, u64::MAX).is_some_and(|of| of.rollout_id() == Some(id))
            && !matches!(snapshot.rollout(id).unwrap().records[*node].progress, Progress::Ordering { .. })
    };
    let nodes = snapshot.nodes();
    nodes.iter().filter(gets_it).map(str::to_owned).collect::<NodeSet>().to_string()
}

pub(crate) fn record_of(store: &StoreReader, id: &str, node: &str) -> NodeRecord {
    store.rollout(id).unwrap().state.records.remove(node).unwrap()
}

pub(crate) fn lines(store: &StoreReader, id: &str) -> usize {
    store.rollout(id).unwrap().lines.len()
}

pub(crate) fn handed(nodes: &str) -> Vec<HandedOver> {
    let handed = |node: &str| HandedOver {
        node: node.to_owned(),
        issued_ms: None,
        returns_by_itself: true,
        drained: None,
        plain: false,
        only_named_in: None,
    };
    set(nodes).iter().map(handed).collect()
}

pub(crate) fn claim(store: &StoreWriter, nodes: &str) -> Claims {
    store.claim(&handed(nodes), None, HOLD_MS).unwrap()
}

/// Returns rollout and nodes of each claim.
pub(crate) fn claimed(claims: &Claims) -> Vec<(Option<&str>, String)> {
    claims.claims.iter().map(|claim| (claim.rollout.as_deref(), claim.order.nodes.to_string())).collect()
}

pub(crate) fn ordering(nodes: &str, order: u128, until_ms: u64) -> Entry {
    Entry::Ordering { nodes: set(nodes), order: id(order), until_ms }
}

pub(crate) fn ordered(nodes: &str, order: u128) -> Entry {
    Entry::Ordered { nodes: set(nodes), order: id(order), volatile: false }
}

pub(crate) fn seen(nodes: &str, order: u128, phase: Phase) -> Entry {
    Entry::Seen { nodes: set(nodes), order: id(order), phase, error: None, notes: Vec::new() }
}

/// Records that nodes were ordered and came to an end.
pub(crate) fn settle(store: &StoreWriter, id: &str, nodes: &str, phase: Phase) {
    let order = 1_000_000;
    store.record(Some(id), vec![ordering(nodes, order, u64::MAX), seen(nodes, order, phase)]).unwrap();
}

/// Stages a rollout, settles and closes it. Returns its id.
pub(crate) fn closed(store: &StoreWriter, name: &str, nodes: &str) -> String {
    let id = staged(store, name, nodes);
    settle(store, &id, nodes, Phase::Updated);
    assert_eq!(store.close_settled(&NodeSet::default()).unwrap(), [id.as_str()]);
    id
}

/// Returns every file and directory with its content.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.insert(format!("{}/", path.display()), Vec::new());
            found.append(&mut files(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}
