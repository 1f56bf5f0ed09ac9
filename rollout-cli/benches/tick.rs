//! The cost of a whole tick of the executor: `cargo bench -p rollout-cli --bench tick`.
//!
//! 10,000 nodes and 100,000 jobs, of which 30,000 have nodes, and one rollout of all nodes of which half are updated and
//! 500 are out. scontrol and squeue are scripts that print files. Printed, never asserted.
//!
//! | figure | how |
//! |---|---|
//! | first tick | jobs, partitions and reservations are read, as every 30 s, and nodes twice |
//! | next tick | nodes are read |
//! | processor | utime and stime of this process, without scontrol and squeue |
//! | MiB | VmHWM of this process |

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use rollout_cli::executor::{Executor, Tick};
use rollout_control::config::Config;
use rollout_control::store::StoreWriter;
use rollout_core::agent::phase::Phase;
use rollout_core::controller::conduct;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, Way};
use rollout_core::rollout::manifest::Manifest;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

const NODES: usize = 10_000;
const JOBS: usize = 100_000;
const RUNNING: usize = 30_000;
const OUT: usize = 500;
const UPDATED: usize = 5_000;
/// Number of nodes that share a line of the journal.
const TOGETHER: usize = 10;
const ROUNDS: usize = 5;

const SCRIPT: &str = r#"#!/bin/sh
case "${0##*/} $1 $2" in
squeue*) exec cat DIR/jobs ;;
'scontrol show node') exec cat DIR/nodes ;;
'scontrol show part') echo 'PartitionName=batch Nodes=cn[00001-10000] State=UP' ;;
'scontrol show res') echo 'No reservations in the system' ;;
'scontrol show config') echo "SlurmctldHost[0] = $(uname -n)" ;;
esac
"#;

const MANIFEST: &str = "name = 'driver'
nodes = 'cn[00001-10000]'
[[change]]
kind = 'symlink'
path = '/opt/slurm'
target = '/opt/slurm-25'
[strategy]
max_out = '5%'
waves = [1, '10%']
floor = [{ partition = 'batch', available = '80%' }]
";

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    fs::create_dir(path.join("bin")).unwrap();
    for name in ["scontrol", "squeue"] {
        let script = SCRIPT.replace("DIR", &path.display().to_string());
        rollout_host::durable::replace(&path.join("bin").join(name), script.as_bytes(), 0o755).unwrap();
    }
    fs::write(path.join("nodes"), nodes()).unwrap();
    fs::write(path.join("jobs"), jobs()).unwrap();
    let config =
        format!("state_dir = {path:?}\nscontrol = {:?}\ndeliver = 'never'\n", path.join("bin/scontrol"));
    fs::write(path.join("controller.toml"), config).unwrap();
    let store = StoreWriter::open(path, "ann@here").unwrap();
    store.stage(MANIFEST, &Manifest::parse(MANIFEST).unwrap()).unwrap();
    store.decide("driver", |snapshot| conduct::start(snapshot, "driver")).unwrap();
    store.record(Some("driver"), lines()).unwrap();
    let size = fs::metadata(path.join("rollouts/driver/journal")).unwrap().len();
    println!("{NODES} nodes, {JOBS} jobs, a journal of {} KiB", size / 1024);

    let mut first = Vec::new();
    let mut next = Vec::new();
    for _ in 0..ROUNDS {
        let mut executor = executor(path, &store);
        first.push(tick(&mut executor));
        next.push(tick(&mut executor));
    }
    for (title, figures) in [("first tick", first), ("next tick", next)] {
        let of = |which: usize| {
            let mut values: Vec<f64> = figures.iter().map(|figures| figures[which]).collect();
            values.sort_by(f64::total_cmp);
            values[ROUNDS / 2]
        };
        println!("{title}: {:.2} s, {:.2} s of processor (medians of {ROUNDS})", of(0), of(1));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    println!("{} MiB", peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024);
}

fn executor(path: &Path, store: &StoreWriter) -> Executor {
    let config_path = path.join("controller.toml");
    Executor::new(Config::load(&config_path).unwrap(), config_path, store.by("executor")).unwrap()
}

/// Returns the seconds of a tick, and those of processor.
fn tick(executor: &mut Executor) -> [f64; 2] {
    let (begun, before) = (Instant::now(), cpu());
    match executor.tick().unwrap() {
        Tick::Done(report) => assert_eq!(report.failed, [""; 0]),
        other => panic!("{other:?}"),
    }
    [begun.elapsed().as_secs_f64(), cpu() - before]
}

/// Returns the seconds of processor of this process.
fn cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

fn name(number: usize) -> String {
    format!("cn{number:05}")
}

fn nodes() -> String {
    let mut text = String::new();
    for number in 1..=NODES {
        let state = match number {
            _ if number <= OUT => "MIXED+DRAIN+REBOOT_REQUESTED",
            _ if number % 10 == 0 => "IDLE",
            _ => "MIXED",
        };
        let (name, reason) =
            (name(number), if number <= OUT { " Reason=driver [root@1796068700]" } else { "" });
        let _ = writeln!(
            text,
            "NodeName={name} Arch=x86_64 CoresPerSocket=32 CPUAlloc=64 CPUEfctv=128 CPUTot=128 CPULoad=63.90 \
             AvailableFeatures=genoa,ib ActiveFeatures=genoa,ib Gres=(null) NodeAddr={name} NodeHostName={name} \
             Version=24.11.5 OS=Linux 5.14.0-503.el9.x86_64 #1 SMP PREEMPT_DYNAMIC Tue Oct 1 12:00:00 UTC 2024 \
             RealMemory=515000 AllocMem=256000 FreeMem=301234 Sockets=2 Boards=1 State={state} ThreadsPerCore=2 \
             TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A Partitions=batch BootTime=1795000000 \
             SlurmdStartTime=1795000100 LastBusyTime=1796068000 ResumeAfterTime=None CfgTRES=cpu=128,mem=515000M \
             AllocTRES=cpu=64,mem=256000M CurrentWatts=0 AveWatts=0{reason}"
        );
    }
    text
}

fn jobs() -> String {
    let mut text = String::new();
    let now_s = rollout_host::clock::now_ms() / 1000;
    for number in 0..JOBS {
        let (start_s, end_s) = (now_s - 3600, now_s + 60 + (number as u64 * 7919) % 86_400);
        let (state, nodes) = match number < RUNNING {
            true => ("R", name(number % NODES + 1)),
            false => ("PD", String::new()),
        };
        let _ = writeln!(text, "{number}|{number}|{state}|1000|{start_s}|{end_s}|1-00:00:00|batch|{nodes}|");
    }
    text
}

fn lines() -> Vec<Entry> {
    let mut lines = Vec::new();
    let order = OrderId::from_random(1);
    let group = |from: usize| -> NodeSet { (from..from + TOGETHER).map(name).collect() };
    for from in (NODES - UPDATED + 1..=NODES).step_by(TOGETHER) {
        let nodes = group(from);
        lines.push(Entry::Requested { nodes: nodes.clone(), way: Way::Asap, drained: None });
        lines.push(Entry::RequestTaken { nodes: nodes.clone() });
        lines.push(Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: 0 });
        lines.push(Entry::Ordered { nodes: nodes.clone(), order: order.clone(), volatile: false });
        let (order, phase) = (order.clone(), Phase::Updated);
        lines.push(Entry::Seen { nodes, order, phase, error: None, notes: Vec::new() });
    }
    for from in (1..=OUT).step_by(TOGETHER) {
        lines.push(Entry::Requested { nodes: group(from), way: Way::Asap, drained: None });
        lines.push(Entry::RequestTaken { nodes: group(from) });
    }
    lines
}
