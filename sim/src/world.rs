//! The event queue, the virtual clock, and everything that happens: one run of one [`Scenario`].

mod admin;
mod control;
mod hosts;

use crate::compare::{Meter, Rival};
use crate::executor::Executor;
use crate::faults::Fault;
use crate::host::Host;
use crate::invariants::{self, Violation};
use crate::rng::Rng;
use crate::scenario::{Chances, Scenario};
use crate::slurm::{News, Slurm};
use crate::store::Store;
use control::Claim;
use rollout_core::slurm::node::NodeInfo;
use rollout_plan::limits::Limits;
use rollout_plan::plan::Plan;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;

/// Number of events that a violation shows, unless the caller wants more.
const SHOWN: usize = 60;

/// Start of every run: Monday, 2026-11-30T00:00 UTC.
pub const START_MS: u64 = 1_796_068_800_000 - 20 * 3_600_000;

pub const MINUTE_MS: u64 = 60_000;
pub const HOUR_MS: u64 = 3_600_000;

/// Time after the last fault within which everything must be over.
const BOUND_MS: u64 = 21 * 24 * HOUR_MS;

/// Something that happens at its time.
#[derive(Debug, Clone)]
pub enum Event {
    Submit(usize),
    JobEnds { job: usize, epoch: u32 },
    JobLeaves { job: usize, epoch: u32 },
    Schedule,
    Issue,
    Timers,
    Boots { node: usize, epoch: u32 },
    AgentStarts { node: usize, epoch: u32 },
    SlurmdStarts { node: usize, epoch: u32 },
    Registers { node: usize, epoch: u32 },
    Works { node: usize, epoch: u32 },
    TakesBack { node: usize, epoch: u32 },
    ProgramStarts { nodes: Vec<usize>, epoch: u32 },
    ProgramSends { claims: Vec<Claim>, epoch: u32 },
    Reconcile,
    ExecutorStarts(usize),
    Tick { executor: usize, epoch: u32 },
    Plan { executor: usize, epoch: u32 },
    Step { executor: usize, epoch: u32 },
    HookEnds { executor: usize, epoch: u32, call: (String, u32) },
    Fault(Fault),
    CleanUp,
    Rival,
}

/// An event with its time. Of two at the same time, the one that was planned first comes first.
struct Due {
    at_ms: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at_ms, self.number).cmp(&(other.at_ms, other.number))
    }
}

/// Figures of a run that ended well.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Summary {
    pub events: u64,
    pub plans: u64,
    /// Virtual time from the start to the end of the last rollout.
    pub took_ms: u64,
    pub requests: u64,
    pub updated: usize,
    pub failed: usize,
}

pub struct World {
    pub now_ms: u64,
    pub rng: Rng,
    pub chances: Chances,
    pub slurm: Slurm,
    pub hosts: Vec<Host>,
    pub store: Store,
    pub limits: Limits,
    pub executors: Vec<Executor>,
    /// The latest plan, and the time of its view.
    pub last_plan: (u64, Plan),
    pub summary: Summary,
    pub faults_until_ms: u64,
    pub(crate) load: Vec<crate::slurm::job::Submission>,
    /// Grows when running RebootPrograms die.
    program_epoch: u32,
    pub(crate) orders: u128,
    queue: BinaryHeap<Reverse<Due>>,
    planned: u64,
    schedule_due: bool,
    issue_due: bool,
    issued_version: u64,
    checked: (u64, u64),
    /// Time of the plan and version of the state directory by which it was last judged whether all is over.
    judged: (u64, u64),
    pub(crate) log: VecDeque<String>,
    /// Number of events that a violation shows.
    pub shown: usize,
    /// In comparisons: what a rollout costs, and somebody else who takes the nodes.
    pub meter: Option<Meter>,
    pub rival: Option<Rival>,
    pub(crate) violation: Option<Violation>,
}

impl World {
    /// Builds the world of a scenario.
    ///
    /// # Errors
    /// The reason if the scenario is not valid.
    pub fn new(scenario: Scenario) -> Result<Self, String> {
        let Scenario { slurm, load, rollouts, limits, executors, faults, faults_until_ms, chances, rng } =
            scenario;
        let hosts = slurm.nodes.iter().map(|node| Host::new(node.name.clone(), START_MS - HOUR_MS)).collect();
        let mut world = Self {
            now_ms: START_MS,
            rng,
            chances,
            slurm,
            hosts,
            store: Store::default(),
            limits,
            executors: (0..executors).map(Executor::new).collect(),
            last_plan: (0, Plan::default()),
            summary: Summary::default(),
            faults_until_ms,
            load,
            program_epoch: 0,
            orders: 0,
            queue: BinaryHeap::new(),
            planned: 0,
            schedule_due: false,
            issue_due: false,
            issued_version: u64::MAX,
            checked: (u64::MAX, u64::MAX),
            judged: (u64::MAX, u64::MAX),
            log: VecDeque::new(),
            shown: SHOWN,
            meter: None,
            rival: None,
            violation: None,
        };
        for rollout in &rollouts {
            world.store.stage(&rollout.id, &rollout.manifest, &rollout.nodes, START_MS)?;
            if let Some(Err(error)) = world.store.rollout(&rollout.id).map(|rollout| &rollout.strategy) {
                return Err(format!("{error}\n{}", rollout.manifest));
            }
            world.plan_at(rollout.start_ms, Event::Fault(Fault::Start(rollout.id.clone())));
        }
        for (index, submission) in world.load.clone().iter().enumerate() {
            world.plan_at(submission.at_ms, Event::Submit(index));
        }
        for (at_ms, fault) in faults {
            world.plan_at(at_ms, Event::Fault(fault));
        }
        for executor in 0..executors {
            world.plan_in(1_000, Event::ExecutorStarts(executor));
        }
        world.plan_at(START_MS, Event::Timers);
        world.plan_at(START_MS, Event::Reconcile);
        world.plan_at(START_MS, Event::Schedule);
        world.plan_at(faults_until_ms, Event::CleanUp);
        Ok(world)
    }

    pub fn plan_at(&mut self, at_ms: u64, event: Event) {
        self.planned = self.planned.wrapping_add(1);
        self.queue.push(Reverse(Due { at_ms: at_ms.max(self.now_ms), number: self.planned, event }));
    }

    pub fn plan_in(&mut self, delay_ms: u64, event: Event) {
        self.plan_at(self.now_ms.saturating_add(delay_ms), event);
    }

    /// Returns whether a fault with this chance, in thousandths, happens now.
    pub fn strikes(&mut self, thousandths: u64) -> bool {
        self.now_ms < self.faults_until_ms && self.rng.chance(thousandths)
    }

    /// Adds a line to the trace.
    pub fn say(&mut self, text: &str) {
        let s = self.now_ms.saturating_sub(START_MS) / 1000;
        let ms = self.now_ms % 1000;
        if self.log.len() >= self.shown {
            self.log.pop_front();
        }
        self.log.push_back(format!("{:02}:{:02}:{:02}.{ms:03} {text}", s / 3600, s / 60 % 60, s % 60));
    }

    /// Notes the first violation.
    pub fn violate(&mut self, name: &'static str, text: String) {
        self.violation.get_or_insert(Violation { name, text, trace: Vec::new() });
    }

    /// Runs until all rollouts are over.
    ///
    /// # Errors
    /// The first violation of an invariant.
    pub fn run(&mut self) -> Result<Summary, Violation> {
        while let Some(Reverse(Due { at_ms, event, .. })) = self.queue.pop() {
            self.now_ms = at_ms;
            if let Some(meter) = self.meter.as_mut() {
                meter.count(&self.slurm, at_ms);
            }
            self.summary.events = self.summary.events.saturating_add(1);
            self.happen(event);
            self.spread_news();
            self.check();
            if let Some(violation) = self.violation.take() {
                let trace = self.log.iter().cloned().collect();
                return Err(Violation { trace, ..violation });
            }
            if self.is_over() {
                break;
            }
        }
        if self.meter.is_none() {
            invariants::check_end(self);
        }
        match self.violation.take() {
            Some(violation) => Err(Violation { trace: self.log.iter().cloned().collect(), ..violation }),
            None => {
                self.summary.took_ms = self.now_ms.saturating_sub(START_MS);
                Ok(self.summary)
            }
        }
    }

    fn check(&mut self) {
        let versions = (self.slurm.version, self.store.version);
        if self.meter.is_none() && std::mem::replace(&mut self.checked, versions) != versions {
            invariants::check(self);
        }
        if self.now_ms > self.faults_until_ms.saturating_add(BOUND_MS) {
            let waiting: Vec<String> =
                self.last_plan.1.waiting.iter().map(|(node, why)| format!("{node}: {why:?}")).collect();
            self.violate("terminates", format!("not over in time:\n{}", waiting.join("\n")));
        }
    }

    /// Returns whether the run is over.
    fn is_over(&mut self) -> bool {
        let has_ended = self.has_ended();
        let now_ms = self.now_ms;
        match self.meter.as_mut() {
            Some(meter) => {
                if has_ended {
                    meter.done_ms.get_or_insert(now_ms);
                }
                meter.is_over(now_ms)
            }
            None => has_ended,
        }
    }

    /// Returns whether all rollouts have come to an end, by a plan that was made after the last fault.
    fn has_ended(&mut self) -> bool {
        if let Some(rival) = &self.rival {
            return rival.is_done;
        }
        let (planned_ms, plan) = &self.last_plan;
        let is_recent = *planned_ms > self.faults_until_ms.saturating_add(MINUTE_MS);
        let is_idle =
            plan.steps.is_empty() && self.executors.iter().all(|executor| executor.steps.is_empty());
        let state = (*planned_ms, self.store.version);
        if !is_recent || !is_idle || std::mem::replace(&mut self.judged, state) == state {
            return false;
        }
        self.store.rollouts.iter().all(|rollout| invariants::has_ended(rollout, plan))
    }

    fn spread_news(&mut self) {
        while !self.slurm.news.is_empty() {
            for news in std::mem::take(&mut self.slurm.news) {
                self.spread(news);
            }
        }
        let is_requested = self.slurm.nodes.iter().any(|node| node.requested);
        if is_requested && !self.issue_due && self.issued_version != self.slurm.version {
            self.issue_due = true;
            let latest_ms = if self.slurm.config.release.year >= 26 { 11_000 } else { 1_000 };
            let delay_ms = self.rng.between(50, latest_ms);
            self.plan_in(delay_ms, Event::Issue);
        }
    }

    fn spread(&mut self, news: News) {
        match news {
            News::Started { job } => invariants::check_start(self, job),
            News::EndsAt { job, epoch, at_ms } => self.plan_at(at_ms, Event::JobEnds { job, epoch }),
            News::LeavesAt { job, epoch, at_ms } => self.plan_at(at_ms, Event::JobLeaves { job, epoch }),
            News::Killed { job, by, why } => invariants::check_kill(self, job, by, &why),
            News::Issued { nodes } => {
                self.say(&format!("issued {}", self.slurm.names(&nodes)));
                if self.strikes(self.chances.program_lost) {
                    self.say("RebootProgram does not run");
                    return;
                }
                let delay_ms = self.rng.between(10, 900);
                let epoch = self.program_epoch;
                self.plan_in(delay_ms, Event::ProgramStarts { nodes, epoch });
            }
            News::AsksToRegister { node } => {
                let epoch = self.hosts.get(node).map_or(0, |host| host.power_epoch);
                self.plan_in(400, Event::Registers { node, epoch });
            }
            News::NodeFreed => {
                if !std::mem::replace(&mut self.schedule_due, true) {
                    self.plan_in(1_000, Event::Schedule);
                }
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Submit(index) => {
                if let Some(submission) = self.load.get(index).cloned() {
                    self.slurm.submit(submission);
                    self.slurm.news.push(News::NodeFreed);
                }
            }
            Event::JobEnds { job, epoch } => {
                if self.slurm.jobs.get(job).is_some_and(|job| job.epoch == epoch) {
                    self.slurm.end(job, false, 0, self.now_ms);
                }
            }
            Event::JobLeaves { job, epoch } => {
                if self.slurm.jobs.get(job).is_some_and(|job| job.epoch == epoch) {
                    self.slurm.leave(job, self.now_ms);
                }
            }
            Event::Schedule => {
                self.schedule_due = false;
                if self.slurm.answers(self.now_ms) {
                    self.slurm.schedule(self.now_ms);
                }
                let is_waiting = self
                    .slurm
                    .open
                    .iter()
                    .any(|job| self.slurm.jobs.get(*job).is_some_and(|job| job.nodes.is_empty()));
                if is_waiting && !self.schedule_due {
                    self.schedule_due = true;
                    self.plan_in(30_000, Event::Schedule);
                }
            }
            Event::Issue => {
                self.issue_due = false;
                self.issued_version = self.slurm.version;
                if self.slurm.answers(self.now_ms) {
                    self.slurm.issue(self.now_ms);
                } else {
                    self.issued_version = u64::MAX;
                }
            }
            Event::Timers => self.timers(),
            Event::Boots { node, epoch } => self.boots(node, epoch),
            Event::AgentStarts { node, epoch } => self.agent_starts(node, epoch),
            Event::SlurmdStarts { node, epoch } => self.slurmd_starts(node, epoch),
            Event::Registers { node, epoch } => self.registers(node, epoch),
            Event::Works { node, epoch } => self.works(node, epoch),
            Event::TakesBack { node, epoch } => self.takes_back(node, epoch),
            Event::ProgramStarts { nodes, epoch } => self.program_starts(&nodes, epoch),
            Event::ProgramSends { claims, epoch } => self.program_sends(claims, epoch),
            Event::Reconcile => self.reconcile(),
            Event::ExecutorStarts(executor) => self.executor_starts(executor),
            Event::Tick { executor, epoch } => self.tick(executor, epoch),
            Event::Plan { executor, epoch } => self.plan_steps(executor, epoch),
            Event::Step { executor, epoch } => self.step(executor, epoch),
            Event::HookEnds { executor, epoch, call } => self.hook_ends(executor, epoch, &call),
            Event::Fault(fault) => self.strike(fault),
            Event::CleanUp if self.meter.is_some() => {}
            Event::CleanUp => self.clean_up(),
            Event::Rival => self.rival_looks(),
        }
    }

    fn timers(&mut self) {
        let now_ms = self.now_ms;
        for (host, node) in self.hosts.iter().zip(self.slurm.nodes.iter_mut()) {
            match host.slurmd_ms {
                Some(_) => node.silent_since_ms = None,
                None => drop(node.silent_since_ms.get_or_insert(now_ms)),
            }
        }
        if self.slurm.answers(now_ms) {
            self.slurm.look_at_timers(now_ms);
            self.slurm.reserve(|reservations| reservations.retain(|reservation| reservation.end_ms > now_ms));
            // A ping finds nodes that answer again.
            let asks = |(index, node): (usize, &crate::slurm::node::Node)| {
                (node.not_responding && node.silent_since_ms.is_none()).then_some(index)
            };
            let asked: Vec<usize> = self.slurm.nodes.iter().enumerate().filter_map(asks).collect();
            for node in asked {
                self.slurm.news.push(News::AsksToRegister { node });
            }
        }
        invariants::check_withdrawn(self);
        self.plan_in(30_000, Event::Timers);
    }

    /// Returns Slurm's nodes. `None` if slurmctld does not answer.
    #[must_use]
    pub fn ask_slurm(&self) -> Option<Rc<Vec<NodeInfo>>> {
        self.slurm.answers(self.now_ms).then(|| self.slurm.show_nodes(self.now_ms))
    }
}
