//! The executor: reads Slurm, plans, and carries out each step as a journal line and its effect. It may be killed
//! between any two of them.

use crate::invariants;
use crate::slurm::By;
use crate::slurm::commands::{Reboot, Update};
use crate::slurm::node::Next;
use crate::world::{Event, World};
use rollout_core::controller::lease::{DURATION_MS, Holder, Lease, Verdict, decide};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{JobEnd, Way};
use rollout_core::slurm::jobs::{Job, JobEnds};
use rollout_core::slurm::reason::without_notes;
use rollout_plan::plan::{Effect, Input, KnownJobs, Plan, Step, plan};
use std::collections::{BTreeMap, VecDeque};

/// Interval between two looks.
const TICK_MS: u64 = 3_000;

/// Time after which it plans although nothing has changed. A plan tells by itself when time alone changes something;
/// this makes up for one that does not.
const REPLAN_MS: u64 = 60_000;

/// Age up to which a plan is carried out.
const STALE_MS: u64 = 10_000;

/// Age up to which jobs are not read again.
const JOBS_MS: u64 = 30_000;

/// The part of a step that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Before,
    Effect,
    After,
}

#[derive(Debug, Clone)]
pub struct Executor {
    pub holder: Holder,
    pub is_running: bool,
    /// Grows with its death, so that earlier events about it are void.
    pub epoch: u32,
    pub steps: VecDeque<Step>,
    part: Part,
    planned_ms: u64,
    /// Versions of Slurm and of the state directory at the last plan.
    seen: Option<(u64, u64)>,
    look_again_ms: Option<u64>,
    jobs: Option<(u64, Vec<Job>)>,
    /// It does not run on before this time.
    pub stalled_until_ms: u64,
}

impl Executor {
    #[must_use]
    pub fn new(number: usize) -> Self {
        let pid = 100;
        let holder = Holder { host: format!("ctl{number}"), boot_id: format!("ctl{number}-boot"), pid };
        Self {
            holder,
            is_running: false,
            epoch: 0,
            steps: VecDeque::new(),
            part: Part::Before,
            planned_ms: 0,
            seen: None,
            look_again_ms: None,
            jobs: None,
            stalled_until_ms: 0,
        }
    }
}

impl World {
    pub(crate) fn executor_starts(&mut self, index: usize) {
        if let Err(rollout) = self.store.check_replay() {
            self.violate("replay", format!("{rollout}: its journal does not mean what was believed"));
        }
        let Some(executor) = self.executors.get_mut(index).filter(|executor| !executor.is_running) else {
            return;
        };
        executor.is_running = true;
        executor.holder.pid = executor.holder.pid.wrapping_add(1);
        executor.part = Part::Before;
        executor.seen = None;
        executor.jobs = None;
        let epoch = executor.epoch;
        self.plan_in(100, Event::Tick { executor: index, epoch });
    }

    /// Kills an executor. systemd's timer starts it again.
    pub(crate) fn kill_executor(&mut self, index: usize) {
        let Some(executor) = self.executors.get_mut(index).filter(|executor| executor.is_running) else {
            return;
        };
        executor.is_running = false;
        executor.epoch = executor.epoch.wrapping_add(1);
        executor.steps.clear();
        let host = executor.holder.host.clone();
        self.say(&format!("the executor on {host} is killed"));
        let delay_ms = self.rng.between(1_000, 60_000);
        self.plan_in(delay_ms, Event::ExecutorStarts(index));
    }

    fn is_stalled(&mut self, index: usize, event: impl FnOnce(usize, u32) -> Event) -> bool {
        let Some(executor) = self.executors.get(index) else { return true };
        let (until_ms, epoch) = (executor.stalled_until_ms, executor.epoch);
        let is_stalled = until_ms > self.now_ms;
        if is_stalled {
            self.plan_at(until_ms, event(index, epoch));
        }
        is_stalled
    }

    /// Takes or renews the lease. Returns whether this executor has it.
    fn has_lease(&mut self, index: usize) -> bool {
        let now_ms = self.now_ms;
        let Some(executor) = self.executors.get(index) else { return false };
        let holder = executor.holder.clone();
        let is_running = |pid: u32| executor.is_running && executor.holder.pid == pid;
        match decide(self.store.lease.as_ref(), &holder, is_running, now_ms) {
            Verdict::Take => {
                self.store.lease = Some(Lease { holder, until_ms: now_ms.saturating_add(DURATION_MS) });
                true
            }
            Verdict::Held { .. } => false,
        }
    }

    pub(crate) fn tick(&mut self, index: usize, epoch: u32) {
        let now_ms = self.now_ms;
        let versions = (self.slurm.version, self.store.version);
        let is_due = |executor: &&Executor| executor.is_running && executor.epoch == epoch;
        let Some(executor) = self.executors.get(index).filter(is_due) else { return };
        let is_news = executor.seen != Some(versions)
            || executor.look_again_ms.is_some_and(|at_ms| at_ms <= now_ms)
            || now_ms.saturating_sub(executor.planned_ms) >= REPLAN_MS;
        if self.is_stalled(index, |executor, epoch| Event::Tick { executor, epoch }) {
            return;
        }
        self.plan_in(TICK_MS, Event::Tick { executor: index, epoch });
        let has_steps = self.executors.get(index).is_some_and(|executor| !executor.steps.is_empty());
        if !self.has_lease(index) || !is_news || has_steps {
            return;
        }
        let plan = self.make_plan(index);
        self.summary.plans = self.summary.plans.saturating_add(1);
        let Some(executor) = self.executors.get_mut(index) else { return };
        executor.seen = Some(versions);
        executor.planned_ms = now_ms;
        executor.look_again_ms = plan.look_again_ms;
        executor.part = Part::Before;
        executor.steps = plan.steps.clone().into();
        if !plan.steps.is_empty() {
            invariants::check_plan(self, &plan);
            let delay_ms = self.rng.between(20, 400);
            self.plan_in(delay_ms, Event::Step { executor: index, epoch });
        }
        self.last_plan = (now_ms, plan);
    }

    /// Makes a plan from what Slurm shows now. Jobs may be half a minute old.
    fn make_plan(&mut self, index: usize) -> Plan {
        let slurm = self.ask_slurm().unwrap_or_default();
        let is_answered = !slurm.is_empty();
        if is_answered {
            let infos: Vec<_> = slurm.values().cloned().collect();
            self.store.learn_drains(&infos);
        }
        let snapshot = self.store.snapshot();
        let nodes: NodeSet = snapshot.nodes();
        let agents = if self.rng.chance(500) { self.ask_agents(&nodes) } else { BTreeMap::new() };
        let now_ms = self.now_ms;
        let view = View { snapshot, slurm, agents, now_ms };
        let reads_again = self.rng.chance(700);
        let Some(executor) = self.executors.get_mut(index) else { return Plan::default() };
        let is_old = |read_ms: u64| now_ms.saturating_sub(read_ms) >= JOBS_MS;
        if is_answered && (reads_again || executor.jobs.as_ref().is_none_or(|(read_ms, _)| is_old(*read_ms))) {
            executor.jobs = Some((now_ms, self.slurm.show_jobs()));
        }
        let jobs = executor.jobs.clone().filter(|(read_ms, _)| !is_old(*read_ms));
        let partitions = is_answered.then(|| self.slurm.show_partitions());
        let reservations = is_answered.then(|| self.slurm.show_reservations(now_ms));
        let ends = JobEnds::new(&self.slurm.show_config(), partitions.as_deref().unwrap_or_default());
        let strategies = self.store.strategies();
        plan(&Input {
            view: &view,
            jobs: jobs.as_ref().map(|(_, list)| KnownJobs { list, ends: &ends, used_percent: None }),
            partitions: partitions.as_deref(),
            reservations: reservations.as_deref(),
            strategies: &strategies,
            limits: &self.limits,
            visits: &BTreeMap::new(),
        })
    }

    /// Carries out the next part of the first step.
    pub(crate) fn step(&mut self, index: usize, epoch: u32) {
        let is_due = |executor: &&Executor| executor.is_running && executor.epoch == epoch;
        if self.executors.get(index).filter(is_due).is_none()
            || self.is_stalled(index, |executor, epoch| Event::Step { executor, epoch })
        {
            return;
        }
        let has_lease = self.has_lease(index);
        let now_ms = self.now_ms;
        let Some(executor) = self.executors.get_mut(index) else { return };
        let is_stale = now_ms.saturating_sub(executor.planned_ms) > STALE_MS;
        let Some(step) = executor.steps.front().cloned() else { return };
        let (part, by) = (executor.part, format!("executor on {}", executor.holder.host));
        // What was planned earlier may no longer be right. An effect whose line is written is repeated by the next plan.
        if !has_lease || is_stale {
            executor.steps.clear();
            executor.part = Part::Before;
            executor.seen = None;
            return;
        }
        let next = match part {
            Part::Before => Some(Part::Effect),
            Part::Effect => Some(Part::After),
            Part::After => None,
        };
        executor.part = next.unwrap_or(Part::Before);
        if next.is_none() {
            executor.steps.pop_front();
        }
        match part {
            Part::Before => {
                if let Some(entry) = step.before {
                    invariants::check_line(self, &step.rollout, &entry);
                    self.record(Some(&step.rollout), entry, &by);
                }
            }
            Part::Effect => {
                let failed = step.effect.is_some_and(|effect| self.carry_out(&step.rollout, &effect).is_err());
                if let Some(executor) = self.executors.get_mut(index).filter(|_| failed) {
                    executor.steps.pop_front();
                    executor.part = Part::Before;
                }
            }
            Part::After => {
                if let Some(entry) = step.after {
                    self.record(Some(&step.rollout), entry, &by);
                }
            }
        }
        if self.strikes(self.chances.executor_killed) {
            self.kill_executor(index);
            return;
        }
        let delay_ms = self.rng.between(5, 300);
        self.plan_in(delay_ms, Event::Step { executor: index, epoch });
    }

    fn carry_out(&mut self, rollout: &str, effect: &Effect) -> Result<(), String> {
        let now_ms = self.now_ms;
        if !self.slurm.answers(now_ms) {
            return Err("Unable to contact slurm controller (connect failure)".to_owned());
        }
        self.say(&format!("effect for {rollout}: {effect:?}"));
        match effect {
            Effect::Request { nodes, way } => {
                invariants::check_request(self, rollout, nodes);
                let nodes = self.slurm.indices(nodes);
                let reason = Some(rollout.to_owned());
                let call = match way {
                    Way::Asap => Reboot { asap: true, next: Some(Next::Resume), reason, by: By::Us },
                    Way::Down => Reboot { asap: false, next: Some(Next::Resume), reason, by: By::Us },
                    Way::Drained => Reboot { asap: false, next: None, reason: None, by: By::Us },
                };
                self.slurm.reboot(&nodes, &call, now_ms);
                self.summary.requests = self.summary.requests.saturating_add(1);
                Ok(())
            }
            Effect::Cancel { nodes } => {
                let nodes = self.slurm.indices(nodes);
                self.slurm.cancel_reboot(&nodes, By::Us);
                Ok(())
            }
            Effect::CancelKeepingDrain { nodes, reason } => {
                let nodes = self.slurm.indices(nodes);
                self.slurm.update(&nodes, &Update::Resume, By::Us, now_ms)?;
                let ours = self.ours(&nodes, reason.as_str());
                let drain = Update::Drain { reason: reason.to_string() };
                let by = if ours { By::Us } else { By::Agent };
                self.slurm.update(&nodes, &drain, by, now_ms)
            }
            Effect::Drain { nodes, reason } => {
                let nodes = self.slurm.indices(nodes);
                self.slurm.update(&nodes, &Update::Drain { reason: reason.to_string() }, By::Us, now_ms)
            }
            Effect::Undrain { nodes, ours, earlier } => {
                let is_ours = |node: &usize| {
                    let reason = self.slurm.nodes.get(*node).and_then(|node| node.reason.as_ref());
                    reason.is_some_and(|reason| without_notes(&reason.text) == ours.as_str())
                };
                let nodes: Vec<usize> = self.slurm.indices(nodes).into_iter().filter(is_ours).collect();
                self.slurm.update(&nodes, &Update::Undrain, By::Us, now_ms)?;
                if let Some(reason) = earlier {
                    let is_down = |node: &usize| {
                        let node = self.slurm.nodes.get(*node);
                        node.is_some_and(|node| node.base == crate::slurm::node::Base::Down)
                    };
                    let down: Vec<usize> = nodes.into_iter().filter(is_down).collect();
                    let update = Update::Reason { reason: reason.clone() };
                    self.slurm.update(&down, &update, By::Us, now_ms)?;
                }
                Ok(())
            }
            Effect::Warn { .. } => Ok(()),
            Effect::End { job, how } => {
                let Some(index) = self.slurm.jobs.iter().position(|known| known.id == *job) else {
                    return Err("Invalid job id specified".to_owned());
                };
                self.slurm.end_early(index, *how == JobEnd::Requeued, By::Us, now_ms)
            }
        }
    }

    /// Returns whether a drain that stays is one of ours: nobody else has one on these nodes.
    fn ours(&self, nodes: &[usize], reason: &str) -> bool {
        let is_foreign = |node: &usize| {
            let drain = self.slurm.nodes.get(*node).and_then(|node| node.foreign_drain.as_ref());
            drain.is_some_and(|drain| drain.reason == reason)
        };
        !nodes.iter().any(is_foreign)
    }
}
