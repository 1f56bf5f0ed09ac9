//! The executor: carries out the plans of started rollouts, one tick after another.
//!
//! A tick reads Slurm, plans with what the state directory holds under its lock, and writes the lines of all steps
//! before it releases that, except those about ends of jobs. Their effects in Slurm follow. The process may be killed
//! anywhere: the next tick finds the lines, and Slurm as it is, and plans what is left. One process executes, the holder
//! of the lease.
//!
//! | module | holds |
//! |---|---|
//! | [`usage`] | jobs, partitions and reservations |
//! | [`rules`] | limits, strategies and expected visits |
//! | [`history`] | visits of earlier rollouts |
//! | [`effect`] | what is asked of Slurm |
//! | [`hooks`] | calls of hooks |

pub mod effect;
pub mod history;
pub mod hooks;
pub mod rules;
pub mod usage;

use hooks::HookCalls;
use rollout_control::config::Config;
use rollout_control::follow_up::{Scope, follow_up};
use rollout_control::pre_stage::take_back;
use rollout_control::reconcile::{ReconcileError, ask_slurm};
use rollout_control::store::{StoreError, StoreWriter, Unwritten, this_process};
use rollout_core::controller::lease::{Holder, Verdict};
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::Entry;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::text::one_line;
use rollout_host::clock;
use rollout_host::scontrol::Scontrol;
use rollout_plan::plan::{Effect, Input, Plan, Step, plan};
use rollout_plan::working_set::{WorkingSet, working_set};
use rules::Rules;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use usage::Usage;

/// Age from which jobs, partitions, reservations and limits are read again.
const USAGE_MAX_AGE: Duration = Duration::from_secs(30);

/// Time limit for each of these questions.
const USAGE_LIMIT: Duration = Duration::from_secs(5);

/// Time from the lines of a plan within which each of its effects begins, and the time limit of one. Both together are
/// below the time after which the planner takes a request that Slurm does not show for one that was never made, and
/// below that of the lease.
const EFFECTS_BEGIN: Duration = Duration::from_secs(8);
const EFFECT_LIMIT: Duration = Duration::from_secs(15);

/// Age of the lease from which it is renewed before the plan: the effects have its whole time.
const LEASE_OLD: Duration = Duration::from_secs(2);

/// Age of Slurm's answer about nodes from which they are asked about again, after jobs and the rest were read.
const ANSWER_OVERTAKEN: Duration = Duration::from_secs(2);

/// Time for which Slurm is not asked again if only nodes are awaited that it sees down or asleep. Rollouts stay open for
/// weeks because of such nodes.
const REST: Duration = Duration::from_secs(15);

/// Length limit of the message of sbatch in the journal, in characters.
const MAX_REFUSAL: usize = 200;

/// Age of Slurm's answer from which it is no longer planned with.
const ANSWER_MAX_AGE: Duration = Duration::from_secs(25);

/// Carries out plans.
#[derive(Debug)]
pub struct Executor {
    config: Config,
    /// The file of the configuration, which is read again: an admin may change the limits of rollouts that run.
    config_path: PathBuf,
    store: StoreWriter,
    me: Holder,
    /// It took the lease, and has not returned it.
    has_lease: bool,
    usage: Usage,
    /// Time at which it was read. `None` if it must be read again.
    usage_read: Option<Instant>,
    rules: Rules,
    working_set: WorkingSet,
    hooks: HookCalls,
    /// Begin of a rest, and the state directory then: a change of it ends the rest.
    resting: Option<(Instant, Snapshot)>,
}

/// The outcome of a tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tick {
    /// No rollout needs the executor.
    Idle,
    /// This process, on this host, executes.
    Held(Holder),
    Done(Report),
}

/// The steps of a tick, one line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    pub done: Vec<String>,
    /// Failures. The next tick tries again.
    pub failed: Vec<String>,
}

impl Executor {
    /// Returns an executor that does nothing yet. `store` names the writer of its lines.
    ///
    /// # Errors
    /// Fails if the host's name or boot id cannot be read.
    pub fn new(config: Config, config_path: PathBuf, store: StoreWriter) -> Result<Self, StoreError> {
        let hooks = HookCalls::new(&config.state_dir);
        Ok(Self {
            config,
            config_path,
            store,
            me: this_process()?,
            has_lease: false,
            usage: Usage::default(),
            usage_read: None,
            rules: Rules::default(),
            working_set: WorkingSet::new(),
            hooks,
            resting: None,
        })
    }

    /// Takes the steps that are due, if a rollout needs any and no other process takes them. A rollout whose journal
    /// cannot be written is reported, and stops no other one.
    ///
    /// # Errors
    /// Fails if the state directory cannot be used. The next tick may succeed.
    pub fn tick(&mut self) -> Result<Tick, StoreError> {
        let snapshot = self.store.snapshot()?;
        if !snapshot.rollouts.iter().any(RolloutState::needs_executor) {
            self.finish()?;
            return Ok(Tick::Idle);
        }
        let (begin, mut report) = (Instant::now(), Report::default());
        if let Some(other) = self.take_lease(&mut report)? {
            return Ok(Tick::Held(other));
        }
        if self.resting.as_ref().is_some_and(|(begin, of)| begin.elapsed() < REST && *of == snapshot) {
            return Ok(Tick::Done(report));
        }
        self.resting = None;
        report.failed.extend(self.hooks.look(&self.store, &snapshot));
        self.rules.read_history(&self.store, &snapshot);
        let mut answer = self.ask_nodes(&mut report)?;
        if answer.is_some() && self.refresh() {
            // Requests depend on the nodes most.
            if answer.as_ref().is_some_and(|(asked, _)| asked.elapsed() > ANSWER_OVERTAKEN) {
                answer = self.ask_nodes(&mut report)?;
            }
        } else if has_reservations(&snapshot) {
            // Reservations of ours are seen as the tick before has left them.
            self.usage.read_reservations(&self.config.scontrol().within(USAGE_LIMIT));
        }
        if answer.is_some() {
            // Whatever the plan of this tick knows of a job, Slurm shows now.
            self.usage.read_runs(&self.config.scontrol().within(USAGE_LIMIT), &snapshot);
        }
        report.failed.extend(self.usage.trouble.iter().cloned());
        let Some((asked, infos)) = answer else { return Ok(Tick::Done(report)) };
        // The end of one update lets the next node go.
        match follow_up(&self.config, &self.store, Scope::Returned(&infos)) {
            Ok(followed_up) => {
                report.done.extend(followed_up.done);
                report.failed.extend(followed_up.failed);
            }
            Err(error) => report.failed.push(error.to_string()),
        }
        self.rules.read_strategies(&self.store, &snapshot);
        report.failed.extend(self.without_strategy(&snapshot));
        let slurm = infos.into_iter().map(|info| (info.name.clone(), info)).collect();
        if begin.elapsed() > LEASE_OLD {
            self.take_lease(&mut report)?;
        }
        let (mut planned, unwritten) = match self.plan(slurm, asked)? {
            Ok(planned) => planned,
            Err(why) => {
                report.failed.push(format!("nothing is planned: {why}"));
                return Ok(Tick::Done(report));
            }
        };
        planned.drop_steps_of(&unwritten);
        let failed = unwritten.iter().map(|(id, error)| format!("{id}: nothing is done for it: {error}"));
        report.failed.extend(failed);
        if self.working_set != planned.working_set {
            self.working_set = planned.working_set;
            self.usage_read = None;
        }
        let lines = planned.plan.steps.iter().filter_map(|step| Some((&step.rollout, line(step)?)));
        report.done.extend(lines.map(|(id, entry)| format!("{id}: {}", entry.describe())));
        self.call_hooks(&planned.plan.steps);
        self.unstage_pre_staged(&planned.pre_staged, &mut report);
        self.carry_out(&planned.plan.steps, &mut report);
        let rests = planned.plan.awaits_only_returns() && report.failed.is_empty();
        self.resting = rests.then(|| (Instant::now(), snapshot));
        Ok(Tick::Done(report))
    }

    /// Takes or renews the lease. Returns the process that has it instead.
    ///
    /// A lease that is ours and cannot be renewed is reported, and holds until its end.
    fn take_lease(&mut self, report: &mut Report) -> Result<Option<Holder>, StoreError> {
        match self.store.take_lease(&self.me) {
            Ok(Verdict::Take) => {
                if !std::mem::replace(&mut self.has_lease, true) {
                    self.hooks.end_those_left();
                }
            }
            Ok(Verdict::Held { by, .. }) => {
                self.has_lease = false;
                self.hooks.end_all();
                return Ok(Some(by));
            }
            Err(error) if self.has_lease => report.failed.push(format!("the lease is not renewed: {error}")),
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Ends its hooks and returns the lease, if this process has it.
    ///
    /// # Errors
    /// Fails if it cannot be read or removed. Then it ends by itself.
    pub fn finish(&mut self) -> Result<(), StoreError> {
        self.hooks.end_all();
        if std::mem::take(&mut self.has_lease) { self.store.return_lease(&self.me) } else { Ok(()) }
    }

    /// Returns Slurm's report about all nodes, and the time at which it was asked. `None` if it does not answer.
    fn ask_nodes(&self, report: &mut Report) -> Result<Option<(Instant, Vec<NodeInfo>)>, StoreError> {
        let asked = Instant::now();
        match ask_slurm(&self.config, &self.store) {
            Ok(infos) => Ok(Some((asked, infos))),
            Err(ReconcileError::Store(error)) => Err(error),
            Err(error) => {
                report.failed.push(error.to_string());
                Ok(None)
            }
        }
    }

    /// Reads again what changes slowly. Returns whether that was due.
    ///
    /// Parts that could not be read wait as well: with a slow Slurm, no tick would be left to withdraw anything.
    fn refresh(&mut self) -> bool {
        if self.usage_read.is_some_and(|read| read.elapsed() < USAGE_MAX_AGE) {
            return false;
        }
        let before =
            std::mem::replace(&mut self.usage, Usage::read(&self.config.scontrol().within(USAGE_LIMIT)));
        self.usage_read = Some(Instant::now());
        self.learn_used_limits(&before);
        let limits = match Config::load(&self.config_path) {
            Ok(Config { limits, .. }) => {
                self.config.limits = limits;
                self.rules.read_limits(&self.config)
            }
            Err(error) => self.rules.set_limits(Err(error.to_string())),
        };
        self.usage.trouble.extend(limits.err());
        true
    }

    /// Learns from the jobs that have ended since the last look. Only forecasts need it.
    fn learn_used_limits(&mut self, before: &Usage) {
        let known = self.store.used_limits();
        let mut used = known.clone();
        self.usage.observe_ends(before, &mut used);
        self.usage.used_percent = used.median();
        if used != known {
            self.usage
                .trouble
                .extend(self.store.learn_used_limits(&used).err().map(|error| error.to_string()));
        }
    }

    /// Returns the errors of rollouts that request nothing because they have no strategy.
    fn without_strategy(&self, snapshot: &Snapshot) -> Vec<String> {
        let waiting = snapshot.rollouts.iter().filter(|rollout| rollout.needs_executor());
        let error = |rollout: &RolloutState| {
            let error = self.rules.strategy(&rollout.id)?.as_ref().err()?;
            Some(format!("{}: requests nothing: {error}", rollout.id))
        };
        waiting.filter_map(error).collect()
    }

    /// Plans under the lock, and writes the lines of the plan. Returns the reason if nothing is planned.
    fn plan(
        &self,
        slurm: BTreeMap<String, NodeInfo>,
        asked: Instant,
    ) -> Result<Result<(Planned, Unwritten), String>, StoreError> {
        let (rules, usage, hooks) = (&self.rules, &self.usage, self.hooks.states());
        let planned = self.store.plan(&self.me, move |snapshot| {
            let age = asked.elapsed();
            if age > ANSWER_MAX_AGE {
                return (Err(format!("Slurm's answer about nodes is {} s old", age.as_secs())), Vec::new());
            }
            let view = View { snapshot, slurm, agents: BTreeMap::new(), now_ms: clock::now_ms() };
            let mut planned = Planned {
                plan: plan(&Input { hooks: Some(hooks), ..rules.input(&view, usage) }),
                pre_staged: BTreeMap::new(),
                working_set: working_set(&view),
            };
            planned.set_pre_staged_apart(&view.snapshot);
            let steps = planned.plan.steps.iter();
            let lines = steps.filter_map(|step| Some((step.rollout.clone(), line(step)?.clone()))).collect();
            (Ok(planned), lines)
        })?;
        let Some((planned, unwritten)) = planned else {
            return Ok(Err("the lease of this process is over".to_owned()));
        };
        Ok(planned.map(|planned| (planned, unwritten)))
    }

    /// Unstages nodes whose agents hold the order in advance: these forget it first.
    fn unstage_pre_staged(&self, pre_staged: &BTreeMap<String, NodeSet>, report: &mut Report) {
        for (id, nodes) in pre_staged {
            match take_back(&self.config, &self.store, id, nodes) {
                Ok(told) => {
                    let kept = told.failed.into_iter().map(|(why, nodes)| {
                        format!("{id}: {nodes}: its agent still has it, and it stays staged: {why}")
                    });
                    report.failed.extend(kept);
                    if told.nodes.is_empty() {
                        continue;
                    }
                    match self.store.unstage(id, Some(&told.nodes)) {
                        Ok(unstaged) => report.done.push(format!("{id}: {unstaged} unstaged")),
                        Err(error) => report.failed.push(not_unstaged(id, &told.nodes, &error)),
                    }
                }
                Err(error) => report.failed.push(not_unstaged(id, nodes, &error)),
            }
        }
    }

    /// Calls the hooks of steps whose lines are written. This takes no time.
    fn call_hooks(&mut self, steps: &[Step]) {
        for step in steps {
            if let Some(Effect::Call(call)) = &step.effect {
                self.hooks.call(call);
            }
        }
    }

    /// Carries out the effects of steps whose lines are written, withdrawals of all rollouts first: an effect that hangs
    /// takes the time of all that follow it, in each tick again.
    fn carry_out(&self, steps: &[Step], report: &mut Report) {
        let (begin, scontrol) = (Instant::now(), self.scontrol());
        let with_effect = steps.iter().filter_map(|step| Some((step, step.effect.as_ref()?)));
        let (first, rest): (Vec<_>, Vec<_>) = with_effect.partition(|(_, effect)| effect::withdraws(effect));
        for (step, effect) in first.into_iter().chain(rest) {
            if begin.elapsed() > EFFECTS_BEGIN {
                break;
            }
            if let (Effect::End { .. }, Some(before)) = (effect, &step.before) {
                if !self.record(&step.rollout, before, report) {
                    continue;
                }
                report.done.push(format!("{}: {}", step.rollout, before.describe()));
            }
            let outcome = effect::carry_out(&scontrol, &step.rollout, effect);
            if let Err(error) = &outcome {
                let what = effect::describe(effect);
                report.failed.push(format!("{}: {what}: {error}", step.rollout));
            }
            if let (Effect::Submit { wave, nodes, .. }, Err(error)) = (effect, &outcome)
                && effect::is_refusal(error)
            {
                let why = format!("its job is refused: {}", one_line(&error.to_string(), MAX_REFUSAL));
                let refused = Entry::NotQualified { nodes: nodes.clone(), wave: *wave, why };
                if self.record(&step.rollout, &refused, report) {
                    report.done.push(format!("{}: {}", step.rollout, refused.describe()));
                }
            }
            let Some(after) = &step.after else { continue };
            match outcome {
                Ok(()) if self.record(&step.rollout, after, report) => {
                    report.done.push(format!("{}: {}", step.rollout, after.describe()));
                }
                // Not to be repeated: the next step is due all the same.
                Err(error) if effect::is_refusal(&error) => {
                    self.record(&step.rollout, after, report);
                }
                _ => {}
            }
        }
    }

    /// Writes a line that is not written with the plan. Returns whether it is on disk.
    fn record(&self, rollout: &str, entry: &Entry, report: &mut Report) -> bool {
        let recorded = self.store.record(Some(rollout), vec![entry.clone()]);
        if let Err(error) = &recorded {
            report.failed.push(format!("{rollout}: {}: not recorded: {error}", entry.describe()));
        }
        recorded.is_ok()
    }

    fn scontrol(&self) -> Scontrol {
        self.config.scontrol().within(EFFECT_LIMIT)
    }
}

/// A plan whose lines are written.
struct Planned {
    plan: Plan,
    /// Nodes to unstage whose agents must be told first, by rollout.
    pre_staged: BTreeMap<String, NodeSet>,
    working_set: WorkingSet,
}

impl Planned {
    /// Drops the steps of rollouts whose lines are not written.
    fn drop_steps_of(&mut self, unwritten: &Unwritten) {
        self.plan.steps.retain(|step| !unwritten.contains_key(&step.rollout));
        self.pre_staged.retain(|id, _| !unwritten.contains_key(id));
    }

    /// Takes nodes whose agents hold the order in advance out of the steps that unstage nodes.
    fn set_pre_staged_apart(&mut self, snapshot: &Snapshot) {
        for step in &mut self.plan.steps {
            let Some(Entry::Unstaged { nodes }) = &mut step.before else { continue };
            let Some(rollout) = snapshot.rollout(&step.rollout) else { continue };
            let is_pre_staged =
                |name: &&str| rollout.records.get(*name).is_some_and(|record| record.pre_staged);
            let held: NodeSet = nodes.iter().filter(is_pre_staged).map(str::to_owned).collect();
            if !held.is_empty() {
                *nodes = nodes.difference(&held);
                self.pre_staged.insert(step.rollout.clone(), held);
            }
        }
        let is_empty = |entry: &Entry| matches!(entry, Entry::Unstaged { nodes } if nodes.is_empty());
        self.plan.steps.retain(|step| !step.before.as_ref().is_some_and(is_empty));
    }
}

fn not_unstaged(id: &str, nodes: &NodeSet, error: &impl Display) -> String {
    format!("{id}: {nodes}: not unstaged: {error}")
}

/// Returns the line of a step that is written with the plan. That of a job's end is written when its turn comes: a job
/// that stays for long after this line is taken for one that cannot be ended.
fn line(step: &Step) -> Option<&Entry> {
    step.before.as_ref().filter(|_| !matches!(step.effect, Some(Effect::End { .. })))
}

/// Returns whether there may be reservations of ours. Those of waves are decided about at each tick.
fn has_reservations(snapshot: &Snapshot) -> bool {
    snapshot.rollouts.iter().flat_map(|rollout| rollout.records.values()).any(|record| record.reserved)
}
