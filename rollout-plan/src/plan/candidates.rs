//! Candidates: whether a waiting node can be requested now, and in which way.

use super::cluster::{Cluster, Free, is_down, is_idle, unavailable};
use super::deadlines::{latest_free, millis, reserved_from, stays};
use super::rollouts::Rollout;
use crate::standing::{Member, Skip, Standing};
use crate::strategy::{Strategy, Then, Wait};
use crate::why::Why;
use rollout_core::rollout::journal::Way;
use rollout_core::slurm::availability::Unavailable;
use rollout_core::slurm::jobs::Job;
use rollout_core::slurm::node::NodeInfo;

/// Preference among nodes: a class, and within the classes of busy nodes the time at which they are free.
pub(super) type Preference = (u8, u64);

/// The facts about the candidates of a rollout.
pub(super) struct Candidates<'b, 'a> {
    pub(super) cluster: &'b Cluster<'a>,
    pub(super) rollout: &'b Rollout<'a>,
    pub(super) strategy: &'a Strategy,
    /// The end of the window that is open, in milliseconds since 1970. `None` if there is no window.
    pub(super) closes_ms: Option<u64>,
    /// The qualification that comes before all other nodes of the rollout.
    pub(super) qualification: Option<Why>,
}

impl<'a> Candidates<'_, 'a> {
    /// Returns the way in which a waiting node can be requested.
    ///
    /// # Errors
    /// The reason if it cannot.
    pub(super) fn way(&self, member: &Member<'a>) -> Result<Way, Why> {
        let info = self.checked(member)?;
        let free = self.cluster.free(info);
        if let Some((reason, by)) = self.cluster.foreign_drain(self.rollout.id(), info) {
            // A request that waits for jobs could not be withdrawn without their drain.
            let is_ready = free == Free::Now && (is_idle(info) || is_down(info));
            return match free {
                Free::JobsNotKnown => Err(Why::JobsNotKnown),
                _ if is_ready => Ok(Way::Drained),
                _ => Err(Why::Drained { by: by.map(str::to_owned), reason: reason.to_owned() }),
            };
        }
        if is_down(info) {
            return Ok(Way::Down);
        }
        let way = self.way_beside_jobs(member, info, free)?;
        self.check_jobs(free).map(|()| way)
    }

    /// Returns the way for a node in service, by its jobs.
    fn way_beside_jobs(&self, member: &Member<'a>, info: &'a NodeInfo, free: Free) -> Result<Way, Why> {
        if let Some(why) = stays(self.cluster, self.rollout, member.name) {
            return Err(why);
        }
        let wait = self.strategy.jobs.wait;
        // The nodes that qualify a wave are reserved from now on.
        let is_reserved = member.pending_qualification().is_some();
        if wait == Wait::Asap || is_reserved || free == Free::Now && is_idle(info) {
            return Ok(Way::Asap);
        }
        let requested_ms =
            member.record.request.as_ref().map_or(self.cluster.now_ms, |request| request.at_ms);
        match reserved_from(self.cluster, self.strategy, free, requested_ms) {
            Some(from_ms) if wait == Wait::End => {
                let known = self.cluster.input.reservations.map(drop);
                let what = "not to be reserved, because Slurm's reservations could not be read";
                known.ok_or(Why::Unavailable { what })?;
                let is_left = self.cluster.our_reservation(self.rollout.id(), member.name).is_some();
                if is_left && member.record.request.is_none() {
                    return Err(Why::Unavailable { what: "reserved for its last request, which is over" });
                }
                self.check_reservation(info, from_ms).map(|()| Way::Reserved)
            }
            _ => Err(jobs(self.cluster, member)),
        }
    }

    /// Returns a node that is not ruled out by anything but its jobs.
    fn checked(&self, member: &Member<'a>) -> Result<&'a NodeInfo, Why> {
        let info = member.info.ok_or(Why::NotInSlurm)?;
        match member.standing {
            Standing::Waiting => {}
            Standing::Skipped(skip) => {
                return Err(Why::Skipped { skip, kept_out: skip == Skip::Down && member.kept_out.is_some() });
            }
            _ => return Err(explain(self.cluster, member)),
        }
        if self.cluster.input.limits.never.contains(member.name) {
            return Err(Why::Never);
        }
        if member.record.cancelled {
            return Err(Why::Cancelled);
        }
        if info.has("REBOOT_REQUESTED") {
            return Err(Why::RequestedByOthers);
        }
        match unavailable(info) {
            None
            | Some(
                Unavailable::Drained
                | Unavailable::Failing
                | Unavailable::Down
                | Unavailable::NeverRegistered
                | Unavailable::Booting
                | Unavailable::InMaintenance,
            ) => {}
            Some(why) => return Err(Why::Unavailable { what: why.as_str() }),
        }
        self.check_reservation(info, self.cluster.now_ms)?;
        Ok(info)
    }

    /// Checks that no reservation of others has the node before it is back from a visit that begins at `from_ms`.
    pub(super) fn check_reservation(&self, info: &NodeInfo, from_ms: u64) -> Result<(), Why> {
        if self.cluster.input.reservations.is_none() {
            let is_reserved = info.has("RESERVED") || info.has("MAINTENANCE");
            let what = "reserved, and Slurm's reservations could not be read";
            return if is_reserved { Err(Why::Unavailable { what }) } else { Ok(()) };
        }
        let back_ms = from_ms.saturating_add(self.rollout.visit_ms());
        match self.cluster.reservation(&info.name, back_ms) {
            Some(reservation) => Err(Why::Reserved {
                reservation: reservation.name.clone(),
                from_ms: reservation.start_s.saturating_mul(1000),
                until_ms: reservation.end_s.saturating_mul(1000),
            }),
            None => Ok(()),
        }
    }

    /// Checks that jobs leave the node in time.
    fn check_jobs(&self, free: Free) -> Result<(), Why> {
        if let Some(deadline) = self.strategy.jobs.deadline.filter(|deadline| deadline.then == Then::Leave) {
            let at_most_ms = millis(deadline.at_most);
            let by_ms = self.cluster.now_ms.saturating_add(at_most_ms);
            match latest_free(self.cluster, self.strategy, free) {
                None if free == Free::JobsNotKnown => return Err(Why::JobsNotKnown),
                Some(free_ms) if free_ms <= by_ms => {}
                _ => return Err(Why::JobsBeyondDeadline { at_most_ms }),
            }
        }
        if let Some(closes_ms) = self.closes_ms {
            let back = latest_free(self.cluster, self.strategy, free);
            match back.map(|free_ms| free_ms.saturating_add(self.rollout.visit_ms())) {
                None if free == Free::JobsNotKnown => return Err(Why::JobsNotKnown),
                Some(back_ms) if back_ms <= closes_ms => {}
                _ => return Err(Why::JobsBeyondWindow { closes_ms }),
            }
        }
        Ok(())
    }

    /// Returns the preference for a node that can be requested. The lowest one goes first.
    pub(super) fn preference(&self, member: &Member<'a>, way: Way) -> Preference {
        let Some(info) = member.info else { return (u8::MAX, 0) };
        let free = self.cluster.free(info);
        let is_out_already = member.kept_out.is_some() || unavailable(info) == Some(Unavailable::Booting);
        match free {
            _ if is_out_already => (0, 0),
            Free::Now | Free::JobsNotKnown if is_idle(info) && way == Way::Asap && !info.has("PLANNED") => {
                (1, 0)
            }
            _ if way == Way::Drained => (2, 0),
            Free::Now | Free::JobsNotKnown if is_idle(info) => (3, 0),
            Free::At(at_ms) => (4, at_ms),
            Free::Now | Free::Unknown(_) | Free::JobsNotKnown => (5, 0),
        }
    }
}

/// Returns the reason for which jobs keep a node.
pub(super) fn jobs(cluster: &Cluster<'_>, member: &Member<'_>) -> Why {
    let Some(info) = member.info else { return Why::NotInSlurm };
    let (Some(known), Some(jobs)) = (cluster.input.jobs, cluster.jobs_on(member.name)) else {
        return Why::JobsNotKnown;
    };
    match cluster.free(info) {
        Free::Unknown(why) => Why::NoEnd { why: why.to_string() },
        Free::At(limit_ms) => {
            let last = jobs.iter().max_by_key(|job| known.ends.latest_end(job, cluster.now_s()).ok());
            last.map_or(Why::Requested, |job| Why::Job {
                job: job.id.to_string(),
                uid: job.uid,
                about_ms: known.used_percent.and_then(|used| likely_end_ms(job, used, cluster.now_ms)),
                limit_ms,
            })
        }
        Free::Now if is_idle(info) => Why::Requested,
        Free::Now | Free::JobsNotKnown => Why::JobsNotKnown,
    }
}

/// Returns the likely end of a job, in milliseconds since 1970, if jobs use this part of their limits. One that has
/// used more may end any time until its limit.
pub(crate) fn likely_end_ms(job: &Job, used_percent: u8, now_ms: u64) -> Option<u64> {
    let start_ms = job.start_s?.saturating_mul(1000);
    let limit_ms = job.end_s?.saturating_mul(1000);
    let used_ms = limit_ms.checked_sub(start_ms)?.saturating_mul(u64::from(used_percent.min(100))) / 100;
    let likely_ms = start_ms.saturating_add(used_ms);
    let half_of_the_rest = now_ms.saturating_add(limit_ms.saturating_sub(now_ms) / 2);
    Some(if likely_ms > now_ms { likely_ms } else { half_of_the_rest })
}

/// Returns the reason for which a node that does not wait is not updated.
pub(super) fn explain(cluster: &Cluster<'_>, member: &Member<'_>) -> Why {
    match member.standing {
        Standing::Requested => jobs(cluster, member),
        Standing::Out => {
            let agent = cluster.input.view.agents.get(member.name).and_then(|answer| answer.as_ref().ok());
            let phase = agent.and_then(|agent| agent.order.as_ref()).filter(|order| !order.phase.has_ended());
            let phase = phase.map(|order| order.phase.name().to_owned());
            Why::UnderWay { phase, since_ms: member.since_ms }
        }
        Standing::Failed(failure) => Why::Failed { failure, error: member.error().map(str::to_owned) },
        Standing::Skipped(skip) => {
            Why::Skipped { skip, kept_out: skip == Skip::Down && member.kept_out.is_some() }
        }
        Standing::Waiting | Standing::Updated => Why::Requested,
    }
}
