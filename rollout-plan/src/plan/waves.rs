//! Waves: which one a rollout is in, and whether it may go on.
//!
//! A wave that is an amount takes any nodes that no wave names. It is not recorded which ones it took: nodes belong to
//! such waves in the order in which they were requested, because the next wave begins only after all nodes of the ones
//! before have ended.

use super::cluster::{Cluster, unavailable};
use super::rollouts::Rollout;
use super::units::Unit;
use crate::standing::{Member, Standing};
use crate::strategy::{Strategy, Wave};
use crate::why::Why;
use rollout_core::slurm::availability::Unavailable;
use std::collections::{BTreeMap, HashMap};

/// The waves of a rollout at one moment.
pub(crate) struct Waves<'a> {
    waves: &'a [Wave],
    /// Waves of the nodes that a wave names.
    named: HashMap<&'a str, usize>,
    /// Waves of the nodes that have begun, with their group.
    begun: HashMap<&'a str, usize>,
    /// The first wave that has not taken all its nodes. The last one if all have.
    pub(crate) current: usize,
    /// Number of nodes that the current wave may still take of those that no wave names. A group may exceed it.
    pub(crate) room: usize,
    /// The reason for which the current wave does not begin or go on.
    pub(crate) closed: Option<Why>,
    /// Time at which it may open without an event, in milliseconds since 1970.
    pub(crate) opens_ms: Option<u64>,
}

impl<'a> Waves<'a> {
    pub(crate) fn new(cluster: &Cluster<'a>, rollout: &Rollout<'a>, strategy: &'a Strategy) -> Self {
        let named = named(&strategy.waves);
        let (begun, taken) = begun(rollout, strategy, &named);
        let never = &cluster.input.limits.never;
        let reachable = |name: &str| {
            let member = rollout.member(name).filter(|_| !never.contains(name));
            member.is_some_and(|member| !matches!(member.standing, Standing::Skipped(_)))
        };
        let counts = |name: &str| begun.contains_key(name) || reachable(name);
        let free = strategy.nodes.iter().filter(|name| !named.contains_key(name) && counts(name)).count();
        let mut waves = Self {
            waves: &strategy.waves,
            named,
            begun,
            current: strategy.waves.len().saturating_sub(1),
            room: 0,
            closed: None,
            opens_ms: None,
        };
        let mut end = 0_usize;
        for (index, wave) in strategy.waves.iter().enumerate() {
            let is_filled = match &wave.named {
                Some(nodes) => nodes.iter().all(|name| waves.begun.contains_key(name) || !reachable(name)),
                None => {
                    end = capacity(&strategy.waves, index);
                    taken >= end.min(free)
                }
            };
            if !is_filled {
                waves.current = index;
                break;
            }
        }
        waves.room = end.min(free).saturating_sub(taken);
        waves.closed = waves.gate(cluster, rollout, strategy);
        waves
    }

    /// Returns the reason if it is not the turn of a node's wave.
    pub(crate) fn blocks(&self, name: &str) -> Option<Why> {
        let wave = self.wave_of(name);
        if wave < self.current {
            return None;
        }
        let later = || {
            let number = u32::try_from(self.current).unwrap_or(u32::MAX).saturating_add(1);
            let of = u32::try_from(self.waves.len()).unwrap_or(u32::MAX);
            Why::LaterWave { wave: self.label(self.current), number, of }
        };
        let is_full = self.room == 0 && !self.named.contains_key(name) && !self.begun.contains_key(name);
        match (&self.closed, wave > self.current || is_full) {
            (Some(why), false) => Some(why.clone()),
            (_, true) => Some(later()),
            (None, false) => None,
        }
    }

    /// Returns the reason if it is not the turn of nodes that go together. They go with the first of them, so that a group
    /// of which a wave names some nodes is not split.
    pub(crate) fn blocks_unit<'n>(&self, names: impl Iterator<Item = &'n str>) -> Option<Why> {
        let whys: Option<Vec<Why>> = names.map(|name| self.blocks(name)).collect();
        whys?.into_iter().next()
    }

    /// Counts nodes that the current wave takes.
    pub(crate) fn take<'n>(&mut self, nodes: impl Iterator<Item = &'n str>) {
        let taken = nodes.filter(|name| !self.named.contains_key(name) && !self.begun.contains_key(name));
        self.room = self.room.saturating_sub(taken.count());
    }

    /// Returns the number of the current wave, counted from 1.
    pub(crate) fn current_number(&self) -> u32 {
        u32::try_from(self.current).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Returns the number of nodes that the current wave may still take. `None` if it names its nodes.
    pub(crate) fn room_left(&self) -> Option<usize> {
        self.waves.get(self.current).is_none_or(|wave| wave.named.is_none()).then_some(self.room)
    }

    /// Returns the number of waves.
    pub(crate) fn number(&self) -> usize {
        self.waves.len()
    }

    pub(crate) fn label(&self, wave: usize) -> String {
        self.waves.get(wave).map_or_else(String::new, |wave| wave.label.clone())
    }

    fn wave_of(&self, name: &str) -> usize {
        let is_amount = self.waves.get(self.current).is_some_and(|wave| wave.named.is_none());
        let unnamed = if is_amount { self.current } else { self.current.saturating_add(1) };
        self.begun.get(name).or_else(|| self.named.get(name)).copied().unwrap_or(unnamed)
    }

    /// Returns the reason for which the current wave may not begin.
    fn gate(&mut self, cluster: &Cluster<'_>, rollout: &Rollout<'_>, strategy: &Strategy) -> Option<Why> {
        let mut earlier: BTreeMap<usize, Vec<&Member<'_>>> = BTreeMap::new();
        for member in &rollout.members {
            let wave = self.begun.get(member.name).copied().filter(|wave| *wave < self.current);
            if let (Some(wave), false) = (wave, matches!(member.standing, Standing::Skipped(_))) {
                earlier.entry(wave).or_default().push(member);
            }
        }
        let has_begun = self.begun.values().any(|wave| *wave == self.current);
        let mut last_end = None;
        for (wave, members) in &earlier {
            let wave = self.label(*wave);
            let waiting: Vec<&&Member<'_>> = members.iter().filter(|member| !member.has_ended()).collect();
            if let Some(one) = waiting.first() {
                return Some(Why::Wave { wave, nodes: waiting.len(), one: one.name.to_owned() });
            }
            let bad = members.iter().find_map(|member| Some((member.name, not_good(member)?)));
            if let (Some((node, state)), false) = (bad, has_begun) {
                return Some(Why::NotGood { wave, node: node.to_owned(), state: state.to_string() });
            }
            let end = members.iter().map(|member| member.since_ms).max();
            last_end = last_end.max(end.map(|end| (end, wave)));
        }
        let soak_ms = u64::try_from(strategy.soak.as_millis()).unwrap_or(u64::MAX);
        if let Some((end_ms, wave)) = last_end {
            let until_ms = end_ms.saturating_add(soak_ms);
            if until_ms > cluster.now_ms && soak_ms > 0 {
                self.opens_ms = Some(until_ms);
                return Some(Why::Soak { wave, until_ms });
            }
        }
        let approved = &rollout.state.conduct.approved;
        let numbered = self.waves.iter().take(self.current).zip(1_u32..);
        let mut wanted = numbered.filter(|(wave, number)| wave.approve && !approved.contains(number));
        wanted.next().map(|(wave, number)| Why::Approval { wave: wave.label.clone(), number })
    }
}

fn named(waves: &[Wave]) -> HashMap<&str, usize> {
    let named = waves.iter().enumerate().filter_map(|(index, wave)| Some((index, wave.named.as_ref()?)));
    named.flat_map(|(index, nodes)| nodes.iter().map(move |name| (name, index))).collect()
}

/// Returns the number of nodes without a name that a wave and all before it take.
fn capacity(waves: &[Wave], index: usize) -> usize {
    let mut before = 0;
    let sizes = waves.iter().take(index.saturating_add(1)).map(|wave| {
        let size = wave.end.saturating_sub(before);
        before = wave.end;
        if wave.named.is_some() { 0 } else { size }
    });
    sizes.sum()
}

/// Returns the waves of nodes that have begun, and the number of those that no wave names.
fn begun<'a>(
    rollout: &Rollout<'a>,
    strategy: &'a Strategy,
    named: &HashMap<&'a str, usize>,
) -> (HashMap<&'a str, usize>, usize) {
    let begun_ms = |unit: &Unit<'a>| {
        let goes_as_one = unit.bring_up().is_some();
        // A straggler that is back is drained, and has not begun.
        let has_begun = |member: &&Member<'_>| {
            member.has_begun() || member.is_queued() || goes_as_one && member.holds_slot
        };
        rollout.members_of(unit).filter(has_begun).map(Member::begun_ms).min()
    };
    let units = rollout.units.iter().filter_map(|unit| Some((begun_ms(unit)?, unit)));
    let mut units: Vec<(u64, &Unit<'a>)> = units.collect();
    units.sort_by_key(|(begun_ms, _)| *begun_ms);
    let amounts: Vec<(usize, usize)> = strategy
        .waves
        .iter()
        .enumerate()
        .filter(|(_, wave)| wave.named.is_none())
        .map(|(index, _)| (index, capacity(&strategy.waves, index)))
        .collect();
    let (mut waves, mut taken) = (HashMap::new(), 0_usize);
    for (_, unit) in units {
        let fits = amounts.iter().find(|(_, end)| taken < *end).or(amounts.last());
        let unnamed = fits.map_or(0, |(index, _)| *index);
        let members =
            || rollout.members_of(unit).filter(|member| !matches!(member.standing, Standing::Skipped(_)));
        // All went with the first of them.
        let wave_of = |member: &Member<'_>| named.get(member.name).copied().unwrap_or(unnamed);
        let first = members().map(wave_of).min().unwrap_or(unnamed);
        for member in members() {
            taken = taken.saturating_add(usize::from(!named.contains_key(member.name)));
            waves.insert(member.name, first);
        }
    }
    (waves, taken)
}

/// Returns the state of an updated node that has been out of service since. Its soak tells that the update is bad.
fn not_good(member: &Member<'_>) -> Option<Unavailable> {
    let info = member.info?;
    let why = unavailable(info).filter(|_| member.standing == Standing::Updated)?;
    let is_later = |seconds: Option<u64>| seconds.is_some_and(|s| s.saturating_mul(1000) > member.since_ms);
    match why {
        // A drain from before its update belongs to somebody who had other reasons.
        Unavailable::Drained | Unavailable::Failing => is_later(info.reason_s).then_some(why),
        Unavailable::Asleep | Unavailable::InMaintenance | Unavailable::Booting => None,
        _ => Some(why),
    }
}
