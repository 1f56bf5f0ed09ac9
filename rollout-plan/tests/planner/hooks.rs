//! Rollouts with hooks, from their start to their end: executors that die, and calls that fail or are cut off, at random.

use crate::script;
use crate::world::World;
use proptest::prelude::*;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{AfterFailure, ConductState, Entry, Moment};
use rollout_plan::plan::{CallEnd, CallState, Effect};
use std::collections::BTreeSet;

/// Number of ticks with faults, and without.
const TICKS: usize = 60;
const REST: usize = 240;

/// One tick's faults.
#[derive(Debug, Clone)]
struct Faults {
    /// The executor dies after its lines, or after its effects.
    dies: Option<bool>,
    /// The end of the calls that run. `None`: they run on.
    end: Option<CallEnd>,
    /// The nodes that are out are back, updated or not.
    back: Option<bool>,
    is_resumed: bool,
}

fn faults() -> impl Strategy<Value = Faults> {
    let error = || "exit code 1".to_owned();
    let end = prop_oneof![
        3 => Just(None),
        4 => Just(Some(CallEnd::Succeeded)),
        1 => Just(Some(CallEnd::Failed { error: error() })),
        1 => Just(Some(CallEnd::CutOff { error: error() })),
    ];
    let dies = prop_oneof![8 => Just(None), 1 => any::<bool>().prop_map(Some)];
    let back = prop_oneof![2 => Just(None), 4 => Just(Some(true)), 1 => Just(Some(false))];
    (dies, end, back, prop::bool::weighted(0.1)).prop_map(|(dies, end, back, is_resumed)| Faults {
        dies,
        end,
        back,
        is_resumed,
    })
}

fn strategies() -> impl Strategy<Value = String> {
    let policy = || prop::sample::select(vec!["warn", "halt", "fail"]);
    let nodes = prop::sample::select(vec!["", "nodes = \"n[1-2]\"\n", "max_nodes = 1\n"]);
    (1..4_u32, policy(), policy(), nodes).prop_map(|(max_out, before, updated, nodes)| {
        let hook = |when: &str, program: &str, keys: &str| {
            format!("[[strategy.hook]]\nwhen = \"{when}\"\ncommand = [\"/{program}\"]\n{keys}")
        };
        let before = format!("on_failure = \"{before}\"\n{nodes}");
        let hooks = [
            hook("before-request", "first", &before),
            hook("before-request", "second", ""),
            hook("updated", "back", &format!("on_failure = \"{updated}\"\n")),
            hook("failed", "tell", ""),
            hook("halted", "tell", ""),
            hook("ended", "tell", ""),
        ];
        format!("max_out = {max_out}\nhalt.failed = 3\n{}", hooks.concat())
    })
}

/// A rollout on its way.
struct Run {
    world: World,
    /// Hooks that are done: for each node, or for the rollout in its present state.
    done: BTreeSet<(Moment, String, String)>,
}

impl Run {
    fn write(&mut self, entry: Entry) {
        self.world.write("driver", entry);
    }

    /// Plans, and writes the lines. Checks what is requested and called.
    fn tick(&mut self, faults: &Faults) -> Result<(), TestCaseError> {
        let steps = self.world.plan().steps;
        let strategy = self.world.rollouts[0].strategy().unwrap();
        for step in &steps {
            let Some(entry) = &step.before else { continue };
            match entry {
                Entry::Requested { nodes, .. } => {
                    let hooks = strategy.hooks.iter().filter(|hook| hook.when == Moment::BeforeRequest);
                    for (hook, node) in hooks.flat_map(|hook| nodes.iter().map(move |node| (hook, node))) {
                        let key = (hook.when, hook.name.clone(), node.to_owned());
                        prop_assert!(!hook.takes(node) || self.done.contains(&key), "{key:?}: {entry:?}");
                    }
                    self.done.retain(|(.., node)| !nodes.contains(node));
                }
                Entry::HookStarted { nodes, hook, when, attempt, .. } => {
                    for key in keys(nodes, hook, *when) {
                        prop_assert!(!self.done.contains(&key), "twice: {entry:?}");
                    }
                    prop_assert!(*attempt <= 3, "{entry:?}");
                }
                Entry::HookEnded { nodes, hook, when, then, .. } => {
                    let is_done = then.is_none_or(|then| then == AfterFailure::Warn);
                    let is_later = *when != Moment::BeforeRequest && *then != Some(AfterFailure::Again);
                    if is_done || is_later {
                        self.done.extend(keys(nodes, hook, *when));
                    }
                }
                Entry::Halted { .. } => self.done.retain(|(when, ..)| when.is_of_nodes()),
                _ => {}
            }
            self.write(entry.clone());
        }
        let calls = self.world.hooks.as_mut().unwrap();
        let open = &self.world.rollouts[0].state().conduct.hooks.open;
        calls.retain(|(_, run), _| open.contains_key(run));
        if faults.dies == Some(false) {
            calls.clear();
            return Ok(());
        }
        for step in &steps {
            match &step.effect {
                Some(Effect::Call(call)) => {
                    calls.insert((step.rollout.clone(), call.input.run), CallState::Running);
                }
                Some(Effect::Request { nodes, .. }) => {
                    for node in nodes.iter() {
                        let info = self.world.nodes.get_mut(node).unwrap();
                        info.state = ["DOWN", "DRAIN", "REBOOT_ISSUED"].map(str::to_owned).into();
                    }
                }
                _ => {}
            }
        }
        if let Some(end) = &faults.end {
            calls.values_mut().for_each(|state| *state = CallState::Ended(end.clone()));
        }
        if faults.dies == Some(true) {
            calls.clear();
        }
        Ok(())
    }

    /// Has the nodes that are out come back.
    fn come_back(&mut self, is_updated: bool) {
        let out = self.world.nodes.values().filter(|info| info.has("REBOOT_ISSUED"));
        let nodes: NodeSet = out.map(|info| info.name.clone()).collect();
        if nodes.is_empty() {
            return;
        }
        for node in nodes.iter() {
            self.world.nodes.get_mut(node).unwrap().state = ["IDLE".to_owned()].into();
        }
        let order = OrderId::from_random(1);
        let (phase, error) = match is_updated {
            true => (Phase::Updated, None),
            false => (Phase::RolledBack, Some("no such package".to_owned())),
        };
        self.write(Entry::Ordering { nodes: nodes.clone(), order: order.clone(), until_ms: 0 });
        self.write(Entry::Ordered { nodes: nodes.clone(), order: order.clone(), volatile: false });
        self.write(Entry::Seen { nodes, order, phase, error, notes: Vec::new() });
    }

    fn resume(&mut self) {
        let state = self.world.rollouts[0].state();
        if state.is_over() {
            return;
        }
        let enters_another = state.conduct.state != ConductState::Running;
        self.done
            .retain(|(when, ..)| *when != Moment::BeforeRequest && (when.is_of_nodes() || !enters_another));
        self.write(Entry::Resumed);
    }
}

/// Returns the nodes of a call with its hook. A call about the rollout as a whole has one of no name.
fn keys(nodes: &NodeSet, hook: &str, when: Moment) -> Vec<(Moment, String, String)> {
    let key = |node: &str| (when, hook.to_owned(), node.to_owned());
    if nodes.is_empty() { vec![key("")] } else { nodes.iter().map(key).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// No node is requested before its hooks have succeeded, no hook is called again after its end, and every rollout
    /// ends with all of its hooks done.
    #[test]
    fn hooks_keep_their_contract(
        strategy in strategies(), faults in prop::collection::vec(faults(), TICKS),
    ) {
        let world = script::read(&format!("node n[1-4] IDLE\nrollout driver n[1-4] {{\n{strategy}}}\n"));
        let mut run = Run { world, done: BTreeSet::new() };
        let good = || Faults { dies: None, end: Some(CallEnd::Succeeded), back: Some(true), is_resumed: false };
        for (number, faults) in faults.into_iter().chain(std::iter::repeat_with(good).take(REST)).enumerate() {
            run.world.now_ms += 3_000;
            // An admin has nodes go that a hook has failed.
            if faults.is_resumed || number >= TICKS && number % 40 == 0 {
                run.resume();
            }
            run.tick(&faults)?;
            if let Some(is_updated) = faults.back {
                run.come_back(is_updated);
            }
        }
        let state = run.world.rollouts[0].state();
        prop_assert!(state.is_over(), "{:#?}", run.world.rollouts[0].lines);
        let is_done = |when: Moment, hook: &str, node: &str| run.done.contains(&(when, hook.to_owned(), node.to_owned()));
        for (name, record) in &state.records {
            let (when, hook) = match record.progress == rollout_core::rollout::journal::Progress::Seen(Phase::Updated) {
                true => (Moment::Updated, "back"),
                false => (Moment::Failed, "tell"),
            };
            prop_assert!(is_done(when, hook, name), "{name}: {:#?}", run.world.rollouts[0].lines);
        }
        prop_assert!(is_done(Moment::Ended, "tell", ""));
    }
}
