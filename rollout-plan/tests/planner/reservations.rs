//! Reservations over time: plans are carried out in part, while jobs end, nodes boot, and an admin steers.

use crate::script;
use crate::world::World;
use proptest::prelude::*;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Entry, Way};
use rollout_core::slurm::reservations::{Reservation, name_of};
use rollout_plan::plan::Effect;

const ID: &str = "driver";
const NODES: [&str; 3] = ["n1", "n2", "n3"];
const CLUSTER: &str = "node n[1-3] MIXED\njob 1 R n1 -1h +1h\njob 2 R n2 -1h +20m\njob 3 R n3 -1h +2h\n\
                       rollout driver n[1-3] {\nmax_out = 2\njobs.wait = \"end\"\n}\nvisit driver 10m\n";

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A tick whose process dies after this number of effects.
    Tick(usize),
    JobEnds(usize),
    /// Slurm issues the reboots of idle nodes.
    Issue,
    /// Nodes come back, updated.
    Boot,
    Pause,
    Resume,
    /// Somebody cancels the request of a node.
    Cancel(usize),
    /// Somebody deletes all reservations.
    Delete,
    Minutes(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        8 => (0..6_usize).prop_map(Event::Tick),
        2 => (0..3_usize).prop_map(Event::JobEnds),
        2 => Just(Event::Issue),
        2 => Just(Event::Boot),
        1 => Just(Event::Pause),
        2 => Just(Event::Resume),
        1 => (0..3_usize).prop_map(Event::Cancel),
        1 => Just(Event::Delete),
        1 => (1..50_u64).prop_map(Event::Minutes),
    ];
    prop::collection::vec(event, 0..40)
}

impl World {
    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(effects) => self.tick(effects),
            Event::JobEnds(index) => {
                let node = NODES[index];
                self.jobs.as_mut().unwrap().retain(|job| !job.nodes.contains(node));
                self.change(node, "MIXED", "IDLE");
            }
            Event::Issue => {
                for node in self.nodes_with(&["IDLE", "REBOOT_REQUESTED"]) {
                    self.nodes.get_mut(node).unwrap().state = words("DOWN+REBOOT_ISSUED");
                    let (nodes, order) = (set(node), OrderId::from_random(1));
                    self.write(ID, Entry::Ordering { nodes: set(node), order: order.clone(), until_ms: 0 });
                    self.write(ID, Entry::Ordered { nodes, order, volatile: false });
                }
            }
            Event::Boot => {
                for node in self.nodes_with(&["REBOOT_ISSUED"]) {
                    let boot_s = Some(self.now_ms / 1000);
                    let info = self.nodes.get_mut(node).unwrap();
                    (info.state, info.boot_s) = (words("IDLE"), boot_s);
                    let (nodes, order, notes) = (set(node), OrderId::from_random(1), Vec::new());
                    self.write(ID, Entry::Seen { nodes, order, phase: Phase::Updated, error: None, notes });
                }
            }
            Event::Pause => self.write(ID, Entry::Paused { why: None }),
            Event::Resume => self.write(ID, Entry::Resumed),
            Event::Cancel(index) => self.cancel(NODES[index]),
            Event::Delete => self.reservations.as_mut().unwrap().clear(),
            Event::Minutes(minutes) => self.now_ms += minutes * 60_000,
        }
        let now_s = self.now_ms / 1000;
        self.reservations.as_mut().unwrap().retain(|reservation| reservation.end_s > now_s);
    }

    /// Writes the lines of a plan, and carries out its first effects.
    fn tick(&mut self, effects: usize) {
        let plan = self.plan();
        for step in &plan.steps {
            step.before.iter().for_each(|line| self.write(&step.rollout, line.clone()));
        }
        for effect in plan.steps.iter().filter_map(|step| step.effect.as_ref()).take(effects) {
            self.carry_out(effect);
        }
        self.now_ms += 3000;
    }

    fn carry_out(&mut self, effect: &Effect) {
        match effect {
            Effect::Reserve { node, from_s, until_s } => {
                let (name, flags) = (name_of(ID, node), vec!["MAINT".to_owned(), "IGNORE_JOBS".to_owned()]);
                let reservations = self.reservations.as_mut().unwrap();
                assert!(reservations.iter().all(|other| other.name != name), "{name} exists");
                assert!(from_s < until_s && *from_s >= self.now_ms / 1000);
                let (nodes, users) = (set(node), vec!["root".to_owned()]);
                let (start_s, end_s) = (*from_s, *until_s);
                reservations.push(Reservation { name, nodes, start_s, end_s, flags, users });
            }
            Effect::Unreserve { node } => {
                self.reservations.as_mut().unwrap().retain(|other| other.name != name_of(ID, node));
            }
            Effect::Request { nodes, way } => {
                let more = if *way == Way::Asap {
                    words("DRAIN+REBOOT_REQUESTED")
                } else {
                    words("REBOOT_REQUESTED")
                };
                for node in
                    nodes.iter().filter(|node| !self.has(node, "REBOOT_REQUESTED")).collect::<Vec<_>>()
                {
                    self.nodes.get_mut(node).unwrap().state.extend(more.clone());
                }
            }
            Effect::Cancel { nodes } => nodes.iter().for_each(|node| self.cancel(node)),
            other => panic!("{other:?}"),
        }
    }

    fn cancel(&mut self, node: &str) {
        if self.has(node, "REBOOT_REQUESTED") {
            let state = &mut self.nodes.get_mut(node).unwrap().state;
            state.retain(|word| word != "REBOOT_REQUESTED" && word != "DRAIN");
        }
    }

    fn nodes_with(&self, words: &[&str]) -> Vec<&'static str> {
        NODES.into_iter().filter(|node| words.iter().all(|word| self.has(node, word))).collect()
    }

    fn has(&self, node: &str, word: &str) -> bool {
        self.nodes[node].has(word)
    }

    fn change(&mut self, node: &str, from: &str, to: &str) {
        let state = &mut self.nodes.get_mut(node).unwrap().state;
        state.iter_mut().filter(|word| *word == from).for_each(|word| to.clone_into(word));
    }

    /// Returns whether nothing of the rollout is left, in Slurm and in its journal.
    fn is_clean(&self) -> bool {
        let state = self.rollouts[0].state();
        let is_requested = NODES.iter().any(|node| self.has(node, "REBOOT_REQUESTED"));
        let has_traces = state.records.values().any(|record| record.has_traces_in_slurm());
        !is_requested && !has_traces && self.reservations.as_ref().unwrap().is_empty()
    }
}

fn words(state: &str) -> Vec<String> {
    state.split('+').map(str::to_owned).collect()
}

fn set(node: &str) -> NodeSet {
    NodeSet::parse(node).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_each_node_is_updated_and_no_reservation_is_left(events in events()) {
        let mut world = script::read(CLUSTER);
        for event in events {
            world.happen(event);
            let state = world.rollouts[0].state();
            for reservation in world.reservations.iter().flatten() {
                let node = reservation.nodes.iter().next().unwrap();
                prop_assert!(state.records[node].reserved, "nobody knows of {}", reservation.name);
            }
        }
        let mut stopped = world.clone();
        stopped.write(ID, Entry::Stopped);
        for _ in 0..20 {
            [Event::Tick(99), Event::Boot].into_iter().for_each(|event| stopped.happen(event));
        }
        prop_assert!(stopped.is_clean(), "stopped: {:#?}", stopped.rollouts[0].lines);
        world.happen(Event::Resume);
        for round in 0..60 {
            let end = if round < 3 { Event::JobEnds(round) } else { Event::Minutes(1) };
            let events = [Event::Tick(99), end, Event::Issue, Event::Boot];
            events.into_iter().for_each(|event| world.happen(event));
        }
        let state = world.rollouts[0].state();
        prop_assert!(world.is_clean() && state.is_over(), "{:#?}", world.rollouts[0].lines);
    }
}
