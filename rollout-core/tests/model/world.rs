//! The world: state directory, boot sources, nodes, Slurm and the controllers' processes, and everything that can happen next.

use crate::controller::{
    CLAIM_MS, Claim, Outcome, Process, RESTORING_CLAIM_MS, RESTORING_MS, Restore, SENT_BY_MS, Step,
};
use crate::node::{Node, Points, Power, Until};
use crate::rules::Rules;
use crate::scenario::{Budget, ImageNumber, Scenario};
use crate::slurm::{SlurmNode, State};
use crate::store::{Journal, Store};
use rollout_core::agent::phase::{Action, Phase};
use rollout_core::controller::follow_up::{self, AfterRestoring, FollowUp, may_be_expected};
use rollout_core::controller::hand_over::{Request, group, handed_over};
use rollout_core::controller::lost_orders::{Remedy, lost_orders};
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::staging::{Verdict, check};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::{AgentStatus, Answer};
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind, PlainReboot, RestoreLedger};
use rollout_core::rollout::journal::{Booted, Entry, Progress};
use rollout_core::slurm::drains::Drains;
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

/// The network during one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Net {
    Fine,
    AnswerLost,
    /// The sender gives up, and the order may arrive later.
    Late,
    /// The order arrives, and may arrive once more.
    Duplicated,
    /// The agent or its node dies while it takes the order.
    Dies(Until),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    StartProgram(usize),
    /// slurmctld never runs RebootProgram for this hand-over.
    DropProgram(usize),
    /// A follow-up. An agent may be silent although it runs.
    Look {
        silent: Option<usize>,
    },
    FindLost {
        silent: Option<usize>,
    },
    Close,
    Step {
        process: usize,
        net: Net,
    },
    Kill(usize),
    Deliver {
        flight: usize,
    },
    Drop {
        flight: usize,
    },
    Work {
        node: usize,
        fails: bool,
        until: Until,
    },
    Boot {
        node: usize,
        until: Until,
    },
    /// The node hangs in its boot.
    Hang(usize),
    StartAgent {
        node: usize,
        until: Until,
    },
    PowerCycle(usize),
    /// The node reboots by itself.
    PowerCut(usize),
    NothingExpected(usize),
    Register(usize),
    Resume(usize),
    TimeOut(usize),
    HandOver(usize),
    Stage(usize),
    ClaimsExpire,
    Pause,
}

impl Event {
    /// Returns what it costs in this state. A boot takes longer than the steps of a process: one that is in the middle of them hangs,
    /// which is a fault.
    pub fn cost(self, world: &World) -> Budget {
        let stalls = u8::from(!world.is_idle());
        let (faults, hand_overs, pauses) = match self {
            Self::DropProgram(_) | Self::Kill(_) | Self::Hang(_) | Self::PowerCut(_) | Self::TimeOut(_) => {
                (1, 0, 0)
            }
            Self::Look { silent } | Self::FindLost { silent } => (u8::from(silent.is_some()), 0, 0),
            Self::Step { net, .. } => (u8::from(net != Net::Fine), 0, 0),
            Self::Work { fails, until, .. } => (u8::from(fails || until != Until::End), 0, 0),
            Self::Boot { until, .. } => (u8::from(until != Until::End) + stalls, 0, 0),
            Self::StartAgent { until, .. } => (u8::from(until != Until::End), 0, 0),
            Self::HandOver(_) => (0, 1, 0),
            Self::Pause => (0, 0, 1),
            _ => (0, 0, 0),
        };
        Budget { faults, hand_overs, pauses }
    }
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

    /// Returns false for most of the events that cannot happen, at little cost.
    fn is_possible(&self, event: Event) -> bool {
        let power = |node: usize| self.nodes[node].power;
        match event {
            Event::StartProgram(node) => self.slurm[node].program_due && self.idle_process().is_some(),
            Event::DropProgram(node) => self.slurm[node].program_due,
            Event::Look { silent } => {
                self.idle_process().is_some() && silent.is_none_or(|node| self.nodes[node].answers())
            }
            Event::FindLost { silent } => {
                self.idle_process().is_some()
                    && self.slurm.iter().any(|slurm| slurm.state == State::Issued)
                    && silent.is_none_or(|node| self.nodes[node].answers())
            }
            Event::Close | Event::Stage(_) => true,
            Event::Step { process, net } => match self.processes[process].steps.front() {
                Some(Step::Send { .. } | Step::Tell { .. }) => true,
                Some(_) => net == Net::Fine,
                None => false,
            },
            Event::Kill(process) => !self.processes[process].steps.is_empty(),
            Event::Deliver { flight } | Event::Drop { flight } => flight < self.flights.len(),
            Event::Work { node, .. } => self.nodes[node].running.is_some(),
            // RebootProgram is started within a second, unless it never is.
            Event::Boot { node, .. } | Event::Hang(node) => {
                power(node) == Power::Down
                    && !self.slurm[node].program_due
                    && !self.boots_unproven_with_open_gate(node)
            }
            Event::StartAgent { node, .. } => power(node) == Power::Up && self.nodes[node].agent.is_none(),
            Event::PowerCycle(node) => power(node) == Power::Hung,
            Event::PowerCut(node) => power(node) == Power::Up,
            Event::NothingExpected(node) => {
                self.nodes[node].agent.as_ref().is_some_and(|agent| agent.waits_for_instructions())
            }
            Event::Register(node) => self.slurm[node].state == State::Issued,
            Event::TimeOut(node) => {
                let slurm = &self.slurm[node];
                slurm.state == State::Issued && self.now_ms >= slurm.issued_ms + RESUME_TIMEOUT_MS
            }
            Event::Resume(node) => self.nodes[node].sees_it_taken_back,
            Event::HandOver(node) => !self.slurm[node].program_due,
            Event::ClaimsExpire | Event::Pause => {
                self.is_idle() && !self.slurm.iter().any(|slurm| slurm.program_due)
            }
        }
    }

    /// Returns whether a node with a disk reboots by itself after its boot source was changed and before its order arrives. Nothing on
    /// the node holds its gate then: a known limit of images that the controller changes for nodes that keep their ledger.
    fn boots_unproven_with_open_gate(&self, node: usize) -> bool {
        let at = &self.nodes[node];
        let is_unproven = self.sources[node] != 0 && at.facts.proven_images & (1 << self.sources[node]) == 0;
        let has_order = at.disk.ledger.as_ref().is_some_and(|ledger| !ledger.phase.is_settled());
        !at.volatile && is_unproven && !has_order
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
            && self.nodes[node].agent.as_ref().is_some_and(|agent| agent.takes_orders())
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

    // Nodes.

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
            use Action::{Apply, Undo, Verify};
            let running = self.nodes[node].running?;
            let can_fail =
                matches!(running.action, Apply | Verify) || running.action == Undo && gives_up_waiting;
            can_fail.then_some(())?;
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

    // Processes.

    fn step_if_any(&mut self, scenario: &Scenario, process: usize) -> Option<()> {
        if self.processes[process].steps.is_empty() {
            return Some(());
        }
        self.step(scenario, process, Net::Fine)
    }

    fn next(&mut self, process: usize, steps: impl IntoIterator<Item = Step>) {
        let queue = &mut self.processes[process].steps;
        let steps: Vec<Step> = steps.into_iter().collect();
        for step in steps.into_iter().rev() {
            queue.push_front(step);
        }
    }

    fn step(&mut self, scenario: &Scenario, process: usize, net: Net) -> Option<()> {
        let step = self.processes[process].steps.pop_front()?;
        let is_message = matches!(step, Step::Send { .. } | Step::Tell { .. });
        (is_message || net == Net::Fine).then_some(())?;
        match step {
            Step::AskSlurm { nodes } => {
                let names = nodes.iter().map(|(node, _)| self.nodes[*node].name.as_str());
                let by_ms =
                    nodes.iter().filter_map(|(node, by)| Some((self.nodes[*node].name.clone(), (*by)?)));
                let request = Request {
                    nodes: NodeSet::from_names(names).expect("names"),
                    handed_over_ms: by_ms.collect(),
                    ..Request::default()
                };
                let (handed, _) = handed_over(&request, Some(&self.slurm_infos()), &Drains::new());
                if !handed.is_empty() {
                    let sent_by_ms = self.now_ms + SENT_BY_MS;
                    self.next(process, [Step::Claim { handed, sent_by_ms }]);
                }
            }
            Step::Claim { handed, sent_by_ms } => {
                let snapshot = scenario.rules.snapshot(self.store.snapshot());
                let (groups, _) = group(&handed, &snapshot, self.now_ms);
                let (mut changes, mut sends) = (Vec::new(), Vec::new());
                for (group, names) in groups {
                    let journal = group.rollout.map(|id| scenario.rollout(id));
                    let give_back = GiveBack { resume_if_late: group.resume_if_late, drained: None };
                    let kind = match journal {
                        None => OrderKind::Reboot(PlainReboot { give_back, features: None }),
                        Some(rollout) => self.apply_order(scenario, rollout, give_back),
                    };
                    let nodes = NodeSet::from_names(names.iter().map(String::as_str)).expect("names");
                    let id = self.new_id();
                    let until_ms = self.now_ms + CLAIM_MS;
                    let entry = Entry::Ordering { nodes: nodes.clone(), order: id.clone(), until_ms };
                    self.store.append(scenario, journal, entry, self.now_ms);
                    let order = Arc::new(Order::new(id, nodes, kind));
                    for name in names {
                        let (node, order) = (scenario.node(&name), Arc::clone(&order));
                        let issued_ms = self.slurm[node].issued_ms;
                        let claim = Claim { node, journal, order, sent_by_ms, issued_ms };
                        match journal.and_then(|rollout| scenario.rollouts[rollout].image()) {
                            Some(_) => changes.push(Step::AskAgent { claim }),
                            None => sends.push(Step::Send { claim }),
                        }
                    }
                }
                self.next(process, changes.into_iter().chain(sends));
            }
            Step::AskAgent { claim } => match self.status(claim.node, None) {
                None => self.record_answer(process, claim, Outcome::Unreachable("silent".to_owned())),
                Some(status) if status.awaits && !scenario.rules.changes_while_awaiting() => {
                    self.record_answer(process, claim, Outcome::Unreachable("it awaits".to_owned()));
                }
                Some(status) => {
                    let before = Booted { running: status.running, boot_id: status.boot_id };
                    self.next(process, [Step::ReadSource { claim, before }]);
                    if !scenario.fine {
                        self.step(scenario, process, Net::Fine)?;
                    }
                }
            },
            Step::ReadSource { claim, before } => {
                let source = self.sources[claim.node];
                self.next(process, [Step::SaveSource { claim, before, source }]);
            }
            Step::SaveSource { claim, before, source } => {
                let rollout = claim.journal.expect("a rollout changes boot sources");
                self.store.save_boot_source(scenario, rollout, claim.node, source);
                self.next(process, [Step::RecordChange { claim, before }]);
            }
            Step::RecordChange { claim, before } => {
                let name = self.nodes[claim.node].name.clone();
                let entry = Entry::BootChange {
                    nodes: self.set(claim.node),
                    order: claim.order.id.clone(),
                    before: [(name, before)].into(),
                    until_ms: claim.sent_by_ms + 5_000,
                };
                self.store.append(scenario, claim.journal, entry, self.now_ms);
                self.next(process, [Step::SetSource { claim }]);
            }
            Step::SetSource { claim } => {
                if self.now_ms > claim.sent_by_ms {
                    self.record_answer(process, claim, Outcome::Unreachable("the time is over".to_owned()));
                } else {
                    let image =
                        ImageNumber::try_from(claim.journal.expect("a rollout") + 1).expect("few rollouts");
                    if self.sources[claim.node] != image {
                        self.sources[claim.node] = image;
                    }
                    if self.nodes[claim.node].image != image {
                        self.nodes[claim.node].facts.proven_images &= !(1 << image);
                    }
                    self.next(process, [Step::Send { claim }]);
                }
            }
            Step::Send { claim } => {
                let order = Arc::clone(&claim.order);
                let outcome = if self.now_ms > claim.sent_by_ms {
                    (net == Net::Fine).then_some(())?;
                    Outcome::Unreachable("the time is over".to_owned())
                } else {
                    match self.send(
                        Flight { node: claim.node, order: Arc::clone(&order), issued_ms: claim.issued_ms },
                        net,
                    )? {
                        None => Outcome::Unreachable("no answer".to_owned()),
                        Some(answer) => scenario.rules.outcome(answer, &order.id, claim.journal.is_some()),
                    }
                };
                self.record_answer(process, claim, outcome);
            }
            Step::RecordAnswer { claim, outcome } => {
                let failed = outcome.is_failure();
                let entry = outcome.entry(self.set(claim.node), claim.order.id.clone());
                self.store.append(scenario, claim.journal, entry, self.now_ms);
                if failed {
                    self.processes[process].steps.push_back(Step::TellSlurm { node: claim.node });
                }
            }
            Step::TellSlurm { node } => self.slurm[node].give_reason(self.now_ms),
            Step::Survey { snapshot, slurm, silent } => {
                self.look(scenario, process, &snapshot, slurm, silent)
            }
            Step::Record { journal, entry } => self.store.append(scenario, journal, entry, self.now_ms),
            Step::ClaimRestoring(restore) => {
                let (now_ms, rollout) = (self.now_ms, restore.rollout);
                let claimed = self.store.claim_restoring(
                    scenario,
                    (rollout, restore.node),
                    &restore.order,
                    (now_ms, now_ms + RESTORING_CLAIM_MS),
                );
                if claimed {
                    let name = &self.nodes[restore.node].name;
                    let wrong = |why| format!("5: the boot source of {name} is restored {why}");
                    self.violation = restore.needed.map(wrong);
                    self.next(process, [Step::PutBack { restore, until_ms: now_ms + RESTORING_MS }]);
                }
            }
            Step::PutBack { restore, until_ms } => {
                let saved = self.store.saved()[restore.rollout][restore.node];
                if let Some(source) = saved.filter(|_| self.now_ms <= until_ms) {
                    self.sources[restore.node] = source;
                    let facts = &mut self.nodes[restore.node].facts;
                    facts.restored_in_silence |= restore.in_silence;
                    self.next(process, [Step::RecordRestored(restore)]);
                }
            }
            Step::RecordRestored(restore) => {
                let (nodes, order) = (self.set(restore.node), restore.order.clone());
                let entry = Entry::BootRestored { nodes, order, why: restore.why.clone() };
                self.store.append(scenario, Some(restore.rollout), entry, self.now_ms);
                if restore.then != AfterRestoring::Nothing {
                    self.next(process, [Step::AfterRestoring(restore)]);
                }
            }
            Step::AfterRestoring(restore) => {
                let Restore { node, rollout, order, why, then, .. } = restore;
                match then {
                    AfterRestoring::Nothing => {}
                    AfterRestoring::TellAgent => {
                        let order = self.tell_restored(node, order);
                        self.processes[process].steps.push_back(Step::Tell { node, order });
                    }
                    AfterRestoring::TellSlurm => self.slurm[node].give_reason(self.now_ms),
                    AfterRestoring::StageAgain => {
                        let entry = Entry::Unreachable { nodes: self.set(node), order, why };
                        self.store.append(scenario, Some(rollout), entry, self.now_ms);
                    }
                }
            }
            Step::Tell { node, order } => drop(self.send(Flight { node, order, issued_ms: 0 }, net)?),
        }
        Some(())
    }

    fn record_answer(&mut self, process: usize, claim: Claim, outcome: Outcome) {
        self.next(process, [Step::RecordAnswer { claim, outcome }]);
    }

    /// Sends an order. Returns the answer if one comes back.
    fn send(&mut self, flight: Flight, net: Net) -> Option<Option<Answer>> {
        let node = flight.node;
        if !self.nodes[node].answers() {
            return (net == Net::Fine).then_some(None);
        }
        if net == Net::Late {
            self.flights.push(flight);
            return Some(None);
        }
        self.takes_orders(node).then_some(())?;
        let until = match net {
            Net::Dies(until) => until,
            _ => Until::End,
        };
        let answer = self.deliver(&flight, until)?;
        if net == Net::Duplicated {
            self.flights.push(flight);
        }
        Some(answer.filter(|_| net != Net::AnswerLost))
    }

    fn set(&self, node: usize) -> NodeSet {
        NodeSet::from_names([self.nodes[node].name.as_str()]).expect("a name")
    }

    fn apply_order(&self, scenario: &Scenario, rollout: usize, give_back: GiveBack) -> OrderKind {
        let setup = &scenario.rollouts[rollout];
        let desired = setup.manifest.desired.clone();
        OrderKind::Apply(Apply { rollout: setup.id.clone(), desired, give_back })
    }

    fn tell_restored(&mut self, node: usize, undone: OrderId) -> Arc<Order> {
        let id = self.new_id();
        Arc::new(Order::new(id, self.set(node), OrderKind::BootRestored { order: undone }))
    }

    /// One look of the follow-up: `rollout-control/src/follow_up.rs`.
    fn look(
        &mut self,
        scenario: &Scenario,
        process: usize,
        snapshot: &Snapshot,
        slurm: Vec<NodeInfo>,
        silent: Option<usize>,
    ) {
        let view = self.view(snapshot, slurm, silent);
        let steps = scenario.rules.follow_up(view);
        let (mut records, mut restores, mut tells) = (Vec::new(), Vec::new(), Vec::new());
        for (name, FollowUp { rollout, order, step }) in steps {
            let node = scenario.node(&name);
            let journal: Journal = rollout.as_deref().map(|id| scenario.rollout(id));
            match step {
                follow_up::Step::Record(outcome) => {
                    let entry = outcome.entry(self.set(node), order);
                    records.extend(entry.map(|entry| Step::Record { journal, entry }));
                }
                follow_up::Step::RestoreBoot { why, then } => {
                    let Some(rollout) = journal else { continue };
                    let record =
                        snapshot.rollout(&scenario.rollouts[rollout].id).and_then(|of| of.records.get(&name));
                    let Some(change) = record.and_then(|record| record.unsettled_boot_change()) else {
                        continue;
                    };
                    let needed = self.is_needed(scenario, (node, rollout), silent);
                    let order = change.order.clone();
                    let in_silence = self.status(node, silent).is_none();
                    restores.push(Step::ClaimRestoring(Restore {
                        node,
                        rollout,
                        order,
                        why,
                        then,
                        in_silence,
                        needed,
                    }));
                }
                follow_up::Step::TellBootRestored => {
                    let Some(undone) = order else { continue };
                    let order = self.tell_restored(node, undone);
                    tells.push(Step::Tell { node, order });
                }
                follow_up::Step::Instruct(instruction) => {
                    let info = self.slurm[node].info(&name);
                    let resume_if_late = match info.is_handed_over() {
                        true => info.returns_by_itself(),
                        false => !info.has("DRAIN"),
                    };
                    let give_back = GiveBack { resume_if_late, drained: None };
                    let kind = match journal {
                        None => OrderKind::Reboot(PlainReboot { give_back, features: None }),
                        Some(rollout) => self.apply_order(scenario, rollout, give_back),
                    };
                    let follow_up::Instruction { phase, error, boot_id, ordered_s, running } = instruction;
                    let ledger =
                        RestoreLedger { order: Box::new(kind), phase, boot_id, ordered_s, running, error };
                    let id = order.unwrap_or_else(|| self.new_id());
                    let order = Order::new(id, self.set(node), OrderKind::RestoreLedger(ledger));
                    tells.push(Step::Tell { node, order: Arc::new(order) });
                }
            }
        }
        self.next(process, records.into_iter().chain(restores).chain(tells));
    }

    /// Returns the reason why a boot source must not be restored, of which the node's agent could tell.
    fn is_needed(
        &self,
        scenario: &Scenario,
        (node, rollout): (usize, usize),
        silent: Option<usize>,
    ) -> Option<&'static str> {
        let (at, image) = (&self.nodes[node], rollout + 1);
        if self.status(node, silent).is_none() || usize::from(self.sources[node]) != image {
            return None;
        }
        let runs_proven = usize::from(at.image) == image && at.facts.proven_images & (1 << image) != 0;
        let live = at.facts.live.as_ref().is_some_and(|(_, of)| *of == scenario.rollouts[rollout].id);
        match (runs_proven && !at.facts.unseen_end, live) {
            (true, _) => Some("although it is proven"),
            (false, true) => Some("under a live order"),
            (false, false) => None,
        }
    }

    /// Looks for lost orders: `rollout-control/src/reconcile.rs`.
    fn find_lost(&mut self, scenario: &Scenario, process: usize, silent: Option<usize>) {
        let mut infos = self.slurm_infos();
        infos.retain(|info| info.has("REBOOT_ISSUED"));
        let snapshot = scenario.rules.snapshot(self.store.snapshot());
        let lost = lost_orders(&infos, &snapshot, self.now_ms);
        if lost.is_empty() {
            return;
        }
        let mut to_order = Vec::new();
        for lost in lost {
            let node = scenario.node(&lost.node);
            let status = self.status(node, silent);
            match (lost.remedy(status.as_ref(), self.now_ms), lost.order) {
                (Remedy::Record, Some(order)) => {
                    let journal = lost.rollout.as_deref().map(|id| scenario.rollout(id));
                    let report = status.as_ref().and_then(|agent| agent.order.as_ref());
                    let ended = report.filter(|report| report.phase.has_ended());
                    let volatile = status.as_ref().is_some_and(|agent| agent.volatile);
                    let accepted = follow_up::Outcome::Accepted { volatile };
                    let outcome = ended.map_or(accepted, |report| follow_up::Outcome::Ended {
                        phase: report.phase,
                        error: report.error.clone(),
                    });
                    let entry = outcome.entry(self.set(node), Some(order));
                    self.processes[process].steps.extend(entry.map(|entry| Step::Record { journal, entry }));
                }
                (Remedy::Order | Remedy::Record, _) => to_order.push((node, Some(lost.handed_over_ms))),
                (Remedy::Booted | Remedy::Silent, _) => {}
            }
        }
        if !to_order.is_empty() {
            self.processes[process].steps.push_back(Step::AskSlurm { nodes: to_order });
        }
    }

    /// Notes the nodes that were proven and lost that proof in a boot before the controller saw it. Nobody can know then that the node
    /// needs no other proof: its boot source is restored, and the rollout armed again.
    fn note_unseen_ends(&mut self, scenario: &Scenario) {
        for node in &mut self.nodes {
            let Some(id) = node.facts.lost_end.take() else { continue };
            let record = self.store.records()[scenario.rollout(&id)].get(&node.name);
            let seen = record.is_some_and(|record| record.progress == Progress::Seen(Phase::Updated));
            node.facts.unseen_end |= !seen;
        }
    }

    // Invariants.

    /// Returns the invariant that does not hold in this state.
    fn violated(&self, scenario: &Scenario) -> Option<String> {
        for node in &self.nodes {
            let name = &node.name;
            if node.is_gate_open() {
                if node.image != 0 && node.facts.proven_images & (1 << node.image) == 0 {
                    return Some(format!(
                        "1: slurmd may run on {name} on image {}, which is not proven",
                        node.image
                    ));
                }
                if node.link.is_some() && !node.facts.is_link_proven {
                    return Some(format!("1: slurmd may run on {name}, whose change is not proven"));
                }
            }
            if node.facts.orders > 1 {
                return Some(format!("2: {name} carries out two orders for one hand-over"));
            }
            let owners = self.store.records().iter().filter(|records| {
                records.get(name).is_some_and(|record| record.unsettled_boot_change().is_some())
            });
            if owners.count() > 1 {
                return Some(format!("5: the boot source of {name} belongs to two orders"));
            }
        }
        let _ = scenario;
        None
    }

    /// Returns the invariant that does not hold although nothing is left to happen.
    pub fn violated_at_end(&self, scenario: &Scenario) -> Option<String> {
        for (index, node) in self.nodes.iter().enumerate() {
            let name = &node.name;
            let source = self.sources[index];
            let records = self.store.records().iter().filter_map(|records| records.get(name));
            if records.into_iter().any(|record| record.unsettled_boot_change().is_some()) {
                return Some(format!(
                    "3: the boot source of {name} is neither proven nor restored in the journal"
                ));
            }
            if source != 0 && node.facts.proven_images & (1 << source) == 0 {
                return Some(format!("3: {name} boots image {source}, which is not proven"));
            }
            let is_known = node.facts.unseen_end || node.facts.restored_in_silence;
            if node.is_gate_open() && source != node.image && !is_known {
                return Some(format!("3: {name} runs image {} and boots image {source}", node.image));
            }
            if let Some(armed) = self.store.snapshot().armed(name, self.now_ms) {
                let id = armed.rollout_id().unwrap_or_default();
                if node.facts.verified.contains(id) && !node.facts.unseen_end {
                    return Some(format!("4: {id} is armed for {name}, which had it"));
                }
            }
            let waits = node.agent.as_ref().is_some_and(|agent| agent.waits_for_instructions());
            if node.power == Power::Up && waits {
                return Some(format!("6: {name} waits for instructions for ever"));
            }
            if node.waits_for_boot_source() {
                return Some(format!("6: {name} waits for its boot source for ever"));
            }
        }
        let _ = scenario;
        None
    }

    /// Returns the next event without a fault, by a fixed order, that is worth trying: the continuation takes the first one that leads
    /// to a state that it has not seen.
    pub fn fair_events(&self, scenario: &Scenario) -> Vec<Event> {
        let mut events = Vec::new();
        for process in 0..self.processes.len() {
            events.push(Event::Step { process, net: Net::Fine });
        }
        events.extend((0..self.flights.len()).map(|flight| Event::Deliver { flight }));
        for node in 0..self.nodes.len() {
            events.push(Event::Work { node, fails: false, until: Until::End });
            events.push(Event::Boot { node, until: Until::End });
            events.push(Event::StartAgent { node, until: Until::End });
            events.push(Event::NothingExpected(node));
            events.push(Event::Register(node));
            events.push(Event::Resume(node));
            events.push(Event::StartProgram(node));
        }
        events.extend([Event::Look { silent: None }, Event::FindLost { silent: None }, Event::Close]);
        events.push(Event::ClaimsExpire);
        events.push(Event::Pause);
        events.extend((0..self.nodes.len()).map(Event::PowerCycle));
        events.extend(scenario.staged_later.iter().copied().map(Event::Stage).filter(|_| false));
        events
    }

    /// Returns all events to explore, but for those at persistence points, which are found by trying.
    pub fn events(&self, scenario: &Scenario) -> Vec<Event> {
        let mut events = Vec::new();
        let nodes = 0..self.nodes.len();
        for (process, at) in self.processes.iter().enumerate() {
            if at.steps.is_empty() {
                continue;
            }
            for net in [Net::Fine, Net::AnswerLost, Net::Late, Net::Duplicated] {
                events.push(Event::Step { process, net });
            }
            events.push(Event::Kill(process));
        }
        for flight in 0..self.flights.len() {
            events.extend([Event::Deliver { flight }, Event::Drop { flight }]);
        }
        for node in nodes.clone() {
            for fails in [false, true] {
                events.push(Event::Work { node, fails, until: Until::End });
            }
            events.push(Event::Boot { node, until: Until::End });
            events.push(Event::StartAgent { node, until: Until::End });
            events.extend([
                Event::StartProgram(node),
                Event::DropProgram(node),
                Event::Hang(node),
                Event::PowerCycle(node),
                Event::PowerCut(node),
                Event::NothingExpected(node),
                Event::Register(node),
                Event::Resume(node),
                Event::TimeOut(node),
                Event::HandOver(node),
            ]);
        }
        for silent in std::iter::once(None).chain(nodes.map(Some)) {
            events.extend([Event::Look { silent }, Event::FindLost { silent }]);
        }
        events.extend([Event::Close, Event::ClaimsExpire, Event::Pause]);
        events.extend(scenario.staged_later.iter().copied().map(Event::Stage));
        events.retain(|event| self.budget.covers(event.cost(self)));
        events
    }

    /// Returns the events at the persistence points of one agent, by the number of points that it passes.
    pub fn deadly_events(&self, passes: u8) -> Vec<Event> {
        let mut events = Vec::new();
        if self.budget.faults == 0 {
            return events;
        }
        for until in [Until::Crash(passes), Until::PowerCut(passes)] {
            for (process, at) in self.processes.iter().enumerate() {
                if matches!(at.steps.front(), Some(Step::Send { .. } | Step::Tell { .. })) {
                    events.push(Event::Step { process, net: Net::Dies(until) });
                }
            }
            for node in 0..self.nodes.len() {
                events.push(Event::Work { node, fails: false, until });
                events.push(Event::Boot { node, until });
                events.push(Event::StartAgent { node, until });
            }
        }
        events
    }
}
