//! The plan of one tick: what is requested from Slurm, withdrawn or recorded for all started rollouts, and why each of
//! their other nodes waits.
//!
//! [`plan`] is a pure function. Everything that it knows is read back from the journals and from Slurm at each tick, so
//! a plan may be carried out in part, or not at all.
//!
//! | module | holds |
//! |---|---|
//! | `cluster` | nodes, jobs and reservations, found by node |
//! | `rollouts` | the treatment of each rollout, and the standing of its nodes |
//! | `evidence` | requests that Slurm shows, or no longer shows |
//! | `halts` | whether the failures of a rollout are too many |
//! | `withdrawals` | requests that must not go on |
//! | `deadlines` | jobs that are on requested nodes for too long |
//! | `reservations` | reservations of ours, which keep new jobs off nodes |
//! | `qualification` | nodes that qualify a wave before users get them |
//! | `qualifiers` | the choice of these nodes |
//! | `drains` | drains of ours: stragglers, and groups that come back in order |
//! | `hooks` | hooks that are due, and those that are over |
//! | `hook_call` | the call of a hook |
//! | `units` | nodes that are requested together |
//! | `waves` | the wave that a rollout is in |
//! | `scopes` | limits as counters |
//! | `candidates` | whether and how a node can be requested |
//! | `requests` | the nodes that are requested |

mod candidates;
pub(crate) mod cluster;
mod deadlines;
mod drains;
mod evidence;
mod halts;
mod hook_call;
mod hooks;
mod qualification;
mod qualifiers;
mod requests;
mod reservations;
pub(crate) mod rollouts;
mod scopes;
mod step;
pub(crate) mod units;
mod waves;
mod withdrawals;

pub(crate) use candidates::likely_end_ms;
pub use drains::has_our_drain;
pub use hook_call::{Call, CallEnd, CallState, Calls, HookInput, NodeInput};
pub use rollouts::DEFAULT_VISIT;
pub use step::{Effect, Step};

use crate::limits::Limits;
use crate::standing::{Member, Skip, Standing};
use crate::strategy::{Strategy, is_meant};
use crate::why::Why;
use cluster::Cluster;
use hooks::HookTurn;
use rollout_core::controller::snapshot::RolloutState;
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, NodeRecord};
use rollout_core::slurm::jobs::{Job, JobEnds, JobRun};
use rollout_core::slurm::partitions::Partition;
use rollout_core::slurm::reservations::Reservation;
use rollouts::{Rollout, Stance};
use scopes::Scopes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use waves::Waves;

/// The time within which a request or a drain reaches Slurm if the process that wrote its line lives on.
pub(crate) const IN_FLIGHT_MS: u64 = 30_000;

/// Everything that a plan depends on.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The state directory, Slurm's nodes, and agents as far as they were asked. Without Slurm's nodes there is no
    /// step.
    pub view: &'a View,
    /// `None` if they are not known. Nothing that needs them is decided then.
    pub jobs: Option<KnownJobs<'a>>,
    /// `None` if they are not known. Floors of partitions let no node go then.
    pub partitions: Option<&'a [Partition]>,
    /// `None` if they are not known. Nodes that Slurm shows as reserved wait then.
    pub reservations: Option<&'a [Reservation]>,
    /// Jobs that qualify waves, with those that have ended lately. `None` if they are not known. Nothing is concluded
    /// about them then.
    pub runs: Option<&'a [JobRun]>,
    /// Calls of hooks that the executor has made. `None` if they are not known. Nothing is concluded about them then.
    pub hooks: Option<&'a Calls>,
    /// Strategies by rollout. A rollout without one, or whose strategy cannot be read, requests nothing.
    pub strategies: &'a BTreeMap<String, Result<Strategy, String>>,
    pub limits: &'a Limits,
    /// The time from the hand-over of a node to its return by earlier rollouts, for each rollout. It counts until nodes of
    /// the rollout itself are back. If it is missing, [`DEFAULT_VISIT`] stands for it.
    pub visits: &'a BTreeMap<String, Duration>,
}

/// Slurm's jobs, and its settings for their ends.
#[derive(Debug, Clone, Copy)]
pub struct KnownJobs<'a> {
    pub list: &'a [Job],
    pub ends: &'a JobEnds,
    /// The part of its time limit that a job uses, in percent, by past jobs. `None` if it is not known.
    pub used_percent: Option<u8>,
}

/// The steps that are due now, and the reasons for which nodes wait.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// In the order in which they are carried out.
    pub steps: Vec<Step>,
    /// Reasons for which nodes of started rollouts are not updated yet, the most decisive first.
    pub waiting: BTreeMap<String, Vec<Why>>,
    /// Started rollouts by their id.
    pub rollouts: BTreeMap<String, RolloutPlan>,
    /// Number of hooks that run.
    #[serde(skip)]
    pub hooks_running: usize,
    /// The earliest time at which something may change without an event, in milliseconds since 1970.
    pub look_again_ms: Option<u64>,
}

impl Plan {
    /// Returns whether nothing is due, no hook runs, and all nodes that are not updated have failed, are left out for now,
    /// are never touched, or wait for an admin.
    #[must_use]
    pub fn awaits_only_returns(&self) -> bool {
        let is_at_rest = |why: &Why| {
            let is_left = matches!(why, Why::Skipped { .. } | Why::Failed { .. } | Why::Never);
            is_left || matches!(why, Why::Halted { .. } | Why::Paused { .. })
        };
        self.steps.is_empty() && self.hooks_running == 0 && self.waiting.values().flatten().all(is_at_rest)
    }
}

/// A started rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolloutPlan {
    /// The number of its current wave, counted from 1. 0 if its strategy cannot be read.
    pub wave: usize,
    /// The number of its waves.
    pub waves: usize,
    pub counts: Counts,
    /// The reason for which the whole rollout requests nothing.
    pub blocked: Option<Why>,
}

/// Numbers of nodes by their standing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub waiting: usize,
    pub requested: usize,
    pub out: usize,
    pub updated: usize,
    pub failed: usize,
    pub skipped: usize,
}

/// Returns the steps that are due, and the reasons for all that is not.
#[must_use]
pub fn plan(input: &Input<'_>) -> Plan {
    let cluster = Cluster::new(input);
    let plan = Plan::default();
    let (halted, through, hooks) = (Vec::new(), Vec::new(), HookTurn::new(&input.view.snapshot));
    let mut tick = Tick { cluster: &cluster, plan, requested: 0, halted, through, hooks };
    let snapshot = &input.view.snapshot;
    let relevant = snapshot.rollouts.iter().filter(|rollout| {
        let has_traces = rollout.records.values().any(NodeRecord::has_traces_in_slurm);
        has_traces || rollout.conduct.state != rollout_core::rollout::journal::ConductState::NotStarted
    });
    let mut rollouts: Vec<Rollout<'_>> = relevant.map(|rollout| Rollout::new(&cluster, rollout)).collect();
    if input.view.slurm.is_empty() {
        tick.without_slurm(&rollouts);
        return tick.plan;
    }
    for rollout in &mut rollouts {
        let why = tick.end_calls(rollout);
        tick.halt(rollout, why);
    }
    for rollout in &rollouts {
        tick.settle(rollout);
        tick.call_hooks(rollout);
    }
    tick.through = rollouts.iter().filter(|rollout| rollout.is_through(&cluster)).map(Rollout::id).collect();
    let mut scopes = Scopes::new(&cluster, &rollouts);
    for (index, rollout) in rollouts.iter().enumerate() {
        tick.advance(index, rollout, &mut scopes);
    }
    tick.plan.hooks_running = tick.hooks.running();
    tick.plan
}

/// A plan in the making.
pub(crate) struct Tick<'b, 'a> {
    pub(crate) cluster: &'b Cluster<'a>,
    pub(crate) plan: Plan,
    /// Number of nodes that are requested in this tick.
    requested: usize,
    /// Rollouts that are halted in this tick.
    halted: Vec<&'a str>,
    /// Rollouts that only nodes keep open that are left out for now.
    through: Vec<&'a str>,
    hooks: HookTurn<'a>,
}

impl<'a> Tick<'_, 'a> {
    fn push(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn record(&mut self, rollout: &Rollout<'_>, entry: Entry) {
        self.push(Step { rollout: rollout.id().to_owned(), before: Some(entry), effect: None, after: None });
    }

    /// Adds a reason for a node. That another rollout has it is none, if that one has a reason as well.
    fn wait(&mut self, node: &str, why: Why) {
        let is_elsewhere = |why: &Why| matches!(why, Why::Skipped { skip: Skip::Superseded, .. });
        match self.plan.waiting.get_mut(node) {
            Some(_) if is_elsewhere(&why) => {}
            Some(whys) => {
                whys.retain(|why| !is_elsewhere(why));
                whys.push(why);
            }
            None => drop(self.plan.waiting.insert(node.to_owned(), vec![why])),
        }
    }

    fn look_again(&mut self, at_ms: Option<u64>) {
        let at_ms = at_ms.filter(|at_ms| *at_ms > self.cluster.now_ms);
        self.plan.look_again_ms = match (self.plan.look_again_ms, at_ms) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Slurm is not known: nothing is decided.
    fn without_slurm(&mut self, rollouts: &[Rollout<'_>]) {
        for rollout in rollouts.iter().filter(|rollout| rollout.was_started()) {
            let standings = rollout.members.iter().filter(|member| member.standing != Standing::Updated);
            for member in standings {
                self.wait(member.name, Why::SlurmNotKnown);
            }
            self.summarize(rollout, None, Some(Why::SlurmNotKnown));
        }
    }

    /// Halts a rollout with too many failures, or because of the failure of a hook.
    fn halt(&mut self, rollout: &mut Rollout<'a>, of_hook: Option<String>) {
        use rollout_core::rollout::journal::ConductState as S;
        if !matches!(rollout.state.conduct.state, S::Running | S::Paused { .. }) {
            return;
        }
        if let Some(why) = of_hook.or_else(|| halts::due(rollout)) {
            self.record(rollout, Entry::Halted { why: why.clone() });
            self.halted.push(&rollout.state.id);
            rollout.stance = Stance::Withdraw(Why::Halted { why });
        }
    }

    /// Records what Slurm shows, and takes back what must not go on.
    fn settle(&mut self, rollout: &Rollout<'a>) {
        self.record_evidence(rollout);
        self.withdraw(rollout);
        let held = self.qualify(rollout);
        self.unreserve(rollout, &held);
        self.meet_deadlines(rollout);
        self.let_in(rollout);
        self.unstage(rollout);
    }

    /// Requests what may go, and explains everything else.
    fn advance(&mut self, index: usize, rollout: &Rollout<'a>, scopes: &mut Scopes) {
        let (Stance::Request, Some(strategy)) = (&rollout.stance, rollout.strategy) else {
            let blocked = match &rollout.stance {
                Stance::Withdraw(why) | Stance::End(Some(why)) => Some(why.clone()),
                Stance::Request | Stance::End(None) => None,
            };
            self.explain(rollout, blocked.as_ref());
            if rollout.was_started() {
                let waves = rollout.strategy.map(|strategy| Waves::new(self.cluster, rollout, strategy));
                self.summarize(rollout, waves.as_ref(), blocked);
            }
            return;
        };
        let blocked = self.comes_after(rollout, strategy);
        let mut waves = Waves::new(self.cluster, rollout, strategy);
        let window = self.closed_window(rollout, strategy);
        let blocked = blocked.or(window);
        if blocked.is_none() {
            self.keep_out(rollout, strategy, &waves);
        }
        self.request(index, rollout, strategy, blocked.as_ref(), scopes, &mut waves);
        self.look_again(waves.opens_ms);
        let blocked = blocked
            .or_else(|| qualification::why(rollout, self.cluster.now_ms))
            .or_else(|| waves.closed.clone());
        self.summarize(rollout, Some(&waves), blocked);
    }

    /// Returns the reason if another rollout comes first and is not through, or its last nodes halt it.
    fn comes_after(&self, rollout: &Rollout<'_>, strategy: &Strategy) -> Option<Why> {
        let after = strategy.after.as_ref()?;
        let snapshot = &self.cluster.input.view.snapshot;
        let is_open = |other: &&RolloutState| {
            let id = other.id.as_str();
            self.halted.contains(&id) || !(other.is_over() || self.through.contains(&id))
        };
        let open = snapshot.rollouts.iter().filter(is_open).map(|other| &other.id);
        let unreadable = snapshot.unreadable.iter().map(|other| &other.id);
        let mut others = open.chain(unreadable).filter(|id| *id != rollout.id());
        let first = others.find(|id| is_meant(after, id))?;
        Some(Why::After { rollout: first.clone() })
    }

    /// Takes nodes out of a rollout that was stopped, and those that are down if the strategy cancels such nodes.
    fn unstage(&mut self, rollout: &Rollout<'a>) {
        let is_stopped = matches!(rollout.stance, Stance::End(Some(_)));
        let goes = |standing: Standing| match standing {
            Standing::Waiting | Standing::Failed(_) | Standing::Skipped(_) => is_stopped,
            Standing::Requested | Standing::Out | Standing::Updated => false,
        };
        let is_pending = |member: &Member<'_>| member.record.progress.may_be_ordered(self.cluster.now_ms);
        // A request, a drain or a reservation is taken back first, since their record goes as well.
        let is_clean = |member: &Member<'a>| {
            !member.record.has_traces_in_slurm() || self.has_no_trace_left(member, rollout.id())
        };
        let mut nodes: Vec<String> = Vec::new();
        for member in rollout.members.iter().filter(|member| is_pending(member) && goes(member.standing)) {
            if is_clean(member) {
                nodes.push(member.name.to_owned());
            }
        }
        for unit in rollout.units.iter().filter(|_| rollout.stance == Stance::Request) {
            let members = rollout.members_of(unit).filter(|_| unit.cancelled_by(rollout).is_some());
            let left = members.filter(|member| !member.has_begun() && is_pending(member));
            let left: Vec<&Member<'a>> = left.collect();
            // All at once, since without the one that is down the others would go.
            if left.iter().all(|member| is_clean(member)) {
                nodes.extend(left.iter().map(|member| member.name.to_owned()));
            }
        }
        if !nodes.is_empty() {
            self.record(rollout, Entry::Unstaged { nodes: NodeSet::from_iter(nodes) });
        }
    }

    /// Returns whether nothing of a rollout is left in Slurm for a node, whatever its journal has.
    fn has_no_trace_left(&self, member: &Member<'a>, rollout: &str) -> bool {
        let are_known = self.cluster.input.reservations.is_some();
        let is_unreserved = are_known
            && self.cluster.our_reservation(rollout, member.name).is_none()
            && !self.cluster.is_in_reserved_wave(rollout, member.name);
        !member.is_queued() && !member.has_our_drain(rollout) && (!member.record.reserved || is_unreserved)
    }

    fn summarize(&mut self, rollout: &Rollout<'_>, waves: Option<&Waves<'_>>, blocked: Option<Why>) {
        let mut counts = Counts::default();
        for member in &rollout.members {
            let count = match member.standing {
                Standing::Waiting => &mut counts.waiting,
                Standing::Requested => &mut counts.requested,
                Standing::Out => &mut counts.out,
                Standing::Updated => &mut counts.updated,
                Standing::Failed(_) => &mut counts.failed,
                Standing::Skipped(_) => &mut counts.skipped,
            };
            *count = count.saturating_add(1);
        }
        let wave = waves.map_or(0, |waves| waves.current.saturating_add(1));
        let of = waves.map_or(0, Waves::number);
        let summary = RolloutPlan { wave, waves: of, counts, blocked };
        self.plan.rollouts.insert(rollout.id().to_owned(), summary);
    }
}
