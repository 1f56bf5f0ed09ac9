//! The state directory of one process: staging, unstaging, claiming, damage and full disks.
#![allow(clippy::disallowed_methods, reason = "files are damaged on purpose here, and disks filled")]
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use nix::fcntl::{Flock, FlockArg};
use rollout_control::store::{ChangedDrain, Claims, StageError, Staged, Store, StoreError};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::hand_over::{HandedOver, Skipped};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::{OrderId, OrderKind};
use rollout_core::rollout::journal::{Booted, Entry, Line, Progress};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::node::NodeInfo;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::Path;
use std::thread;
use tempfile::TempDir;

const HOLD_MS: u64 = 3_600_000;

fn text(name: &str, nodes: &str) -> String {
    format!(
        "name = '{name}'\nnodes = '{nodes}'\n[[change]]\nkind = 'symlink'\npath = '/opt/{name}'\ntarget = '/opt/new'\n"
    )
}

fn stage(store: &Store, name: &str, nodes: &str) -> Result<Staged, StageError> {
    let text = text(name, nodes);
    store.stage(&text, &Manifest::parse(&text).unwrap(), false)
}

fn staged(store: &Store, name: &str, nodes: &str) -> String {
    match stage(store, name, nodes).unwrap() {
        Staged::New(id) => id,
        Staged::Already(id) => panic!("{id} was there"),
    }
}

fn set(nodes: &str) -> NodeSet {
    NodeSet::parse(nodes).unwrap()
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), "test root@here").unwrap();
    (dir, store)
}

fn handed(nodes: &str) -> Vec<HandedOver> {
    let one = |node: &str| HandedOver {
        node: node.to_owned(),
        issued_ms: None,
        returns_by_itself: true,
        drained: None,
        plain: false,
    };
    set(nodes).iter().map(one).collect()
}

fn armed(store: &Store, id: &str) -> String {
    let nodes = store.load(id).unwrap().nodes();
    nodes
        .iter()
        .filter(|(_, node)| node.progress.is_armed(0))
        .map(|(name, _)| name.clone())
        .collect::<NodeSet>()
        .to_string()
}

/// Every file and directory with its content.
fn snapshot(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.insert(format!("{}/", path.display()), Vec::new());
            found.append(&mut snapshot(&path));
        } else {
            found.insert(path.display().to_string(), fs::read(&path).unwrap());
        }
    }
    found
}

fn entry(number: u128) -> Entry {
    Entry::Ordered { nodes: set("n1"), order: OrderId::from_random(number), volatile: false }
}

fn needs_root() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root, as ./check does");
}

#[test]
fn a_new_rollout_is_stored_as_it_was_written() {
    let (dir, store) = store();
    assert_eq!(staged(&store, "driver", "n[1-3]"), "driver");
    let rollout = store.load("driver").unwrap();
    assert_eq!(rollout.manifest, Manifest::parse(&text("driver", "n[1-3]")).unwrap());
    assert_eq!(store.manifest_text("driver").unwrap(), text("driver", "n[1-3]"));
    assert_eq!(rollout.lines.len(), 1);
    assert_eq!(rollout.lines[0].by, "test root@here");
    assert_eq!(armed(&store, "driver"), "n[1-3]");
    for file in ["rollouts/driver/manifest.toml", "rollouts/driver/journal"] {
        assert_eq!(fs::metadata(dir.path().join(file)).unwrap().mode() & 0o777, 0o644, "{file}");
    }
    let readers = Store::read_only(dir.path());
    assert_eq!(readers.ids().unwrap(), ["driver"]);
    assert_eq!(readers.load_all().unwrap().len(), 1);
}

#[test]
fn staging_the_same_twice_is_done_once() {
    let (dir, store) = store();
    staged(&store, "driver", "n[1-3]");
    let before = snapshot(dir.path());
    assert_eq!(stage(&store, "driver", "n[1-3]").unwrap(), Staged::Already("driver".to_owned()));
    // What it says counts, not how it is written.
    let other_text = format!("# a comment\n{}", text("driver", "n3,n2,n1"));
    let manifest = Manifest::parse(&other_text).unwrap();
    assert_eq!(store.stage(&other_text, &manifest, false).unwrap(), Staged::Already("driver".to_owned()));
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn a_node_has_one_thing_staged_at_a_time() {
    let (dir, store) = store();
    staged(&store, "driver", "n[1-3]");
    staged(&store, "kernel", "m[1-3]");
    let before = snapshot(dir.path());
    for (name, nodes, taken, by) in [
        ("other", "n[3-5]", "n3", "driver"),
        ("other", "n[1-3]", "n[1-3]", "driver"),
        ("driver", "n[1-4]", "n[1-3]", "driver"),
        ("driver", "n[1-2]", "n[1-2]", "driver"),
        ("other", "m2", "m2", "kernel"),
    ] {
        let error = stage(&store, name, nodes).unwrap_err();
        let message = format!("{taken}: already staged for {by}; first `slurm-rollout unstage {by} {taken}`");
        assert_eq!(error.to_string(), message);
    }
    assert_eq!(snapshot(dir.path()), before, "nothing was written");
}

#[test]
fn a_dry_run_gives_the_same_answers_and_writes_nothing() {
    let (dir, store) = store();
    staged(&store, "driver", "n[1-3]");
    fs::remove_file(dir.path().join("lock")).unwrap();
    let before = snapshot(dir.path());
    let dry = |name: &str, nodes: &str| {
        let text = text(name, nodes);
        store.stage(&text, &Manifest::parse(&text).unwrap(), true)
    };
    assert_eq!(dry("kernel", "m1").unwrap(), Staged::New("kernel".to_owned()));
    assert_eq!(dry("driver", "m1").unwrap(), Staged::New("driver@2".to_owned()));
    assert_eq!(dry("driver", "n[1-3]").unwrap(), Staged::Already("driver".to_owned()));
    assert!(matches!(dry("kernel", "n1"), Err(StageError::Taken { .. })));
    assert_eq!(snapshot(dir.path()), before, "not even a lock");
    // Nor does it need a state directory at all.
    let nowhere = Store::read_only(&dir.path().join("nowhere"));
    let text = text("driver", "n1");
    assert_eq!(
        nowhere.stage(&text, &Manifest::parse(&text).unwrap(), true).unwrap(),
        Staged::New("driver".to_owned())
    );
    assert_eq!(snapshot(dir.path()), before);
}

#[test]
fn a_name_that_was_used_before_gets_a_number() {
    let (_dir, store) = store();
    assert_eq!(staged(&store, "driver", "n1"), "driver");
    assert_eq!(staged(&store, "driver-x", "x1"), "driver-x");
    assert_eq!(store.unstage("driver", None).unwrap(), set("n1"));
    assert_eq!(staged(&store, "driver", "n1"), "driver@2");
    assert_eq!(staged(&store, "driver", "n2"), "driver@3");
    assert_eq!(store.ids().unwrap(), ["driver", "driver-x", "driver@2", "driver@3"]);
    for (name, id) in
        [("driver", "driver@3"), ("driver@2", "driver@2"), ("driver@3", "driver@3"), ("driver-x", "driver-x")]
    {
        assert_eq!(store.find(name).unwrap(), id);
    }
    for unknown in ["drive", "driver@4", "", "@2", "../rollouts/driver", "."] {
        let error = store.find(unknown).unwrap_err();
        assert!(matches!(&error, StoreError::NoSuchRollout(name) if name == unknown), "{error}");
    }
}

#[test]
fn unstaging_calls_off_what_is_still_to_come() {
    let (_dir, store) = store();
    let id = staged(&store, "driver", "n[1-4]");
    let order = OrderId::from_random(1);
    store.record(Some(&id), vec![Entry::Ordered { nodes: set("n1"), order, volatile: false }]).unwrap();
    store
        .record(
            Some(&id),
            vec![Entry::Ordering { nodes: set("n1"), order: OrderId::from_random(2), until_ms: u64::MAX }],
        )
        .unwrap();
    assert_eq!(store.unstage(&id, Some(&set("n[1-2],m1"))).unwrap(), set("n2"));
    assert_eq!(armed(&store, &id), "n[3-4]");
    let lines = store.load(&id).unwrap().lines.len();
    assert!(store.unstage(&id, Some(&set("n2"))).unwrap().is_empty());
    assert_eq!(store.load(&id).unwrap().lines.len(), lines, "nothing to write down");
    assert_eq!(store.unstage(&id, None).unwrap(), set("n[3-4]"));
    assert_eq!(store.load(&id).unwrap().nodes().keys().collect::<Vec<_>>(), ["n1"]);
    assert_eq!(staged(&store, "other", "n[2-4]"), "other", "they are free again");
    for unknown in ["no-such", "driver@2"] {
        assert!(matches!(store.unstage(unknown, None), Err(StoreError::NoSuchRollout(_))), "{unknown}");
        assert!(
            matches!(store.stage_again(unknown, &set("n1")), Err(StoreError::NoSuchRollout(_))),
            "{unknown}"
        );
    }
}

#[test]
fn nodes_that_went_back_are_staged_again_unless_they_have_something_else() {
    let (_dir, store) = store();
    let id = staged(&store, "driver", "n[1-3]");
    let order = OrderId::from_random(1);
    let nodes = set("n[1-3]");
    let entries = vec![
        Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: u64::MAX },
        Entry::Seen { nodes: nodes.clone(), order, phase: Phase::RolledBack, error: Some("nhc".to_owned()) },
    ];
    store.record(Some(&id), entries).unwrap();
    assert_eq!(armed(&store, &id), "");
    staged(&store, "kernel", "n3");
    assert_eq!(store.stage_again(&id, &nodes).unwrap(), set("n[1-2]"));
    assert_eq!(armed(&store, &id), "n[1-2]");
    assert!(store.stage_again(&id, &nodes).unwrap().is_empty(), "they are staged by now");
}

#[test]
fn claims_give_each_node_what_is_staged_for_it_once() {
    let (_dir, store) = store();
    let (driver, kernel) = (staged(&store, "driver", "n[1-3]"), staged(&store, "kernel", "m[1-2]"));
    let Claims { claims, skipped, .. } = store.claim(&handed("n[1-2],m1,plain1"), None, HOLD_MS).unwrap();
    assert!(skipped.is_empty());
    let got: Vec<_> = claims.iter().map(|c| (c.rollout.as_deref(), c.order.nodes.to_string())).collect();
    assert_eq!(
        got,
        [
            (None, "plain1".to_owned()),
            (Some("driver"), "n[1-2]".to_owned()),
            (Some("kernel"), "m1".to_owned())
        ]
    );
    assert!(matches!(claims[0].order.kind, OrderKind::Reboot(_)));
    let OrderKind::Apply(apply) = &claims[1].order.kind else { panic!("{:?}", claims[1]) };
    assert_eq!((&apply.rollout, &apply.desired), (&driver, &store.load(&driver).unwrap().manifest.desired));
    // In the journals, before anything is sent.
    let node = store.load(&driver).unwrap().nodes().remove("n1").unwrap();
    assert!(
        matches!(node.progress, Progress::Ordering { .. })
            && node.order.as_ref() == Some(&claims[1].order.id)
    );
    assert_eq!(store.plain_reboots().unwrap().len(), 1);

    let Claims { claims: again, skipped, .. } =
        store.claim(&handed("n[1-3],m1,plain1"), None, HOLD_MS).unwrap();
    assert_eq!(again.iter().map(|c| c.order.nodes.to_string()).collect::<Vec<_>>(), ["n3"]);
    assert_eq!(skipped[&Skipped::BeingOrdered], ["m1", "n1", "n2", "plain1"]);

    // A refusal gives it back, an expired claim too; a node that was ordered only reboots.
    let ids: Vec<_> = claims.iter().map(|claim| claim.order.id.clone()).collect();
    store
        .record(
            Some(&driver),
            vec![
                Entry::Refused { nodes: set("n1"), order: ids[1].clone(), why: "busy".to_owned() },
                Entry::Ordered { nodes: set("n2"), order: ids[1].clone(), volatile: false },
            ],
        )
        .unwrap();
    let again = store.claim(&handed("n[1-2]"), None, 0).unwrap().claims;
    let got: Vec<_> = again.iter().map(|c| (c.rollout.as_deref(), c.order.nodes.to_string())).collect();
    assert_eq!(got, [(None, "n2".to_owned()), (Some("driver"), "n1".to_owned())]);
    let again = store.claim(&handed("n1"), None, HOLD_MS).unwrap().claims;
    assert_eq!(again[0].rollout.as_deref(), Some("driver"), "the claim before it held for no time");
    assert_eq!(store.load(&kernel).unwrap().lines.len(), 2);
}

/// Where slurmd runs RebootProgram, an order that reconcile sends is the one that the agent has: it is carried out once.
#[test]
fn a_claim_is_the_order_that_was_given_beforehand() {
    let (_dir, store) = store();
    let driver = staged(&store, "driver", "n[1-2]");
    let waiting = |nodes: &str| vec![(driver.clone(), set(nodes))];
    assert_eq!(store.undelivered().unwrap(), waiting("n[1-2]"));
    let given = OrderId::from_random(7);
    let delivered = Entry::Delivered { nodes: set("n1"), order: given.clone(), drained: None };
    store.record(Some(&driver), vec![delivered]).unwrap();
    assert_eq!(store.undelivered().unwrap(), waiting("n2"));
    let claims = store.claim(&handed("n[1-2]"), None, 0).unwrap().claims;
    let of = |node: &str| claims.iter().find(|claim| claim.order.nodes == set(node)).unwrap();
    assert_eq!(of("n1").order.id, given);
    assert_ne!(of("n2").order.id, given);
    // Neither answered: one of them has it, the other one is still to be given it.
    let silent = |node: &str| {
        let order = of(node).order.id.clone();
        Entry::Unreachable { nodes: set(node), order, why: "silence".to_owned() }
    };
    store.record(Some(&driver), vec![silent("n1"), silent("n2")]).unwrap();
    assert_eq!(store.undelivered().unwrap(), waiting("n2"));
    assert_eq!(store.delivered(&driver, None).unwrap(), set("n1"));
}

/// A drain that was set, or taken away, after the agents were given it is to be told to them.
#[test]
fn drains_that_agents_do_not_know_of() {
    let (_dir, store) = store();
    let driver = staged(&store, "driver", "n[1-3]");
    let drained = |node: &str, state: &str, reason: &str| NodeInfo {
        name: node.to_owned(),
        state: state.split('+').map(str::to_owned).collect(),
        reason: Some(reason.to_owned()),
        ..NodeInfo::default()
    };
    let learn = |node: &str, state, reason| store.learn_drains(&[drained(node, state, reason)]).unwrap();
    let given = OrderId::from_random(7);
    let deliver = |nodes: &str, reason: Option<&str>| {
        let (order, drained) = (given.clone(), reason.map(str::to_owned));
        let entry = Entry::Delivered { nodes: set(nodes), order, drained };
        store.record(Some(&driver), vec![entry]).unwrap();
    };
    learn("n3", "IDLE+DRAIN", "not given yet");
    deliver("n[1-2]", None);
    assert_eq!(store.changed_drains().unwrap(), []);
    let changed = |reason: Option<&str>, nodes| {
        let (rollout, order, reason) = (driver.clone(), given.clone(), reason.map(str::to_owned));
        vec![ChangedDrain { rollout, order, reason, nodes: set(nodes) }]
    };
    for node in ["n1", "n2"] {
        learn(node, "IDLE+DRAIN", "bad disk");
    }
    assert_eq!(store.changed_drains().unwrap(), changed(Some("bad disk"), "n[1-2]"));
    deliver("n1", Some("bad disk"));
    assert_eq!(store.changed_drains().unwrap(), changed(Some("bad disk"), "n2"));
    learn("n1", "IDLE", "");
    learn("n2", "IDLE", "");
    assert_eq!(store.changed_drains().unwrap(), changed(None, "n1"));
    // What is being done needs it no more.
    let ordered = Entry::Ordered { nodes: set("n1"), order: given.clone(), volatile: false };
    store.record(Some(&driver), vec![ordered]).unwrap();
    assert_eq!(store.changed_drains().unwrap(), []);
}

#[test]
fn a_manifest_that_is_damaged_holds_up_only_its_own_nodes() {
    let (dir, store) = store();
    staged(&store, "driver", "n1");
    staged(&store, "kernel", "m1");
    fs::write(dir.path().join("rollouts/kernel/manifest.toml"), "name = 'kernel'\nrm = '-rf'\n").unwrap();
    let Claims { claims, broken, .. } = store.claim(&handed("n1,m1,plain1"), None, HOLD_MS).unwrap();
    let got: Vec<_> = claims.iter().map(|claim| claim.order.nodes.to_string()).collect();
    assert_eq!(got, ["plain1", "n1"]);
    let [(nodes, error)] = broken.as_slice() else { panic!("{broken:?}") };
    assert_eq!(nodes.to_string(), "m1");
    assert!(matches!(error, StoreError::Manifest { .. }), "{error}");
    assert!(error.to_string().contains("rollouts/kernel/manifest.toml"), "{error}");
    assert_eq!(store.load("kernel").unwrap_err().to_string(), error.to_string());
}

#[test]
fn addresses_are_learnt_and_kept() {
    let (dir, store) = store();
    let info = |name: &str, address: &str| NodeInfo {
        name: name.into(),
        address: address.into(),
        ..NodeInfo::default()
    };
    assert!(store.addresses().is_empty());
    store.learn_addresses(&[info("n1", "10.0.0.1"), info("n2", "n2")]).unwrap();
    store.learn_addresses(&[info("n2", "10.0.0.2")]).unwrap();
    let known = [("n1".to_owned(), "10.0.0.1".to_owned()), ("n2".to_owned(), "10.0.0.2".to_owned())];
    assert_eq!(store.addresses(), known.clone().into());
    let before = snapshot(dir.path());
    store.learn_addresses(&[info("n1", "10.0.0.1")]).unwrap();
    store.learn_addresses(&[]).unwrap();
    assert_eq!(snapshot(dir.path()), before);
    fs::write(dir.path().join("addresses.json"), "{torn").unwrap();
    assert!(store.addresses().is_empty(), "it only saves asking");
    store.learn_addresses(&[info("n1", "10.0.0.9")]).unwrap();
    assert_eq!(store.addresses().of("n1"), "10.0.0.9");
}

#[test]
fn what_a_crash_left_half_staged_is_not_there() {
    let (dir, store) = store();
    let half = dir.path().join("rollouts/.driver");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("manifest.toml"), "name = 'dri").unwrap();
    assert!(store.ids().unwrap().is_empty());
    assert!(store.load_all().unwrap().is_empty());
    assert_eq!(staged(&store, "driver", "n1"), "driver");
    assert!(!half.exists());
}

#[test]
fn errors_name_the_file_in_one_line() {
    let (dir, store) = store();
    let one_line = |error: &StoreError, named: &str| {
        let text = error.to_string();
        assert!(text.contains(named) && !text.contains('\n'), "{text}");
    };
    staged(&store, "driver", "n1");
    one_line(&store.load("no-such").unwrap_err(), "no-such");
    one_line(&store.record(Some("no-such"), vec![entry(1)]).unwrap_err(), "no-such/journal");
    assert!(!dir.path().join("rollouts/no-such").exists());
    store.record(Some("no-such"), Vec::new()).unwrap();
    fs::remove_file(dir.path().join("rollouts/driver/journal")).unwrap();
    fs::create_dir(dir.path().join("rollouts/driver/journal")).unwrap();
    one_line(&store.ids().unwrap_err(), "rollouts/driver/journal");
    one_line(&store.claim(&handed("n1"), None, HOLD_MS).unwrap_err(), "rollouts/driver/journal");
    let file = dir.path().join("a-file");
    File::create(&file).unwrap();
    one_line(&Store::open(&file, "test").unwrap_err(), "a-file/rollouts");
    one_line(&Store::open(&dir.path().join("no/such"), "test").unwrap_err(), "no/such");
    assert!(Store::read_only(&dir.path().join("nowhere")).ids().unwrap().is_empty());
}

#[test]
fn a_lock_that_is_held_too_long_is_an_error_and_holds_up_no_reader() {
    let (dir, store) = store();
    staged(&store, "driver", "n1");
    let file = OpenOptions::new().write(true).open(dir.path().join("lock")).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    assert_eq!(store.load_all().unwrap().len(), 1);
    let error = store.claim(&handed("n1"), None, HOLD_MS).unwrap_err();
    assert!(
        matches!(error, StoreError::Locked { .. }) && error.to_string().contains("lock: locked"),
        "{error}"
    );
    drop(lock);
    assert_eq!(store.claim(&handed("n1"), None, HOLD_MS).unwrap().claims.len(), 1);
}

/// A power cut may leave any part of the last line.
#[test]
fn a_journal_torn_at_any_byte_is_read_and_gone_on_with() {
    let (dir, store) = store();
    let id = staged(&store, "driver", "n[1-3]");
    let why = "two\nlines, \"quoted\" — ü".to_owned();
    store
        .record(Some(&id), vec![Entry::Refused { nodes: set("n1"), order: OrderId::from_random(1), why }])
        .unwrap();
    let journal = dir.path().join("rollouts/driver/journal");
    let whole = fs::read(&journal).unwrap();
    let lines = store.load(&id).unwrap().lines;
    let begin = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in begin..=whole.len() {
        fs::write(&journal, &whole[..cut]).unwrap();
        // Only its newline may be missing.
        let kept: &[Line] = if cut + 1 >= whole.len() { &lines } else { &lines[..1] };
        assert_eq!(store.load(&id).unwrap().lines, kept, "cut at {cut}");
        store.record(Some(&id), vec![entry(2), entry(3)]).unwrap();
        let after = store.load(&id).unwrap().lines;
        assert_eq!(after.len(), kept.len() + 2, "cut at {cut}");
        assert_eq!(&after[..kept.len()], kept);
        assert_eq!(
            after[kept.len()..].iter().map(|line| &line.entry).collect::<Vec<_>>(),
            [&entry(2), &entry(3)]
        );
    }
    // A file system may also give back zeros for what it had not written.
    fs::write(&journal, [&whole[..begin], &[0; 100]].concat()).unwrap();
    store.record(Some(&id), vec![entry(2)]).unwrap();
    assert_eq!(store.load(&id).unwrap().lines.len(), 2);
}

#[test]
fn a_long_journal_of_plain_reboots_is_put_aside() {
    let (dir, store) = store();
    let line =
        serde_json::to_string(&Line { t_ms: 1, by: "test".to_owned(), entry: entry(1) }).unwrap() + "\n";
    fs::write(dir.path().join("plain-reboots"), line.repeat(4 * 1024 * 1024 / line.len() + 1)).unwrap();
    store.claim(&handed("plain1"), None, HOLD_MS).unwrap();
    assert_eq!(store.plain_reboots().unwrap().len(), 1);
    assert!(fs::metadata(dir.path().join("plain-reboots.1")).unwrap().len() > 4_000_000);
}

fn owners(dir: &Path) -> Vec<(String, u32, u32)> {
    snapshot(dir)
        .into_keys()
        .map(|path| {
            let meta = fs::symlink_metadata(&path).unwrap();
            (path, meta.uid(), meta.gid())
        })
        .collect()
}

#[test]
fn what_root_writes_belongs_to_the_owner_of_the_directory() {
    needs_root();
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(12345), Some(23456)).unwrap();
    let store = Store::open(dir.path(), "root").unwrap();
    let id = staged(&store, "driver", "n[1-3]");
    store.claim(&handed("n1,plain1"), None, HOLD_MS).unwrap();
    store.unstage(&id, None).unwrap();
    let info = NodeInfo { name: "n1".to_owned(), address: "10.0.0.1".to_owned(), ..NodeInfo::default() };
    store.learn_addresses(&[info]).unwrap();
    let all = owners(dir.path());
    assert_eq!(all.len(), 7, "{all:?}");
    for (path, uid, gid) in all {
        assert_eq!((uid, gid), (12345, 23456), "{path}");
    }
}

/// The directory's owner may put links there; root must not be led by them to a file of its own.
#[test]
fn links_in_the_directory_are_not_followed() {
    needs_root();
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let victim = elsewhere.path().join("shadow");
    fs::write(&victim, "secret").unwrap();
    let store = Store::open(dir.path(), "root").unwrap();
    chown(dir.path(), Some(12345), Some(12345)).unwrap();
    for name in ["lock", "plain-reboots", "addresses.json"] {
        symlink(&victim, dir.path().join(name)).unwrap();
    }
    let error = store.record(None, vec![entry(1)]).unwrap_err().to_string();
    assert!(error.contains("lock: cannot be opened"), "{error}");
    fs::remove_file(dir.path().join("lock")).unwrap();
    let error = store.record(None, vec![entry(1)]).unwrap_err().to_string();
    assert!(error.contains("plain-reboots: cannot be written"), "{error}");
    let info = NodeInfo { name: "n1".to_owned(), address: "10.0.0.1".to_owned(), ..NodeInfo::default() };
    store.learn_addresses(&[info]).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "secret");
    assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
    assert!(!fs::symlink_metadata(dir.path().join("addresses.json")).unwrap().is_symlink());
}

/// Runs with a tiny file system, in a mount namespace of its own thread: whatever happens, nothing stays mounted.
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

/// Fills the disk but for so many pages.
fn fill(dir: &Path, but: u64) {
    let path = dir.join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(but * 4096) / 4096 * 4096).unwrap();
}

#[test]
fn on_a_full_disk_nothing_is_half_staged() {
    with_tiny_disk(|dir| {
        let store = Store::open(dir, "test").unwrap();
        let old = staged(&store, "old", "old[1-3]");
        let long = text("driver", "n[1-3]") + &"# filler\n".repeat(2000);
        let manifest = Manifest::parse(&long).unwrap();
        let (mut failed, mut fitted) = (0, 0);
        for room in 0..12 {
            fill(dir, room);
            let before: Vec<_> = snapshot(&dir.join("rollouts")).into_keys().collect();
            match store.stage(&long, &manifest, false) {
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
                    assert_eq!(store.ids().unwrap(), [old.as_str()], "{room} pages of room");
                    assert_eq!(
                        snapshot(&dir.join("rollouts")).into_keys().collect::<Vec<_>>(),
                        before,
                        "nothing is left"
                    );
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
        let store = Store::open(dir, "test").unwrap();
        let id = staged(&store, "driver", "n[1-3]");
        store.record(None, vec![entry(1)]).unwrap();
        let why = "x".repeat(2000);
        let many = || {
            (0..10).map(|number| Entry::Refused {
                nodes: set("n1"),
                order: OrderId::from_random(number),
                why: why.clone(),
            })
        };
        for room in 0..4 {
            fill(dir, room);
            let before =
                (store.load(&id).unwrap().lines, fs::read(dir.join("rollouts/driver/journal")).unwrap());
            let error = store.record(Some(&id), many().collect()).unwrap_err().to_string();
            assert!(error.contains("journal: cannot be written: No space left on device"), "{error}");
            let after =
                (store.load(&id).unwrap().lines, fs::read(dir.join("rollouts/driver/journal")).unwrap());
            assert!(after == before, "{room} pages of room");
            // And no node is claimed of which that could not be written down.
            if room == 0 {
                let long = format!("plain[1-{}]", 4000);
                let all =
                    store.claim(&handed(&long).into_iter().step_by(2).collect::<Vec<_>>(), None, HOLD_MS);
                assert!(all.is_err(), "{all:?}");
                assert_eq!(store.plain_reboots().unwrap().len(), 1);
            }
            fs::remove_file(dir.join("filler")).unwrap();
        }
        store.record(Some(&id), many().collect()).unwrap();
        assert_eq!(store.load(&id).unwrap().lines.len(), 11);
    });
}

#[test]
fn what_nodes_booted_from_is_kept_for_slurm_user_alone_until_it_is_put_back() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, store) = store();
    let id = staged(&store, "image", "n[1-2]");
    let order = |number| OrderId::from_random(number);
    let give = |number, source: &str| {
        let saved = ["n1", "n2"].map(|node| (node.to_owned(), source.into())).into();
        store.save_boot_sources(&id, saved).unwrap();
        let ordering = Entry::Ordering { nodes: set("n[1-2]"), order: order(number), until_ms: 0 };
        let before = ["n1", "n2"].map(|node| (node.to_owned(), Booted::default())).into();
        let given = Entry::BootSource { nodes: set("n[1-2]"), order: order(number), before };
        store.record(Some(&id), vec![ordering, given]).unwrap();
    };
    let kept = |node: &str| store.boot_sources(&id).unwrap()[node].clone();
    assert!(store.boot_sources(&id).unwrap().is_empty());
    give(1, "old");
    let back = Entry::PutBack { nodes: set("n2"), order: order(1), why: "nhc".into() };
    store.record(Some(&id), vec![back]).unwrap();
    give(2, "newer");
    assert_eq!(
        (kept("n1"), kept("n2")),
        ("old".into(), "newer".into()),
        "n1 still booted ours the second time"
    );
    let path = dir.path().join("rollouts/image/boot-sources.json");
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(store.unstage(&id, None).unwrap().is_empty(), "nobody would put it back");
    let watched: Vec<_> = store.watched().unwrap().into_iter().map(|watched| watched.node).collect();
    assert_eq!(watched, ["n1", "n2"]);
    let back = Entry::PutBack { nodes: set("n1"), order: order(2), why: "the order was not taken".into() };
    store.record(Some(&id), vec![back]).unwrap();
    assert_eq!(store.unstage(&id, None).unwrap(), set("n1"));
}
