//! Breadth-first exploration of all states that a scenario can reach, with the path of events to each violation.

use crate::canonical::{Key, key};
use crate::scenario::{Budget, Scenario};
use crate::world::{Event, World};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// Persistence points that one event can pass.
const MAX_POINTS: u8 = 40;

/// Steps of one continuation without faults.
const MAX_CONTINUATION: usize = 2_000;

/// The result of an exploration.
#[derive(Debug, Default)]
pub struct Explored {
    pub states: usize,
    pub transitions: usize,
    /// Events on the longest shortest path.
    pub depth: usize,
    /// The bound on the number of states ended it.
    pub is_cut: bool,
    /// The first violation of each invariant, with its path.
    pub violations: BTreeMap<char, Violation>,
}

#[derive(Debug)]
pub struct Violation {
    pub what: String,
    pub path: Vec<Event>,
    /// The last events of the path belong to the continuation without faults.
    pub continued: usize,
}

/// A state that was reached, to find the way back.
struct Reached {
    from: u32,
    by: Event,
    depth: u32,
}

struct Explorer<'a> {
    scenario: &'a Scenario,
    reached: Vec<Reached>,
    known: HashMap<Key, Vec<Budget>>,
    /// States from which the continuation without faults ends well.
    good: HashSet<Key>,
    found: Explored,
    /// Invariants of which the first violation ends the exploration. All of them must be violated.
    wanted: &'a [char],
}

/// Explores a scenario up to a number of states. If some invariants are `wanted`, it ends once all of these are
/// violated.
pub fn explore(scenario: &Scenario, max_states: usize, wanted: &[char]) -> Explored {
    let mut explorer = Explorer {
        scenario,
        reached: Vec::new(),
        known: HashMap::new(),
        good: HashSet::new(),
        found: Explored::default(),
        wanted,
    };
    explorer.run(max_states);
    explorer.found
}

impl Explorer<'_> {
    fn run(&mut self, max_states: usize) {
        let start = World::new(self.scenario);
        self.known.insert(key(&start), vec![start.budget]);
        self.reached.push(Reached { from: 0, by: Event::Pause, depth: 0 });
        let mut frontier = VecDeque::from([(0_u32, start)]);
        while let Some((number, world)) = frontier.pop_front() {
            self.found.states += 1;
            self.check_continuation(number, &world);
            if self.has_all_wanted() {
                return;
            }
            if self.reached.len() >= max_states {
                self.found.is_cut = true;
                continue;
            }
            for event in world.events(self.scenario) {
                if let Some(next) = world.after(self.scenario, event) {
                    self.visit(number, event, next, &mut frontier);
                }
            }
            for passes in 0..MAX_POINTS {
                let mut any = false;
                for event in world.deadly_events(passes) {
                    if let Some(next) = world.after(self.scenario, event) {
                        any = true;
                        self.visit(number, event, next, &mut frontier);
                    }
                }
                if !any {
                    break;
                }
            }
        }
    }

    fn has_all_wanted(&self) -> bool {
        !self.wanted.is_empty() && self.wanted.iter().all(|kind| self.found.violations.contains_key(kind))
    }

    fn visit(&mut self, from: u32, by: Event, world: World, frontier: &mut VecDeque<(u32, World)>) {
        self.found.transitions += 1;
        if let Some(what) = world.violation {
            let mut path = self.path_to(from);
            path.push(by);
            self.violated(what, path, 0);
            return;
        }
        let budgets = self.known.entry(key(&world)).or_default();
        if budgets.iter().any(|known| known.covers(world.budget)) {
            return;
        }
        budgets.retain(|known| !world.budget.covers(*known));
        budgets.push(world.budget);
        let depth = self.reached[from as usize].depth + 1;
        self.found.depth = self.found.depth.max(depth as usize);
        let number = u32::try_from(self.reached.len()).expect("few states");
        self.reached.push(Reached { from, by, depth });
        frontier.push_back((number, world));
    }

    fn violated(&mut self, what: String, path: Vec<Event>, continued: usize) {
        let kind = what.chars().next().unwrap_or('?');
        self.found.violations.entry(kind).or_insert(Violation { what, path, continued });
    }

    fn path_to(&self, mut number: u32) -> Vec<Event> {
        let mut path = Vec::new();
        while number != 0 {
            let Reached { from, by, .. } = self.reached[number as usize];
            path.push(by);
            number = from;
        }
        path.reverse();
        path
    }

    /// Lets everything go on without faults, until nothing new happens, and checks the end.
    fn check_continuation(&mut self, number: u32, world: &World) {
        let mut world = world.clone();
        let mut seen = vec![key(&world)];
        let mut events = Vec::new();
        loop {
            let current = *seen.last().expect("the first state");
            if self.good.contains(&current) {
                break;
            }
            let next = world.fair_events(self.scenario).into_iter().find_map(|event| {
                let next = world.after(self.scenario, event)?;
                let key = key(&next);
                // A process that was started comes to its end, also if it turns out to change nothing.
                let is_new = matches!(event, Event::Step { .. }) || !seen.contains(&key);
                is_new.then_some((event, next, key))
            });
            let Some((event, next, key)) = next else { break };
            events.push(event);
            seen.push(key);
            world = next;
            assert!(seen.len() < MAX_CONTINUATION, "no end: {events:?}");
            if world.violation.is_some() {
                break;
            }
        }
        let is_end = !self.good.contains(seen.last().expect("the first state"));
        let violation =
            world.violation.clone().or_else(|| world.violated_at_end(self.scenario).filter(|_| is_end));
        match violation {
            None => self.good.extend(seen),
            Some(what) => {
                let mut path = self.path_to(number);
                path.extend(&events);
                self.violated(what, path, events.len());
            }
        }
    }
}

/// Prints a violation with its path, and the journals at its end.
pub fn print(scenario: &Scenario, violation: &Violation) {
    println!("  violated: {}", violation.what);
    let mut world = World::new(scenario);
    let first_continued = violation.path.len() - violation.continued;
    for (number, event) in violation.path.iter().enumerate() {
        if number == first_continued {
            println!("    from here without faults:");
        }
        println!("    {} {event:?}", world.now_ms);
        world = world.after(scenario, *event).expect("the path can be repeated");
        world.print(scenario);
    }
    world.store.print(scenario);
}
