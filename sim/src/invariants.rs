//! Invariants, which hold in every run. Each has a name.
//!
//! | name | checked | it holds that |
//! |---|---|---|
//! | `max-out` | always | no more nodes of a rollout are out through it than its strategy allows |
//! | `floor`, `site-max-out`, `exclusive` | plans | no node is requested that takes a limit beyond its bound |
//! | `window` | lines | no node is requested outside a window |
//! | `conduct` | lines, effects | no node is requested after a halt, a pause, a freeze or a stop |
//! | `withdrawn` | each 30 s | no request is left long after a halt, a pause, a freeze, a stop or the end of a window |
//! | `twice` | effects | no node is requested while its earlier request is not over, or once it is updated |
//! | `hook` | lines | no node is requested before its hooks succeeded |
//! | `hook-twice` | lines | no hook is called again after its end, nor twice at a time, nor a fourth time |
//! | `our-drain` | end | none of our requests, drains and reservations is left |
//! | `foreign-drain` | always | no drain of somebody else is removed |
//! | `job-lost` | always | no job is lost but by the deadline of the strategy |
//! | `unproven` | always | no job starts on a node that is not proven |
//! | `reason` | plans, end | every node that is not updated has a reason |
//! | `terminates` | always | every rollout ends |
//! | `replay` | starts | a journal that is read again means the same |
//! | `agent`, `follow-up`, `journal` | always | no part of the product fails in a way that it takes for a bug |

use crate::slurm::By;
use crate::slurm::job::State;
use crate::store::Rollout;
use crate::world::World;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{ConductState, Entry, NodeRecord, Progress};
use rollout_core::slurm::availability::Availability;
use rollout_core::slurm::node::NodeInfo;
use rollout_plan::exclusive::ExclusiveSet;
use rollout_plan::floor::{Floor, Part};
use rollout_plan::plan::{DEFAULT_VISIT, Effect, Plan};
use rollout_plan::strategy::Then;
use rollout_plan::why::Why;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Time for which a request may still reach Slurm after an admin has stopped it.
const RACE_MS: u64 = 15_000;

/// Time within which a request is withdrawn, whatever fails meanwhile.
const WITHDRAWN_MS: u64 = 25 * 60_000;

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub name: &'static str,
    pub text: String,
    /// The last events.
    pub trace: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        write!(f, "{}: {}", self.name, self.text)
    }
}

/// Checks what must hold after every event.
pub fn check(world: &mut World) {
    let mut found = None;
    for rollout in &world.store.rollouts {
        let Ok(strategy) = &rollout.strategy else { continue };
        let out: Vec<&str> = rollout
            .state
            .records
            .keys()
            .map(String::as_str)
            .filter(|name| is_out_through(world, rollout, name))
            .collect();
        if out.len() > strategy.max_out {
            let text = format!("{}: {} are out, and {} may be", rollout.id, out.join(","), strategy.max_out);
            found = Some(("max-out", text));
        }
    }
    for node in &world.slurm.nodes {
        if let Some(drain) = node.foreign_drain.as_ref().filter(|drain| !drain.has_raced)
            && node.accepts_jobs()
            && !node.drain
        {
            found = Some(("foreign-drain", format!("{}: {:?} is gone", node.name, drain.reason)));
        }
    }
    if let Some((name, text)) = found {
        world.violate(name, text);
    }
}

/// Returns whether a node is out because this rollout requested it and Slurm has taken that. A straggler that was
/// drained on its return was out before, whatever the limit.
fn is_out_through(world: &World, rollout: &Rollout, name: &str) -> bool {
    let Some(node) = world.slurm.index(name).and_then(|index| world.slurm.nodes.get(index)) else {
        return false;
    };
    let is_requested = rollout.state.records.get(name).is_some_and(|record| {
        record.kept_out.is_none()
            && (record.request.is_some()
                || record.ordering_ms.is_some() && !matches!(record.progress, Progress::Seen(_)))
    });
    is_requested && node.request.is_some_and(|request| request.by == By::Us)
}

/// Returns whether Slurm starts jobs on a node, for which it may have to power the node up.
fn takes_jobs(info: &NodeInfo) -> bool {
    let state = info.state.iter().filter(|word| *word != "POWERED_DOWN").cloned().collect();
    Availability::of(&NodeInfo { state, ..info.clone() }).is_available()
}

/// Checks the limits of a plan against what Slurm had shown.
pub fn check_plan(world: &mut World, plan: &Plan, slurm: &BTreeMap<String, NodeInfo>) {
    let is_available = |name: &str| slurm.get(name).is_some_and(takes_jobs);
    let reboots = |name: &str| {
        slurm.get(name).is_some_and(|info| info.has("REBOOT_REQUESTED") || info.has("REBOOT_ISSUED"))
    };
    let mut taken: BTreeSet<&str> = BTreeSet::new();
    let mut found = None;
    for step in &plan.steps {
        let nodes = match &step.effect {
            Some(Effect::Request { nodes, .. } | Effect::Drain { nodes, .. }) => nodes,
            _ => continue,
        };
        let new: BTreeSet<&str> = nodes.iter().filter(|name| is_available(name)).collect();
        taken.extend(&new);
        let is_left = |name: &str| is_available(name) && !taken.contains(name);
        let rollout = world.store.rollout(&step.rollout);
        let strategy = rollout.and_then(|rollout| rollout.strategy.as_ref().ok());
        let floors = strategy.map_or(&[][..], |strategy| &strategy.floors).iter().chain(&world.limits.floors);
        for floor in floors {
            let part = part(world, floor);
            let left = part.iter().filter(|name| is_left(name)).count();
            if part.iter().any(|name| new.contains(name.as_str()))
                && left < floor.available.floor_of(part.len())
            {
                found = Some(("floor", format!("{step:?}: {left} of {} are left", part.len())));
            }
        }
        let sets = strategy.map_or(&[][..], |strategy| &strategy.exclusive).iter();
        for ExclusiveSet { members, at_once, label, .. } in sets.chain(&world.limits.exclusive) {
            let is_new = members.iter().any(|member| member.iter().any(|name| new.contains(name)));
            // A dead node of a group keeps no other group in service.
            let is_out = |member: &&NodeSet| match member.len() {
                1 => !member.iter().all(is_left),
                _ => member.iter().any(|name| taken.contains(name) || reboots(name)),
            };
            let out = members.iter().filter(is_out).count();
            if is_new && out > *at_once {
                found = Some(("exclusive", format!("{step:?}: {out} of {label}")));
            }
        }
        if let Some(max_out) = world.limits.max_out {
            let out = slurm.keys().filter(|name| !is_left(name)).count();
            if !new.is_empty() && out > max_out.limit_of(slurm.len()) {
                found = Some(("site-max-out", format!("{step:?}: {out} are out")));
            }
        }
    }
    for rollout in world.store.rollouts.iter().filter(|rollout| plan.rollouts.contains_key(&rollout.id)) {
        for (name, record) in &rollout.state.records {
            let is_updated = record.progress == Progress::Seen(Phase::Updated);
            if !is_updated && plan.waiting.get(name).is_none_or(Vec::is_empty) {
                found = Some(("reason", format!("{}: {name} is {:?}", rollout.id, record.progress)));
            }
        }
    }
    if let Some((name, text)) = found {
        world.violate(name, text);
    }
}

fn part(world: &World, floor: &Floor) -> Vec<String> {
    match &floor.of {
        Part::Partition(name) => {
            let partition = world.slurm.partitions.iter().find(|partition| partition.name == *name);
            let nodes = partition.map(|partition| world.slurm.names(&partition.nodes)).unwrap_or_default();
            nodes.iter().map(str::to_owned).collect()
        }
        Part::Feature(_) => Vec::new(),
        Part::Nodes(nodes) => nodes.iter().map(str::to_owned).collect(),
    }
}

/// Checks that no request of ours is left long after it should have been withdrawn.
pub fn check_withdrawn(world: &mut World) {
    let now_ms = world.now_ms;
    let is_late = |since_ms: u64| now_ms > since_ms.saturating_add(WITHDRAWN_MS);
    let is_frozen = world.store.frozen.as_ref().is_some_and(|freeze| is_late(freeze.since_ms));
    let mut found = None;
    for rollout in &world.store.rollouts {
        let conduct = &rollout.state.conduct;
        let is_over = conduct.state != ConductState::Running && is_late(conduct.since_ms);
        let is_closed = rollout.strategy.as_ref().is_ok_and(|strategy| {
            let windows = strategy.windows.and(&world.limits.windows);
            let mut times = (0..=5).map(|step| now_ms.saturating_sub(step * WITHDRAWN_MS / 5));
            times.all(|ms| windows.open_at(ms, &rollout.id).is_none()) && !windows.is_always_open()
        });
        for (name, record) in rollout.state.records.iter().filter(|_| is_over || is_frozen || is_closed) {
            let node = world.slurm.index(name).and_then(|index| world.slurm.nodes.get(index));
            let is_left = node.is_some_and(|node| {
                node.requested && node.request.is_some_and(|request| request.by == By::Us)
            });
            if is_left && record.request.as_ref().is_some_and(|request| is_late(request.at_ms)) {
                let text = format!("{}: {name} is still requested, while {:?}", rollout.id, conduct.state);
                found = Some(text);
            }
        }
    }
    if let Some(text) = found {
        world.violate("withdrawn", text);
    }
}

/// Checks a line that the executor is about to write.
pub fn check_line(world: &mut World, id: &str, entry: &Entry) {
    crate::hooks::check_line(world, id, entry);
    let Entry::Requested { nodes, .. } = entry else { return };
    let Some(rollout) = world.store.rollout(id) else { return };
    let Ok(strategy) = &rollout.strategy else { return };
    let windows = strategy.windows.and(&world.limits.windows);
    // The plan may be a moment older than the line.
    let planned_ms = world.now_ms.saturating_sub(RACE_MS);
    let takes = visit(rollout).map_or(DEFAULT_VISIT, |visit| visit.min(DEFAULT_VISIT));
    let fits = |ms: u64| windows.fits(ms, takes, id);
    if !fits(world.now_ms) && !fits(planned_ms) {
        world.violate("window", format!("{id}: {nodes} requested outside its windows"));
    }
}

/// Returns the time within which nine of ten nodes of the rollout came back. `None` before the first one.
fn visit(rollout: &Rollout) -> Option<Duration> {
    let took = |record: &NodeRecord| {
        let is_updated = record.progress == Progress::Seen(Phase::Updated);
        is_updated.then(|| record.since_ms.checked_sub(record.ordering_ms?)).flatten()
    };
    let mut times: Vec<u64> = rollout.state.records.values().filter_map(took).collect();
    times.sort_unstable();
    let rank = times.len().saturating_mul(9).div_ceil(10).saturating_sub(1);
    times.get(rank).copied().map(Duration::from_millis)
}

/// Checks a request that is about to be made.
pub fn check_request(world: &mut World, id: &str, nodes: &NodeSet) {
    let Some(rollout) = world.store.rollout(id) else { return };
    let conduct = &rollout.state.conduct;
    let is_late = |since_ms: u64| world.now_ms > since_ms.saturating_add(RACE_MS);
    let is_over = conduct.state != ConductState::Running && is_late(conduct.since_ms);
    let is_frozen = world.store.frozen.as_ref().is_some_and(|freeze| is_late(freeze.since_ms));
    let mut found = None;
    if is_over || is_frozen {
        found = Some(("conduct", format!("{id}: {nodes} requested while {:?}", conduct.state)));
    }
    for name in nodes.iter() {
        let progress = rollout.state.records.get(name).map(|record| record.progress);
        // The claim or the answer of a hand-over may come between a plan and its effect; Slurm passes such a node over.
        let is_done = progress == Some(Progress::Seen(Phase::Updated));
        let info = world.slurm.index(name).and_then(|index| world.slurm.nodes.get(index));
        let is_out = info.is_some_and(|node| node.issued || node.requested);
        let since_ms = rollout.state.records.get(name).map_or(0, |record| record.since_ms);
        if is_done && !is_out && is_late(since_ms) {
            found = Some(("twice", format!("{id}: {name} is requested again: {progress:?}")));
        }
    }
    if let Some((name, text)) = found {
        world.violate(name, text);
    }
}

/// Checks the nodes of a job that has started.
pub fn check_start(world: &mut World, job: usize) {
    let Some(started) = world.slurm.jobs.get(job) else { return };
    let unproven = started.nodes.iter().filter_map(|node| world.hosts.get(*node));
    let unproven = unproven.filter(|host| !host.may_run_jobs());
    let names: Vec<String> = unproven.map(|host| format!("{} {:?}", host.name, host.phase())).collect();
    if !names.is_empty() {
        let text = format!("job {} starts on {}", started.id, names.join(","));
        world.violate("unproven", text);
    }
}

/// Checks the end of a job before its time.
pub fn check_kill(world: &mut World, job: usize, by: By, why: &str) {
    let Some(killed) = world.slurm.jobs.get(job) else { return };
    let text = format!("job {} {why}, by {by:?}", killed.id);
    let is_due = |rollout: &Rollout| {
        let deadline = rollout.strategy.as_ref().ok().and_then(|strategy| strategy.jobs.deadline);
        let Some(deadline) = deadline.filter(|deadline| deadline.then != Then::Leave) else { return false };
        let at_most_ms = u64::try_from(deadline.at_most.as_millis()).unwrap_or(u64::MAX);
        world.slurm.names(&killed.nodes).iter().any(|name| {
            let record = rollout.state.records.get(name);
            let requested_ms = record.and_then(|record| record.request.as_ref()).map(|request| request.at_ms);
            let kept_out_ms = record.and_then(|record| record.kept_out.as_ref()).map(|kept| kept.since_ms);
            let since_ms = requested_ms.into_iter().chain(kept_out_ms).min();
            since_ms.is_some_and(|since_ms| since_ms.saturating_add(at_most_ms) <= world.now_ms)
        })
    };
    let is_allowed = by == By::Others || by == By::Us && world.store.rollouts.iter().any(is_due);
    world.say(&text);
    if !is_allowed {
        world.violate("job-lost", text);
    }
}

/// Checks a node that its agent reboots.
pub fn check_reboot(world: &mut World, node: usize) {
    let runs = world.slurm.jobs_on(node).find(|job| matches!(job.state, State::Running | State::Suspended));
    let Some(job) = runs else { return };
    let text = format!("its agent reboots node {node}, on which job {} runs", job.id);
    world.violate("job-lost", text);
}

/// Returns whether a rollout has come to an end: every node that the plan does not leave out has ended, and if that are
/// all, its hooks are done.
#[must_use]
pub fn has_ended(rollout: &Rollout, plan: &Plan) -> bool {
    let has_traces = rollout.state.records.values().any(NodeRecord::has_traces_in_slurm);
    if has_traces || crate::hooks::are_left(rollout) {
        return false;
    }
    let Some(found) = plan.rollouts.get(&rollout.id) else {
        // Nobody can start a rollout whose nodes somebody else has rebooted.
        return !rollout.state.records.values().any(|record| record.progress.is_pending());
    };
    let waits = rollout.state.records.keys().filter(|name| {
        let whys = plan.waiting.get(*name);
        let why = whys.and_then(|whys| whys.first());
        !matches!(why, None | Some(Why::Never | Why::Failed { .. } | Why::Skipped { .. }))
    });
    found.counts.requested == 0 && found.counts.out == 0 && waits.count() == 0
}

/// Checks what is left at the end.
pub fn check_end(world: &mut World) {
    let mut found = None;
    for node in &world.slurm.nodes {
        let is_our_request = node.requested && node.request.is_some_and(|request| request.by == By::Us);
        let has_failed = world.store.rollouts.iter().any(|rollout| {
            let progress = rollout.state.records.get(&node.name).map(|record| record.progress);
            matches!(progress, Some(Progress::Lost | Progress::Seen(Phase::Held)))
        });
        let is_out_of_order = node.invalid_reg || node.base == crate::slurm::node::Base::Down || has_failed;
        if is_our_request || node.our_drain && node.drain && !is_out_of_order {
            found = Some(("our-drain", format!("{}: {:?}", node.name, node.reason)));
        }
    }
    let mut reservations = world.slurm.reservations.iter();
    if let Some(left) = reservations.find(|other| other.is_ours() && world.now_ms < other.end_ms) {
        found = Some(("our-drain", format!("{} is left", left.name)));
    }
    let (_, plan) = &world.last_plan;
    let (mut updated, mut failed) = (0, 0);
    for rollout in &world.store.rollouts {
        for (name, record) in &rollout.state.records {
            if record.progress == Progress::Seen(Phase::Updated) {
                updated += 1;
                continue;
            }
            failed += 1;
            // Admins start all rollouts at the end. One that is not started even then had no node that waited.
            let is_started = rollout.state.conduct.state != ConductState::NotStarted;
            if is_started && plan.waiting.get(name).is_none_or(Vec::is_empty) {
                found = Some(("reason", format!("{}: {name} is {:?}", rollout.id, record.progress)));
            }
        }
    }
    (world.summary.updated, world.summary.failed) = (updated, failed);
    if let Some((name, text)) = found {
        world.violate(name, text);
    }
}
