//! Deadlines: jobs that are on requested nodes for longer than the strategy waits.
//!
//! Users are warned first. A job whose warning came late has the whole time of it from then on.

use super::Tick;
use super::cluster::{Cluster, Free};
use super::rollouts::{Rollout, Stance};
use super::step::{Effect, Step};
use crate::standing::{Member, Standing};
use crate::strategy::{Deadline, Strategy, Then};
use crate::why::Why;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, JobEnd, JobRecord};
use rollout_core::slurm::jobs::{Job, JobId};
use std::collections::BTreeMap;
use std::time::Duration;

/// The time within which a job leaves its nodes once it is ended, KillWait included. Its end is repeated meanwhile.
/// Afterwards the job cannot be ended, such as a job that was submitted with `--no-requeue`.
const ENDING_MS: u64 = 120_000;

/// Greatest number of jobs that are ended in one tick, since Slurm takes its time for each.
const MAX_ENDS: usize = 50;

/// A job on requested nodes of a rollout.
struct Waited<'a> {
    job: &'a Job,
    nodes: Vec<String>,
    /// Time of the first request, in milliseconds since 1970.
    since_ms: u64,
}

impl<'a> Tick<'_, 'a> {
    /// Warns users of jobs and ends them, first those that nobody has tried to end yet.
    pub(super) fn meet_deadlines(&mut self, rollout: &Rollout<'a>) {
        let Some(deadline) = rollout.strategy.and_then(|strategy| strategy.jobs.deadline) else { return };
        if rollout.stance != Stance::Request || deadline.then == Then::Leave {
            return;
        }
        let waited_for = self.waited_for(rollout);
        let mut ends: Vec<Step> =
            waited_for.values().filter_map(|waited| self.meet(rollout, deadline, waited)).collect();
        ends.sort_by_key(|step| step.before.is_none());
        let is_end = |step: &&Step| matches!(step.effect, Some(Effect::End { .. }));
        let room = MAX_ENDS.saturating_sub(self.plan.steps.iter().filter(is_end).count());
        self.plan.steps.extend(ends.into_iter().take(room));
    }

    /// Returns the jobs that requested nodes wait for, by their record.
    fn waited_for(&self, rollout: &Rollout<'a>) -> BTreeMap<u32, Waited<'a>> {
        let mut found: BTreeMap<u32, Waited<'a>> = BTreeMap::new();
        let groups = rollout.units.iter().filter(|unit| unit.bring_up().is_some());
        let drained = groups.flat_map(|unit| rollout.members_of(unit)).filter_map(|member| {
            let since_ms = member.kept_out?.since_ms;
            let is_drained = member.standing == Standing::Waiting && member.has_our_drain(rollout.id());
            is_drained.then_some((member, since_ms))
        });
        let requested = rollout.members.iter().filter_map(|member| {
            let since_ms = member.record.request.as_ref()?.at_ms;
            let is_requested = member.standing == Standing::Requested && member.is_queued();
            (is_requested && self.to_withdraw(rollout, member).is_none()).then_some((member, since_ms))
        });
        for (member, since_ms) in requested.chain(drained) {
            let jobs = self.cluster.jobs_on(member.name).unwrap_or_default();
            for job in jobs.iter().filter(|job| !job.is_completing()) {
                let new = Waited { job, nodes: Vec::new(), since_ms };
                let waited = found.entry(job.record).or_insert(new);
                waited.nodes.push(member.name.to_owned());
                waited.since_ms = waited.since_ms.min(since_ms);
            }
        }
        found
    }

    /// Warns users of a job if that is due. Returns the step that ends it, if that is.
    fn meet(&mut self, rollout: &Rollout<'a>, deadline: Deadline, waited: &Waited<'a>) -> Option<Step> {
        let (now_ms, record) = (self.cluster.now_ms, waited.job.record);
        let known = rollout.state.conduct.jobs.get(&record).copied();
        // A record from before the request is about an earlier run of the job.
        let warned_ms = known.and_then(|known| known.warned_ms).filter(|at_ms| *at_ms >= waited.since_ms);
        let ended_ms = known.and_then(|known| known.ended).map(|(at_ms, _)| at_ms);
        let ended_ms = ended_ms.filter(|at_ms| *at_ms >= waited.since_ms);
        let end_ms = waited.since_ms.saturating_add(millis(deadline.at_most));
        let nodes = NodeSet::from_iter(waited.nodes.iter().cloned());
        if let (Some(warn), None) = (deadline.warn, warned_ms) {
            let warn_ms = end_ms.saturating_sub(millis(warn));
            if warn_ms > now_ms {
                self.look_again(Some(warn_ms));
                return None;
            }
            // Slurm passes over the script of any other component, and has nobody to notify (`srun_user_message` in
            // `srun_comm.c`, 22.05 to 26.05).
            let notified = if let JobId::Component { leader, .. } = waited.job.id { leader } else { record };
            let ends_ms = end_ms.max(now_ms.saturating_add(millis(warn)));
            let effect = Effect::Warn { record: notified, ends_ms };
            // Written afterwards: rather warned twice than not at all.
            let after = Some(Entry::JobWarned { job: record, nodes });
            self.push(Step { rollout: rollout.id().to_owned(), before: None, effect: Some(effect), after });
            return None;
        }
        let promised_ms =
            warned_ms.zip(deadline.warn).map_or(0, |(at_ms, warn)| at_ms.saturating_add(millis(warn)));
        let end_ms = end_ms.max(promised_ms);
        if end_ms > now_ms {
            self.look_again(Some(end_ms));
            return None;
        }
        let how = if deadline.then == Then::Requeue { JobEnd::Requeued } else { JobEnd::Cancelled };
        let before = ended_ms.is_none().then_some(Entry::JobEnded { job: record, nodes, how });
        if ended_ms.is_some_and(|at_ms| is_hopeless(at_ms, now_ms)) {
            return None;
        }
        let effect = Some(Effect::End { job: waited.job.id, how });
        Some(Step { rollout: rollout.id().to_owned(), before, effect, after: None })
    }
}

/// Returns whether a job that was ended at this time cannot be.
fn is_hopeless(ended_ms: u64, now_ms: u64) -> bool {
    now_ms > ended_ms.saturating_add(ENDING_MS)
}

/// Returns the job on a node that was ended and did not go.
pub(super) fn stays(cluster: &Cluster<'_>, rollout: &Rollout<'_>, name: &str) -> Option<Why> {
    let ended = |job: &&Job| {
        let JobRecord { ended, .. } = rollout.state.conduct.jobs.get(&job.record)?;
        let (at_ms, how) = (*ended)?;
        // A requeued job that runs again has started since.
        let is_same_run = job.start_s.is_none_or(|start_s| start_s.saturating_mul(1000) <= at_ms);
        let is_left = is_same_run && !job.is_completing() && is_hopeless(at_ms, cluster.now_ms);
        is_left.then(|| Why::JobStays {
            job: job.id.to_string(),
            how: how.name().to_owned(),
            since_ms: at_ms,
        })
    };
    cluster.jobs_on(name)?.iter().find_map(ended)
}

/// Returns the reason for which a requested node no longer waits for its jobs.
pub(super) fn gives_up(
    cluster: &Cluster<'_>,
    rollout: &Rollout<'_>,
    strategy: &Strategy,
    member: &Member<'_>,
) -> Option<Why> {
    let (deadline, request) = (strategy.jobs.deadline?, member.record.request.as_ref()?);
    let (info, at_most_ms) = (member.info?, millis(deadline.at_most));
    let is_over = cluster.now_ms > request.at_ms.saturating_add(at_most_ms);
    let is_free = cluster.free(info) == Free::Now;
    match deadline.then {
        Then::Leave => (is_over && !is_free).then_some(Why::JobsBeyondDeadline { at_most_ms }),
        Then::Requeue | Then::Cancel => stays(cluster, rollout, member.name).filter(|_| is_over),
    }
}

/// Returns the latest time from now on at which jobs leave the node by themselves or are ended, in milliseconds since
/// 1970. `None` if there is no such time.
pub(super) fn latest_free(cluster: &Cluster<'_>, strategy: &Strategy, free: Free) -> Option<u64> {
    let by_deadline =
        strategy.jobs.deadline.filter(|deadline| deadline.then != Then::Leave).map(|deadline| {
            cluster.now_ms.saturating_add(millis(deadline.at_most)).saturating_add(ENDING_MS)
        });
    let by_themselves = match free {
        Free::Now => Some(cluster.now_ms),
        Free::At(at_ms) => Some(at_ms),
        Free::Unknown(_) | Free::JobsNotKnown => None,
    };
    by_themselves.into_iter().chain(by_deadline).min()
}

/// Returns the time from which a node that was requested at `requested_ms` is reserved: its jobs have ended by then, by
/// themselves or at the deadline. In milliseconds since 1970. `None` if there is no such time, or no job.
pub(super) fn reserved_from(
    cluster: &Cluster<'_>,
    strategy: &Strategy,
    free: Free,
    requested_ms: u64,
) -> Option<u64> {
    let end_ms = match free {
        Free::At(end_ms) => Some(end_ms),
        Free::Unknown(_) => None,
        Free::Now | Free::JobsNotKnown => return None,
    };
    let deadline = strategy.jobs.deadline.filter(|deadline| deadline.then != Then::Leave);
    let deadline_ms = deadline.map(|deadline| requested_ms.saturating_add(millis(deadline.at_most)));
    let from_ms = end_ms.into_iter().chain(deadline_ms).min()?;
    Some(from_ms.max(cluster.now_ms))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
