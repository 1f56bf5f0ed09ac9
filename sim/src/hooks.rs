//! Hooks that the executor calls: programs that take their time, fail, are cut off, and die with their executor.

use crate::store::Rollout;
use crate::world::{Event, HOUR_MS, World};
use rollout_core::rollout::journal::{AfterFailure, ConductState, Entry, HookCall, Moment, NodeRecord};
use rollout_plan::plan::{Call, CallEnd, CallState};

/// The longest that a hook takes, and the chance in thousandths that one fails or is cut off.
const LONGEST_MS: u64 = 90_000;
const FAILS: u64 = 50;
const CUT_OFF: u64 = 80;

impl World {
    /// Calls a hook. It ends by itself, unless its executor ends before.
    pub(crate) fn call_hook(&mut self, index: usize, epoch: u32, call: &Call) {
        let key = (call.input.rollout.clone(), call.input.run);
        let takes_ms = self.rng.between(100, LONGEST_MS);
        if let Some(executor) = self.executors.get_mut(index) {
            executor.calls.insert(key.clone(), CallState::Running);
        }
        self.plan_in(takes_ms, Event::HookEnds { executor: index, epoch, call: key });
    }

    pub(crate) fn hook_ends(&mut self, index: usize, epoch: u32, key: &(String, u32)) {
        let error = || "exit code 1".to_owned();
        let end = match (self.strikes(CUT_OFF), self.strikes(FAILS)) {
            (true, _) => CallEnd::CutOff { error: error() },
            (_, true) => CallEnd::Failed { error: error() },
            _ => CallEnd::Succeeded,
        };
        let executor = self.executors.get_mut(index);
        let Some(executor) = executor.filter(|executor| executor.is_running && executor.epoch == epoch)
        else {
            return;
        };
        if let Some(state) = executor.calls.get_mut(key) {
            *state = CallState::Ended(end);
            executor.seen = None;
        }
    }

    /// Drops the calls that no journal has open, and all of an executor that has lost its lease.
    pub(crate) fn forget_calls(&mut self, index: usize, has_lease: bool) {
        let store = &self.store;
        let is_open = |(rollout, run): &(String, u32)| {
            store.rollout(rollout).is_some_and(|rollout| rollout.state.conduct.hooks.open.contains_key(run))
        };
        if let Some(executor) = self.executors.get_mut(index) {
            executor.calls.retain(|key, _| has_lease && is_open(key));
        }
    }
}

/// Checks a line that the executor is about to write.
pub(crate) fn check_line(world: &mut World, id: &str, entry: &Entry) {
    let Some(rollout) = world.store.rollout(id) else { return };
    let (conduct, records) = (&rollout.state.conduct, &rollout.state.records);
    let mut found = None;
    match entry {
        Entry::Requested { nodes, .. } => {
            let of_rollout = rollout.strategy.as_ref().map_or(&[][..], |strategy| &strategy.hooks);
            let hooks = world.limits.hooks.iter().chain(of_rollout);
            for hook in hooks.filter(|hook| hook.when == Moment::BeforeRequest) {
                let has_passed = |node: &str| {
                    let call = records.get(node)?.hooks.get(&(hook.when, hook.name.clone()))?;
                    let failure = call.failure().map(|failure| failure.then);
                    (call.is_done() && failure.is_none_or(|then| then == AfterFailure::Warn)).then_some(())
                };
                if nodes.iter().any(|node| hook.takes(node) && has_passed(node).is_none()) {
                    found = Some(("hook", format!("{id}: {nodes} requested before {}", hook.name)));
                }
            }
        }
        Entry::HookStarted { nodes, hook, when, attempt, .. } => {
            let is_over = |call: &HookCall| {
                let is_old = *when == Moment::BeforeRequest && world.now_ms > call.at_ms + HOUR_MS;
                call.is_done() && !is_old
            };
            let key = (*when, hook.clone());
            let of_nodes = nodes.iter().filter_map(|node| records.get(node)?.hooks.get(&key));
            let of_rollout = conduct.hooks.calls.get(&key).filter(|_| nodes.is_empty());
            let runs = conduct.hooks.open.values().any(|call| call.hook == *hook && call.when == *when);
            if of_nodes.chain(of_rollout).any(is_over) || runs || *attempt > 3 {
                found = Some(("hook-twice", format!("{id}: {hook} {when:?} for {nodes}, attempt {attempt}")));
            }
        }
        _ => {}
    }
    if let Some((name, text)) = found {
        world.violate(name, text);
    }
}

/// Returns whether nothing but hooks keeps a rollout from being over.
pub(crate) fn are_left(rollout: &Rollout) -> bool {
    let conduct = &rollout.state.conduct;
    let is_halted = matches!(conduct.state, ConductState::Halted { .. });
    conduct.hooks.awaited && !is_halted && rollout.state.records.values().all(NodeRecord::is_settled)
}
