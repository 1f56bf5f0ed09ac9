//! Hooks: which are due, for which nodes together, and what follows from the end of a call.
//!
//! A hook is called once for a node and a moment, and again only if a call was cut off. The hooks of a moment follow one
//! another in their order. There is one call of a hook at a time in a rollout: nodes that become due meanwhile share the
//! next one.

use super::Tick;
use super::cluster::Cluster;
use super::hook_call::{Call, CallEnd, CallState, HookInput, NodeInput, VERSION};
use super::rollouts::Rollout;
use super::step::{Effect, Step};
use super::units::Unit;
use super::waves::Waves;
use crate::hook::Hook;
use crate::standing::{Failure, Member, Standing};
use crate::strategy::Strategy;
use crate::why::Why;
use rollout_core::agent::phase::Phase;
use rollout_core::controller::conduct::summary;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::controller::status::recorded_phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{
    AfterFailure, ConductState, Entry, HookCall, HookCalls, Moment, NodeRecord, OpenCall, Progress,
};
use std::collections::BTreeMap;

/// Maximum number of calls at a time, of all rollouts.
const MAX_RUNNING: usize = 8;

/// Maximum number of calls of a hook that were cut off. The last one of them has failed.
const MAX_ATTEMPTS: u32 = 3;

/// Time for which the success of a hook before a request holds. If the request comes later, the hook is called again.
const HOLDS_MS: u64 = 3_600_000;

/// Hooks in a plan in the making.
pub(super) struct HookTurn<'a> {
    /// Number of calls that are open or made now.
    running: usize,
    /// Numbers of the last calls, by rollout.
    last_run: BTreeMap<&'a str, u32>,
    /// Hooks before the request of nodes of the present rollout, by their place, with the number of the attempt.
    due: Vec<(usize, u32, &'a str)>,
}

/// The next thing to do with the hooks of a moment for a node, or for a rollout.
enum Next {
    /// They are done.
    Done,
    /// The hook at this place runs, since a time in milliseconds since 1970.
    Runs(usize, u64),
    /// The hook at this place is to be called.
    Due(usize, u32),
    /// The hook at this place has failed, and nothing follows.
    Stops(usize),
}

/// The hooks of a moment, in their order.
struct Hooks<'a> {
    when: Moment,
    hooks: Vec<&'a Hook>,
}

impl<'a> HookTurn<'a> {
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let open = snapshot.rollouts.iter().map(|rollout| rollout.conduct.hooks.open.len());
        Self { running: open.sum(), last_run: BTreeMap::new(), due: Vec::new() }
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// Returns the number of the next call, and counts it.
    fn next_run(&mut self, rollout: &'a RolloutState) -> u32 {
        self.running = self.running.saturating_add(1);
        let last = self.last_run.entry(&rollout.id).or_insert(rollout.conduct.hooks.last_run);
        *last = last.saturating_add(1);
        *last
    }
}

impl<'a> Hooks<'a> {
    /// Returns those of the site, then those of the rollout. One without a strategy that can be read has none.
    fn new(cluster: &Cluster<'a>, strategy: Option<&'a Strategy>, when: Moment) -> Self {
        let of_rollout = strategy.map_or(&[][..], |strategy| &strategy.hooks);
        let of_site = strategy.map_or(&[][..], |_| &cluster.input.limits.hooks);
        let all = of_site.iter().chain(of_rollout);
        Self { when, hooks: all.filter(|hook| hook.when == when).collect() }
    }

    /// Returns what is next by these calls. `node`: the node that they are about.
    fn next(&self, calls: &HookCalls, node: Option<&str>, now_ms: u64) -> Next {
        for (place, hook) in self.hooks.iter().enumerate() {
            if node.is_some_and(|node| !hook.takes(node)) {
                continue;
            }
            let Some(call) = calls.get(&(self.when, hook.name.clone())) else { return Next::Due(place, 1) };
            let is_first = self.when == Moment::BeforeRequest;
            match &call.outcome {
                None => return Next::Runs(place, call.at_ms),
                Some(Err(failure)) if failure.then == AfterFailure::Again => {
                    return Next::Due(place, call.attempt.saturating_add(1));
                }
                Some(Err(failure)) if is_first && failure.then != AfterFailure::Warn => {
                    return Next::Stops(place);
                }
                _ if is_first && now_ms > call.at_ms.saturating_add(HOLDS_MS) => return Next::Due(place, 1),
                _ => {}
            }
        }
        Next::Done
    }

    fn name(&self, place: usize) -> String {
        self.hooks.get(place).map_or_else(String::new, |hook| hook.name.clone())
    }
}

impl<'a> Tick<'_, 'a> {
    /// Returns the hooks of a moment.
    fn hooks(&self, rollout: &Rollout<'a>, when: Moment) -> Hooks<'a> {
        Hooks::new(self.cluster, rollout.strategy, when)
    }

    /// Records the ends of calls. Returns the reason if one of them halts the rollout.
    pub(super) fn end_calls(&mut self, rollout: &Rollout<'a>) -> Option<String> {
        let mut halt = rollout.state.conduct.hooks.halt.clone();
        let known = self.cluster.input.hooks?;
        for (run, call) in &rollout.state.conduct.hooks.open {
            let end = match known.get(&(rollout.id().to_owned(), *run)) {
                Some(CallState::Running) => continue,
                Some(CallState::Ended(end)) => end.clone(),
                None => CallEnd::CutOff { error: "its executor ended".to_owned() },
            };
            let (error, then) = match end {
                CallEnd::Succeeded => (None, None),
                CallEnd::CutOff { error } if call.attempt < MAX_ATTEMPTS => {
                    (Some(error), Some(AfterFailure::Again))
                }
                CallEnd::Failed { error } | CallEnd::CutOff { error } => {
                    (Some(error), Some(self.consequence(rollout, call)))
                }
            };
            if let (Some(error), Some(AfterFailure::Halt)) = (&error, then) {
                halt.get_or_insert_with(|| format!("hook {}: {error}", call.hook));
            }
            let (nodes, hook, when, run) = (call.nodes.clone(), call.hook.clone(), call.when, *run);
            self.record(rollout, Entry::HookEnded { nodes, hook, when, run, error, then });
        }
        halt
    }

    /// Returns the consequence of the failure of a call. A hook that is no longer configured has none.
    fn consequence(&self, rollout: &Rollout<'a>, call: &OpenCall) -> AfterFailure {
        let hooks = self.hooks(rollout, call.when).hooks;
        let hook = hooks.into_iter().find(|hook| hook.name == call.hook);
        hook.map_or(AfterFailure::Warn, |hook| hook.on_failure)
    }

    /// Calls the hooks that are due, but for those that come before a request.
    pub(super) fn call_hooks(&mut self, rollout: &Rollout<'a>) {
        let hooks = &rollout.state.conduct.hooks;
        if !rollout.was_started() {
            return;
        }
        if !hooks.awaited {
            let has_any = Moment::ALL.iter().any(|when| !self.hooks(rollout, *when).hooks.is_empty());
            if has_any && !rollout.state.is_over() {
                self.record(rollout, Entry::HooksAwaited);
            }
            return;
        }
        let mut is_done = hooks.open.is_empty();
        for when in [Moment::Updated, Moment::Failed] {
            is_done &= self.call_after(rollout, when);
        }
        let is_halted = self.halted.contains(&rollout.id());
        let of_state = match rollout.state.conduct.state {
            _ if is_halted => None,
            ConductState::Halted { .. } => Some(Moment::Halted),
            ConductState::Paused { .. } => Some(Moment::Paused),
            _ => None,
        };
        if let Some(when) = of_state {
            is_done &= self.call_for_rollout(rollout, when);
        }
        let is_halted = is_halted || matches!(rollout.state.conduct.state, ConductState::Halted { .. });
        // Nobody knows the hooks of a rollout whose strategy cannot be read.
        let is_known = rollout.strategy.is_some() || rollout.state.conduct.state == ConductState::Stopped;
        let is_over = is_done && is_known && !is_halted && rollout.state.is_at_rest();
        if is_over && self.call_for_rollout(rollout, Moment::Ended) {
            self.record(rollout, Entry::HooksOver);
        }
    }

    /// Calls the hooks of a moment for the nodes that have come to it since the rollout was started. Returns whether
    /// none is due and none runs.
    fn call_after(&mut self, rollout: &Rollout<'a>, when: Moment) -> bool {
        let hooks = self.hooks(rollout, when);
        if hooks.hooks.is_empty() {
            return true;
        }
        let has_come = |member: &&Member<'_>| match (when, member.standing) {
            (Moment::Updated, Standing::Out | Standing::Updated | Standing::Failed(Failure::Hook)) => {
                is_back(member.record)
            }
            (Moment::Failed, Standing::Failed(_)) => !member.record.before_start,
            _ => false,
        };
        let (mut due, mut is_done) = (Vec::new(), true);
        for member in rollout.members.iter().filter(has_come) {
            match hooks.next(&member.record.hooks, Some(member.name), self.cluster.now_ms) {
                Next::Due(place, attempt) => due.push((place, attempt, member.name)),
                Next::Runs(..) => {}
                Next::Done | Next::Stops(_) => continue,
            }
            is_done = false;
        }
        self.call_for_nodes(rollout, &hooks, due);
        is_done
    }

    /// Calls the hook of a moment that is next for a rollout as a whole. Returns whether all are done.
    fn call_for_rollout(&mut self, rollout: &Rollout<'a>, when: Moment) -> bool {
        let hooks = self.hooks(rollout, when);
        match hooks.next(&rollout.state.conduct.hooks.calls, None, self.cluster.now_ms) {
            Next::Done | Next::Stops(_) => true,
            Next::Runs(..) => false,
            Next::Due(place, attempt) => {
                if let Some(hook) = hooks.hooks.get(place) {
                    self.call(rollout, hook, attempt, NodeSet::default());
                }
                false
            }
        }
    }

    /// Returns whether all hooks before the request of nodes are done. Those that are due are noted, and the nodes wait.
    pub(super) fn are_hooks_done<'b>(
        &mut self,
        rollout: &Rollout<'a>,
        members: impl Iterator<Item = &'b Member<'a>>,
    ) -> bool
    where
        'a: 'b,
    {
        let hooks = self.hooks(rollout, Moment::BeforeRequest);
        if hooks.hooks.is_empty() {
            return true;
        }
        let members: Vec<&Member<'a>> = members.collect();
        let next =
            |member: &&Member<'a>| hooks.next(&member.record.hooks, Some(member.name), self.cluster.now_ms);
        let next: Vec<Next> = members.iter().map(next).collect();
        if next.iter().all(|next| matches!(next, Next::Done)) {
            return true;
        }
        // A unit goes as a whole: its other nodes wait for the same hook.
        let first = next.iter().find_map(|next| match next {
            Next::Runs(place, since_ms) => Some((*place, Some(*since_ms))),
            Next::Due(place, _) | Next::Stops(place) => Some((*place, None)),
            Next::Done => None,
        });
        for (member, next) in members.iter().zip(&next) {
            let (place, since_ms) = match next {
                Next::Runs(place, since_ms) => (*place, Some(*since_ms)),
                Next::Due(place, attempt) => {
                    self.hooks.due.push((*place, *attempt, member.name));
                    (*place, None)
                }
                Next::Stops(place) => (*place, None),
                Next::Done => first.unwrap_or_default(),
            };
            self.wait(member.name, Why::Hook { hook: hooks.name(place), since_ms });
        }
        false
    }

    /// Calls the hooks that were noted.
    pub(super) fn call_before_request(&mut self, rollout: &Rollout<'a>) {
        let due = std::mem::take(&mut self.hooks.due);
        let hooks = self.hooks(rollout, Moment::BeforeRequest);
        self.call_for_nodes(rollout, &hooks, due);
    }

    /// Calls each hook that is due, for the nodes whose turn it is.
    fn call_for_nodes(&mut self, rollout: &Rollout<'a>, hooks: &Hooks<'a>, due: Vec<(usize, u32, &'a str)>) {
        let mut by_hook: BTreeMap<usize, (u32, Vec<&str>)> = BTreeMap::new();
        for (place, attempt, node) in due {
            let (of, nodes) = by_hook.entry(place).or_insert((attempt, Vec::new()));
            if *of == attempt {
                nodes.push(node);
            }
        }
        for (place, (attempt, mut nodes)) in by_hook {
            let Some(hook) = hooks.hooks.get(place) else { continue };
            nodes.truncate(hook.max_nodes);
            self.call(rollout, hook, attempt, nodes.into_iter().map(str::to_owned).collect());
        }
    }

    /// Calls a hook, unless it runs for the rollout, or too many do.
    fn call(&mut self, rollout: &Rollout<'a>, hook: &Hook, attempt: u32, nodes: NodeSet) {
        let Hook { name, when, .. } = hook;
        let mut open = rollout.state.conduct.hooks.open.values();
        let runs = open.any(|call| call.hook == *name && call.when == *when);
        if runs || self.hooks.running >= MAX_RUNNING || self.cluster.input.hooks.is_none() {
            return;
        }
        let run = self.hooks.next_run(rollout.state);
        let input = self.input(rollout, hook, (run, attempt), &nodes);
        let effect = Some(Effect::Call(Box::new(Call { hook: hook.clone(), input })));
        let (hook, when) = (name.clone(), *when);
        let before = Some(Entry::HookStarted { nodes, hook, when, run, attempt });
        self.push(Step { rollout: rollout.id().to_owned(), before, effect, after: None });
    }

    /// Returns the input of a hook, about these nodes, or about all if there are none.
    fn input(
        &self,
        rollout: &Rollout<'a>,
        hook: &Hook,
        (run, attempt): (u32, u32),
        nodes: &NodeSet,
    ) -> HookInput {
        let waves = rollout.strategy.map(|strategy| Waves::new(self.cluster, rollout, strategy));
        let is_meant = |member: &&Member<'_>| nodes.is_empty() || nodes.contains(member.name);
        let members = || rollout.members.iter().filter(is_meant);
        let node = |member: &Member<'_>| NodeInput {
            name: member.name.to_owned(),
            phase: recorded_phase(member.record).name(),
            error: member.error().map(str::to_owned),
        };
        let (state, why) = match (hook.when, summary(rollout.state)) {
            (Moment::Ended, Some(summary)) if summary.state != "stopped" => ("done".to_owned(), None),
            (_, Some(summary)) => (summary.state, summary.why),
            (_, None) => (String::new(), None),
        };
        HookInput {
            version: VERSION,
            rollout: rollout.id().to_owned(),
            hook: hook.name.clone(),
            when: hook.when,
            run,
            attempt,
            state,
            why,
            wave: waves.as_ref().map_or(0, |waves| waves.current.saturating_add(1)),
            waves: waves.as_ref().map_or(0, Waves::number),
            nodelist: members().map(|member| member.name.to_owned()).collect(),
            nodes: members().map(node).collect(),
            changes: rollout
                .state
                .manifest
                .as_ref()
                .map_or_else(|_| Vec::new(), |of| of.desired.changes.clone()),
        }
    }
}

/// The part of hooks in the standing of the nodes of a rollout.
pub(super) struct StandingByHooks<'a> {
    updated: Hooks<'a>,
    now_ms: u64,
}

impl<'a> StandingByHooks<'a> {
    pub(super) fn new(cluster: &Cluster<'a>, strategy: Option<&'a Strategy>) -> Self {
        let updated = Hooks::new(cluster, strategy, Moment::Updated);
        Self { updated, now_ms: cluster.now_ms }
    }

    /// Returns a node that keeps its place: one that is updated is out until its hooks are done, and so is one whose
    /// hooks before the request have begun. What they have moved away from it must not be missing on a second node.
    pub(super) fn apply(&self, member: Member<'a>) -> Member<'a> {
        match member.standing {
            Standing::Updated if self.awaits(&member) => {
                Member { standing: Standing::Out, holds_slot: true, ..member }
            }
            Standing::Waiting
                if member.record.hooks.iter().any(|(key, call)| self.is_under_way(key, call)) =>
            {
                Member { holds_slot: true, ..member }
            }
            _ => member,
        }
    }

    fn awaits(&self, member: &Member<'_>) -> bool {
        is_back(member.record)
            && !matches!(self.updated.next(&member.record.hooks, Some(member.name), self.now_ms), Next::Done)
    }

    fn is_under_way(&self, (when, _): &(Moment, String), call: &HookCall) -> bool {
        let is_recent = self.now_ms <= call.at_ms.saturating_add(HOLDS_MS);
        let has_failed = matches!(&call.outcome, Some(Err(failure)) if failure.then != AfterFailure::Warn);
        *when == Moment::BeforeRequest && is_recent && !has_failed
    }
}

/// Returns whether a node is updated since its rollout was started, and qualified if it is to be.
fn is_back(record: &NodeRecord) -> bool {
    let is_qualified = record
        .qualification
        .as_ref()
        .is_none_or(|known| known.outcome.as_ref().is_some_and(|outcome| outcome.failure.is_none()));
    record.progress == Progress::Seen(Phase::Updated) && !record.before_start && is_qualified
}

/// Returns the reason if a node is updated, and keeps its place until its hooks are done.
pub(super) fn why_updated(cluster: &Cluster<'_>, rollout: &Rollout<'_>, member: &Member<'_>) -> Option<Why> {
    if member.standing != Standing::Out || !is_back(member.record) {
        return None;
    }
    let hooks = Hooks::new(cluster, rollout.strategy, Moment::Updated);
    let (place, since_ms) = match hooks.next(&member.record.hooks, Some(member.name), cluster.now_ms) {
        Next::Runs(place, since_ms) => (place, Some(since_ms)),
        Next::Due(place, _) | Next::Stops(place) => (place, None),
        Next::Done => return None,
    };
    Some(Why::Hook { hook: hooks.name(place), since_ms })
}

/// Returns whether hooks before the request of a unit have begun.
pub(super) fn has_begun(rollout: &Rollout<'_>, unit: &Unit<'_>) -> bool {
    let is_first = |(when, _): &(Moment, String)| *when == Moment::BeforeRequest;
    rollout.members_of(unit).any(|member| member.record.hooks.keys().any(is_first))
}
