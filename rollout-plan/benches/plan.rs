//! The cost of one tick: `cargo bench -p rollout-plan --bench plan`.
//!
//! A cluster of [`NODES`] nodes with [`JOBS`] jobs, of which [`RUNNING`] have nodes, and one rollout of all nodes with
//! limits of each kind. Printed, never asserted.
//!
//! | figure | how |
//! |---|---|
//! | begins | nothing is requested yet: all nodes are candidates |
//! | goes on | half of the nodes are updated and 500 are out |
//! | MiB | VmHWM of this process, the cluster and its jobs included |
//!
//! CPU times are medians of [`ROUNDS`] plans.

#![allow(clippy::unwrap_used)]

use rollout_core::agent::phase::Phase;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, JournalState, Line, Way};
use rollout_core::rollout::manifest::Manifest;
use rollout_core::slurm::config::SlurmConfig;
use rollout_core::slurm::jobs::{Job, JobEnds, parse_jobs};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::partitions::parse_partitions;
use rollout_plan::limits::Limits;
use rollout_plan::plan::{Input, KnownJobs, plan};
use rollout_plan::strategy;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

const NODES: usize = 10_000;
const JOBS: usize = 100_000;
const RUNNING: usize = 30_000;
const ROUNDS: usize = 11;
const NOW_MS: u64 = 1_796_068_800_000;

const MANIFEST: &str = "
name = 'driver'
nodes = 'cn[00001-10000]'

[[change]]
kind = 'symlink'
path = '/opt/slurm'
target = '/opt/slurm-25'

[strategy]
max_out = '5%'
waves = [1, '10%']
floor = [{ partition = 'gpu', available = '80%' }, { nodes = 'cn[00001-00100]', available = 50 }]
exclusive = [{ pairs = ['cn[00001-00500]', 'cn[00501-01000]'] }]
";

fn main() {
    let jobs = jobs();
    println!("{NODES} nodes, {JOBS} jobs, {RUNNING} of them with nodes");
    measure("begins", &jobs, "");
    measure("goes on", &jobs, "cn[05001-10000]");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{} MiB", kib / 1024);
}

/// Prints the processor time of a plan with these nodes updated.
fn measure(title: &str, jobs: &[Job], updated: &str) {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let strategy = strategy::of_manifest(MANIFEST, &manifest.nodes).unwrap();
    let (nodes, lines) = (nodes(updated), lines(&manifest.nodes, updated));
    let JournalState { records, conduct } = lines.iter().collect();
    let (id, by) = ("driver".to_owned(), "ann".to_owned());
    let rollout = RolloutState { id, staged_ms: 0, by, manifest: Ok(manifest), records, conduct };
    let snapshot = Snapshot { rollouts: vec![rollout], ..Snapshot::default() };
    let view = View { snapshot, slurm: nodes, agents: BTreeMap::new(), now_ms: NOW_MS };
    let gpu = "PartitionName=batch Nodes=cn[00001-10000] State=UP\nPartitionName=gpu Nodes=cn[00001-02000] State=UP\n";
    let partitions = parse_partitions(gpu).items;
    let ends = JobEnds::new(&SlurmConfig::default(), &partitions);
    let input = Input {
        view: &view,
        jobs: Some(KnownJobs { list: jobs, ends: &ends, used_percent: Some(60) }),
        partitions: Some(&partitions),
        reservations: Some(&[]),
        runs: None,
        hooks: None,
        strategies: &BTreeMap::from([("driver".to_owned(), Ok(strategy))]),
        limits: &Limits { max_out: Some("10%".parse().unwrap()), ..Limits::default() },
        visits: &BTreeMap::new(),
    };
    let mut times: Vec<Duration> = Vec::new();
    let mut steps = 0;
    for _ in 0..ROUNDS {
        let begin = cpu();
        steps = plan(&input).steps.len();
        times.push(cpu().saturating_sub(begin));
    }
    times.sort();
    println!("{title:8} {:4} ms CPU, {steps} steps", times[ROUNDS / 2].as_millis());
}

/// Returns the processor time of this process.
fn cpu() -> Duration {
    let schedstat = fs::read_to_string("/proc/self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

fn nodes(updated: &str) -> BTreeMap<String, NodeInfo> {
    let updated = NodeSet::parse(updated).unwrap_or_default();
    let all = (1..=NODES).map(|number| {
        let name = format!("cn{number:05}");
        let state = if number % 10 == 0 { vec!["IDLE"] } else { vec!["MIXED"] };
        let state = if number <= 500 && !updated.is_empty() {
            vec!["MIXED", "DRAIN", "REBOOT_REQUESTED"]
        } else {
            state
        };
        let state = state.into_iter().map(str::to_owned).collect();
        let partitions = vec!["batch".to_owned()];
        (name.clone(), NodeInfo { name, state, partitions, boot_s: Some(1), ..NodeInfo::default() })
    });
    all.collect()
}

fn lines(nodes: &NodeSet, updated: &str) -> Vec<Line> {
    let line = |entry| Line { t_ms: NOW_MS - 3_600_000, by: "ann".to_owned(), entry };
    let mut lines = vec![line(Entry::Staged { nodes: nodes.clone() }), line(Entry::Started)];
    if let Ok(nodes) = NodeSet::parse(updated) {
        let order = OrderId::from_random(1);
        lines.push(line(Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: 0 }));
        lines.push(line(Entry::Ordered { nodes: nodes.clone(), order: order.clone(), volatile: false }));
        lines.push(line(Entry::Seen { nodes, order, phase: Phase::Updated, error: None, notes: Vec::new() }));
        let nodes = NodeSet::parse("cn[00001-00500]").unwrap();
        lines.push(line(Entry::Requested { nodes: nodes.clone(), way: Way::Asap, drained: None }));
        lines.push(line(Entry::RequestTaken { nodes }));
    }
    lines
}

/// Returns jobs of which some have one or two nodes, and the others wait.
fn jobs() -> Vec<Job> {
    let mut text = String::new();
    let now_s = NOW_MS / 1000;
    for number in 0..JOBS {
        let (start_s, end_s) = (now_s - 3600, now_s + 60 + (number as u64 * 7919) % 86_400);
        let first = number % NODES + 1;
        let nodes = match number % 3 {
            0 => format!("cn[{first:05},{:05}]", first % NODES + 1),
            _ => format!("cn{first:05}"),
        };
        let (state, nodes) = if number < RUNNING { ("R", nodes) } else { ("PD", String::new()) };
        let _ = writeln!(text, "{number}|{number}|{state}|1000|{start_s}|{end_s}|1-00:00:00|batch|{nodes}|");
    }
    let parsed = parse_jobs(&text);
    assert!(parsed.is_complete());
    parsed.items
}
