//! The executor: reads Slurm, plans under the lock of the state directory and writes the lines of all steps, then
//! carries out their effects. It may be killed between any two of these, and may be slow at each.

use crate::invariants;
use crate::slurm::commands::{Reboot, Update};
use crate::slurm::node::Next;
use crate::slurm::{self, By, News};
use crate::world::{Event, MINUTE_MS, World};
use rollout_core::controller::lease::{DURATION_MS, Holder, Lease, Verdict, decide};
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, JobEnd, Way};
use rollout_core::slurm::jobs::{Job, JobEnds};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::partitions::Partition;
use rollout_core::slurm::reservations::{Reservation, name_of};
use rollout_plan::plan::{Calls, Effect, Input, KnownJobs, Plan, Step, has_our_drain, plan};
use rollout_plan::working_set::working_set;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// Interval between two looks.
const TICK_MS: u64 = 3_000;

/// Time after which it plans although nothing has changed. The real one plans at every look; a plan tells by itself
/// when time alone changes something.
const REPLAN_MS: u64 = 300_000;

/// Age of Slurm's answer up to which it is planned with.
const ANSWER_MAX_AGE_MS: u64 = 25_000;

/// Time from the lines of a plan within which each of its effects begins, and the time limit of one.
const EFFECTS_BEGIN_MS: u64 = 8_000;
const EFFECT_LIMIT_MS: u64 = 15_000;

/// Age up to which jobs are not read again, unless the working set has changed.
const USAGE_MAX_AGE_MS: u64 = 30_000;

/// One job of so many has nobody to notify.
const UNATTENDED: u32 = 5;

const NO_ANSWER: &str = "Unable to contact slurm controller (connect failure)";

/// Slurm's nodes, and the time at which it was asked for them.
type Answer = (u64, Rc<Vec<NodeInfo>>);

/// Jobs, partitions and reservations.
#[derive(Debug, Clone)]
struct Usage {
    read_ms: u64,
    jobs: Vec<Job>,
    partitions: Vec<Partition>,
    reservations: Option<Vec<Reservation>>,
}

#[derive(Debug, Clone)]
pub struct Executor {
    pub holder: Holder,
    pub is_running: bool,
    /// Grows with its death, so that earlier events about it are void.
    pub epoch: u32,
    /// Steps whose lines are written and whose effects are due.
    pub steps: VecDeque<Step>,
    /// The first of them has begun: it takes place, if nobody kills the process.
    has_begun: bool,
    lines_ms: u64,
    planned_ms: u64,
    answer: Option<Answer>,
    /// Versions of Slurm and of the state directory at the last look.
    pub(crate) seen: Option<(u64, u64)>,
    /// Number of nodes that had ended then, in comparisons.
    returned: usize,
    look_again_ms: Option<u64>,
    usage: Option<Usage>,
    working_set: BTreeSet<(String, [bool; 4])>,
    /// Hooks that it has called.
    pub(crate) calls: Calls,
    /// It does not run on before this time.
    pub stalled_until_ms: u64,
}

impl Executor {
    #[must_use]
    pub fn new(number: usize) -> Self {
        let holder = Holder { host: format!("ctl{number}"), boot_id: format!("ctl{number}-boot"), pid: 100 };
        Self {
            holder,
            is_running: false,
            epoch: 0,
            steps: VecDeque::new(),
            has_begun: false,
            lines_ms: 0,
            planned_ms: 0,
            answer: None,
            seen: None,
            returned: 0,
            look_again_ms: None,
            usage: None,
            working_set: BTreeSet::new(),
            calls: Calls::new(),
            stalled_until_ms: 0,
        }
    }
}

/// Returns the line of a step that is written with the plan. That of a job's end is written when its turn comes.
fn line(step: &Step) -> Option<&Entry> {
    step.before.as_ref().filter(|_| !matches!(step.effect, Some(Effect::End { .. })))
}

/// Returns whether a step ends a request.
fn withdraws(step: &Step) -> bool {
    matches!(
        step.effect,
        Some(Effect::Cancel { .. } | Effect::CancelKeepingDrain { .. } | Effect::Unreserve { .. })
    )
}

/// Returns whether there may be reservations of ours.
fn has_reservations(snapshot: &Snapshot) -> bool {
    snapshot.rollouts.iter().flat_map(|rollout| rollout.records.values()).any(|record| record.reserved)
}

impl World {
    pub(crate) fn executor_starts(&mut self, index: usize) {
        if let Err(rollout) = self.store.check_replay() {
            self.violate("replay", format!("{rollout}: its journal does not mean what was believed"));
        }
        let Some(executor) = self.executors.get_mut(index).filter(|executor| !executor.is_running) else {
            return;
        };
        let pid = executor.holder.pid.wrapping_add(1);
        let (holder, epoch) = (Holder { pid, ..executor.holder.clone() }, executor.epoch);
        *executor = Executor { holder, epoch, is_running: true, ..Executor::new(index) };
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
        executor.calls.clear();
        let host = executor.holder.host.clone();
        self.say(&format!("the executor on {host} is killed"));
        let delay_ms = self.rng.between(1_000, 60_000);
        self.plan_in(delay_ms, Event::ExecutorStarts(index));
    }

    /// Returns an executor for which this event still holds. One that is stalled gets the event later.
    fn executor(&mut self, index: usize, epoch: u32, again: Event) -> Option<&mut Executor> {
        let executor = self.executors.get(index)?;
        if !executor.is_running || executor.epoch != epoch {
            return None;
        }
        let until_ms = executor.stalled_until_ms;
        if until_ms > self.now_ms {
            self.plan_at(until_ms, again);
            return None;
        }
        self.executors.get_mut(index)
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

    /// Asks Slurm, if there is news. The plan follows when the answer has come.
    pub(crate) fn tick(&mut self, index: usize, epoch: u32) {
        let is_fast = self.chances.is_fast;
        let (now_ms, versions) = (self.now_ms, (self.slurm.version, self.store.version));
        let returned = if is_fast { self.store.ended() } else { 0 };
        let Some(executor) = self.executor(index, epoch, Event::Tick { executor: index, epoch }) else {
            return;
        };
        let is_news = executor.seen != Some(versions);
        // In comparisons, all but the return of a node waits for a minute.
        let is_news = is_news && (!is_fast || now_ms.saturating_sub(executor.planned_ms) >= MINUTE_MS);
        let is_news = is_news
            || std::mem::replace(&mut executor.returned, returned) != returned
            || executor.look_again_ms.is_some_and(|at_ms| at_ms <= now_ms)
            || now_ms.saturating_sub(executor.planned_ms) >= REPLAN_MS;
        executor.seen = Some(versions);
        let has_lease = is_news && self.has_lease(index);
        if is_news {
            self.forget_calls(index, has_lease);
        }
        if !has_lease {
            self.plan_in(TICK_MS, Event::Tick { executor: index, epoch });
            return;
        }
        let Some(infos) = self.ask_slurm() else {
            self.plan_in(TICK_MS, Event::Tick { executor: index, epoch });
            return;
        };
        self.store.learn_drains(&infos);
        if let Some(executor) = self.executors.get_mut(index) {
            executor.answer = Some((now_ms, infos));
        }
        let is_slow = self.strikes(self.chances.slow_answer);
        let delay_ms = if is_slow { self.rng.between(1_000, 40_000) } else { self.rng.between(20, 300) };
        self.plan_in(delay_ms, Event::Plan { executor: index, epoch });
    }

    /// Plans under the lock, and writes the lines of the plan.
    pub(crate) fn plan_steps(&mut self, index: usize, epoch: u32) {
        let now_ms = self.now_ms;
        let Some(executor) = self.executor(index, epoch, Event::Plan { executor: index, epoch }) else {
            return;
        };
        let answer = executor.answer.take();
        let next = Event::Tick { executor: index, epoch };
        let by = format!("executor on {}", executor.holder.host);
        let is_fresh = |asked_ms: u64| now_ms.saturating_sub(asked_ms) <= ANSWER_MAX_AGE_MS;
        let Some((_, infos)) = answer.filter(|(asked_ms, _)| is_fresh(*asked_ms)) else {
            self.plan_in(TICK_MS, next);
            return;
        };
        if !self.has_lease(index) {
            self.plan_in(TICK_MS, next);
            return;
        }
        let (plan, infos) = self.make_plan(index, &infos);
        self.summary.plans = self.summary.plans.saturating_add(1);
        invariants::check_plan(self, &plan, &infos);
        for step in &plan.steps {
            let Some(entry) = line(step).cloned() else { continue };
            invariants::check_line(self, &step.rollout, &entry);
            self.record(Some(&step.rollout), entry, &by);
        }
        let Some(executor) = self.executors.get_mut(index) else { return };
        executor.planned_ms = now_ms;
        executor.lines_ms = now_ms;
        executor.has_begun = false;
        executor.look_again_ms = plan.look_again_ms;
        let is_call = |step: &&Step| matches!(step.effect, Some(Effect::Call(_)));
        let with_effect = plan.steps.iter().filter(|step| step.effect.is_some() && !is_call(step)).cloned();
        // Those that hang take the time of all that follow.
        let (first, rest): (Vec<Step>, Vec<Step>) = with_effect.partition(withdraws);
        executor.steps = first.into_iter().chain(rest).collect();
        for step in &plan.steps {
            if let Some(Effect::Call(call)) = &step.effect {
                self.call_hook(index, epoch, call);
            }
        }
        self.last_plan = (now_ms, plan);
        self.plan_in(5, Event::Step { executor: index, epoch });
        if self.strikes(self.chances.executor_killed) {
            self.kill_executor(index);
        }
    }

    /// Makes a plan from what Slurm has shown, and returns both. Jobs may be half a minute old.
    fn make_plan(&mut self, index: usize, infos: &[NodeInfo]) -> (Plan, BTreeMap<String, NodeInfo>) {
        let (now_ms, answers) = (self.now_ms, self.slurm.answers(self.now_ms));
        let slurm = infos.iter().map(|info| (info.name.clone(), info.clone())).collect();
        let snapshot = (*self.store.snapshot()).clone();
        let view = View { snapshot, slurm, agents: BTreeMap::new(), now_ms };
        let working_set = working_set(&view);
        let Some(executor) = self.executors.get_mut(index) else { return (Plan::default(), view.slurm) };
        let is_old = |read_ms: u64| now_ms.saturating_sub(read_ms) >= USAGE_MAX_AGE_MS;
        if executor.usage.as_ref().is_none_or(|usage| is_old(usage.read_ms)) {
            executor.usage = answers.then(|| Usage {
                read_ms: now_ms,
                jobs: self.slurm.show_jobs(),
                partitions: self.slurm.show_partitions(),
                reservations: Some(self.slurm.show_reservations(now_ms)),
            });
        } else if let Some(usage) = executor.usage.as_mut().filter(|_| has_reservations(&view.snapshot)) {
            // Reservations of ours are seen as the tick before has left them.
            usage.reservations = answers.then(|| self.slurm.show_reservations(now_ms));
        }
        let (usage, calls) = (executor.usage.clone(), executor.calls.clone());
        if executor.working_set != working_set {
            executor.working_set = working_set;
            executor.usage = None;
        }
        let partitions = usage.as_ref().map(|usage| usage.partitions.as_slice());
        let ends = JobEnds::new(&self.slurm.show_config(), partitions.unwrap_or_default());
        let plan = plan(&Input {
            view: &view,
            jobs: usage.as_ref().map(|usage| KnownJobs {
                list: &usage.jobs,
                ends: &ends,
                used_percent: None,
            }),
            partitions,
            reservations: usage.as_ref().and_then(|usage| usage.reservations.as_deref()),
            runs: None,
            hooks: Some(&calls),
            strategies: &self.store.strategies(),
            limits: &self.limits,
            visits: &BTreeMap::new(),
        });
        (plan, view.slurm)
    }

    /// Carries out the effect of the first step, or begins to.
    pub(crate) fn step(&mut self, index: usize, epoch: u32) {
        let now_ms = self.now_ms;
        let Some(executor) = self.executor(index, epoch, Event::Step { executor: index, epoch }) else {
            return;
        };
        let is_late = now_ms.saturating_sub(executor.lines_ms) > EFFECTS_BEGIN_MS;
        let (has_begun, by) = (executor.has_begun, format!("executor on {}", executor.holder.host));
        if is_late && !has_begun {
            executor.steps.clear();
        }
        let Some(step) = executor.steps.front().cloned() else {
            self.plan_in(TICK_MS, Event::Tick { executor: index, epoch });
            return;
        };
        executor.has_begun = !has_begun;
        if has_begun {
            executor.steps.pop_front();
            let outcome = step.effect.as_ref().map(|effect| self.carry_out(&step.rollout, effect));
            // A refusal is not to be repeated: the next step is due all the same.
            let is_over = !matches!(&outcome, Some(Err(error)) if error == NO_ANSWER);
            if let Some(entry) = step.after.filter(|_| is_over) {
                self.record(Some(&step.rollout), entry, &by);
            }
        } else if let Some(entry) = step.before.as_ref().filter(|_| line(&step).is_none()) {
            self.record(Some(&step.rollout), entry.clone(), &by);
        }
        if self.strikes(self.chances.executor_killed) {
            self.kill_executor(index);
            return;
        }
        let is_slow = !has_begun && self.strikes(self.chances.slow_answer);
        let last_ms = if is_slow { EFFECT_LIMIT_MS } else { 300 };
        let delay_ms = self.rng.between(5, last_ms);
        self.plan_in(delay_ms, Event::Step { executor: index, epoch });
    }

    fn carry_out(&mut self, rollout: &str, effect: &Effect) -> Result<(), String> {
        let now_ms = self.now_ms;
        if !self.slurm.answers(now_ms) {
            return Err(NO_ANSWER.to_owned());
        }
        self.say(&format!("effect for {rollout}: {effect:?}"));
        match effect {
            Effect::Request { nodes, way } => {
                invariants::check_request(self, rollout, nodes);
                let nodes = self.slurm.indices(nodes);
                let reason = Some(rollout.to_owned());
                let call = match way {
                    Way::Asap => Reboot { asap: true, next: Some(Next::Resume), reason, by: By::Us },
                    Way::Down | Way::Reserved => {
                        Reboot { asap: false, next: Some(Next::Resume), reason, by: By::Us }
                    }
                    Way::Drained => Reboot { asap: false, next: None, reason: None, by: By::Us },
                };
                self.slurm.reboot(&nodes, &call, now_ms);
                self.summary.requests = self.summary.requests.saturating_add(1);
                Ok(())
            }
            Effect::Reserve { node, from_s, until_s } => {
                let nodes = self.slurm.indices(&std::iter::once(node.clone()).collect());
                let name = name_of(rollout, node);
                let (start_ms, end_ms) = (from_s.saturating_mul(1000), until_s.saturating_mul(1000));
                if self.slurm.reservations.iter().any(|reservation| reservation.name == name) {
                    return Err("Reservation name duplicates an existing one".to_owned());
                }
                let new = slurm::Reservation { name, nodes, start_ms, end_ms, is_maintenance: true };
                self.slurm.reserve(|reservations| reservations.push(new));
                Ok(())
            }
            Effect::Unreserve { node } => {
                let name = name_of(rollout, node);
                self.slurm.reserve(|reservations| reservations.retain(|other| other.name != name));
                self.slurm.news.push(News::NodeFreed);
                Ok(())
            }
            // No scenario qualifies waves: the model of slurmctld runs no job of ours.
            Effect::ReserveWave { .. } | Effect::UnreserveWave { .. } | Effect::Submit { .. } => Ok(()),
            Effect::Cancel { nodes } => {
                let nodes = self.slurm.indices(nodes);
                self.slurm.cancel_reboot(&nodes, By::Us);
                Ok(())
            }
            Effect::CancelKeepingDrain { nodes, invalid_reg, reason } => {
                let nodes = self.slurm.indices(nodes);
                match invalid_reg {
                    true => self.slurm.cancel_reboot(&nodes, By::Us),
                    false => self.slurm.update(&nodes, &Update::Resume, By::Us, now_ms)?,
                }
                let ours = self.ours(&nodes, reason.as_str());
                let drain = Update::Drain { reason: reason.to_string() };
                let by = if ours { By::Us } else { By::Agent };
                self.slurm.update(&nodes, &drain, by, now_ms)
            }
            Effect::Drain { nodes, reason } => {
                let nodes = self.slurm.indices(nodes);
                self.slurm.update(&nodes, &Update::Drain { reason: reason.to_string() }, By::Us, now_ms)
            }
            Effect::Undrain { nodes, earlier } => {
                let info = |name: &str| self.info(self.slurm.index(name)?);
                let is_ours = |name: &&str| info(name).is_some_and(|info| has_our_drain(rollout, &info));
                let nodes: NodeSet = nodes.iter().filter(is_ours).map(str::to_owned).collect();
                let nodes = self.slurm.indices(&nodes);
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
            // The executor has called it already.
            Effect::Call(_) => Ok(()),
            Effect::Warn { record, .. } => {
                let job = self.slurm.jobs.iter().find(|job| job.record == *record);
                // Slurm notifies nobody of a suspended job, or of one without a batch script.
                match job.filter(|job| job.is_running() && job.record % UNATTENDED != 0) {
                    Some(_) => Ok(()),
                    None => Err("Requested operation is presently disabled".to_owned()),
                }
            }
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
