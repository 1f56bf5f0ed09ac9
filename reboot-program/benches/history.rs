//! The cost of past rollouts for a hand-over: `cargo bench -p reboot-program --bench history`.
//!
//! Runs the real RebootProgram with a real munged, a script as scontrol and one process as all agents. One state
//! directory has no past, the other one [`ROLLOUTS`] closed rollouts of [`NODES`] nodes each, with journals as batches
//! of [`BATCH`] nodes leave them. Printed, never asserted.
//!
//! | figure | how |
//! |---|---|
//! | ms | from the program's start to its end, for one node, in turns without and with history; medians |
//! | CPU | processor time of the program and of scontrol, of the same runs |
//! | MiB | VmHWM of the process alone, looked at every 0.2 ms, in runs of their own; the largest of them |
//! | at once | [`AT_ONCE`] invocations of one node each, started together, while a rollout of [`NODES`] nodes is open |

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rollout_control::store::StoreWriter;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, Line, Progress};
use rollout_core::rollout::manifest::Manifest;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const ROLLOUTS: usize = 500;
const NODES: usize = 10_000;
const BATCH: usize = 20;
const ROUNDS: usize = 31;
const MEMORY_ROUNDS: usize = 5;
const AT_ONCE: usize = 64;
const AT_ONCE_ROUNDS: usize = 3;

const ACCEPTED: &str = "{\"answer\":\"accepted\"}";

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let site = Site::start(dir.path());
    let (none, history) = (site.state("none"), site.state("history"));
    let begin = Instant::now();
    for rollout in 0..ROLLOUTS {
        past(&history.state, &format!("past{rollout}"));
        history.store().close_settled(&NodeSet::default()).unwrap();
    }
    let built = begin.elapsed().as_secs();
    println!(
        "{ROLLOUTS} closed rollouts of {NODES} nodes, {} MiB, built in {built} s",
        size(&history.state) >> 20
    );
    for state in [&none, &history] {
        state.stage("small", &format!("x[0-{}]", ROUNDS + MEMORY_ROUNDS));
    }
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // Neither one always goes first.
        if round % 2 == 0 {
            without.push(none.timed(round));
        }
        with.push(history.timed(round));
        if round % 2 == 1 {
            without.push(none.timed(round));
        }
    }
    for (name, figure) in [("time", 0), ("CPU", 1)] {
        let of = |runs: &[[f64; 2]]| median(runs.iter().map(|run| run[figure]).collect());
        let ratios = with.iter().zip(&without).map(|(with, without)| with[figure] / without[figure]);
        let (without, with, ratio) = (of(&without), of(&with), median(ratios.collect()));
        println!(
            "one node, {name}: {without:.1} ms without history, {with:.1} ms with it, {:.2} times",
            with / without
        );
        println!("  median of the ratios of {ROUNDS} pairs: {ratio:.2}");
    }
    let most = |state: &State| {
        let rounds = ROUNDS..ROUNDS + MEMORY_ROUNDS;
        rounds.map(|round| state.memory(round)).max().unwrap_or_default() as f64 / 1024.0
    };
    println!("  memory: {:.1} MiB without history, {:.1} MiB with it", most(&none), most(&history));
    for state in [&none, &history] {
        state.stage("large", &format!("n[0-{}]", NODES - 1));
        under_way(&state.state, "large");
    }
    for round in 0..AT_ONCE_ROUNDS {
        for (name, state) in [("without", &none), ("with", &history)] {
            let (ordered, ms) = state.at_once(round * AT_ONCE);
            println!("{AT_ONCE} at once, {name} history: {ordered} ordered, the last one after {ms:.0} ms");
        }
    }
}

/// Everything that RebootProgram talks to.
struct Site {
    dir: PathBuf,
    port: u16,
    munged: Child,
}

/// A state directory with a configuration for it.
struct State {
    config: PathBuf,
    state: PathBuf,
}

impl Site {
    fn start(dir: &Path) -> Self {
        let key = dir.join("key");
        fs::write(&key, [7; 128]).unwrap();
        fs::set_permissions(&key, PermissionsExt::from_mode(0o400)).unwrap();
        let mut munged = Command::new("munged");
        for file in ["key", "socket", "pid", "log", "seed"] {
            munged.arg(format!(
                "--{file}{}={}",
                if file == "socket" { "" } else { "-file" },
                dir.join(file).display()
            ));
        }
        munged.args(["--foreground", "--force"]).stdout(Stdio::null()).stderr(Stdio::null());
        let munged = munged.spawn().expect("this benchmark needs munged");
        while !dir.join("socket").exists() {
            thread::sleep(Duration::from_millis(10));
        }
        let scontrol = dir.join("scontrol");
        let script = "#!/bin/sh\necho \"NodeName=$5 NodeAddr=127.0.0.1 State=DOWN+REBOOT_ISSUED\"\n";
        fs::write(&scontrol, script).unwrap();
        fs::set_permissions(&scontrol, PermissionsExt::from_mode(0o755)).unwrap();
        Self { dir: dir.to_owned(), port: agents(), munged }
    }

    fn state(&self, name: &str) -> State {
        let (dir, port) = (self.dir.display(), self.port);
        let (config, state) = (self.dir.join(format!("{name}.toml")), self.dir.join(name));
        let text = format!(
            "state_dir = '{dir}/{name}'\nagent_port = {port}\nscontrol = '{dir}/scontrol'\nmunge_socket = '{dir}/socket'\n"
        );
        fs::write(&config, text).unwrap();
        fs::create_dir(&state).unwrap();
        State { config, state }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.munged.kill().and_then(|()| self.munged.wait());
    }
}

impl State {
    fn store(&self) -> StoreWriter {
        StoreWriter::open(&self.state, "benchmark").unwrap()
    }

    fn stage(&self, name: &str, nodes: &str) {
        let text = manifest(name, nodes);
        self.store().stage(&text, &Manifest::parse(&text).unwrap()).unwrap();
    }

    fn start(&self, node: &str) -> Child {
        let mut program = Command::new(env!("CARGO_BIN_EXE_reboot-program"));
        program.arg("--config").arg(&self.config).arg(node).stdin(Stdio::null());
        program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Returns the milliseconds of one invocation, and those of processor time.
    fn timed(&self, node: usize) -> [f64; 2] {
        let (begin, before) = (Instant::now(), processor_ms());
        let status = self.start(&format!("x{node}")).wait().unwrap();
        let ms = begin.elapsed().as_secs_f64() * 1000.0;
        assert!(status.success(), "{status}");
        [ms, processor_ms() - before]
    }

    /// Returns the peak memory of one invocation in KiB.
    fn memory(&self, node: usize) -> u64 {
        let mut child = self.start(&format!("x{node}"));
        let (path, mut peak) = (format!("/proc/{}/status", child.id()), 0);
        while child.try_wait().unwrap().is_none() {
            let status = fs::read_to_string(&path).unwrap_or_default();
            // Until it has become RebootProgram, the memory is this program's.
            if status.starts_with("Name:\treboot-program") {
                let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
                peak = kib.unwrap_or(peak);
            }
            thread::sleep(Duration::from_micros(200));
        }
        peak
    }

    /// Starts many invocations. Returns the number of nodes that were ordered, and the milliseconds until the last one
    /// ended.
    fn at_once(&self, first: usize) -> (usize, f64) {
        let begin = Instant::now();
        let nodes = first..first + AT_ONCE;
        let children: Vec<Child> = nodes.clone().map(|node| self.start(&format!("n{node}"))).collect();
        for mut child in children {
            child.wait().unwrap();
        }
        let ms = begin.elapsed().as_secs_f64() * 1000.0;
        let records = self.store().rollout("large").unwrap().state.records;
        let ordered = nodes.filter(|node| records[&format!("n{node}")].progress == Progress::Ordered);
        (ordered.count(), ms)
    }
}

/// Starts agents that take each order. Returns their port.
fn agents() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    port
}

fn answer(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break;
            }
        }
        match stream.read(&mut part) {
            Ok(count) if count > 0 => request.extend_from_slice(&part[..count]),
            _ => return,
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        ACCEPTED.len()
    );
    let _ = stream.write_all((head + ACCEPTED).as_bytes());
}

fn manifest(name: &str, nodes: &str) -> String {
    format!(
        "name = '{name}'\nnodes = '{nodes}'\n[[change]]\nkind = 'symlink'\npath = '/opt/app/current'\ntarget = '/opt/app/2'\n"
    )
}

/// Writes a rollout of long ago: each batch was claimed, ordered and seen updated.
fn past(state: &Path, name: &str) {
    let dir = state.join("rollouts").join(name);
    fs::create_dir_all(&dir).unwrap();
    let all = format!("n[0-{}]", NODES - 1);
    fs::write(dir.join("manifest.toml"), manifest(name, &all)).unwrap();
    let mut entries = vec![Entry::Staged { nodes: NodeSet::parse(&all).unwrap() }];
    for first in (0..NODES).step_by(BATCH) {
        let (nodes, order) = (batch(first), OrderId::from_random(first as u128));
        entries.extend(ordered(&nodes, &order));
        entries.push(Entry::Seen { nodes, order, phase: Phase::Updated, error: None, notes: Vec::new() });
    }
    append(&dir, entries);
}

/// Lets all nodes of a rollout be under way, except for those that are ordered here.
fn under_way(state: &Path, name: &str) {
    let batches = (AT_ONCE * AT_ONCE_ROUNDS..NODES - BATCH).step_by(BATCH);
    let entries = batches.flat_map(|first| ordered(&batch(first), &OrderId::from_random(first as u128)));
    append(&state.join("rollouts").join(name), entries.collect());
}

fn batch(first: usize) -> NodeSet {
    NodeSet::parse(&format!("n[{first}-{}]", first + BATCH - 1)).unwrap()
}

fn ordered(nodes: &NodeSet, order: &OrderId) -> [Entry; 2] {
    [
        Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: 1 },
        Entry::Ordered { nodes: nodes.clone(), order: order.clone(), volatile: false },
    ]
}

fn append(rollout: &Path, entries: Vec<Entry>) {
    let path = rollout.join("journal");
    let mut text = fs::read_to_string(&path).unwrap_or_default();
    for entry in entries {
        text +=
            &serde_json::to_string(&Line { t_ms: 1, by: "reboot-program[1234]".to_owned(), entry }).unwrap();
        text.push('\n');
    }
    fs::write(path, text).unwrap();
}

fn size(dir: &Path) -> u64 {
    let sizes = fs::read_dir(dir).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { size(&path) } else { fs::metadata(path).unwrap().len() }
    });
    sizes.sum()
}

/// Returns the processor time of all processes that have ended, in milliseconds.
fn processor_ms() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let time = usage.user_time() + usage.system_time();
    time.num_microseconds() as f64 / 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
