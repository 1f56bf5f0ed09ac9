//! Properties of any plan: of random clusters, whose nodes are in random states, with random journals and strategies.

use crate::script;
use crate::world::{World, Written};
use proptest::prelude::*;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, NodeRecord, Progress, Way};
use rollout_core::slurm::availability::Availability;
use rollout_core::slurm::node::NodeInfo;
use rollout_plan::plan::{Effect, Plan};
use std::collections::BTreeSet;

const NODES: usize = 12;

/// The state of a node in Slurm, and what its journal has.
fn nodes() -> impl Strategy<Value = String> {
    let states = prop::sample::select(vec![
        "IDLE",
        "IDLE",
        "IDLE",
        "IDLE",
        "MIXED",
        "ALLOCATED",
        "IDLE+DRAIN by bob: bad DIMM",
        "MIXED+DRAIN by bob: bad DIMM",
        "DOWN+DRAIN by bob: bad DIMM",
        "MIXED+DRAIN+REBOOT_REQUESTED by bob: bad DIMM",
        "IDLE+FAIL by bob: bad DIMM",
        "DOWN by slurm: Not responding",
        "IDLE+DRAIN+REBOOT_REQUESTED by root: a",
        "MIXED+DRAIN+REBOOT_REQUESTED by root: b",
        "MIXED+REBOOT_REQUESTED by root: a",
        "MIXED+REBOOT_REQUESTED",
        "MIXED+MAINTENANCE+RESERVED+REBOOT_REQUESTED",
        "DOWN+DRAIN+REBOOT_ISSUED by root: a : reboot issued",
        "IDLE+DRAIN by slurm: slurm-rollout a: kept out of service until its update",
        "DOWN+DRAIN boot -5m by slurm: slurm-rollout b: kept out of service until its update",
        "DOWN+DRAIN at -5m by root: a : reboot issued : reboot timed out",
        "IDLE boot -5m",
        "IDLE+CLOUD+POWERED_DOWN",
        "DOWN+CLOUD+POWERED_DOWN by slurm: ResumeTimeout reached",
        "IDLE+CLOUD+POWERING_UP",
        "IDLE+NOT_RESPONDING",
        "IDLE+PLANNED",
        "IDLE+QUARANTINED",
        "",
    ]);
    let lines = prop::sample::select(vec![
        "",
        "",
        "",
        "requested N asap",
        "requested N drained bad DIMM",
        "requested N down",
        "requested N asap;taken N",
        "requested N reserved",
        "requested N reserved;taken N",
        "requested N reserved;withdrawn N x",
        "requested N reserved;taken N;ordering N;ordered N",
        "requested N drained bad DIMM;taken N",
        "kept-out N Not responding",
        "kept-out N",
        "kept-out N;requested N asap;taken N",
        "ordering N",
        "ordering N;ordered N",
        "ordering N;ordered N;updated N",
        "ordering N;ordered N;rolled-back N no such package",
        "ordering N;ordered N;held N nhc failed",
        "ordering N;ordered N;lost N silent",
        "ordering N;refused N ledger full",
        "ordering N;unreachable N no answer",
        "cancelled N",
    ]);
    let job =
        prop::sample::select(vec!["", "", "R -1h +1h", "R -1h +9h", "R -1h none", "S -1h +1h", "CG -2h -1h"]);
    let reservation = prop::sample::select(vec![
        "",
        "",
        "slurm-rollout-{rollout}@{node} {node} +30m +1h MAINT,IGNORE_JOBS root",
        "slurm-rollout-{rollout}@{node} {node} -10m +20m MAINT,IGNORE_JOBS root",
        "course {node} +10m +2h SPEC_NODES alice",
    ]);
    let node = (states, lines, job, reservation, 1..3600_u32);
    prop::collection::vec(node, NODES).prop_map(|nodes| {
        let mut text = String::new();
        let mut journal = String::new();
        for (number, (state, lines, job, reservation, ago_s)) in (1..).zip(nodes) {
            let rollout = if number <= 8 { "a" } else { "b" };
            if !state.is_empty() {
                text.push_str(&format!("node n{number} {state}\n"));
            }
            if let [state, start, end] = job.split(' ').collect::<Vec<_>>()[..] {
                text.push_str(&format!("job {number} {state} n{number} {start} {end}\n"));
            }
            if !reservation.is_empty() {
                let reservation =
                    reservation.replace("{rollout}", rollout).replace("{node}", &format!("n{number}"));
                text.push_str(&format!("reservation {reservation}\n"));
            }
            for line in lines.split(';').filter(|line| !line.is_empty()) {
                journal
                    .push_str(&format!("-{ago_s}s {rollout} {}\n", line.replace('N', &format!("n{number}"))));
            }
        }
        format!("{text}ROLLOUTS\n{journal}")
    })
}

fn strategies() -> impl Strategy<Value = String> {
    let max_out = 1..5_u32;
    let more = prop::sample::subsequence(
        vec![
            "floor = [{ nodes = \"n[2-6]\", available = 3 }]",
            "exclusive = [{ nodes = \"n[1-4]\" }]",
            "never = \"n3\"",
            "down = \"include\"",
            "waves = [2]",
            "soak = \"1h\"",
            "halt.failed = 99",
            "order = \"as-written\"",
        ],
        0..8,
    );
    let jobs = prop::sample::select(vec![
        "",
        "jobs = { at_most = \"30m\", then = \"requeue\", warn = \"5m\" }",
        "jobs.wait = \"idle\"",
        "jobs.wait = \"end\"",
        "jobs.wait = \"end\"",
        "jobs = { wait = \"end\", at_most = \"30m\", then = \"requeue\" }",
        "jobs = { wait = \"end\", at_most = \"2h\" }",
    ]);
    let window = prop::sample::select(vec![
        "",
        "",
        "from = \"19:00\", to = \"23:00\"",
        "from = \"03:00\", to = \"05:00\"",
    ]);
    let group = prop::sample::select(vec!["", "", "bring_up = [\"n7\"]", "bring_up = []"]);
    (max_out, more, jobs, window, group).prop_map(|(max_out, more, jobs, window, group)| {
        let max_out = max_out.max(if group.is_empty() { 1 } else { 2 });
        let mut text = format!("max_out = {max_out}\n{}\n{jobs}\n", more.join("\n"));
        if !window.is_empty() {
            text.push_str(&format!("window = [{{ {window}, zone = \"UTC\" }}]\n"));
        }
        if !group.is_empty() {
            text.push_str(&format!("group = [{{ name = \"g\", nodes = \"n[7-8]\", {group} }}]\n"));
        }
        text
    })
}

/// Scripts of clusters with two rollouts.
fn scripts() -> impl Strategy<Value = String> {
    let limits = prop::sample::select(vec![
        "",
        "limits {\nmax_out = 5\n}\n",
        "limits {\nfloor = [{ nodes = \"n[5-12]\", available = \"50%\" }]\nnever = \"n2\"\n}\n",
        "limits {\nexclusive = [{ nodes = \"n[5-12]\", at_once = 2 }]\nrequests_per_tick = 2\n}\n",
    ]);
    let steering =
        prop::sample::select(vec!["", "", "", "-1s a paused x\n", "-1s a stopped\n", "frozen bob: smoke\n"]);
    (nodes(), strategies(), limits, steering, 0..10_u32).prop_map(
        |(nodes, strategy, limits, steering, more)| {
            let b = format!("rollout b n[9-12] {{\nmax_out = {}\n}}\n", more % 4 + 1);
            let rollouts = format!("rollout a n[1-8] {{\n{strategy}}}\n{b}");
            let jobs = if more == 0 { "jobs unknown\n" } else { "" };
            format!("{limits}{}{steering}{jobs}", nodes.replace("ROLLOUTS\n", &rollouts))
        },
    )
}

/// Nodes that the plan takes out of service: of each rollout, those with a new line.
fn goes(plan: &Plan) -> BTreeSet<(String, String)> {
    let taken = plan.steps.iter().filter_map(|step| match &step.before {
        Some(Entry::Requested { nodes, .. }) => Some((&step.rollout, nodes)),
        Some(Entry::KeptOut { nodes, reason: None }) => Some((&step.rollout, nodes)),
        _ => None,
    });
    taken.flat_map(|(rollout, nodes)| nodes.iter().map(|node| (rollout.clone(), node.to_owned()))).collect()
}

fn requested(plan: &Plan) -> BTreeSet<String> {
    let nodes = plan.steps.iter().filter_map(|step| match &step.effect {
        Some(Effect::Request { nodes, .. }) => Some(nodes),
        _ => None,
    });
    nodes.flat_map(|nodes| nodes.iter().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Returns whether a request or a drain of a node is written and may be in effect: the node has not booted since, and
/// is not down.
fn is_taken(world: &World, node: &str, record: &NodeRecord) -> bool {
    let is_written = record.request.is_some() || is_kept_out(world, node, record);
    let info = world.nodes.get(node);
    let requested_ms = record.request.as_ref().map_or(u64::MAX, |request| request.at_ms);
    let is_over = info.is_some_and(|info| {
        let has_booted = info.boot_s.unwrap_or(0).saturating_mul(1000) > requested_ms;
        has_booted || info.has("DOWN") || info.has("POWERED_DOWN")
    });
    is_written && !is_over && matches!(record.progress, Progress::Staged)
}

/// Returns whether the drain of a node that is kept out is in effect or on its way: if nobody has removed it.
fn is_kept_out(world: &World, node: &str, record: &NodeRecord) -> bool {
    let takes_jobs = world.nodes.get(node).is_some_and(|info| Availability::of(info).is_available());
    let is_old = |since_ms: u64| world.now_ms > since_ms.saturating_add(30_000);
    record.kept_out.as_ref().is_some_and(|kept_out| !takes_jobs || !is_old(kept_out.since_ms))
}

fn is_available(world: &World, node: &str) -> bool {
    let states = world.rollouts.iter().map(Written::state);
    let is_taken = states
        .filter_map(|state| state.records.get(node).cloned())
        .any(|record| is_taken(world, node, &record));
    let accepts_jobs = |info: &NodeInfo| {
        // One that sleeps is started for jobs.
        let state = info.state.iter().filter(|word| *word != "POWERED_DOWN").cloned().collect();
        Availability::of(&NodeInfo { state, ..NodeInfo::default() }).is_available()
    };
    let info = world.nodes.get(node);
    !is_taken && info.is_some_and(|info| accepts_jobs(info) && !info.has("REBOOT_REQUESTED"))
}

/// Returns whether a node is out through its rollout.
fn holds_slot(world: &World, node: &str, record: &NodeRecord) -> bool {
    let is_out = matches!(record.progress, Progress::Ordered | Progress::Lost | Progress::Seen(Phase::Held));
    is_out || is_taken(world, node, record)
}

/// Returns whether a node reboots, or will.
fn is_rebooting(world: &World, node: &str) -> bool {
    let is_ours = world.rollouts.iter().map(Written::state).any(|state| {
        let record = state.records.get(node).map(|record| NodeRecord { kept_out: None, ..record.clone() });
        record.is_some_and(|record| holds_slot(world, node, &record))
    });
    let info = world.nodes.get(node);
    is_ours || info.is_some_and(|info| info.has("REBOOT_REQUESTED") || info.has("REBOOT_ISSUED"))
}

fn check_limits(world: &World, plan: &Plan) -> Result<(), TestCaseError> {
    let goes = goes(plan);
    let nodes: BTreeSet<&str> = goes.iter().map(|(_, node)| node.as_str()).collect();
    let newly: BTreeSet<&str> = nodes.iter().copied().filter(|node| is_available(world, node)).collect();
    let left =
        |of: &NodeSet| of.iter().filter(|node| is_available(world, node) && !newly.contains(node)).count();
    let mut floors = Vec::new();
    for rollout in &world.rollouts {
        let (strategy, state) = (rollout.strategy().unwrap(), rollout.state());
        let held = |name: &str| state.records.get(name).is_some_and(|record| holds_slot(world, name, record));
        let own: Vec<&String> =
            goes.iter().filter(|(id, _)| *id == rollout.id).map(|(_, node)| node).collect();
        // A request that is written anew takes no more room, and neither does that of a straggler.
        let is_kept_out =
            |name: &str| state.records.get(name).is_some_and(|record| is_kept_out(world, name, record));
        let own: Vec<&String> = own.into_iter().filter(|node| !held(node) && !is_kept_out(node)).collect();
        let out = state.records.keys().filter(|name| held(name)).count();
        prop_assert!(own.is_empty() || out + own.len() <= strategy.max_out, "max_out: {own:?} and {out}");
        for node in &own {
            prop_assert!(
                !strategy.never.contains(node) && !world.limits.never.contains(node),
                "never: {node}"
            );
            prop_assert!(strategy.windows.open_at(world.now_ms, &rollout.id).is_some(), "window: {node}");
        }
        floors.extend(strategy.floors.iter().cloned().map(|floor| (own.clone(), floor)));
        for set in strategy.exclusive.iter().chain(&world.limits.exclusive) {
            let is_out = |member: &&NodeSet| {
                member.iter().any(|node| !is_available(world, node) || nodes.contains(node))
            };
            let out = set.members.iter().filter(is_out).count();
            let is_of = own.iter().any(|node| set.members.iter().any(|member| member.contains(node)));
            prop_assert!(!is_of || out <= set.at_once, "exclusive {}: {out} out", set.label);
            // A straggler may go while others are out of service, but not while they reboot.
            let reboots = |node: &str| is_rebooting(world, node) || nodes.contains(node);
            let rebooting = set.members.iter().filter(|member| member.iter().any(reboots)).count();
            let goes_now = |(id, node): &(String, String)| {
                *id == rollout.id && set.members.iter().any(|member| member.contains(node))
            };
            prop_assert!(
                !goes.iter().any(goes_now) || rebooting <= set.at_once,
                "exclusive {}: {rebooting} reboot",
                set.label
            );
        }
    }
    let all: Vec<&String> = goes.iter().map(|(_, node)| node).collect();
    floors.extend(world.limits.floors.iter().cloned().map(|floor| (all.clone(), floor)));
    for (own, floor) in floors {
        let rollout_plan::floor::Part::Nodes(set) = &floor.of else { continue };
        let touches = own.iter().any(|node| set.contains(node) && newly.contains(node.as_str()));
        prop_assert!(
            !touches || left(set) >= floor.available.floor_of(set.len()),
            "floor of {set}: {}",
            left(set)
        );
    }
    if let Some(max_out) = world.limits.max_out {
        let out = world
            .nodes
            .keys()
            .filter(|node| !is_available(world, node) || newly.contains(node.as_str()))
            .count();
        prop_assert!(
            newly.is_empty() || out <= max_out.limit_of(world.nodes.len()),
            "max_out of the site: {out}"
        );
    }
    prop_assert!(newly.len() <= world.limits.requests_per_tick, "too many in one tick");
    Ok(())
}

/// No drain of somebody else is removed, replaced, or lost in a boot.
fn check_drains(world: &World, plan: &Plan) -> Result<(), TestCaseError> {
    let is_foreign =
        |node: &str| world.nodes.get(node).is_some_and(|info| info.reason.as_deref() == Some("bad DIMM"));
    for step in &plan.steps {
        let (nodes, is_kept) = match &step.effect {
            Some(Effect::Request { nodes, way }) => (nodes, *way == Way::Drained),
            Some(Effect::CancelKeepingDrain { nodes, reason, .. }) => (nodes, reason.as_str() == "bad DIMM"),
            Some(Effect::Cancel { nodes } | Effect::Drain { nodes, .. } | Effect::Undrain { nodes, .. }) => {
                (nodes, false)
            }
            _ => continue,
        };
        // A request that Slurm does not show is cancelled as well, in case that it is on its way.
        let is_shown =
            |node: &str| world.nodes.get(node).is_some_and(|info| info.has("DRAIN") || info.has("FAIL"));
        let touched = nodes.iter().find(|node| is_foreign(node) && is_shown(node) && !is_kept);
        prop_assert!(touched.is_none(), "{touched:?}: {step:?}");
    }
    Ok(())
}

/// Returns the nodes that are reserved, or whose reservation is deleted.
fn reserving(plan: &Plan) -> (Vec<String>, BTreeSet<String>) {
    let (mut reserved, mut deleted) = (Vec::new(), BTreeSet::new());
    for step in &plan.steps {
        match &step.effect {
            Some(Effect::Reserve { node, .. }) => reserved.push(node.clone()),
            Some(Effect::Unreserve { node }) => drop(deleted.insert(node.clone())),
            _ => {}
        }
    }
    (reserved, deleted)
}

/// Each node has at most one reservation of ours, for as long as its request waits, and the journal has each of them
/// from before it exists until it is gone.
fn check_reservations(world: &World, plan: &Plan) -> Result<(), TestCaseError> {
    let (reserved, deleted) = reserving(plan);
    let names: Vec<&str> = world.reservations.iter().flatten().map(|of| of.name.as_str()).collect();
    let has = |id: &str, node: &str| names.contains(&format!("slurm-rollout-{id}@{node}").as_str());
    for rollout in &world.rollouts {
        for (node, record) in &rollout.state().records {
            let lines = plan.steps.iter().filter(|step| step.rollout == rollout.id);
            let lines: Vec<&Entry> = lines.filter_map(|step| step.before.as_ref()).collect();
            let is_new = lines.iter().any(|line| {
                matches!(line, Entry::Requested { nodes, way: Way::Reserved, .. } if nodes.contains(node))
            });
            let is_waiting = record.request.as_ref().is_some_and(|request| request.way == Way::Reserved);
            let is_created = reserved.contains(node);
            prop_assert!(!is_created || is_new || is_waiting && record.reserved, "no line: {node}");
            prop_assert!(!is_created || !has(&rollout.id, node), "a second one: {node}");
            prop_assert!(!is_created || !deleted.contains(node), "both: {node}");
            prop_assert!(!has(&rollout.id, node) || is_waiting || deleted.contains(node), "left: {node}");
            let is_recorded =
                lines.iter().any(|line| matches!(line, Entry::Unreserved { nodes } if nodes.contains(node)));
            prop_assert!(!is_recorded || !has(&rollout.id, node) && !is_created, "still there: {node}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_step_breaks_a_limit_or_touches_a_drain_of_others(script in scripts()) {
        let world = script::read(&script);
        let plan = world.plan();
        check_limits(&world, &plan)?;
        check_drains(&world, &plan)?;
        check_reservations(&world, &plan)?;
    }

    #[test]
    fn a_plan_is_the_same_after_its_lines_and_before_its_effects(script in scripts()) {
        let world = script::read(&script);
        let plan = world.plan();
        let mut after = world.clone();
        for step in plan.steps.iter().filter(|step| step.effect.is_some()) {
            if let Some(line) = &step.before {
                after.write(&step.rollout, line.clone());
            }
        }
        let again = after.plan();
        prop_assert!(goes(&again).is_empty(), "{:?}\nthen {:?}", plan.steps, again.steps);
        prop_assert!(requested(&plan) == requested(&again), "{:?}\nthen {:?}", plan.steps, again.steps);
        prop_assert_eq!(reserving(&plan), reserving(&again));
    }

    #[test]
    fn nothing_happens_while_slurm_is_not_known(script in scripts()) {
        let world = World { nodes: Default::default(), ..script::read(&script) };
        prop_assert_eq!(world.plan().steps, []);
    }

    #[test]
    fn nothing_is_requested_while_frozen_paused_or_stopped(script in scripts(), how in 0..3_u8) {
        let mut world = script::read(&script);
        let rollouts: Vec<String> = world.rollouts.iter().map(|rollout| rollout.id.clone()).collect();
        for id in rollouts {
            match how {
                0 => world.write(&id, Entry::Paused { why: None }),
                1 => world.write(&id, Entry::Stopped),
                _ => world.write(&id, Entry::Halted { why: "x".into() }),
            }
        }
        let plan = world.plan();
        prop_assert!(requested(&plan).is_empty() && goes(&plan).is_empty(), "{:?}", plan.steps);
        let (reserved, deleted) = reserving(&plan);
        let ours = world.reservations.iter().flatten().filter(|reservation| reservation.is_ours());
        let left = ours.filter(|reservation| !reservation.nodes.iter().all(|node| deleted.contains(node)));
        prop_assert_eq!((reserved, left.count()), (vec![], 0));
    }

    #[test]
    fn every_node_that_is_not_updated_has_a_reason(script in scripts()) {
        let world = script::read(&script);
        let plan = world.plan();
        for rollout in &world.rollouts {
            for (name, record) in &rollout.state().records {
                let is_updated = record.progress == Progress::Seen(Phase::Updated);
                prop_assert!(is_updated || plan.waiting.contains_key(name), "{name}");
            }
        }
    }
}
