//! Reservations of ours: from the end of a node's jobs on, they keep new ones off it until Slurm hands it over.
//!
//! A node has at most one, whose name tells the rollout and the node. It lasts as long as its request waits in Slurm.
//! Afterwards it is deleted: Slurm starts nothing on a node that it has handed over, and one that is back must take
//! jobs at once. The journal has the request before the reservation exists, and the end after it is gone.

use super::candidates::Candidates;
use super::deadlines::reserved_from;
use super::evidence::is_gone;
use super::rollouts::Rollout;
use super::step::{Effect, Step};
use super::{IN_FLIGHT_MS, Tick};
use crate::standing::{Member, Standing};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, Request, Way};
use std::collections::HashSet;

/// Time that a reservation lasts beyond the latest end of the jobs, in seconds. If it is left behind, the node takes
/// jobs again afterwards. If its request still waits then, it is created anew.
const LASTS_S: u64 = 30 * 60;

impl<'a> Tick<'_, 'a> {
    /// Deletes reservations that are no longer needed, and records those that are gone.
    /// Those of the nodes that qualify a wave are left to [`Tick::qualify`], which returns `held`.
    pub(super) fn unreserve(&mut self, rollout: &Rollout<'a>, held: &HashSet<&'a str>) {
        if self.cluster.input.reservations.is_none() {
            return;
        }
        let mut gone: Vec<String> = Vec::new();
        for member in &rollout.members {
            if self.is_reserved_for(rollout, member) {
                continue;
            }
            // A request that is still known may yet go on, or be on its way.
            let may_return = member.record.request.as_ref().is_some_and(is_for_a_reservation);
            if self.cluster.our_reservation(rollout.id(), member.name).is_some() {
                let effect = Some(Effect::Unreserve { node: member.name.to_owned() });
                self.push(Step { rollout: rollout.id().to_owned(), before: None, effect, after: None });
            } else if member.record.reserved && !may_return && !self.may_be_in_wave(rollout, member, held) {
                gone.push(member.name.to_owned());
            }
        }
        if !gone.is_empty() {
            self.record(rollout, Entry::Unreserved { nodes: NodeSet::from_iter(gone) });
        }
    }

    /// Reserves nodes whose request waits in Slurm without a reservation: it came to its end, or was deleted.
    pub(super) fn reserve_again(&mut self, candidates: &Candidates<'_, 'a>) {
        let rollout = candidates.rollout;
        for member in &rollout.members {
            let effect = match member.is_queued() && self.is_reserved_for(rollout, member) {
                true => self.reservation(candidates, member),
                false => None,
            };
            if effect.is_some() {
                self.push(Step { rollout: rollout.id().to_owned(), before: None, effect, after: None });
            }
        }
    }

    /// Returns the reservation to create for a node. `None` if it has one, or nobody knows when it is free.
    pub(super) fn reservation(&self, candidates: &Candidates<'_, 'a>, member: &Member<'a>) -> Option<Effect> {
        let cluster = self.cluster;
        cluster.input.reservations?;
        if cluster.our_reservation(candidates.rollout.id(), member.name).is_some() {
            return None;
        }
        let requested_ms = member.record.request.as_ref().map_or(cluster.now_ms, |request| request.at_ms);
        let free = cluster.free(member.info?);
        let from_s = reserved_from(cluster, candidates.strategy, free, requested_ms)?.div_ceil(1000);
        let until_s = from_s.saturating_add(LASTS_S);
        Some(Effect::Reserve { node: member.name.to_owned(), from_s, until_s })
    }

    /// Returns whether a node is in the reservation of those that qualify a wave, or may still be put into it.
    fn may_be_in_wave(&self, rollout: &Rollout<'a>, member: &Member<'a>, held: &HashSet<&'a str>) -> bool {
        // One with an outcome was in it when its job was submitted.
        let chosen_ms = member.pending_qualification().map(|known| known.since_ms);
        let is_in_flight =
            chosen_ms.is_some_and(|at_ms| self.cluster.now_ms <= at_ms.saturating_add(IN_FLIGHT_MS));
        is_in_flight
            || held.contains(member.name)
            || self.cluster.is_in_reserved_wave(rollout.id(), member.name)
    }

    /// Returns whether the request of a node waits for the end of its jobs, and goes on to.
    fn is_reserved_for(&self, rollout: &Rollout<'a>, member: &Member<'a>) -> bool {
        member.standing == Standing::Requested
            && member.record.request.as_ref().is_some_and(is_for_a_reservation)
            && !is_gone(member)
            && self.to_withdraw(rollout, member).is_none()
    }
}

fn is_for_a_reservation(request: &Request) -> bool {
    request.way == Way::Reserved
}
