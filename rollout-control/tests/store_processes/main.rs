//! The state directory of many threads and processes at once, and of processes that are killed. The processes are this
//! test's own program, with a role in their environment.
#![allow(
    clippy::disallowed_methods,
    reason = "starts itself; rollout_host::run is for programs of the system"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

mod started;

use rollout_control::store::{Claim, Staged, StoreError, StoreReader, StoreWriter, this_process};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::conduct;
use rollout_core::controller::hand_over::HandedOver;
use rollout_core::controller::lease::Verdict;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Booted, Entry, Line, lines};
use rollout_core::rollout::manifest::Manifest;
use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

const HOLD_MS: u64 = 3_600_000;

const PROCESSES: usize = 4;
const THREADS: usize = 4;
const ROUNDS: usize = 6;

/// Number of nodes of each of the two rollouts, and of nodes without a rollout.
const NODES: usize = 40;

/// A user who is not root.
const SLURM_USER: u32 = 12345;

fn stage(store: &StoreWriter, name: &str, nodes: &str) {
    let text = format!(
        "name = '{name}'\nnodes = '{nodes}'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n"
    );
    let staged = store.stage(&text, &Manifest::parse(&text).unwrap()).unwrap();
    assert_eq!(staged, Staged::New(name.to_owned()));
}

/// Returns this test's program in one of the roles of `helper`.
fn helper_at(program: &Path, role: &str, dir: &Path, number: usize) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", "helper", "--nocapture"]).env("STORE_ROLE", role).env("STORE_DIR", dir);
    command
        .env("STORE_NUMBER", number.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn start(role: &str, dir: &Path, number: usize) -> Child {
    helper_at(&env::current_exe().unwrap(), role, dir, number).spawn().unwrap()
}

/// Returns the lines that a helper reported, when it has ended. Any other output is a panic.
fn words(child: &mut Child) -> (Vec<String>, ExitStatus) {
    let (mut words, mut rest) = (Vec::new(), String::new());
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        match line.strip_prefix("@ ") {
            Some(word) => words.push(word.to_owned()),
            None => rest += &format!("{line}\n"),
        }
    }
    assert!(!rest.contains("panicked"), "{rest}");
    (words, child.wait().unwrap())
}

/// The main function of the other processes. Without the environment of `helper_at` it does nothing.
#[test]
fn helper() {
    let Ok(role) = env::var("STORE_ROLE") else { return };
    let dir = env::var("STORE_DIR").unwrap();
    let number: usize = env::var("STORE_NUMBER").unwrap().parse().unwrap();
    let dir = Path::new(&dir);
    if role == "read" {
        return read(&StoreReader::new(dir));
    }
    let store = StoreWriter::open(dir, &format!("helper {number}")).unwrap();
    match role.as_str() {
        "claim" => {
            wait_for_start(dir, number);
            for claim in claim_much(&store, number) {
                say(&claim);
            }
        }
        "claim-one" => {
            wait_for_start(dir, number);
            // An invocation of RebootProgram: it claims the node, and records the answer.
            let begin = Instant::now();
            let claims = store
                .claim(&handed(&[format!("n{number}")]), None, HOLD_MS)
                .unwrap_or_else(|error| panic!("after {} ms: {error}", begin.elapsed().as_millis()));
            for claim in claims.claims {
                let (nodes, order) = (claim.order.nodes.clone(), claim.order.id.clone());
                let entry = Entry::Ordered { nodes, order, volatile: false };
                store.record(claim.rollout.as_deref(), vec![entry]).unwrap();
                say(&claim);
            }
        }
        "restore" => {
            wait_for_start(dir, number);
            let orders = (1..=20).map(|node| (format!("n{node}"), OrderId::from_random(1))).collect();
            for node in store.claim_restoring("image", &orders, HOLD_MS, false).unwrap().iter() {
                eprintln!("@ {node}");
            }
        }
        "append" => {
            // Long lines: the longer, the more often a kill comes within one.
            for line in 0.. {
                let order = OrderId::from_random(line);
                let why = "x".repeat(300_000);
                store.record(Some("driver"), vec![Entry::Refused { nodes: nodes(), order, why }]).unwrap();
                eprintln!("@ {number} {line}");
            }
        }
        "lease" => {
            wait_for_start(dir, number);
            let me = this_process().unwrap();
            // Until the first one has had it for a while: a process that ends leaves it to another.
            while !dir.join("done").exists() {
                match store.take_lease(&me) {
                    Ok(Verdict::Take) => eprintln!("@ {}", me.pid),
                    Ok(Verdict::Held { .. }) | Err(StoreError::Locked { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
        "start" => {
            wait_for_start(dir, number);
            let decision = store.decide("driver", |snapshot| conduct::start(snapshot, "driver")).unwrap();
            eprintln!("@ {}", decision.entries.len());
        }
        "claim-all" => {
            for claim in claim_patiently(&store, &all_nodes()) {
                say(&claim);
            }
        }
        other => panic!("no role {other}"),
    }
}

fn nodes() -> NodeSet {
    NodeSet::parse("n1").unwrap()
}

/// Reports that this process is ready and waits until all of them are.
fn wait_for_start(dir: &Path, number: usize) {
    File::create(dir.join(format!("ready-{number}"))).unwrap();
    while !dir.join("go").exists() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Starts helpers that begin at the same time.
fn start_together(role: &str, dir: &Path, count: usize) -> Vec<Child> {
    let mut children: Vec<Child> = (0..count).map(|number| start(role, dir, number)).collect();
    while !(0..count).all(|number| dir.join(format!("ready-{number}")).exists()) {
        assert!(children.iter_mut().all(|child| child.try_wait().unwrap().is_none()), "a helper ended");
        thread::sleep(Duration::from_millis(1));
    }
    File::create(dir.join("go")).unwrap();
    children
}

/// Reads everything that a reader can.
fn read(store: &StoreReader) {
    let snapshot = store.snapshot().unwrap();
    assert!(snapshot.unreadable.is_empty(), "{snapshot:?}");
    for id in snapshot.rollouts.iter().map(|rollout| rollout.id.clone()) {
        store.rollout(&store.find(&id).unwrap()).unwrap();
        store.manifest_text(&id).unwrap();
        eprintln!("@ open {id}");
    }
    for (id, summary) in store.closed().unwrap() {
        let past = store.snapshot_with_past_of(&summary.nodes).unwrap();
        assert!(store.is_closed(&id) && past.rollout(&id).is_some());
        eprintln!("@ closed {id}");
    }
    let text = "name = 'new'\nnodes = 'x1'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n";
    assert_eq!(store.would_stage(&Manifest::parse(text).unwrap()).unwrap(), Staged::New("new".to_owned()));
    eprintln!("@ {} addresses, {} drains", store.addresses().nodes().len(), store.drains().len());
}

fn say(claim: &Claim) {
    for node in claim.order.nodes.iter() {
        eprintln!("@ {node} {} {}", claim.rollout.as_deref().unwrap_or("-"), claim.order.id);
    }
}

fn all_nodes() -> Vec<String> {
    (0..NODES).flat_map(|n| [format!("a{n}"), format!("b{n}"), format!("p{n}")]).collect()
}

fn handed(nodes: &[String]) -> Vec<HandedOver> {
    let handed = |node: &String| HandedOver {
        node: node.clone(),
        issued_ms: None,
        returns_by_itself: true,
        drained: None,
        plain: false,
        only_named_in: None,
    };
    nodes.iter().map(handed).collect()
}

fn claim_patiently(store: &StoreWriter, nodes: &[String]) -> Vec<Claim> {
    let nodes = handed(nodes);
    loop {
        match store.claim(&nodes, None, HOLD_MS) {
            Ok(claims) => return claims.claims,
            // This test writes without a pause, on a machine that is busy with other tests.
            Err(StoreError::Locked { .. }) => eprintln!("locked out, trying again"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Claims windows of nodes from several threads at once, and at last all of them. Windows of different threads and
/// processes overlap.
fn claim_much(store: &StoreWriter, number: usize) -> Vec<Claim> {
    let (all, barrier) = (Arc::new(all_nodes()), Arc::new(Barrier::new(THREADS)));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (store, all, barrier) = (store.clone(), Arc::clone(&all), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                let window = |round: usize| {
                    let from = (thread * 13 + round * 29 + number * 7) % all.len();
                    all.iter().cycle().skip(from).take(10).cloned().collect::<Vec<_>>()
                };
                let mut claims = Vec::new();
                for round in 0..ROUNDS {
                    claims.extend(claim_patiently(&store, &window(round)));
                    // Others come in between.
                    thread::sleep(Duration::from_millis(3));
                }
                claims.extend(claim_patiently(&store, &all));
                claims
            })
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn many_processes_and_threads_claim_each_node_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreWriter::open(dir.path(), "test").unwrap();
    let last = NODES - 1;
    stage(&store, "rollout-a", &format!("a[0-{last}]"));
    stage(&store, "rollout-b", &format!("b[0-{last}]"));
    let mut children = start_together("claim", dir.path(), PROCESSES);
    let mut by_node: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut winners = 0;
    for child in &mut children {
        let (words, status) = words(child);
        assert!(status.success(), "{status}");
        winners += usize::from(!words.is_empty());
        for word in words {
            let [node, rollout, order] =
                word.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
            by_node.entry(node).or_default().push((rollout, order));
        }
    }
    assert_eq!(by_node.len(), 3 * NODES, "every node was claimed");
    assert!(winners > 1, "they did not run at the same time");
    for (node, claims) in &by_node {
        let [(rollout, order)] = claims.as_slice() else {
            panic!("{node} was claimed more than once: {claims:?}")
        };
        let expected = match node.get(..1) {
            Some("a") => "rollout-a",
            Some("b") => "rollout-b",
            _ => "-",
        };
        assert_eq!(rollout, expected, "{node}");
        // The journals have each claim, once.
        let journal = match rollout.as_str() {
            "-" => dir.path().join("plain-reboots"),
            rollout => dir.path().join("rollouts").join(rollout).join("journal"),
        };
        let claimed: Vec<_> = lines(&fs::read_to_string(journal).unwrap())
            .filter_map(|line| match line.entry {
                Entry::Ordering { nodes, order, .. } if nodes.contains(node) => Some(order.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(claimed.as_slice(), std::slice::from_ref(order), "{node}");
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_reported_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreWriter::open(dir.path(), "test").unwrap();
    stage(&store, "driver", "n1");
    let mut written = Vec::new();
    for round in 0..8 {
        let mut child = start("append", dir.path(), round);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let mut said: Vec<String> = lines.by_ref().filter(|line| line.starts_with("@ ")).take(2).collect();
        // At another moment of its loop each time.
        thread::sleep(Duration::from_micros(700 * round as u64));
        child.kill().unwrap();
        said.extend(lines.filter(|line| line.starts_with("@ ")));
        assert_eq!(child.wait().unwrap().signal(), Some(9), "it was in its loop");
        assert!(said.len() >= 2);
        written.extend(said.into_iter().map(|line| line.trim_start_matches("@ ").to_owned()));

        // The lock went with the process, and the journal is read and continued.
        let order = OrderId::from_random(1_000_000 + round as u128);
        store
            .record(
                Some("driver"),
                vec![Entry::Ordered { nodes: nodes(), order: order.clone(), volatile: false }],
            )
            .unwrap();
        let read = store.rollout("driver").unwrap().lines;
        let last = read.last().unwrap();
        assert_eq!(last.entry, Entry::Ordered { nodes: nodes(), order, volatile: false });
    }
    let read = store.rollout("driver").unwrap().lines;
    let mut there = Vec::new();
    for line in &read {
        if let Entry::Refused { order, why, .. } = &line.entry {
            assert_eq!(why.len(), 300_000);
            there.push((line.by.clone(), order.clone()));
        }
    }
    for word in &written {
        let (number, line) = word.split_once(' ').unwrap();
        let key = (format!("helper {number}"), OrderId::from_random(line.parse().unwrap()));
        assert!(there.contains(&key), "{word} is lost");
    }
    // Each kill leaves at most one torn line.
    let text = fs::read_to_string(dir.path().join("rollouts/driver/journal")).unwrap();
    assert!(text.lines().filter(|line| !line.is_empty()).count() <= lines(&text).count() + 8);
}

#[test]
fn root_and_slurm_user_write_into_one_directory() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root, as ./check does");
    let dir = tempfile::tempdir().unwrap();
    // SlurmUser may have no access to the directory in which cargo builds.
    let programs = tempfile::tempdir().unwrap();
    fs::set_permissions(programs.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = programs.path().join("helper");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let state = dir.path().join("state");
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(&state).unwrap();
    chown(&state, Some(SLURM_USER), Some(SLURM_USER)).unwrap();

    let store = StoreWriter::open(&state, "root").unwrap();
    stage(&store, "rollout-a", "a[0-9]");
    store
        .record(
            None,
            vec![Entry::Ordered { nodes: nodes(), order: OrderId::from_random(1), volatile: false }],
        )
        .unwrap();
    let mut slurm =
        helper_at(&program, "claim-all", &state, 1).uid(SLURM_USER).gid(SLURM_USER).spawn().unwrap();
    let (claimed, status) = words(&mut slurm);
    assert!(status.success(), "{status}");
    assert_eq!(claimed.len(), 3 * NODES);
    assert!(claimed.iter().any(|word| word.starts_with("a9 rollout-a ")));
    // Each of them continues what the other one wrote.
    let order = OrderId::from_random(2);
    store.record(Some("rollout-a"), vec![Entry::Ordered { nodes: nodes(), order, volatile: false }]).unwrap();
    assert!(store.unstage("rollout-a", None).unwrap().is_empty(), "all of them are being ordered");
    for file in ["lock", "plain-reboots", "rollouts", "rollouts/rollout-a", "rollouts/rollout-a/journal"] {
        assert_eq!(fs::metadata(state.join(file)).unwrap().uid(), SLURM_USER, "{file}");
    }
}

#[test]
fn a_reader_needs_no_write_permission_and_writes_nothing() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root, as ./check does");
    let dir = tempfile::tempdir().unwrap();
    let programs = tempfile::tempdir().unwrap();
    fs::set_permissions(programs.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = programs.path().join("helper");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let state = dir.path().join("state");
    fs::create_dir(&state).unwrap();
    let store = StoreWriter::open(&state, "root").unwrap();
    stage(&store, "old", "o1");
    let order = OrderId::from_random(1);
    let seen =
        Entry::Seen { nodes: NodeSet::parse("o1").unwrap(), order, phase: Phase::Updated, error: None };
    let begin =
        Entry::Ordering { nodes: NodeSet::parse("o1").unwrap(), order: OrderId::from_random(1), until_ms: 0 };
    store.record(Some("old"), vec![begin, seen]).unwrap();
    store.close_settled(&NodeSet::default()).unwrap();
    stage(&store, "driver", "n1");
    let before = contents(&state);
    let mut reader = helper_at(&program, "read", &state, 1).uid(SLURM_USER).gid(SLURM_USER).spawn().unwrap();
    let (words, status) = words(&mut reader);
    assert!(status.success(), "{status}");
    assert_eq!(words, ["open driver", "closed old", "0 addresses, 0 drains"]);
    assert_eq!(contents(&state), before);
    let mut writer = helper_at(&program, "claim-one", &state, 1);
    let output = writer.uid(SLURM_USER).gid(SLURM_USER).output().unwrap();
    assert!(!output.status.success(), "it may not write there");
}

/// Returns each file with its content, and each directory with the time of its last change.
fn contents(dir: &Path) -> BTreeMap<String, (Vec<u8>, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::metadata(&path).unwrap();
        let content = fs::read(&path).unwrap_or_default();
        found.insert(path.display().to_string(), (content, meta.mtime(), meta.mtime_nsec()));
        if path.is_dir() {
            found.append(&mut contents(&path));
        }
    }
    found
}

#[test]
fn one_of_many_processes_restores_a_boot_source() {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreWriter::open(dir.path(), "test").unwrap();
    stage(&store, "image", "n[1-20]");
    let nodes = || NodeSet::parse("n[1-20]").unwrap();
    let order = || OrderId::from_random(1);
    let before = nodes().iter().map(|node| (node.to_owned(), Booted::default())).collect();
    let change = Entry::BootChange { nodes: nodes(), order: order(), before, until_ms: 0 };
    let ordering = Entry::Ordering { nodes: nodes(), order: order(), until_ms: 0 };
    store.record(Some("image"), vec![ordering, change]).unwrap();
    let mut claimed = Vec::new();
    for mut child in start_together("restore", dir.path(), 6) {
        let (words, status) = words(&mut child);
        assert!(status.success(), "{status}");
        claimed.push(words.len());
    }
    claimed.sort_unstable();
    assert_eq!(claimed, [0, 0, 0, 0, 0, 20]);
}

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
    let is_ordered = |number: usize| {
        records[&format!("n{number}")].progress == rollout_core::rollout::journal::Progress::Ordered
    };
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
        entries.push(Entry::Seen { nodes, order, phase: Phase::Updated, error: None });
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
