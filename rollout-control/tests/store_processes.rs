//! The state directory of many threads and processes at once, and of processes that are killed. The processes are this
//! test's own program, told by its environment what to do.
#![allow(
    clippy::disallowed_methods,
    reason = "starts itself; rollout_host::run is for programs of the system"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use rollout_control::store::{Claim, Staged, Store, StoreError};
use rollout_core::controller::hand_over::HandedOver;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, lines};
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
use std::time::Duration;

const HOLD_MS: u64 = 3_600_000;

const PROCESSES: usize = 4;
const THREADS: usize = 4;
const ROUNDS: usize = 6;

/// Nodes of each of the two rollouts, and of none.
const NODES: usize = 40;

/// Somebody who is not root.
const SLURM_USER: u32 = 12345;

fn stage(store: &Store, name: &str, nodes: &str) {
    let text = format!(
        "name = '{name}'\nnodes = '{nodes}'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n"
    );
    let staged = store.stage(&text, &Manifest::parse(&text).unwrap(), false).unwrap();
    assert_eq!(staged, Staged::New(name.to_owned()));
}

/// This test's program in one of the roles of `helper`.
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

/// What it said, one word a line, to its end. What else stands there is a panic.
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

/// What the other processes are. Not a test: without the environment of `helper_at` it does nothing.
#[test]
fn helper() {
    let Ok(role) = env::var("STORE_ROLE") else { return };
    let dir = env::var("STORE_DIR").unwrap();
    let number: usize = env::var("STORE_NUMBER").unwrap().parse().unwrap();
    let store = Store::open(Path::new(&dir), &format!("helper {number}")).unwrap();
    match role.as_str() {
        "claim" => {
            File::create(Path::new(&dir).join(format!("ready-{number}"))).unwrap();
            while !Path::new(&dir).join("go").exists() {
                thread::sleep(Duration::from_millis(1));
            }
            for claim in claim_much(&store, number) {
                say(&claim);
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
        "claim-all" => {
            for claim in claim(&store, &all_nodes()) {
                say(&claim);
            }
        }
        other => panic!("no role {other}"),
    }
}

fn nodes() -> NodeSet {
    NodeSet::parse("n1").unwrap()
}

fn say(claim: &Claim) {
    for node in claim.order.nodes.iter() {
        eprintln!("@ {node} {} {}", claim.rollout.as_deref().unwrap_or("-"), claim.order.id);
    }
}

fn all_nodes() -> Vec<String> {
    (0..NODES).flat_map(|n| [format!("a{n}"), format!("b{n}"), format!("p{n}")]).collect()
}

fn claim(store: &Store, nodes: &[String]) -> Vec<Claim> {
    let handed = |node: &String| HandedOver {
        node: node.clone(),
        issued_ms: None,
        returns_by_itself: true,
        drained: None,
        plain: false,
    };
    let nodes: Vec<_> = nodes.iter().map(handed).collect();
    loop {
        match store.claim(&nodes, None, HOLD_MS) {
            Ok(claims) => return claims.claims,
            // On a machine that is busy with other tests, somebody may be unlucky for that long.
            Err(StoreError::Locked { .. }) => eprintln!("locked out, trying again"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Claims windows of nodes from several threads at once, and at last all of them. Windows of different threads and
/// processes overlap.
fn claim_much(store: &Store, number: usize) -> Vec<Claim> {
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
                    claims.extend(claim(&store, &window(round)));
                    // Others come in between.
                    thread::sleep(Duration::from_millis(3));
                }
                claims.extend(claim(&store, &all));
                claims
            })
        })
        .collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn many_processes_and_threads_claim_each_node_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), "test").unwrap();
    let last = NODES - 1;
    stage(&store, "rollout-a", &format!("a[0-{last}]"));
    stage(&store, "rollout-b", &format!("b[0-{last}]"));
    let mut children: Vec<Child> = (0..PROCESSES).map(|number| start("claim", dir.path(), number)).collect();
    while !(0..PROCESSES).all(|number| dir.path().join(format!("ready-{number}")).exists()) {
        assert!(children.iter_mut().all(|child| child.try_wait().unwrap().is_none()), "a helper ended");
        thread::sleep(Duration::from_millis(1));
    }
    File::create(dir.path().join("go")).unwrap();
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
        // And the journals say so, once.
        let journal =
            if rollout == "-" { store.plain_reboots().unwrap() } else { store.load(rollout).unwrap().lines };
        let claimed: Vec<_> = journal
            .iter()
            .filter_map(|line| match &line.entry {
                Entry::Ordering { nodes, order, .. } if nodes.contains(node) => Some(order.to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(claimed.as_slice(), std::slice::from_ref(order), "{node}");
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_said_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), "test").unwrap();
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

        // The lock went with the process, the journal is read, and gone on with.
        let order = OrderId::from_random(1_000_000 + round as u128);
        store
            .record(
                Some("driver"),
                vec![Entry::Ordered { nodes: nodes(), order: order.clone(), volatile: false }],
            )
            .unwrap();
        let read = store.load("driver").unwrap().lines;
        let last = read.last().unwrap();
        assert_eq!(last.entry, Entry::Ordered { nodes: nodes(), order, volatile: false });
    }
    let read = store.load("driver").unwrap().lines;
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
    // Each kill leaves at most one line that nobody counts.
    let text = fs::read_to_string(dir.path().join("rollouts/driver/journal")).unwrap();
    assert!(text.lines().filter(|line| !line.is_empty()).count() <= lines(&text).count() + 8);
}

#[test]
fn root_and_slurm_user_write_into_one_directory() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root, as ./check does");
    let dir = tempfile::tempdir().unwrap();
    // SlurmUser may not be allowed to where cargo builds.
    let programs = tempfile::tempdir().unwrap();
    fs::set_permissions(programs.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = programs.path().join("helper");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let state = dir.path().join("state");
    fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir(&state).unwrap();
    chown(&state, Some(SLURM_USER), Some(SLURM_USER)).unwrap();

    let store = Store::open(&state, "root").unwrap();
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
    // What SlurmUser wrote root goes on with, and the other way round.
    let order = OrderId::from_random(2);
    store.record(Some("rollout-a"), vec![Entry::Ordered { nodes: nodes(), order, volatile: false }]).unwrap();
    assert!(store.unstage("rollout-a", None).unwrap().is_empty(), "all of them are being ordered");
    for file in ["lock", "plain-reboots", "rollouts", "rollouts/rollout-a", "rollouts/rollout-a/journal"] {
        assert_eq!(fs::metadata(state.join(file)).unwrap().uid(), SLURM_USER, "{file}");
    }
}
