//! Scenarios as text. Each line states a fact:
//!
//! | line | meaning |
//! |---|---|
//! | `now 2026-12-01T02:00` | the present, in UTC. Monday, 2026-11-30T20:00, if there is none |
//! | `node n[1-4] IDLE+DRAIN by bob: bad DIMM` | nodes as Slurm shows them; `at`, `boot` and `slurmd` give times |
//! | `features n1 a100` | features of nodes |
//! | `drained n1 by bob: bad DIMM` | a drain that the state directory knows |
//! | `job 7 R n[1-2] -1h +30m` | a job with its state, nodes, start and end; `none` is no limit |
//! | `run 7 RUNNING driver 1 5` | a job with its state, that qualifies a wave of a rollout, with the number of its run |
//! | `jobs unknown`, `partitions unknown`, `reservations unknown`, `runs unknown` | that Slurm was not asked for them |
//! | `call driver 1 running` | the call of a hook that the executor has made: `running`, `succeeded`, `failed WHY` or `cut-off WHY` |
//! | `calls unknown` | that this is not the executor |
//! | `used 60` | percentage of their limits that jobs use |
//! | `partition gpu n[1-8]` | |
//! | `reservation tests n1 -1h +2h FLAG,… USERS` | |
//! | `frozen bob: smoke` | |
//! | `limits {` … `}` | `[limits]` of the site |
//! | `rollout driver n[1-8] {` … `}` | a rollout with its `[strategy]`, staged and started two hours ago by ann |
//! | `visit driver 10m` | the expected time of a visit |
//! | `-90m driver requested n1 asap` | a line of its journal |
//!
//! Times are relative to the present.

use crate::world::{World, Written};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::freeze::Freeze;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{AfterFailure, Entry, JobEnd, Line, Moment, Way};
use rollout_core::slurm::drains::Drain;
use rollout_core::slurm::jobs::{JobRun, parse_jobs};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::partitions::parse_partitions;
use rollout_core::slurm::reservations::{Reservation, name_of_job, name_of_wave};
use rollout_plan::limits::Limits;
use rollout_plan::period::Period;
use rollout_plan::plan::{CallEnd, CallState};
use std::time::Duration;

/// Monday, 2026-11-30T20:00 UTC.
const NOW_MS: u64 = 1_796_068_800_000;
const HOUR_MS: u64 = 3_600_000;

/// Builds the world that a script describes.
pub fn read(script: &str) -> World {
    let mut world = World::at(NOW_MS);
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        let block = |lines: &mut std::str::Lines<'_>| {
            let block: Vec<&str> = lines.take_while(|line| *line != "}").collect();
            block.join("\n")
        };
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [""] | ["#", ..] => {}
            ["now", time] => {
                let time: jiff::Timestamp = format!("{time}:00Z").parse().unwrap();
                world.now_ms = u64::try_from(time.as_millisecond()).unwrap();
            }
            ["limits", "{"] => world.limits = limits(&block(&mut lines)),
            ["rollout", id, nodes, "{"] => {
                let text = block(&mut lines);
                world.rollouts.push(rollout(world.now_ms, id, nodes, &text));
            }
            ["visit", id, time] => {
                world.rollouts.iter_mut().find(|rollout| rollout.id == id).unwrap().visit =
                    Some(period(time));
            }
            _ => fact(&mut world, line, &words),
        }
    }
    world
}

fn fact(world: &mut World, line: &str, words: &[&str]) {
    let at = |time: &str| relative(world.now_ms, time);
    match words {
        ["node", nodes, state, rest @ ..] => {
            for name in set(nodes).iter() {
                world.nodes.insert(name.to_owned(), node(world.now_ms, name, state, rest));
            }
        }
        ["features", nodes, features] => {
            for name in set(nodes).iter() {
                world.nodes.get_mut(name).unwrap().features =
                    features.split(',').map(str::to_owned).collect();
            }
        }
        ["drained", nodes, "by", rest @ ..] => {
            let (by, reason) = by(rest);
            for name in set(nodes).iter() {
                let drain = Drain { reason: reason.clone(), by: Some(by.clone()), cleared_by_reboot: false };
                world.drains.insert(name.to_owned(), drain);
            }
        }
        ["job", id, state, nodes, start, end] => {
            let number = |text: &str| text.parse::<u32>().unwrap();
            let record = match id.split_once('+') {
                Some((leader, offset)) => number(leader) + number(offset),
                None => number(id.split('_').next().unwrap()),
            };
            let (end, limit) = match *end {
                "none" => ("NONE".to_owned(), "UNLIMITED"),
                end => ((at(end) / 1000).to_string(), "5:00"),
            };
            let start_s = at(start) / 1000;
            let job = format!("{record}|{id}|{state}|1000|{start_s}|{end}|{limit}|batch|{nodes}|");
            let parsed = parse_jobs(&job);
            assert!(parsed.is_complete(), "{parsed:?}");
            world.jobs.as_mut().unwrap().extend(parsed.items);
        }
        ["jobs", "unknown"] => world.jobs = None,
        ["partitions", "unknown"] => world.partitions = None,
        ["reservations", "unknown"] => world.reservations = None,
        ["runs", "unknown"] => world.runs = None,
        ["calls", "unknown"] => world.hooks = None,
        ["call", rollout, run, state, why @ ..] => {
            let error = why.join(" ");
            let state = match *state {
                "running" => CallState::Running,
                "succeeded" => CallState::Ended(CallEnd::Succeeded),
                "failed" => CallState::Ended(CallEnd::Failed { error }),
                "cut-off" => CallState::Ended(CallEnd::CutOff { error }),
                _ => panic!("{state}: no state of a call"),
            };
            let calls = world.hooks.as_mut().unwrap();
            calls.insert(((*rollout).to_owned(), run.parse().unwrap()), state);
        }
        ["run", job, state, rollout, wave, run] => {
            let (job, wave, run) = (job.parse().unwrap(), wave.parse().unwrap(), run.parse().unwrap());
            let (state, reason) = ((*state).to_owned(), "Reason".to_owned());
            let (name, reservation) = (name_of_job(rollout, wave, run), name_of_wave(rollout, wave));
            world.runs.as_mut().unwrap().push(JobRun { job, state, reason, reservation, name });
        }
        ["used", percent] => world.used_percent = Some(percent.parse().unwrap()),
        ["partition", name, nodes] => {
            let parsed = parse_partitions(&format!("PartitionName={name} Nodes={nodes} State=UP\n"));
            world.partitions.as_mut().unwrap().extend(parsed.items);
        }
        ["reservation", name, nodes, start, end, flags, users] => {
            let (start_s, end_s) = (at(start) / 1000, at(end) / 1000);
            let (nodes, flags) = (set(nodes), flags.split(',').map(str::to_owned).collect());
            let users = users.split(',').map(str::to_owned).collect();
            let reservation = Reservation { name: (*name).to_owned(), nodes, start_s, end_s, flags, users };
            world.reservations.as_mut().unwrap().push(reservation);
        }
        ["frozen", rest @ ..] => {
            let (by, why) = by(rest);
            world.frozen = Some(Freeze { by, why: Some(why), since_ms: 0 });
        }
        [time, rollout, entry @ ..] if time.starts_with(['-', '+']) => {
            let line = Line { t_ms: at(time), by: "ann".to_owned(), entry: self::entry(entry) };
            world.rollouts.iter_mut().find(|written| written.id == *rollout).unwrap().lines.push(line);
        }
        _ => panic!("{line}: no such line"),
    }
}

fn limits(text: &str) -> Limits {
    let table: toml::Table = toml::from_str(text).unwrap();
    let table = serde_json::to_value(table).unwrap();
    let nodes = |text: &str| NodeSet::parse(text).map_err(|error| error.to_string());
    Limits::of_config(Some(&table), &nodes).unwrap()
}

fn rollout(now_ms: u64, id: &str, nodes: &str, strategy: &str) -> Written {
    let name = id.split('@').next().unwrap();
    let change = "[[change]]\nkind = \"symlink\"\npath = \"/opt/slurm\"\ntarget = \"/opt/slurm-25\"\n";
    let manifest = format!("name = \"{name}\"\nnodes = \"{nodes}\"\n{change}[strategy]\n{strategy}\n");
    let line = |entry| Line { t_ms: now_ms - 2 * HOUR_MS, by: "ann".to_owned(), entry };
    let lines = vec![line(Entry::Staged { nodes: set(nodes) }), line(Entry::Started)];
    Written { id: id.to_owned(), manifest, nodes: set(nodes), lines, visit: None }
}

fn node(now_ms: u64, name: &str, state: &str, rest: &[&str]) -> NodeInfo {
    let mut info = NodeInfo {
        name: name.to_owned(),
        state: state.split('+').map(str::to_owned).collect(),
        boot_s: Some(1),
        ..NodeInfo::default()
    };
    let mut rest = rest;
    while let [key, value, others @ ..] = rest {
        let seconds = || Some(relative(now_ms, value) / 1000);
        match *key {
            "boot" => info.boot_s = seconds(),
            "slurmd" => info.slurmd_start_s = seconds(),
            "at" => info.reason_s = seconds(),
            "by" => {
                let (by, reason) = by(&rest[1..]);
                (info.reason, info.reason_user) = (Some(reason), Some(by));
                break;
            }
            _ => panic!("{key}: not a key of a node"),
        }
        rest = others;
    }
    info
}

/// Splits `bob: bad DIMM`.
fn by(words: &[&str]) -> (String, String) {
    let text = words.join(" ");
    let (by, why) = text.split_once(": ").unwrap();
    (by.to_owned(), why.to_owned())
}

fn entry(words: &[&str]) -> Entry {
    let order = OrderId::from_random(1);
    match words {
        ["started"] => Entry::Started,
        ["staged", nodes] => Entry::Staged { nodes: set(nodes) },
        ["unstaged", nodes] => Entry::Unstaged { nodes: set(nodes) },
        ["paused", why @ ..] => Entry::Paused { why: Some(why.join(" ")) },
        ["resumed"] => Entry::Resumed,
        ["stopped"] => Entry::Stopped,
        ["halted", why @ ..] => Entry::Halted { why: why.join(" ") },
        ["approved", wave] => Entry::Approved { wave: wave.parse().unwrap() },
        ["requested", nodes, way, drained @ ..] => {
            let drained = (!drained.is_empty()).then(|| drained.join(" "));
            let way = match *way {
                "asap" => Way::Asap,
                "drained" => Way::Drained,
                "down" => Way::Down,
                "reserved" => Way::Reserved,
                _ => panic!("{way}: no way"),
            };
            Entry::Requested { nodes: set(nodes), way, drained }
        }
        ["taken", nodes] => Entry::RequestTaken { nodes: set(nodes) },
        ["withdrawing", nodes, why @ ..] => Entry::Withdrawing { nodes: set(nodes), why: why.join(" ") },
        ["withdrawn", nodes, why @ ..] => {
            Entry::Withdrawn { nodes: set(nodes), why: why.join(" "), cancelled: false }
        }
        ["cancelled", nodes] => {
            Entry::Withdrawn { nodes: set(nodes), why: "somebody".to_owned(), cancelled: true }
        }
        ["kept-out", nodes, reason @ ..] => {
            let reason = (!reason.is_empty()).then(|| reason.join(" "));
            Entry::KeptOut { nodes: set(nodes), reason }
        }
        ["unreserved", nodes] => Entry::Unreserved { nodes: set(nodes) },
        ["to-qualify", nodes, wave] => Entry::ToQualify { nodes: set(nodes), wave: wave.parse().unwrap() },
        ["qualifying", nodes, wave, run] => {
            Entry::Qualifying { nodes: set(nodes), wave: wave.parse().unwrap(), run: run.parse().unwrap() }
        }
        ["qualification-job", nodes, job] => {
            Entry::QualificationJob { nodes: set(nodes), job: job.parse().unwrap() }
        }
        ["qualified", nodes, wave] => Entry::Qualified { nodes: set(nodes), wave: wave.parse().unwrap() },
        ["not-qualified", nodes, wave, why @ ..] => {
            Entry::NotQualified { nodes: set(nodes), wave: wave.parse().unwrap(), why: why.join(" ") }
        }
        ["hooks-awaited"] => Entry::HooksAwaited,
        ["hooks-over"] => Entry::HooksOver,
        ["hook-started", nodes, hook, when, run, attempt] => Entry::HookStarted {
            nodes: set_or_none(nodes),
            hook: (*hook).to_owned(),
            when: moment(when),
            run: run.parse().unwrap(),
            attempt: attempt.parse().unwrap(),
        },
        ["hook-ended", nodes, hook, when, run, failure @ ..] => {
            let (then, error) = match failure {
                [] => (None, None),
                [then, error @ ..] => (Some(after_failure(then)), Some(error.join(" "))),
            };
            let (nodes, hook, when) = (set_or_none(nodes), (*hook).to_owned(), moment(when));
            Entry::HookEnded { nodes, hook, when, run: run.parse().unwrap(), error, then }
        }
        ["warned", job, nodes] => Entry::JobWarned { job: job.parse().unwrap(), nodes: set(nodes) },
        ["ended", job, nodes] => {
            Entry::JobEnded { job: job.parse().unwrap(), nodes: set(nodes), how: JobEnd::Requeued }
        }
        ["pre-staged", nodes] => Entry::PreStaged { nodes: set(nodes), order, drained: None },
        ["ordering", nodes] => Entry::Ordering { nodes: set(nodes), order, until_ms: 0 },
        ["ordered", nodes] => Entry::Ordered { nodes: set(nodes), order, volatile: false },
        ["refused", nodes, why @ ..] => Entry::Refused { nodes: set(nodes), order, why: why.join(" ") },
        ["unreachable", nodes, why @ ..] => {
            Entry::Unreachable { nodes: set(nodes), order, why: why.join(" ") }
        }
        ["lost", nodes, why @ ..] => Entry::Lost { nodes: set(nodes), order, why: why.join(" ") },
        [phase, nodes, error @ ..] => {
            let phase = Phase::ALL.into_iter().find(|known| known.name() == *phase).unwrap();
            let error = (!error.is_empty()).then(|| error.join(" "));
            Entry::Seen { nodes: set(nodes), order, phase, error, notes: Vec::new() }
        }
        _ => panic!("{words:?}: no line of a journal"),
    }
}

fn set(nodes: &str) -> NodeSet {
    NodeSet::parse(nodes).unwrap()
}

/// Returns the nodes of a hook. `-` stands for the rollout as a whole.
fn set_or_none(nodes: &str) -> NodeSet {
    if nodes == "-" { NodeSet::default() } else { set(nodes) }
}

fn moment(name: &str) -> Moment {
    Moment::ALL.into_iter().find(|moment| moment.name() == name).unwrap()
}

fn after_failure(name: &str) -> AfterFailure {
    match name {
        "again" => AfterFailure::Again,
        "warn" => AfterFailure::Warn,
        "halt" => AfterFailure::Halt,
        "fail" => AfterFailure::Fail,
        _ => panic!("{name}: follows no failure"),
    }
}

fn period(text: &str) -> Duration {
    text.parse::<Period>().unwrap().get()
}

/// Returns a time such as `-90m` or `+1h30m`.
fn relative(now_ms: u64, text: &str) -> u64 {
    let (sign, text) = text.split_at(1);
    let ms = u64::try_from(period(text).as_millis()).unwrap();
    match sign {
        "+" => now_ms + ms,
        "-" => now_ms - ms,
        _ => panic!("{sign}{text}: neither before nor after"),
    }
}
