//! Forecasts: when each node of a rollout is likely updated, and what that costs.
//!
//! The nodes are scheduled as the planner would request them, with the jobs of now: each slot of `max_out` takes the
//! next node once the one before is back. Jobs that start meanwhile, other rollouts, failures and the time until an
//! approval are left out.

use crate::plan::cluster::{Cluster, Free};
use crate::plan::rollouts::Rollout;
use crate::plan::units::Unit;
use crate::plan::{Input, likely_end_ms};
use crate::standing::{Member, Standing};
use crate::strategy::{Order, Strategy, Wait};
use rollout_core::hostlist::NodeSet;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// The forecast of a rollout. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The visits, by their time.
    pub visits: Vec<Visit>,
    /// Nodes whose jobs have no known end, and those that are left out. [`Forecast::likely_ms`] is without them.
    pub unknown: NodeSet,
    /// The end if jobs use as much of their time limits as past ones did. `None` if no node is left.
    pub likely_ms: Option<u64>,
    /// The end if all jobs last until their limits.
    pub latest_ms: Option<u64>,
    /// The largest number of nodes that are out at once.
    pub peak_out: usize,
    /// The same for each partition.
    pub peak_by_partition: BTreeMap<String, usize>,
    /// Time of nodes that is lost, in node-milliseconds: their visits, and the wait of nodes that are not full.
    pub lost_ms: u64,
}

/// The likely times of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Visit {
    /// Time from which it takes no jobs.
    pub requested_ms: u64,
    pub handed_over_ms: u64,
    pub back_ms: u64,
    pub node: String,
    /// Number of its wave, counted from 1.
    pub wave: usize,
}

/// The assumption about the ends of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Likely,
    Latest,
}

/// Returns the forecast of a rollout in the snapshot, started or not. `None` if there is none with this id, or its
/// strategy cannot be read.
#[must_use]
pub fn forecast(input: &Input<'_>, rollout: &str) -> Option<Forecast> {
    let cluster = Cluster::new(input);
    let rollout = Rollout::new(&cluster, input.view.snapshot.rollout(rollout)?);
    let strategy = rollout.strategy?;
    let (likely, unknown) = Schedule::run(&cluster, &rollout, strategy, Ends::Likely);
    let (latest, _) = Schedule::run(&cluster, &rollout, strategy, Ends::Latest);
    let end = |visits: &[Visit]| visits.iter().map(|visit| visit.back_ms).max();
    let all = |_: &str| true;
    let partitions = input
        .partitions
        .unwrap_or_default()
        .iter()
        .map(|partition| (partition.name.clone(), peak(&likely, |node| partition.nodes.contains(node))));
    Some(Forecast {
        likely_ms: end(&likely),
        latest_ms: end(&latest),
        peak_out: peak(&likely, all),
        peak_by_partition: partitions.filter(|(_, peak)| *peak > 0).collect(),
        lost_ms: likely.iter().fold(0, |lost, visit| lost.saturating_add(lost_ms(&cluster, visit))),
        visits: likely,
        unknown: NodeSet::from_iter(unknown),
    })
}

/// A schedule in the making.
struct Schedule<'b, 'a> {
    cluster: &'b Cluster<'a>,
    rollout: &'b Rollout<'a>,
    strategy: &'a Strategy,
    ends: Ends,
    /// The times at which the slots are free.
    slots: BinaryHeap<Reverse<u64>>,
    visits: Vec<Visit>,
    unknown: Vec<String>,
}

impl<'a> Schedule<'_, 'a> {
    fn run(
        cluster: &Cluster<'a>,
        rollout: &Rollout<'a>,
        strategy: &'a Strategy,
        ends: Ends,
    ) -> (Vec<Visit>, Vec<String>) {
        let slots =
            (0..strategy.max_out.min(rollout.members.len())).map(|_| Reverse(cluster.now_ms)).collect();
        let (visits, unknown) = (Vec::new(), Vec::new());
        let mut schedule = Schedule { cluster, rollout, strategy, ends, slots, visits, unknown };
        schedule.go_on();
        schedule.begin_all();
        schedule.visits.sort();
        (schedule.visits, schedule.unknown)
    }

    /// Schedules the ends of nodes that have begun.
    fn go_on(&mut self) {
        for member in &self.rollout.members {
            let now_ms = self.cluster.now_ms;
            let handed_over_ms = match member.standing {
                Standing::Requested => self.free_ms(member),
                Standing::Out => Some(now_ms),
                Standing::Waiting | Standing::Updated | Standing::Failed(_) | Standing::Skipped(_) => {
                    continue;
                }
            };
            self.slots.pop();
            match handed_over_ms {
                Some(handed_over_ms) => self.visit(member, 1, (now_ms, handed_over_ms)),
                None => self.unknown.push(member.name.to_owned()),
            }
        }
    }

    /// Schedules the nodes that wait, wave by wave.
    fn begin_all(&mut self) {
        let mut left: Vec<(u64, &Unit<'a>)> = Vec::new();
        for unit in &self.rollout.units {
            let waiting = || waiting(self.rollout, unit);
            let free: Option<Vec<u64>> = waiting().map(|member| self.free_ms(member)).collect();
            match free.map(|free| free.into_iter().max()) {
                Some(Some(free_ms)) => left.push((free_ms, unit)),
                Some(None) => {}
                None => {
                    let names: Vec<String> = waiting().map(|member| member.name.to_owned()).collect();
                    self.unknown.extend(names);
                }
            }
        }
        if self.strategy.order == Order::SoonestFree {
            left.sort_by_key(|(free_ms, _)| *free_ms);
        }
        let soak_ms = u64::try_from(self.strategy.soak.as_millis()).unwrap_or(u64::MAX);
        let mut taken = self.rollout.members.iter().filter(|member| member.has_begun()).count();
        let mut opens_ms = self.cluster.now_ms;
        for (index, wave) in self.strategy.waves.iter().enumerate() {
            let later: Vec<&NodeSet> = self
                .strategy
                .waves
                .iter()
                .skip(index.saturating_add(1))
                .filter_map(|wave| wave.named.as_ref())
                .collect();
            let mut rest = Vec::new();
            for (free_ms, unit) in std::mem::take(&mut left) {
                let is_of =
                    |set: &NodeSet| waiting(self.rollout, unit).any(|member| set.contains(member.name));
                let fits = match &wave.named {
                    Some(nodes) => is_of(nodes),
                    None => taken < wave.end && !later.iter().any(|set| is_of(set)),
                };
                if fits {
                    taken = taken.saturating_add(waiting(self.rollout, unit).count());
                    self.begin(unit, index.saturating_add(1), opens_ms.max(self.cluster.now_ms), free_ms);
                } else {
                    rest.push((free_ms, unit));
                }
            }
            left = rest;
            let end_ms = self.visits.iter().map(|visit| visit.back_ms).max().unwrap_or(opens_ms);
            opens_ms = end_ms.saturating_add(soak_ms);
        }
    }

    /// Schedules the nodes of a unit, which need a slot each.
    fn begin(&mut self, unit: &Unit<'a>, wave: usize, opens_ms: u64, free_ms: u64) {
        let rollout = self.rollout;
        let members: Vec<&Member<'a>> = waiting(rollout, unit).collect();
        let mut requested_ms = opens_ms;
        for _ in &members {
            let Some(Reverse(slot_ms)) = self.slots.pop() else { break };
            requested_ms = requested_ms.max(slot_ms);
        }
        if self.strategy.jobs.wait != Wait::Asap {
            requested_ms = requested_ms.max(free_ms);
        }
        let windows = self.strategy.windows.and(&self.cluster.input.limits.windows);
        let from_ms = requested_ms.max(free_ms);
        let Some(fits_ms) = windows.next_fit(from_ms, self.rollout.visit, self.rollout.id()) else {
            self.unknown.extend(members.iter().map(|member| member.name.to_owned()));
            self.slots.extend(members.iter().map(|_| Reverse(requested_ms)));
            return;
        };
        if fits_ms > from_ms {
            requested_ms = fits_ms;
        }
        for member in members {
            let own_ms = self.free_ms(member).unwrap_or(free_ms);
            self.visit(member, wave, (requested_ms, requested_ms.max(own_ms)));
        }
    }

    fn visit(&mut self, member: &Member<'a>, wave: usize, (requested_ms, handed_over_ms): (u64, u64)) {
        let back_ms = handed_over_ms.saturating_add(self.rollout.visit_ms());
        self.slots.push(Reverse(back_ms));
        self.visits.push(Visit { requested_ms, handed_over_ms, back_ms, node: member.name.to_owned(), wave });
    }

    /// Returns the time from which a node has no jobs.
    fn free_ms(&self, member: &Member<'a>) -> Option<u64> {
        let (info, now_ms) = (member.info?, self.cluster.now_ms);
        match self.cluster.free(info) {
            Free::Now => Some(now_ms),
            Free::At(latest_ms) => {
                let used = self.cluster.input.jobs.and_then(|jobs| jobs.used_percent);
                let jobs = self.cluster.jobs_on(member.name).unwrap_or_default();
                let likely = used.filter(|_| self.ends == Ends::Likely).and_then(|used| {
                    jobs.iter().map(|job| likely_end_ms(job, used, now_ms)).collect::<Option<Vec<u64>>>()
                });
                Some(
                    likely
                        .and_then(|ends| ends.into_iter().max())
                        .map_or(latest_ms, |end| end.min(latest_ms)),
                )
            }
            Free::Unknown(_) | Free::JobsNotKnown => None,
        }
    }
}

/// Returns the nodes of a unit that wait.
fn waiting<'b, 'a>(rollout: &'b Rollout<'a>, unit: &'b Unit<'a>) -> impl Iterator<Item = &'b Member<'a>> {
    rollout.members_of(unit).filter(|member| member.standing == Standing::Waiting)
}

/// Returns the largest number of these nodes that are out at once.
fn peak(visits: &[Visit], is_counted: impl Fn(&str) -> bool) -> usize {
    let counted = visits.iter().filter(|visit| is_counted(&visit.node));
    // At the same time, a node is back before the next one goes.
    let mut changes: Vec<(u64, bool)> =
        counted.flat_map(|visit| [(visit.requested_ms, true), (visit.back_ms, false)]).collect();
    changes.sort_unstable();
    let (mut out, mut peak) = (0_usize, 0);
    for (_, goes) in changes {
        out = if goes { out.saturating_add(1) } else { out.saturating_sub(1) };
        peak = peak.max(out);
    }
    peak
}

/// Returns the time that a visit costs. A node that waits for the jobs that fill it loses nothing.
fn lost_ms(cluster: &Cluster<'_>, visit: &Visit) -> u64 {
    let is_full = cluster.node(&visit.node).is_some_and(|info| info.has("ALLOCATED"));
    let from_ms = if is_full { visit.handed_over_ms } else { visit.requested_ms };
    visit.back_ms.saturating_sub(from_ms)
}
