//! The cluster as the planner sees it: nodes, jobs and reservations, found by node.

use super::Input;
use rollout_core::rollout::journal::NodeRecord;
use rollout_core::slurm::availability::{Availability, Unavailable};
use rollout_core::slurm::jobs::{FreeAt, Job, NoEnd, by_node, free_at};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::{NOT_ORDERED, Reason, ReasonKind};
use rollout_core::slurm::reservations::{Reservation, name_of, name_of_wave, wave_of};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Text of the Reason of nodes that are drained until their update.
const KEPT_OUT: &str = "kept out of service until its update";

/// The cluster at one moment.
pub(crate) struct Cluster<'a> {
    pub(crate) input: &'a Input<'a>,
    pub(crate) now_ms: u64,
    jobs: Option<BTreeMap<&'a str, Vec<&'a Job>>>,
    /// Reservations of users, by node. Of several, the one that ends last.
    reserved: HashMap<&'a str, &'a Reservation>,
    /// Reservations of ours, by name.
    ours: HashMap<&'a str, &'a Reservation>,
}

/// Jobs of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Free {
    /// No job is on it, and none is about to leave it.
    Now,
    /// The time from which it is free at the latest, in milliseconds since 1970.
    At(u64),
    Unknown(NoEnd),
    /// Slurm's jobs are not known.
    JobsNotKnown,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(input: &'a Input<'a>) -> Self {
        let now_ms = input.view.now_ms;
        let reservations = input.reservations.unwrap_or_default();
        let mut reserved: HashMap<&str, &Reservation> = HashMap::new();
        for reservation in reservations.iter().filter(|reservation| keeps_nodes(reservation)) {
            for node in reservation.nodes.iter() {
                let known = reserved.entry(node).or_insert(reservation);
                if known.end_s < reservation.end_s {
                    *known = reservation;
                }
            }
        }
        let ours = reservations.iter().filter(|reservation| reservation.is_ours());
        let ours = ours.map(|reservation| (reservation.name.as_str(), reservation)).collect();
        Self { input, now_ms, jobs: input.jobs.map(|jobs| by_node(jobs.list)), reserved, ours }
    }

    pub(crate) fn now_s(&self) -> u64 {
        self.now_ms / 1000
    }

    pub(crate) fn node(&self, name: &str) -> Option<&'a NodeInfo> {
        self.input.view.slurm.get(name)
    }

    /// Returns the jobs on a node. `None` if Slurm's jobs are not known.
    pub(crate) fn jobs_on(&self, name: &str) -> Option<&[&'a Job]> {
        Some(self.jobs.as_ref()?.get(name).map_or(&[], Vec::as_slice))
    }

    /// Returns when a node is free of jobs.
    pub(crate) fn free(&self, info: &NodeInfo) -> Free {
        let (Some(jobs), Some(known)) = (self.jobs_on(&info.name), self.input.jobs) else {
            return Free::JobsNotKnown;
        };
        match free_at(info, jobs, known.ends, self.now_s()) {
            FreeAt::Now => Free::Now,
            FreeAt::At(end_s) => Free::At(end_s.saturating_mul(1000)),
            FreeAt::Unknown(why) => Free::Unknown(why),
        }
    }

    /// Returns the reservation of users that has the node now, or begins before `until_ms`.
    pub(crate) fn reservation(&self, name: &str, until_ms: u64) -> Option<&'a Reservation> {
        let reservation = self.reserved.get(name).copied()?;
        let begins = reservation.start_s.saturating_mul(1000) < until_ms;
        (begins && reservation.end_s > self.now_s()).then_some(reservation)
    }

    /// Returns the reservation of ours that keeps new jobs off a node of a rollout.
    pub(crate) fn our_reservation(&self, rollout: &str, node: &str) -> Option<&'a Reservation> {
        if self.ours.is_empty() {
            return None;
        }
        self.ours.get(name_of(rollout, node).as_str()).copied()
    }

    /// Returns the reservation of the nodes that qualify a wave of a rollout.
    pub(crate) fn reservation_of_wave(&self, rollout: &str, wave: u32) -> Option<&'a Reservation> {
        if self.ours.is_empty() {
            return None;
        }
        self.ours.get(name_of_wave(rollout, wave).as_str()).copied()
    }

    /// Returns the waves of a rollout with such a reservation.
    pub(crate) fn reserved_waves(&self, rollout: &str) -> BTreeSet<u32> {
        self.ours.keys().filter_map(|name| wave_of(name, rollout)).collect()
    }

    /// Returns whether a node is in such a reservation.
    pub(crate) fn is_in_reserved_wave(&self, rollout: &str, node: &str) -> bool {
        let has_node = |(name, reservation): (&&str, &&Reservation)| {
            wave_of(name, rollout).is_some() && reservation.nodes.contains(node)
        };
        self.ours.iter().any(has_node)
    }

    /// Returns whether a rollout may have left its name as the Reason of a node.
    fn requests(&self, rollout: &str, node: &str) -> bool {
        let record = self.input.view.snapshot.rollout(rollout).and_then(|rollout| rollout.records.get(node));
        record.is_some_and(NodeRecord::may_have_set_reason)
    }

    /// Returns the drain of a node that is neither ours nor that of a reboot: the Reason, and the user who set it.
    pub(crate) fn foreign_drain(
        &self,
        rollout: &str,
        info: &'a NodeInfo,
    ) -> Option<(&'a str, Option<&'a str>)> {
        // Others may drain it with the name of the rollout as the Reason. Slurm's notes tell a reboot's.
        let is_named = info.reason.as_deref() == Some(rollout);
        let is_ours = is_ours(rollout, info) && (!is_named || self.requests(rollout, &info.name));
        if !info.has("DRAIN") && !info.has("FAIL") || is_ours {
            return None;
        }
        if let Some(drain) = self.input.view.snapshot.drains.get(&info.name) {
            return Some((&drain.reason, drain.by.as_deref()));
        }
        let reason = info.reason.as_deref().unwrap_or_default();
        // A drain has a Reason. Without one, this is a reboot's.
        if reason.is_empty() && info.has("REBOOT_REQUESTED") {
            return None;
        }
        // Slurm's note of a reboot hides whose Reason it was appended to. Without a known drain it is nobody's.
        let is_of_a_reboot = Reason::classify(reason).is_of_a_reboot();
        (!is_of_a_reboot).then_some((reason, info.reason_user.as_deref()))
    }
}

/// Returns whether a reservation of others keeps its nodes for some users. One for maintenance is made for reboots, and one that
/// only excludes users, as a fence between versions does, is open to all others.
fn keeps_nodes(reservation: &Reservation) -> bool {
    let is_open = !reservation.users.is_empty() && reservation.users.iter().all(|user| user.starts_with('-'));
    !reservation.has("MAINT") && !is_open && !reservation.is_ours()
}

/// Returns the Reason of nodes that are drained until their update.
pub(crate) fn kept_out_reason(rollout: &str) -> Reason {
    Reason::ours(rollout, KEPT_OUT)
}

/// Returns whether the Reason of a node is that of its request or of a drain of this rollout.
pub(crate) fn is_ours(rollout: &str, info: &NodeInfo) -> bool {
    let Some(reason) = info.reason.as_deref() else { return false };
    let reason = rollout_core::slurm::reason::without_notes(reason);
    reason == rollout || is_drain_of(rollout, reason)
}

/// Returns whether a Reason is that of a drain of ours, or one with which RebootProgram has replaced it.
fn is_drain_of(rollout: &str, reason: &str) -> bool {
    let ReasonKind::Ours { subject, text } = Reason::classify(reason).kind else { return false };
    subject == rollout && (text == KEPT_OUT || text.starts_with(NOT_ORDERED))
}

/// Returns whether Slurm sees the node down.
pub(crate) fn is_down(info: &NodeInfo) -> bool {
    matches!(
        Availability::of(info),
        Availability::Unavailable(Unavailable::Down | Unavailable::NeverRegistered)
    )
}

/// Returns the cause for which no job starts on a node.
pub(crate) fn unavailable(info: &NodeInfo) -> Option<Unavailable> {
    match Availability::of(info) {
        Availability::Available => None,
        Availability::Unavailable(why) => Some(why),
    }
}

/// Returns whether the state of a node shows no job. Suspended jobs do not show in it.
pub(crate) fn is_idle(info: &NodeInfo) -> bool {
    info.has("IDLE") && !info.has("COMPLETING")
}
