//! The standing of a node in a started rollout: derived from its journal record, Slurm and the agents, never stored.

use crate::plan::cluster::{Cluster, is_down, is_ours, unavailable};
use crate::plan::{IN_FLIGHT_MS, has_our_drain};
use crate::strategy::Down;
use rollout_core::agent::phase::Phase;
use rollout_core::controller::snapshot::RolloutState;
use rollout_core::controller::view::ROUNDING_MS;
use rollout_core::rollout::journal::{KeptOut, NodeRecord, Outcome, Progress, Qualification};
use rollout_core::slurm::availability::Unavailable;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::Reason;
use serde::Serialize;

/// The time within which an agent that is back is asked for its order: all agents are asked every 30 s.
const ANSWER_MS: u64 = 90_000;

/// The standing of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It has not been requested.
    Waiting,
    /// Its reboot is requested, and Slurm has not issued it.
    Requested,
    /// Slurm has issued its reboot, or its order has not ended.
    Out,
    Updated,
    Failed(Failure),
    /// It is left out for now. One that waits for its return keeps the rollout open.
    Skipped(Skip),
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    RolledBack,
    Held,
    Lost,
    /// Its agent refused the order.
    Refused,
    /// It rebooted and got no order.
    NoOrder,
    /// It is updated, and the job that was to qualify it did not succeed.
    NotQualified,
    /// A hook that decides about it did not succeed.
    Hook,
}

/// The reason for leaving a node out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skip {
    /// Slurm sees it down.
    Down,
    /// It is powered down to save power.
    Asleep,
    /// Slurm knows no such node yet.
    NoNode,
    /// Another rollout was staged over this one, or it had another order since.
    Superseded,
    /// An admin released it.
    Released,
}

/// A node of a rollout.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    pub(crate) name: &'a str,
    pub(crate) record: &'a NodeRecord,
    /// `None` if Slurm does not show it.
    pub(crate) info: Option<&'a NodeInfo>,
    pub(crate) standing: Standing,
    /// Start of the standing if that is an end, in milliseconds since 1970.
    pub(crate) since_ms: u64,
    /// It is out through this rollout.
    pub(crate) holds_slot: bool,
    /// Its drain of ours, unless somebody else removed that.
    pub(crate) kept_out: Option<&'a KeptOut>,
}

impl<'a> Member<'a> {
    /// Returns a node of the rollout that has this record.
    pub(crate) fn new(
        cluster: &Cluster<'a>,
        rollout: &'a RolloutState,
        (name, record): (&'a str, &'a NodeRecord),
        down: Down,
    ) -> Self {
        let info = cluster.node(name);
        let (standing, since_ms) = match record.progress {
            _ if !owns(cluster, rollout, name) => (Standing::Skipped(Skip::Superseded), record.since_ms),
            Progress::Seen(Phase::Updated) => of_updated(record),
            Progress::Seen(phase) => (of_phase(phase), record.since_ms),
            Progress::Ordered => (Standing::Out, record.since_ms),
            Progress::Lost => (Standing::Failed(Failure::Lost), record.since_ms),
            Progress::Covered | Progress::Superseded => {
                (Standing::Skipped(Skip::Superseded), record.since_ms)
            }
            Progress::Staged | Progress::Ordering { .. } | Progress::Refused | Progress::Unreachable => {
                let member = Pending { cluster, rollout, name, record, info };
                member.standing(down)
            }
        };
        let kept_out = record.kept_out.as_ref().filter(|kept_out| !was_let_in(cluster, kept_out, info));
        let member = Self { name, record, info, standing, since_ms, holds_slot: false, kept_out };
        let holds_slot = member.is_out_through(&rollout.id);
        Self { holds_slot, ..member }
    }

    /// Returns whether the node is out through this rollout.
    fn is_out_through(&self, rollout: &str) -> bool {
        if self.is_reserved_to_qualify() {
            return true;
        }
        match self.standing {
            Standing::Requested | Standing::Out | Standing::Failed(Failure::Held | Failure::Lost) => true,
            Standing::Skipped(Skip::Superseded | Skip::Asleep | Skip::NoNode) => false,
            // A straggler is out for a reason of its own until it returns.
            Standing::Skipped(Skip::Down) => false,
            Standing::Waiting => {
                let is_requested = self.info.is_some_and(|info| info.has("REBOOT_REQUESTED"));
                self.kept_out.is_some() || is_requested
            }
            Standing::Updated | Standing::Failed(_) | Standing::Skipped(Skip::Released) => {
                self.info.is_some_and(|info| unavailable(info).is_some() && is_of_our_reboot(rollout, info))
            }
        }
    }

    /// Returns whether the node may be in the reservation of those that qualify a wave.
    pub(crate) fn is_reserved_to_qualify(&self) -> bool {
        self.record.reserved && self.record.qualification.is_some()
    }

    /// Returns the qualification of a node that is reserved for it, until it is over.
    pub(crate) fn pending_qualification(&self) -> Option<&'a Qualification> {
        self.record.qualification.as_ref().filter(|known| self.record.reserved && known.is_pending())
    }

    /// Returns the error of a node that failed.
    pub(crate) fn error(&self) -> Option<&'a str> {
        let of_hook = || self.record.hook_failure().map(|(error, _)| error);
        self.record.qualification_failure().or_else(of_hook).or(self.record.why.as_deref())
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.standing, Standing::Updated | Standing::Failed(_))
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_ended() || matches!(self.standing, Standing::Requested | Standing::Out)
    }

    /// Returns the time at which the node was requested or ordered, as far as known, in milliseconds since 1970.
    pub(crate) fn begun_ms(&self) -> u64 {
        let requested = self.record.request.as_ref().map(|request| request.at_ms);
        let kept_out = self.record.kept_out.as_ref().map(|kept_out| kept_out.since_ms);
        let unknown = if self.has_ended() { self.since_ms } else { u64::MAX };
        requested.or(self.record.ordering_ms).or(kept_out).unwrap_or(unknown)
    }

    /// Returns whether Slurm shows a requested reboot that it has not issued.
    pub(crate) fn is_queued(&self) -> bool {
        self.info.is_some_and(|info| info.has("REBOOT_REQUESTED") && !info.has("REBOOT_ISSUED"))
    }

    /// Returns whether our drain is on the node.
    pub(crate) fn has_our_drain(&self, rollout: &str) -> bool {
        self.kept_out.is_some() && self.info.is_some_and(|info| has_our_drain(rollout, info))
    }
}

/// Returns whether the rollout is the one that was staged for the node last.
fn owns(cluster: &Cluster<'_>, rollout: &RolloutState, name: &str) -> bool {
    let snapshot = &cluster.input.view.snapshot;
    match &snapshot.rollouts[..] {
        [_] => true,
        _ => snapshot.owner(name).is_none_or(|of| of.rollout_id() == Some(rollout.id.as_str())),
    }
}

/// Returns whether somebody removed the drain of a node that we keep out: it takes jobs, although the drain has had time
/// to reach Slurm.
fn was_let_in(cluster: &Cluster<'_>, kept_out: &KeptOut, info: Option<&NodeInfo>) -> bool {
    let is_in_flight = cluster.now_ms <= kept_out.since_ms.saturating_add(IN_FLIGHT_MS);
    !is_in_flight && info.is_some_and(|info| unavailable(info).is_none())
}

/// Returns whether what keeps jobs away is our reboot and nobody else.
fn is_of_our_reboot(rollout: &str, info: &NodeInfo) -> bool {
    let reason = info.reason.as_deref().unwrap_or_default();
    info.has("REBOOT_ISSUED") || is_ours(rollout, info) || Reason::classify(reason).is_of_a_reboot()
}

/// Returns the standing of a node whose agent has proven the update, and the start of it. One that qualifies a wave is out
/// until that is over.
fn of_updated(record: &NodeRecord) -> (Standing, u64) {
    if let Some((_, at_ms)) = record.hook_failure() {
        return (Standing::Failed(Failure::Hook), at_ms);
    }
    let Some(qualification) = &record.qualification else { return (Standing::Updated, record.since_ms) };
    match &qualification.outcome {
        None => (Standing::Out, record.since_ms),
        Some(Outcome { at_ms, failure: None }) => (Standing::Updated, *at_ms),
        Some(Outcome { at_ms, .. }) => (Standing::Failed(Failure::NotQualified), *at_ms),
    }
}

fn of_phase(phase: Phase) -> Standing {
    match phase {
        Phase::Updated => Standing::Updated,
        Phase::RolledBack => Standing::Failed(Failure::RolledBack),
        Phase::Held => Standing::Failed(Failure::Held),
        Phase::Released => Standing::Skipped(Skip::Released),
        Phase::Applying
        | Phase::Rebooting
        | Phase::Verifying
        | Phase::Registering
        | Phase::Undoing
        | Phase::RebootingBack
        | Phase::VerifyingOld => Standing::Out,
    }
}

/// A node that waits for its rollout, as far as its journal records it.
struct Pending<'b, 'a> {
    cluster: &'b Cluster<'a>,
    rollout: &'a RolloutState,
    name: &'a str,
    record: &'a NodeRecord,
    info: Option<&'a NodeInfo>,
}

impl Pending<'_, '_> {
    fn standing(&self, down: Down) -> (Standing, u64) {
        let record = self.record;
        let requested = if record.request.is_some() { Standing::Requested } else { Standing::Waiting };
        let is_being_ordered =
            matches!(record.progress, Progress::Ordering { until_ms } if until_ms > self.cluster.now_ms);
        let Some(info) = self.info else {
            return (if is_being_ordered { Standing::Out } else { requested }, record.since_ms);
        };
        if is_being_ordered || info.has("REBOOT_ISSUED") {
            let issued_ms = info.handed_over_s().map(|s| s.saturating_mul(1000));
            let requested_ms = record.request.as_ref().map(|request| request.at_ms);
            return (Standing::Out, issued_ms.or(requested_ms).unwrap_or(record.since_ms));
        }
        if let Some(back_ms) = self.awaits_an_answer(info) {
            return (Standing::Out, back_ms);
        }
        if let Some((failure, at_ms)) = self.failure(info) {
            // A failure before `resume` no longer counts: the node waits again.
            if self.counts(failure, at_ms) {
                return (Standing::Failed(failure), at_ms);
            }
            return (self.unrequested(info, down), record.since_ms);
        }
        if let (Some((_, at_ms)), None) = (record.hook_failure(), &record.request) {
            return (Standing::Failed(Failure::Hook), at_ms);
        }
        match self.unrequested(info, down) {
            Standing::Waiting => (requested, record.since_ms),
            skipped => (skipped, record.since_ms),
        }
    }

    /// Returns the time at which slurmd was back if the node has booted since its request, its agent held the order in
    /// advance, and has had no time yet to be asked whether it took it: slurmd may have had the node rebooted.
    fn awaits_an_answer(&self, info: &NodeInfo) -> Option<u64> {
        let request = self.record.request.as_ref().filter(|_| self.record.pre_staged)?;
        let booted_ms = self.booted_ms_since(request.at_ms, info)?;
        let back_ms =
            info.slurmd_start_s.map_or(booted_ms, |start_s| booted_ms.max(start_s.saturating_mul(1000)));
        (self.cluster.now_ms <= back_ms.saturating_add(ANSWER_MS)).then_some(back_ms)
    }

    /// Returns whether a failure is one since the rollout was started or last resumed. A request from before may lead to
    /// a boot without an order after it; no journal line tells when that was.
    fn counts(&self, failure: Failure, at_ms: u64) -> bool {
        let is_later = failure != Failure::Refused && at_ms > self.rollout.conduct.counted_from_ms;
        !self.record.forgiven || is_later
    }

    /// Returns the failure of a request that led to no order, and its time.
    fn failure(&self, info: &NodeInfo) -> Option<(Failure, u64)> {
        let record = self.record;
        if record.progress == Progress::Refused && record.request.is_none() {
            return Some((Failure::Refused, record.since_ms));
        }
        let is_outcome_unknown = record.progress.is_outcome_unknown(self.cluster.now_ms);
        let ordered_ms = record.ordering_ms.filter(|_| is_outcome_unknown);
        let begun_ms = record.request.as_ref().map(|request| request.at_ms).or(ordered_ms)?;
        if info.timed_out_waiting_for_our_reboot() {
            let at_ms = info.reason_s.unwrap_or(0).saturating_mul(1000);
            return (at_ms >= begun_ms).then_some((Failure::Lost, at_ms));
        }
        Some((Failure::NoOrder, self.booted_ms_since(begun_ms, info)?))
    }

    /// Returns the time of the node's boot if it has booted since, and Slurm has no request for it.
    fn booted_ms_since(&self, begun_ms: u64, info: &NodeInfo) -> Option<u64> {
        let booted_ms = self.cluster.input.view.node(self.name).booted_ms()?;
        let has_booted = booted_ms > begun_ms.saturating_add(ROUNDING_MS) && !info.has("REBOOT_REQUESTED");
        has_booted.then_some(booted_ms)
    }

    /// Returns the standing of a node without a request.
    fn unrequested(&self, info: &NodeInfo, down: Down) -> Standing {
        match unavailable(info) {
            Some(Unavailable::Asleep) => Standing::Skipped(Skip::Asleep),
            Some(Unavailable::NoNode) => Standing::Skipped(Skip::NoNode),
            Some(_) if is_down(info) && down != Down::Include && !self.has_returned(info) => {
                Standing::Skipped(Skip::Down)
            }
            _ => Standing::Waiting,
        }
    }

    /// Returns whether a straggler is up, although Slurm keeps it down: with ReturnToService=1 Slurm does, because our
    /// drain has replaced the Reason `Not responding` (`validate_node_specs` in `src/slurmctld/node_mgr.c`, 22.05 to
    /// 26.05).
    fn has_returned(&self, info: &NodeInfo) -> bool {
        let Some(kept_out) = &self.record.kept_out else { return false };
        let since_s = kept_out.since_ms / 1000;
        let has_started = info.slurmd_start_s.max(info.boot_s).is_some_and(|start_s| start_s > since_s);
        has_started && !info.has("NOT_RESPONDING") && !info.has("UNKNOWN")
    }
}
