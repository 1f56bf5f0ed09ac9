//! Drains of ours. A straggler is a node that was down when its turn came: it is drained, so that it takes no jobs when
//! it returns, and its update ends the drain. The nodes of a group that come back one after another are drained until
//! their turn comes.

use super::Tick;
use super::cluster::{Free, is_ours, kept_out_reason};
use super::deadlines::millis;
use super::rollouts::{Rollout, Stance};
use super::step::{Effect, Step};
use super::waves::Waves;
use crate::standing::{Failure, Member, Skip, Standing};
use crate::strategy::{Down, Strategy, Then};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::Entry;
use rollout_core::slurm::node::NodeInfo;
use std::collections::{BTreeMap, HashSet};

impl<'a> Tick<'_, 'a> {
    /// Drains stragglers whose turn has come.
    pub(super) fn keep_out(&mut self, rollout: &Rollout<'a>, strategy: &Strategy, waves: &Waves<'a>) {
        let limits = self.cluster.input.limits;
        let is_touched = |name: &str| strategy.nodes.contains(name) && !limits.never.contains(name);
        let mut new: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
        let mut again: Vec<String> = Vec::new();
        for member in rollout.members.iter().filter(|_| strategy.down == Down::Skip) {
            let is_straggler =
                member.standing == Standing::Skipped(Skip::Down) && waves.blocks(member.name).is_none();
            let Some(info) = member.info.filter(|_| is_straggler && is_touched(member.name)) else {
                continue;
            };
            // One that somebody drained takes no jobs either way.
            if info.has("DRAIN") || info.has("FAIL") {
                continue;
            }
            match member.record.kept_out {
                Some(_) => again.push(member.name.to_owned()),
                None => new.entry(info.reason.clone()).or_default().push(member.name.to_owned()),
            }
        }
        for (reason, nodes) in new {
            let nodes = NodeSet::from_iter(nodes);
            self.drain(rollout, nodes.clone(), Some(Entry::KeptOut { nodes, reason }));
        }
        if !again.is_empty() {
            self.drain(rollout, NodeSet::from_iter(again), None);
        }
    }

    /// Drains nodes, with the line that comes before.
    pub(super) fn drain(&mut self, rollout: &Rollout<'_>, nodes: NodeSet, before: Option<Entry>) {
        let effect = Some(Effect::Drain { nodes, reason: kept_out_reason(rollout.id()) });
        self.push(Step { rollout: rollout.id().to_owned(), before, effect, after: None });
    }

    /// Removes drains of ours that are no longer needed, and records those that are gone.
    pub(super) fn let_in(&mut self, rollout: &Rollout<'a>) {
        let groups = Ordered::of(rollout);
        let units = rollout.units.iter().filter(|_| rollout.stance == Stance::Request);
        let cancelled = units.filter(|unit| unit.cancelled_by(rollout).is_some());
        let cancelled: HashSet<&str> =
            cancelled.flat_map(|unit| rollout.members_of(unit)).map(|member| member.name).collect();
        let mut undrain: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
        let mut gone: Vec<String> = Vec::new();
        for member in &rollout.members {
            let Some(kept_out) = &member.record.kept_out else { continue };
            let is_group = groups.all.contains(member.name) && !groups.staying.contains(member.name);
            let stays = groups.staying.contains(member.name);
            let is_needless =
                is_needless(rollout, member, is_group) || !stays && self.gives_up(rollout, member, is_group);
            let is_needless = is_needless || cancelled.contains(member.name) && !member.has_begun();
            let is_needless = is_needless || member.kept_out.is_none();
            if member.info.is_none() || !is_needless {
                continue;
            }
            // The order of a held node, or of one that is lost, has taken the drain over.
            let is_taken_over = matches!(member.standing, Standing::Failed(Failure::Held | Failure::Lost));
            if member.has_our_drain(rollout.id()) && !is_taken_over {
                undrain.entry(kept_out.reason.clone()).or_default().push(member.name.to_owned());
            } else {
                gone.push(member.name.to_owned());
            }
        }
        for (earlier, nodes) in undrain {
            let effect = Some(Effect::Undrain { nodes: NodeSet::from_iter(nodes), earlier });
            self.push(Step { rollout: rollout.id().to_owned(), before: None, effect, after: None });
        }
        if !gone.is_empty() {
            self.record(rollout, Entry::LetIn { nodes: NodeSet::from_iter(gone) });
        }
    }

    /// Returns whether a node no longer waits for its update in a drain: its window has no room for it, or its group
    /// has jobs that last too long.
    fn gives_up(&self, rollout: &Rollout<'a>, member: &Member<'a>, is_group: bool) -> bool {
        let (Some(strategy), Some(info)) = (rollout.strategy, member.info) else { return false };
        let is_due = matches!(member.standing, Standing::Waiting | Standing::Skipped(Skip::Down));
        let Some(kept_out) = member.kept_out.filter(|_| is_due) else { return false };
        let windows = strategy.windows.and(&self.cluster.input.limits.windows);
        if !windows.fits(self.cluster.now_ms, rollout.visit, rollout.id()) {
            return true;
        }
        let deadline = strategy.jobs.deadline.filter(|deadline| deadline.then == Then::Leave);
        let until_ms = deadline.map(|deadline| kept_out.since_ms.saturating_add(millis(deadline.at_most)));
        let is_over = until_ms.is_some_and(|until_ms| self.cluster.now_ms > until_ms);
        is_group && is_over && self.cluster.free(info) != Free::Now
    }
}

/// Nodes of groups that come back in order.
struct Ordered<'a> {
    all: HashSet<&'a str>,
    /// Nodes of groups of which some are out: the others stay off.
    staying: HashSet<&'a str>,
}

impl<'a> Ordered<'a> {
    fn of(rollout: &Rollout<'a>) -> Self {
        let (mut all, mut staying) = (HashSet::new(), HashSet::new());
        let is_away = |member: &Member<'_>| {
            matches!(member.standing, Standing::Requested | Standing::Out | Standing::Failed(_))
        };
        for unit in rollout.units.iter().filter(|unit| unit.bring_up().is_some()) {
            let names = || rollout.members_of(unit).map(|member| member.name);
            all.extend(names());
            if rollout.members_of(unit).any(is_away) {
                staying.extend(names());
            }
        }
        Self { all, staying }
    }
}

/// Returns whether a node needs our drain no more. `is_group`: it is one of a group of which nothing is out.
fn is_needless(rollout: &Rollout<'_>, member: &Member<'_>, is_group: bool) -> bool {
    let is_ending = matches!(rollout.stance, Stance::End(_));
    match member.standing {
        Standing::Requested | Standing::Out => false,
        // It is still to be updated before it takes jobs.
        Standing::Failed(Failure::Refused | Failure::NoOrder) => {
            is_ending || !member.has_our_drain(rollout.id())
        }
        Standing::Updated | Standing::Failed(_) => true,
        Standing::Skipped(Skip::Superseded | Skip::Released | Skip::NoNode) => true,
        Standing::Waiting | Standing::Skipped(Skip::Down | Skip::Asleep) => match &rollout.stance {
            Stance::Request => false,
            Stance::End(_) => true,
            Stance::Withdraw(_) => is_group,
        },
    }
}

/// Returns whether a drain of this rollout is on a node, or one that a request of it has left: the Reason tells,
/// whatever notes Slurm has appended to it.
#[must_use]
pub fn has_our_drain(rollout: &str, info: &NodeInfo) -> bool {
    info.has("DRAIN") && !info.has("REBOOT_ISSUED") && is_ours(rollout, info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_ours_by_its_reason_without_the_notes_of_slurm() {
        let kept_out = kept_out_reason("driver").to_string();
        for (state, reason, ours) in [
            ("IDLE+DRAIN", kept_out.clone(), true),
            ("DOWN+DRAIN", format!("{kept_out} : reboot timed out"), true),
            ("IDLE+DRAIN", format!("{kept_out} : reboot issued"), true),
            ("IDLE+DRAIN", "driver".to_owned(), true),
            ("DOWN+DRAIN", "driver : reboot issued : reboot timed out".to_owned(), true),
            ("DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued".to_owned(), false),
            ("IDLE", kept_out, false),
            ("IDLE+DRAIN", "slurm-rollout driver: not ordered: no answer from its agent".to_owned(), true),
            ("IDLE+DRAIN", "slurm-rollout other: not ordered: no answer from its agent".to_owned(), false),
            ("IDLE+DRAIN", "slurm-rollout driver: held: nhc failed".to_owned(), false),
            ("IDLE+DRAIN", "driver is broken".to_owned(), false),
            ("IDLE+DRAIN", kept_out_reason("other").to_string(), false),
        ] {
            let state = state.split('+').map(str::to_owned).collect();
            let info = NodeInfo { state, reason: Some(reason), ..NodeInfo::default() };
            assert_eq!(has_our_drain("driver", &info), ours, "{info:?}");
        }
    }
}
