//! Qualification: the first nodes of a wave run a job before users get them.
//!
//! These nodes are reserved together before their reboots are requested, so that no job of a user starts there when they
//! are back. Once all are updated, the job is submitted. If it succeeds, the reservation is deleted. If it does not, the
//! nodes have failed: they are drained, and the reservation is deleted once Slurm shows that.
//!
//! A node that fails before leaves the others to their job. What Slurm has begun to reboot is qualified also if the
//! rollout is paused or halted meanwhile.

use super::candidates::explain;
use super::cluster::{Cluster, unavailable};
use super::deadlines::millis;
use super::evidence::is_gone;
use super::hooks;
use super::rollouts::{Rollout, Stance};
use super::step::{Effect, Step};
use super::{IN_FLIGHT_MS, Tick};
use crate::standing::{Member, Standing};
use crate::strategy::VerifyJob;
use crate::why::Why;
use rollout_core::agent::phase::Phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, JobEnd, Progress, Qualification, Run};
use rollout_core::slurm::availability::Unavailable;
use rollout_core::slurm::jobs::{JobId, JobRun};
use rollout_core::slurm::reason::Reason;
use rollout_core::slurm::reservations::{name_of_job, name_of_wave};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Time within which nodes that were chosen are requested. Later, something else has come in between.
const CHOSEN_MS: u64 = 60_000;

/// Time that a reservation lasts beyond a visit and the time limit of the job, in seconds. If it is left behind, the nodes
/// take jobs again afterwards. While it is needed, its end is moved.
const SPARE_S: u64 = 3600;

/// Time that a job may take beyond its time limit, from its submission.
const START_MS: u64 = 30 * 60 * 1000;

/// Greatest number of jobs for the same nodes. Another one is submitted if Slurm no longer shows the last one, so that
/// nobody knows how it ended.
const MAX_RUNS: u32 = 3;

/// The nodes that qualify a wave.
struct Wave<'b, 'a> {
    rollout: &'b Rollout<'a>,
    /// Counted from 1.
    number: u32,
    /// Those for which the reservation is needed.
    held: Vec<&'b Member<'a>>,
    /// Slurm shows the reservation of these nodes, and it lasts long enough.
    is_reserved: bool,
}

impl Wave<'_, '_> {
    fn nodes(&self) -> NodeSet {
        self.held.iter().map(|member| member.name.to_owned()).collect()
    }

    fn job(&self) -> Option<&VerifyJob> {
        self.rollout.strategy?.verify_job.as_ref()
    }

    fn step(&self, before: Option<Entry>, effect: Option<Effect>) -> Step {
        Step { rollout: self.rollout.id().to_owned(), before, effect, after: None }
    }
}

impl<'a> Tick<'_, 'a> {
    /// Takes the next step of each qualification, up to the end of its reservation. Returns the nodes for which one is
    /// needed.
    pub(super) fn qualify(&mut self, rollout: &Rollout<'a>) -> HashSet<&'a str> {
        let mut waves = reserved(rollout);
        let all: HashSet<&'a str> = waves.values().flatten().map(|member| member.name).collect();
        if self.cluster.input.reservations.is_none() {
            return all;
        }
        for wave in self.cluster.reserved_waves(rollout.id()) {
            waves.entry(wave).or_default();
        }
        let mut held = HashSet::new();
        for (number, mut members) in waves {
            let is_failure_open = members.iter().any(|member| is_failed(member) && takes_jobs(member));
            members.retain(|member| self.is_held(rollout, member, is_failure_open));
            held.extend(members.iter().map(|member| member.name));
            let mut wave = Wave { rollout, number, held: members, is_reserved: false };
            self.hold(&mut wave);
            if !wave.held.is_empty() {
                self.advance_wave(&wave);
            }
        }
        held
    }

    /// Returns whether the reservation of a wave is needed for a node. `is_failure_open`: nodes that did not qualify
    /// would take jobs without it.
    fn is_held(&self, rollout: &Rollout<'a>, member: &Member<'a>, is_failure_open: bool) -> bool {
        let Some(qualification) = &member.record.qualification else { return false };
        if !qualification.is_pending() {
            return is_failed(member) && is_failure_open;
        }
        match member.standing {
            Standing::Out => true,
            Standing::Requested => self.to_withdraw(rollout, member).is_none() && !is_gone(member),
            Standing::Waiting => {
                rollout.stance == Stance::Request && is_chosen(member, qualification, self.cluster.now_ms)
            }
            Standing::Updated | Standing::Failed(_) | Standing::Skipped(_) => false,
        }
    }

    /// Creates, changes or deletes the reservation of a wave, as it is needed.
    fn hold(&mut self, wave: &mut Wave<'_, 'a>) {
        let shown = self.cluster.reservation_of_wave(wave.rollout.id(), wave.number);
        let nodes = wave.nodes();
        if nodes.is_empty() {
            if shown.is_some() {
                self.push(wave.step(None, Some(Effect::UnreserveWave { wave: wave.number })));
            }
            return;
        }
        let needed_s = self.needed_until_s(wave.rollout, wave.job());
        wave.is_reserved = shown.is_some_and(|shown| shown.nodes == nodes && shown.end_s >= needed_s);
        if !wave.is_reserved {
            let exists = shown.is_some();
            self.push(wave.step(None, Some(self.reserve_wave(wave.rollout, wave.number, nodes, exists))));
        }
    }

    /// Returns the reservation of nodes that qualify a wave.
    pub(super) fn reserve_wave(
        &self,
        rollout: &Rollout<'a>,
        wave: u32,
        nodes: NodeSet,
        exists: bool,
    ) -> Effect {
        let job = rollout.strategy.and_then(|strategy| strategy.verify_job.as_ref());
        let until_s = self.needed_until_s(rollout, job).saturating_add(SPARE_S);
        Effect::ReserveWave { wave, nodes, until_s, user: job.and_then(|job| job.user.clone()), exists }
    }

    /// Returns the earliest end that the reservation must have, in seconds since 1970: Slurm starts no job that would
    /// last beyond.
    fn needed_until_s(&self, rollout: &Rollout<'a>, job: Option<&VerifyJob>) -> u64 {
        let limit_s = job.map_or(0, |job| job.time_limit.as_secs());
        self.cluster.now_s().saturating_add(rollout.visit.as_secs()).saturating_add(limit_s)
    }

    /// Submits the job, looks for its end, or drains the nodes.
    fn advance_wave(&mut self, wave: &Wave<'_, 'a>) {
        let pending = || wave.held.iter().filter_map(|member| member.pending_qualification());
        if pending().next().is_none() {
            let why = wave.held.iter().find_map(|member| member.record.qualification_failure());
            let drain = self.drain_failed(wave, why.unwrap_or_default());
            self.push(wave.step(None, drain));
            self.cancel_runs(wave, wave.held.iter().find_map(|member| run_of(member)));
            return;
        }
        let is_updated = |member: &&Member<'_>| member.record.progress == Progress::Seen(Phase::Updated);
        if !wave.held.iter().all(is_updated) {
            return;
        }
        let run = pending().find_map(|qualification| qualification.run);
        let runs = pending().map(|qualification| qualification.runs).max().unwrap_or(0);
        if matches!(wave.rollout.stance, Stance::End(_)) {
            return self.fail(wave, run, "the rollout was stopped".to_owned());
        }
        match run {
            None => self.submit(wave, None),
            Some(run) => self.follow_run(wave, run, runs),
        }
    }

    /// Submits the job once all nodes are up. A `run` has its line already.
    fn submit(&mut self, wave: &Wave<'_, 'a>, run: Option<Run>) {
        let is_up = |member: &&Member<'_>| {
            let unavailable = member.info.map(unavailable);
            matches!(unavailable, Some(None | Some(Unavailable::InMaintenance)))
        };
        let Some(job) = wave.job().filter(|_| wave.is_reserved && wave.held.iter().all(is_up)) else {
            return;
        };
        let (number, nodes) = (wave.number, wave.nodes());
        let id = run.map_or(self.cluster.now_s(), |run| run.id);
        let line = Entry::Qualifying { nodes: nodes.clone(), wave: number, run: id };
        let effect = Effect::Submit { wave: number, run: id, nodes, job: job.clone() };
        self.push(wave.step(run.is_none().then_some(line), Some(effect)));
    }

    /// Looks for the end of the job, whose line was the last of `runs`.
    fn follow_run(&mut self, wave: &Wave<'_, 'a>, run: Run, runs: u32) {
        let Some(shown) = self.shown(wave, run) else { return };
        let Some(first) = shown.iter().map(|shown| shown.job).min() else {
            return self.follow_missing(wave, run, runs);
        };
        let nodes = wave.nodes();
        if run.job.is_none() {
            let entry = Entry::QualificationJob { nodes: nodes.clone(), job: first };
            self.push(wave.step(Some(entry), None));
        }
        let failed = shown.iter().find(|shown| shown.is_over() && !shown.has_succeeded());
        if let Some(JobRun { job, state, reason, .. }) = failed {
            return self.fail(wave, Some(run), format!("job {job} {state} ({reason})"));
        }
        if shown.iter().all(|shown| shown.is_over()) {
            let entry = Entry::Qualified { nodes, wave: wave.number };
            return self.push(wave.step(Some(entry), None));
        }
        let limit = wave.job().map_or(Duration::ZERO, |job| job.time_limit);
        let until_ms = run.since_ms.saturating_add(millis(limit)).saturating_add(START_MS);
        if self.cluster.now_ms > until_ms {
            return self.fail(wave, Some(run), format!("job {first} was not over in time"));
        }
        self.look_again(Some(until_ms.saturating_add(1)));
    }

    /// Submits the job again if Slurm shows none: it was never submitted, or is forgotten.
    fn follow_missing(&mut self, wave: &Wave<'_, 'a>, run: Run, runs: u32) {
        let in_flight_ms = run.since_ms.saturating_add(IN_FLIGHT_MS);
        match run.job {
            None if self.cluster.now_ms <= in_flight_ms => {
                self.look_again(Some(in_flight_ms.saturating_add(1)));
            }
            _ if runs < MAX_RUNS => self.submit(wave, None),
            Some(job) => {
                self.fail(wave, Some(run), format!("Slurm no longer shows job {job}, nor how it ended"));
            }
            None => self.fail(wave, Some(run), "Slurm never showed its job".to_owned()),
        }
    }

    /// Records that the nodes did not qualify, and drains them.
    fn fail(&mut self, wave: &Wave<'_, 'a>, run: Option<Run>, why: String) {
        let drain = self.drain_failed(wave, &why);
        let entry = Entry::NotQualified { nodes: wave.nodes(), wave: wave.number, why };
        self.push(wave.step(Some(entry), drain));
        self.cancel_runs(wave, run);
    }

    /// Drains the nodes that nobody has drained.
    fn drain_failed(&self, wave: &Wave<'_, 'a>, why: &str) -> Option<Effect> {
        let open = wave.held.iter().filter(|member| takes_jobs(member));
        let nodes: NodeSet = open.map(|member| member.name.to_owned()).collect();
        let reason = Reason::ours(wave.rollout.id(), &format!("not qualified: {why}"));
        (!nodes.is_empty()).then_some(Effect::Drain { nodes, reason })
    }

    /// Cancels the jobs of a run that are not over.
    fn cancel_runs(&mut self, wave: &Wave<'_, 'a>, run: Option<Run>) {
        let shown = run.and_then(|run| self.shown(wave, run)).unwrap_or_default();
        for JobRun { job, .. } in shown.into_iter().filter(|shown| !shown.is_over()) {
            let effect = Effect::End { job: JobId::Single(*job), how: JobEnd::Cancelled };
            self.push(wave.step(None, Some(effect)));
        }
    }

    /// Returns the jobs that Slurm shows of a run: several if it did not answer in time when one was submitted, or if the
    /// script makes an array of it. Users may give a job any name, but cannot use the reservation. `None` if they are not
    /// known.
    fn shown(&self, wave: &Wave<'_, 'a>, run: Run) -> Option<Vec<&'a JobRun>> {
        let (rollout, number) = (wave.rollout.id(), wave.number);
        let (name, reservation) = (name_of_job(rollout, number, run.id), name_of_wave(rollout, number));
        let is_ours = |shown: &&JobRun| shown.name == name && shown.reservation == reservation;
        Some(self.cluster.input.runs?.iter().filter(is_ours).collect())
    }
}

/// Returns the nodes that may be reserved to qualify a wave, by wave.
fn reserved<'b, 'a>(rollout: &'b Rollout<'a>) -> BTreeMap<u32, Vec<&'b Member<'a>>> {
    let mut waves: BTreeMap<u32, Vec<&Member<'a>>> = BTreeMap::new();
    for member in rollout.members.iter().filter(|member| member.is_reserved_to_qualify()) {
        let wave = member.record.qualification.as_ref().map(|qualification| qualification.wave);
        if let Some(wave) = wave {
            waves.entry(wave).or_default().push(member);
        }
    }
    waves
}

/// Returns the nodes that are to qualify a wave and have not failed, with the wave, counted from 1.
pub(super) fn pending<'b, 'a>(rollout: &'b Rollout<'a>, now_ms: u64) -> Option<(u32, Vec<&'b Member<'a>>)> {
    let mut waves = reserved(rollout).into_iter().map(|(wave, mut members)| {
        members.retain(|member| match (member.pending_qualification(), member.standing) {
            (Some(chosen), Standing::Waiting) => is_chosen(member, chosen, now_ms),
            (Some(_), Standing::Requested | Standing::Out) => true,
            _ => false,
        });
        (wave, members)
    });
    waves.find(|(_, members)| !members.is_empty())
}

/// Returns the qualification for which all other nodes of a rollout wait.
pub(super) fn why(rollout: &Rollout<'_>, now_ms: u64) -> Option<Why> {
    let (wave, members) = pending(rollout, now_ms)?;
    let nodes: NodeSet = members.iter().map(|member| member.name.to_owned()).collect();
    let job = members.iter().find_map(|member| run_of(member)).and_then(|run| run.job);
    Some(Why::Qualification { wave, nodes: nodes.to_string(), job })
}

/// Returns the reason for which a node that does not wait for its turn is not done.
pub(super) fn explain_in_full(cluster: &Cluster<'_>, rollout: &Rollout<'_>, member: &Member<'_>) -> Why {
    let is_updated = member.record.progress == Progress::Seen(Phase::Updated);
    let is_pending = is_updated && member.pending_qualification().is_some();
    let qualification = if is_pending { why(rollout, cluster.now_ms) } else { None };
    let why = qualification.or_else(|| hooks::why_updated(cluster, rollout, member));
    why.unwrap_or_else(|| explain(cluster, member))
}

/// Returns whether a node that waits was chosen so lately that it may be requested, or a hook runs before that.
fn is_chosen(member: &Member<'_>, qualification: &Qualification, now_ms: u64) -> bool {
    let is_recent = now_ms <= qualification.since_ms.saturating_add(CHOSEN_MS);
    is_recent || member.record.is_before_request()
}

fn run_of(member: &Member<'_>) -> Option<Run> {
    member.record.qualification.as_ref().and_then(|qualification| qualification.run)
}

fn is_failed(member: &Member<'_>) -> bool {
    member.record.qualification_failure().is_some()
}

/// Returns whether a node would take jobs without a reservation.
fn takes_jobs(member: &Member<'_>) -> bool {
    member.info.is_some_and(|info| !info.has("DRAIN"))
}
