//! Withdrawals: requests that must not go on and that Slurm has not issued.
//!
//! A withdrawal has a line before it, so that a request that is gone is not taken for one that somebody cancelled, also
//! if the reason for the withdrawal is over by then. It is repeated, which does no harm, until it is seen: Slurm no
//! longer shows the request. Only then the request is forgotten. If it were forgotten first and the process died,
//! nothing would tell it from one that an admin made with the same Reason.

use super::cluster::kept_out_reason;
use super::rollouts::{Rollout, Stance};
use super::step::{Effect, Step};
use super::{IN_FLIGHT_MS, Tick, deadlines};
use crate::standing::{Member, Standing};
use crate::why::Why;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, Request, Way};
use rollout_core::slurm::reason::Reason;
use std::collections::BTreeMap;

/// Requests that are cancelled together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Together {
    /// Reason of the drain that stays, and whether the nodes are INVALID_REG.
    drain: Option<(String, bool)>,
    /// Reason of the withdrawal if it is not recorded yet.
    new: Option<String>,
}

impl<'a> Tick<'_, 'a> {
    /// Cancels requests in Slurm, and records those that are gone.
    pub(super) fn withdraw(&mut self, rollout: &Rollout<'a>) {
        let mut cancel: BTreeMap<Together, Vec<String>> = BTreeMap::new();
        let mut gone: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for member in &rollout.members {
            let Some((why, request)) = self.to_withdraw(rollout, member).zip(member.record.request.as_ref())
            else {
                continue;
            };
            let name = member.name.to_owned();
            if member.is_queued() || !request.taken && self.is_in_flight(request) {
                let new = (!request.withdrawing).then(|| why.to_string());
                let invalid_reg = member.info.is_some_and(|info| info.has("INVALID_REG"));
                let drain = self.drain_to_keep(rollout, member, request).map(|reason| (reason, invalid_reg));
                cancel.entry(Together { drain, new }).or_default().push(name);
                self.look_again(Some(request.at_ms.saturating_add(IN_FLIGHT_MS).saturating_add(1)));
            } else {
                gone.entry(why.to_string()).or_default().push(name);
            }
        }
        for (Together { drain, new }, nodes) in cancel {
            let nodes = NodeSet::from_iter(nodes);
            let before = new.map(|why| Entry::Withdrawing { nodes: nodes.clone(), why });
            let effect = match drain {
                Some((reason, invalid_reg)) => {
                    let reason = Reason::restored(&reason);
                    Effect::CancelKeepingDrain { nodes, invalid_reg, reason }
                }
                None => Effect::Cancel { nodes },
            };
            let rollout = rollout.id().to_owned();
            self.push(Step { rollout, before, effect: Some(effect), after: None });
        }
        for (why, nodes) in gone {
            let nodes = NodeSet::from_iter(nodes);
            self.record(rollout, Entry::Withdrawn { nodes, why, cancelled: false });
        }
    }

    pub(super) fn is_in_flight(&self, request: &Request) -> bool {
        self.cluster.now_ms <= request.at_ms.saturating_add(IN_FLIGHT_MS)
    }

    /// Returns the reason for which the request of a node must not go on.
    pub(super) fn to_withdraw(&self, rollout: &Rollout<'a>, member: &Member<'a>) -> Option<Why> {
        if member.standing != Standing::Requested {
            return None;
        }
        match &rollout.stance {
            Stance::Withdraw(why) | Stance::End(Some(why)) => return Some(why.clone()),
            Stance::End(None) => return Some(Why::Stopped { by: rollout.state.conduct.by.clone() }),
            Stance::Request => {}
        }
        let (strategy, request) = (rollout.strategy?, member.record.request.as_ref()?);
        let windows = strategy.windows.and(&self.cluster.input.limits.windows);
        if !windows.fits(self.cluster.now_ms, rollout.visit, rollout.id()) {
            let opens_ms = windows.next_fit(self.cluster.now_ms, rollout.visit, rollout.id());
            return Some(Why::Window { opens_ms });
        }
        if request.way != Way::Drained
            && let Some((reason, by)) =
                member.info.and_then(|info| self.cluster.foreign_drain(rollout.id(), info))
        {
            return Some(Why::Drained { by: by.map(str::to_owned), reason: reason.to_owned() });
        }
        let is_never = self.cluster.input.limits.never.contains(member.name);
        if is_never || strategy.never.contains(member.name) {
            return Some(Why::Never);
        }
        deadlines::gives_up(self.cluster, rollout, strategy, member)
    }

    /// Returns the Reason of the drain that must stay: that of somebody else, or ours.
    fn drain_to_keep(&self, rollout: &Rollout<'a>, member: &Member<'a>, request: &Request) -> Option<String> {
        let foreign = member.info.and_then(|info| self.cluster.foreign_drain(rollout.id(), info));
        let drained = || request.drained.clone().filter(|_| request.way == Way::Drained);
        let ours = || member.kept_out.map(|_| kept_out_reason(rollout.id()).as_str().to_owned());
        foreign.map(|(reason, _)| reason.to_owned()).or_else(drained).or_else(ours)
    }
}
