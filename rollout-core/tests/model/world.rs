//! The world: state directory, boot sources, nodes, Slurm and the controllers' processes.

mod event;
mod invariants;
mod look;
mod steps;

pub use event::{Event, Net};

use crate::controller::{Process, Step};
use crate::node::{Node, Points, Power, Until};
use crate::rules::Rules;
use crate::scenario::{Budget, ImageNumber, Scenario};
use crate::slurm::{SlurmNode, State};
use crate::store::Store;
use rollout_core::agent::phase::{Action, Phase};
use rollout_core::controller::follow_up::may_be_expected;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::staging::{Verdict, check};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{AgentStatus, Answer};
use rollout_core::protocol::order::{Order, OrderId};
use rollout_core::rollout::journal::Progress;
use rollout_core::slurm::node::NodeInfo;
use std::sync::Arc;

/// Time that a boot takes.
const BOOT_MS: u64 = 5_000;

/// Time after which all claims are over, and time after which boots and orders are overdue.
const CLAIMS_MS: u64 = 70_000;
const PAUSE_MS: u64 = 60 * 60 * 1000;

/// Slurm's default ResumeTimeout.
const RESUME_TIMEOUT_MS: u64 = 60_000;

#[derive(Debug, Clone)]
pub struct World {
    pub now_ms: u64,
    orders: u128,
    pub store: Store,
    /// Boot source of each node.
    pub sources: Vec<ImageNumber>,
    pub nodes: Vec<Node>,
    pub slurm: Vec<SlurmNode>,
    pub processes: Vec<Process>,
    /// Orders that are late or duplicates: the sender does not wait for their answers.
    pub flights: Vec<Flight>,
    pub budget: Budget,
    /// The invariant that was violated on the way here.
    pub violation: Option<String>,
}

/// An order in the network.
#[derive(Debug, Clone)]
pub struct Flight {
    pub node: usize,
    pub order: Arc<Order>,
    /// The hand-over for which it was sent.
    pub issued_ms: u64,
}

impl World {
    pub fn new(scenario: &Scenario) -> Self {
        let count = scenario.nodes.len();
        let mut world = Self {
            now_ms: 1_000_000_000,
            orders: 0,
            store: Store::new(scenario),
            sources: vec![0; count],
            nodes: (0..count).map(|index| Node::new(scenario, index)).collect(),
            slurm: vec![SlurmNode::new(); count],
            processes: vec![Process::default(); scenario.processes],
            flights: Vec::new(),
            budget: scenario.budget,
            violation: None,
        };
        for rollout in (0..scenario.rollouts.len()).filter(|rollout| !scenario.staged_later.contains(rollout))
        {
            world.store.stage(scenario, rollout, world.now_ms);
            world.now_ms += 1_000;
        }
        for slurm in &mut world.slurm {
            slurm.hand_over(world.now_ms);
        }
        world
    }

    /// Returns the world after an event. `None` if the event cannot happen now.
    pub fn after(&self, scenario: &Scenario, event: Event) -> Option<Self> {
        self.is_possible(event).then_some(())?;
        let mut world = self.clone();
        world.happens(scenario, event)?;
        world.note_unseen_ends(scenario);
        let cost = event.cost(self);
        // Costs that are not covered are free in the continuation without faults, which has none.
        world.budget.faults = world.budget.faults.saturating_sub(cost.faults);
        world.budget.hand_overs = world.budget.hand_overs.saturating_sub(cost.hand_overs);
        world.budget.pauses = world.budget.pauses.saturating_sub(cost.pauses);
        if world.violation.is_none() {
            world.violation = world.violated(scenario);
        }
        Some(world)
    }

    fn happens(&mut self, scenario: &Scenario, event: Event) -> Option<()> {
        match event {
            Event::StartProgram(node) => {
                let process = self.idle_process()?;
                if !std::mem::take(&mut self.slurm[node].program_due) {
                    return None;
                }
                self.processes[process].steps.push_back(Step::AskSlurm { nodes: vec![(node, None)] });
                if !scenario.fine {
                    self.step(scenario, process, Net::Fine)?;
                    self.step_if_any(scenario, process)?;
                }
            }
            Event::DropProgram(node) => {
                std::mem::take(&mut self.slurm[node].program_due).then_some(())?;
            }
            Event::Look { silent } => {
                let process = self.idle_process()?;
                let silent_runs = silent.is_none_or(|node| self.nodes[node].answers());
                silent_runs.then_some(())?;
                let snapshot = Arc::clone(self.store.snapshot());
                let slurm = self.slurm_infos();
                if scenario.fine {
                    self.processes[process].steps.push_back(Step::Survey { snapshot, slurm, silent });
                } else {
                    self.look(scenario, process, &snapshot, slurm, silent);
                    (!self.processes[process].steps.is_empty() || self.violation.is_some()).then_some(())?;
                }
            }
            Event::FindLost { silent } => {
                let process = self.idle_process()?;
                silent.is_none_or(|node| self.nodes[node].answers()).then_some(())?;
                self.find_lost(scenario, process, silent);
                (!self.processes[process].steps.is_empty()).then_some(())?;
            }
            Event::Close => {
                (scenario.rules != Rules::Old).then_some(())?;
                let infos = self.slurm_infos();
                let handed_over =
                    infos.iter().filter(|info| info.is_handed_over()).map(|info| info.name.as_str());
                let mut handed_over = NodeSet::from_names(handed_over).expect("names");
                if scenario.rules.closes_at_once() {
                    handed_over = NodeSet::default();
                }
                self.store.close(scenario, &handed_over, self.now_ms).then_some(())?;
            }
            Event::Step { process, net } => self.step(scenario, process, net)?,
            Event::Kill(process) => {
                (!self.processes[process].steps.is_empty()).then_some(())?;
                self.processes[process].steps.clear();
            }
            Event::Deliver { flight } => {
                let flight = self.flights.remove(flight);
                self.takes_orders(flight.node).then_some(())?;
                self.deliver(&flight, Until::End)?;
            }
            Event::Drop { flight } => {
                self.flights.get(flight)?;
                self.flights.remove(flight);
            }
            Event::Work { node, fails, until } => self.work(scenario, node, fails, until)?,
            Event::Boot { node, until } => {
                (self.nodes[node].power == Power::Down).then_some(())?;
                self.now_ms += BOOT_MS;
                let (source, now_ms) = (self.sources[node], self.now_ms);
                self.nodes[node].boot(source, now_ms);
                self.start_agent(node, until)?;
            }
            Event::Hang(node) => {
                (self.nodes[node].power == Power::Down).then_some(())?;
                self.nodes[node].power = Power::Hung;
            }
            Event::StartAgent { node, until } => {
                let starts = self.nodes[node].power == Power::Up && self.nodes[node].agent.is_none();
                starts.then_some(())?;
                self.start_agent(node, until)?;
            }
            Event::PowerCycle(node) => {
                (self.nodes[node].power == Power::Hung).then_some(())?;
                self.nodes[node].power = Power::Down;
            }
            Event::PowerCut(node) => {
                (self.nodes[node].power == Power::Up).then_some(())?;
                self.dies(node, Until::PowerCut(0));
            }
            Event::NothingExpected(node) => {
                let waits =
                    self.nodes[node].agent.as_ref().is_some_and(|agent| agent.waits_for_instructions());
                let info = self.slurm[node].info(&self.nodes[node].name);
                (waits && !may_be_expected(&info)).then_some(())?;
                self.nodes[node].admit_without_instructions(&mut Points::new(Until::End)).ok()?;
            }
            Event::Register(node) => {
                let slurm = &mut self.slurm[node];
                let accepted = slurm.state == State::Issued && self.nodes[node].booted_ms >= slurm.issued_ms;
                (accepted && self.nodes[node].is_gate_open()).then_some(())?;
                slurm.resume();
            }
            Event::Resume(node) => {
                let (slurm, agent) = (&mut self.slurm[node], &mut self.nodes[node]);
                (agent.sees_it_taken_back && slurm.state == State::TimedOut).then_some(())?;
                agent.sees_it_taken_back = false;
                slurm.resume();
            }
            Event::TimeOut(node) => {
                let slurm = &mut self.slurm[node];
                (slurm.state == State::Issued).then_some(())?;
                slurm.state = State::TimedOut;
            }
            Event::HandOver(node) => {
                let is_up = self.nodes[node].is_gate_open();
                (self.slurm[node].state != State::InService || is_up).then_some(())?;
                (!self.slurm[node].program_due).then_some(())?;
                self.now_ms += 1_000;
                self.slurm[node].hand_over(self.now_ms);
                self.nodes[node].facts.orders = 0;
            }
            Event::Stage(rollout) => {
                let setup = &scenario.rollouts[rollout];
                (!self.store.is_staged(rollout)).then_some(())?;
                let verdict = check(&setup.manifest, self.store.snapshot());
                (verdict == Verdict::Free).then_some(())?;
                self.now_ms += 1_000;
                self.store.stage(scenario, rollout, self.now_ms);
            }
            Event::ClaimsExpire => {
                (self.is_idle() && self.is_something_claimed()).then_some(())?;
                self.now_ms += CLAIMS_MS;
            }
            Event::Pause => {
                self.is_idle().then_some(())?;
                self.now_ms += PAUSE_MS;
            }
        }
        Some(())
    }

    pub fn is_idle(&self) -> bool {
        self.processes.iter().all(|process| process.steps.is_empty())
    }

    /// Returns whether some claim is not over, or RebootProgram may be on its way.
    fn is_something_claimed(&self) -> bool {
        let mut records = self.store.records().iter().flat_map(|records| records.values());
        let on_its_way =
            |slurm: &SlurmNode| slurm.state == State::Issued && self.now_ms < slurm.issued_ms + 15_000;
        records.any(|record| record.is_claimed(self.now_ms)) || self.slurm.iter().any(on_its_way)
    }

    /// Prints one line about the state.
    pub fn print(&self, scenario: &Scenario) {
        for (index, node) in self.nodes.iter().enumerate() {
            let status = node.status(self.now_ms);
            let order = status.as_ref().and_then(|status| status.order.as_ref());
            println!(
                "        {} {:?} boot {} image {} source {} {} order {:?} {:?} live {:?} slurm {:?} {:?}",
                node.name,
                node.power,
                node.boot,
                node.image,
                self.sources[index],
                if node.is_gate_open() { "gate open" } else { "gate shut" },
                order.map(|order| (&order.id, &order.rollout, order.phase)),
                node.running,
                node.facts.live,
                self.slurm[index].state,
                self.slurm[index].reason,
            );
        }
        let _ = scenario;
        for process in &self.processes {
            let steps: Vec<String> = process
                .steps
                .iter()
                .map(|step| {
                    let text = format!("{step:?}");
                    text.split(['{', '(']).next().unwrap_or_default().trim().to_owned()
                })
                .collect();
            if !steps.is_empty() {
                println!("        process: {}", steps.join(", "));
            }
        }
    }

    fn idle_process(&self) -> Option<usize> {
        self.processes.iter().position(|process| process.steps.is_empty())
    }

    fn now_s(&self) -> u64 {
        self.now_ms / 1000
    }

    fn new_id(&mut self) -> OrderId {
        self.orders += 1;
        OrderId::from_random(self.orders)
    }

    fn slurm_infos(&self) -> Vec<NodeInfo> {
        self.slurm.iter().zip(&self.nodes).map(|(slurm, node)| slurm.info(&node.name)).collect()
    }

    fn status(&self, node: usize, silent: Option<usize>) -> Option<AgentStatus> {
        self.nodes[node].status(self.now_ms).filter(|_| silent != Some(node))
    }

    fn takes_orders(&self, node: usize) -> bool {
        self.nodes[node].answers()
            && self.nodes[node]
                .agent
                .as_ref()
                .is_some_and(|agent| agent.takes_orders() && !agent.is_about_to_end())
    }

    fn view(&self, snapshot: &Snapshot, slurm: Vec<NodeInfo>, silent: Option<usize>) -> View {
        let answer = |index: usize| self.status(index, silent).ok_or_else(|| "silent".to_owned());
        let agents = self.nodes.iter().enumerate().map(|(index, node)| (node.name.clone(), answer(index)));
        View {
            snapshot: snapshot.clone(),
            agents: agents.collect(),
            slurm: slurm.into_iter().map(|info| (info.name.clone(), info)).collect(),
            now_ms: self.now_ms,
        }
    }

    fn dies(&mut self, node: usize, until: Until) {
        self.nodes[node].die(until);
        self.flights.retain(|flight| flight.node != node);
    }

    /// Returns `None` if the agent does not get as far as `until`.
    fn start_agent(&mut self, node: usize, until: Until) -> Option<()> {
        let mut points = Points::new(until);
        let now_s = self.now_s();
        let started = self.nodes[node].start_agent(now_s, &mut points);
        self.ends(node, until, &points, started.is_err())
    }

    fn ends(&mut self, node: usize, until: Until, points: &Points, died: bool) -> Option<()> {
        points.were_enough().then_some(())?;
        if died {
            self.dies(node, until);
        } else if self.nodes[node].power != Power::Up {
            self.flights.retain(|flight| flight.node != node);
        }
        Some(())
    }

    fn work(&mut self, scenario: &Scenario, node: usize, fails: bool, until: Until) -> Option<()> {
        let gives_up_waiting = fails && until == Until::End && self.nodes[node].waits_for_boot_source();
        (self.nodes[node].can_work() || gives_up_waiting).then_some(())?;
        if fails {
            use Action::{Apply, Register, Undo, Verify};
            let running = self.nodes[node].running?;
            let can_fail = matches!(running.action, Apply | Register | Verify)
                || running.action == Undo && gives_up_waiting;
            can_fail.then_some(())?;
        }
        if self.nodes[node].running.is_some_and(|running| running.action == Action::Register) {
            // Slurm accepts the node when it registers, or has done so, and handed the node over once more.
            let (slurm, booted_ms) = (&self.slurm[node], self.nodes[node].booted_ms);
            let has_accepted = slurm.state != State::Issued || booted_ms < slurm.issued_ms;
            (has_accepted != fails).then_some(())?;
        }
        let mut points = Points::new(until);
        let now_s = self.now_s();
        let worked = self.nodes[node].work(scenario, fails, now_s, &mut points);
        self.ends(node, until, &points, worked.is_err())
    }

    /// Delivers an order. Returns the answer, which does not come if the agent dies.
    fn deliver(&mut self, flight: &Flight, until: Until) -> Option<Option<Answer>> {
        let Flight { node, order, issued_ms } = flight;
        let node = *node;
        let mut points = Points::new(until);
        let now_s = self.now_s();
        let orders = self.nodes[node].facts.orders;
        let taken = self.nodes[node].take(order, now_s, &mut points);
        if *issued_ms < self.slurm[node].issued_ms {
            // It is the order of an earlier hand-over.
            self.nodes[node].facts.orders = orders;
        }
        let died = taken.is_err();
        // After the last write and before the answer.
        let died = died || points.pass().is_err();
        self.ends(node, until, &points, died)?;
        Some(taken.unwrap_or_default().filter(|_| !died))
    }

    fn set(&self, node: usize) -> NodeSet {
        NodeSet::from_names([self.nodes[node].name.as_str()]).expect("a name")
    }

    /// Notes the nodes that were proven and lost that proof in a boot before the controller saw it. Nobody can know
    /// then that the node needs no other proof: its boot source is restored, and the rollout armed again.
    fn note_unseen_ends(&mut self, scenario: &Scenario) {
        for (node, slurm) in self.nodes.iter_mut().zip(&self.slurm) {
            let Some(id) = node.facts.lost_end.take() else { continue };
            let record = self.store.records()[scenario.rollout(&id)].get(&node.name);
            let seen = record.is_some_and(|record| record.progress == Progress::Seen(Phase::Updated));
            // As long as Slurm waits for its boot, or gave up waiting, the node waits for its instructions and is
            // proven anew.
            if !may_be_expected(&slurm.info(&node.name)) && !seen {
                (node.facts.unseen_end, node.facts.live) = (true, None);
            }
        }
    }
}
