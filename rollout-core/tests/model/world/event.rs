//! Everything that can happen next.

use super::{RESUME_TIMEOUT_MS, World};
use crate::controller::Step;
use crate::node::{Power, Until};
use crate::scenario::{Budget, Scenario};
use crate::slurm::State;

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
    /// Returns what it costs in this state. A boot takes longer than the steps of a process: one that is in the middle
    /// of them hangs, which is a fault.
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
    /// Returns false for most of the events that cannot happen, at little cost.
    pub(super) fn is_possible(&self, event: Event) -> bool {
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

    /// Returns whether a node with a disk reboots by itself after its boot source was changed and before its order
    /// arrives. Nothing on the node holds its gate then: a known limit of images that the controller changes for nodes
    /// that keep their ledger.
    pub(super) fn boots_unproven_with_open_gate(&self, node: usize) -> bool {
        let at = &self.nodes[node];
        let is_unproven = self.sources[node] != 0 && at.facts.proven_images & (1 << self.sources[node]) == 0;
        let has_order = at.disk.ledger.as_ref().is_some_and(|ledger| !ledger.phase.is_settled());
        !at.volatile && is_unproven && !has_order
    }

    /// Returns the next event without a fault, by a fixed order, that is worth trying: the continuation takes the first
    /// one that leads to a state that it has not seen.
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
