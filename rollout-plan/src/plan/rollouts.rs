//! The rollouts of a plan: what may happen to each, and the standing of its nodes.

use super::cluster::Cluster;
use super::hooks::StandingByHooks;
use super::units::{self, Unit};
use crate::history::nine_of_ten;
use crate::standing::{Member, Standing};
use crate::strategy::{Down, Strategy};
use crate::why::Why;
use rollout_core::controller::snapshot::RolloutState;
use rollout_core::rollout::journal::{ConductState, NodeRecord};
use rollout_core::text::one_line;
use std::collections::HashMap;
use std::time::Duration;

/// The expected time of a node's reboot and update, if neither its rollout nor earlier ones tell.
pub const DEFAULT_VISIT: Duration = Duration::from_secs(15 * 60);

/// Number of visits that tell how long one takes.
const FIRST_VISITS: usize = 10;

/// Length limit of the error about a strategy, in characters.
const MAX_ERROR: usize = 200;

/// The treatment of a rollout in this tick.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stance {
    /// Nodes may be requested.
    Request,
    /// No node is requested, and what Slurm has not issued is withdrawn.
    Withdraw(Why),
    /// The same, and none of its drains stays.
    End(Option<Why>),
}

/// A rollout with the standing of its nodes.
pub(crate) struct Rollout<'a> {
    pub(crate) state: &'a RolloutState,
    /// `None` if it cannot be read.
    pub(crate) strategy: Option<&'a Strategy>,
    pub(crate) stance: Stance,
    /// In the order of the names.
    pub(crate) members: Vec<Member<'a>>,
    by_name: HashMap<&'a str, usize>,
    /// In the order of the strategy.
    pub(crate) units: Vec<Unit<'a>>,
    /// The expected time from a node's hand-over to its return.
    pub(crate) visit: Duration,
}

impl<'a> Rollout<'a> {
    pub(crate) fn new(cluster: &Cluster<'a>, state: &'a RolloutState) -> Self {
        let strategy = cluster.input.strategies.get(&state.id).map(Result::as_ref);
        let stance = stance(cluster, state, strategy.map(|strategy| strategy.map(drop)));
        let strategy = strategy.and_then(Result::ok);
        let down = strategy.map_or(Down::Skip, |strategy| strategy.down);
        let hooks = StandingByHooks::new(cluster, strategy);
        let members: Vec<Member<'a>> = state
            .records
            .iter()
            .map(|(name, record)| hooks.apply(Member::new(cluster, state, (name, record), down)))
            .collect();
        let by_name: HashMap<&str, usize> =
            members.iter().enumerate().map(|(index, member)| (member.name, index)).collect();
        let limits = cluster.input.limits;
        let units =
            strategy.map(|strategy| units::of(strategy, limits, &members, &by_name)).unwrap_or_default();
        let of_others = cluster.input.visits.get(&state.id).copied();
        let visit = visit(&members, of_others.unwrap_or(DEFAULT_VISIT));
        Self { state, strategy, stance, members, by_name, units, visit }
    }

    pub(crate) fn id(&self) -> &'a str {
        &self.state.id
    }

    pub(crate) fn member(&self, name: &str) -> Option<&Member<'a>> {
        self.members.get(*self.by_name.get(name)?)
    }

    /// Returns the nodes of a unit.
    pub(crate) fn members_of<'b>(&'b self, unit: &'b Unit<'a>) -> impl Iterator<Item = &'b Member<'a>> {
        unit.members.iter().filter_map(|member| self.members.get(*member))
    }

    pub(crate) fn was_started(&self) -> bool {
        self.state.conduct.state != ConductState::NotStarted
    }

    /// Returns whether nodes were updated, and only nodes keep the rollout open that are left out for now, or that it
    /// never touches. They are updated when they return. One without such nodes is through once its hooks are done.
    pub(crate) fn is_through(&self, cluster: &Cluster<'_>) -> bool {
        let is_left_out = |member: &Member<'_>| match member.standing {
            Standing::Skipped(_) => true,
            Standing::Waiting => {
                let of_rollout = self.strategy.is_some_and(|strategy| strategy.never.contains(member.name));
                of_rollout || cluster.input.limits.never.contains(member.name)
            }
            _ => false,
        };
        let is_done = |member: &Member<'_>| {
            let NodeRecord { request, reserved, .. } = member.record;
            (member.record.is_settled() || is_left_out(member)) && request.is_none() && !reserved
        };
        let is_updated = |member: &Member<'_>| member.standing == Standing::Updated;
        let waits_for_hooks = self.state.is_settled() && self.state.conduct.hooks.awaited;
        self.stance == Stance::Request
            && !waits_for_hooks
            && self.members.iter().all(is_done)
            && self.members.iter().any(is_updated)
    }

    /// Returns the expected time of a visit in milliseconds.
    pub(crate) fn visit_ms(&self) -> u64 {
        u64::try_from(self.visit.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Returns the time within which nine of ten nodes of a rollout were back, `expected` before the first one. While fewer
/// than ten are back, a longer time counts only if it still is one with `expected` for the missing ones: one node that
/// hung for hours must not make every window too short.
fn visit(members: &[Member<'_>], expected: Duration) -> Duration {
    let updated = members.iter().filter(|member| member.standing == Standing::Updated);
    let visits = updated.filter_map(|member| member.since_ms.checked_sub(member.record.ordering_ms?));
    let mut visits: Vec<Duration> = visits.map(Duration::from_millis).collect();
    visits.sort_unstable();
    let known = nine_of_ten(&visits).copied();
    visits.resize(visits.len().max(FIRST_VISITS), expected);
    visits.sort_unstable();
    let filled = nine_of_ten(&visits).copied().unwrap_or(expected);
    known.map_or(filled, |known| known.min(filled))
}

/// Returns the treatment of a rollout. Halts of this tick are not known yet.
fn stance(cluster: &Cluster<'_>, state: &RolloutState, strategy: Option<Result<(), &String>>) -> Stance {
    let conduct = &state.conduct;
    let by = conduct.by.clone();
    match &conduct.state {
        ConductState::NotStarted => return Stance::End(None),
        ConductState::Stopped => return Stance::End(Some(Why::Stopped { by })),
        ConductState::Halted { why } => return Stance::Withdraw(Why::Halted { why: why.clone() }),
        ConductState::Paused { why } => return Stance::Withdraw(Why::Paused { by, why: why.clone() }),
        ConductState::Running => {}
    }
    if let Some(freeze) = &cluster.input.view.snapshot.frozen {
        return Stance::Withdraw(Why::Frozen { by: freeze.by.clone(), why: freeze.why.clone() });
    }
    // Its limits are not known, and neither is what it changes.
    let error = match (strategy, &state.manifest) {
        (Some(Ok(())), Ok(_)) => return Stance::Request,
        (Some(Err(error)), _) | (_, Err(error)) => error.clone(),
        (None, Ok(_)) => "it was not read".to_owned(),
    };
    Stance::Withdraw(Why::Strategy { error: one_line(&error, MAX_ERROR) })
}
