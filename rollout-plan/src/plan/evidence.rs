//! Evidence: what became of the requests that are recorded.

use super::Tick;
use super::rollouts::Rollout;
use crate::standing::{Member, Standing};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::Entry;

/// The fate of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Slurm shows it for the first time, or again although it was to be withdrawn, and it may go on.
    Taken,
    /// Slurm no longer shows it, and the node has not booted.
    Cancelled,
    /// It led to a failure before the rollout was resumed, or the node went down or to sleep.
    Over,
}

impl<'a> Tick<'_, 'a> {
    /// Records requests that Slurm shows for the first time, and those that are gone.
    pub(super) fn record_evidence(&mut self, rollout: &Rollout<'a>) {
        let mut fates: Vec<(Fate, &str)> = Vec::new();
        for member in &rollout.members {
            fates.extend(self.fate(rollout, member).map(|fate| (fate, member.name)));
        }
        fates.sort_unstable();
        for fates in fates.chunk_by(|a, b| a.0 == b.0) {
            let nodes: NodeSet = fates.iter().map(|(_, name)| (*name).to_owned()).collect();
            let gone = |why: &str, cancelled| Entry::Withdrawn {
                nodes: nodes.clone(),
                why: why.to_owned(),
                cancelled,
            };
            let entry = match fates.first().map(|(fate, _)| fate) {
                Some(Fate::Taken) => Entry::RequestTaken { nodes },
                Some(Fate::Cancelled) => gone("somebody cancelled it in Slurm", true),
                Some(Fate::Over) => gone("it is over, and the node waits again", false),
                None => continue,
            };
            self.record(rollout, entry);
        }
    }

    fn fate(&self, rollout: &Rollout<'a>, member: &Member<'a>) -> Option<Fate> {
        let (request, info) = (member.record.request.as_ref()?, member.info?);
        if info.has("REBOOT_REQUESTED") || info.has("REBOOT_ISSUED") {
            let goes_on = request.withdrawing && self.to_withdraw(rollout, member).is_none();
            return (!request.taken || goes_on).then_some(Fate::Taken);
        }
        match member.standing {
            // If it is to be withdrawn anyway, that explains why it is gone.
            Standing::Requested if self.to_withdraw(rollout, member).is_some() => None,
            Standing::Requested if is_gone(member) => {
                let is_cancelled = is_cancelled(member);
                Some(if is_cancelled { Fate::Cancelled } else { Fate::Over })
            }
            Standing::Waiting | Standing::Skipped(_) => {
                let is_settled = request.taken || !self.is_in_flight(request);
                is_settled.then_some(Fate::Over)
            }
            _ => None,
        }
    }
}

/// Returns whether somebody cancelled the request of a node. `resume` has those from before it requested again.
pub(super) fn is_cancelled(member: &Member<'_>) -> bool {
    let request = member.record.request.as_ref();
    let is_ours = request.is_some_and(|request| request.withdrawing);
    is_gone(member) && !member.record.forgiven && !is_ours
}

/// Returns whether Slurm showed the request of a node and no longer does.
pub(super) fn is_gone(member: &Member<'_>) -> bool {
    let is_taken = member.record.request.as_ref().is_some_and(|request| request.taken);
    member.standing == Standing::Requested && is_taken && !member.is_queued()
}
