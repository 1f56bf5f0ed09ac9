//! Limits as counters. A scope is a part of the cluster of which only so many members may be out: the nodes of a
//! rollout, those of a site, those of a floor, the groups of an exclusive set.
//!
//! A scope counts a member that is out already once. Requesting it takes no more room, except in an exclusive set:
//! a reboot of one member while another is out is what such a set forbids.

use super::cluster::{Cluster, unavailable};
use super::rollouts::Rollout;
use crate::exclusive::ExclusiveSet;
use crate::floor::{Floor, Part};
use crate::why::Why;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::availability::Unavailable;
use rollout_core::slurm::node::NodeInfo;
use std::collections::{HashMap, HashSet};

/// Place of a rollout among those of a plan.
pub(super) type RolloutIndex = usize;

/// The kind of a scope, for messages.
enum Limit {
    MaxOut,
    SiteMaxOut,
    Floor { of: String, total: usize },
    FloorNotKnown { of: String },
    Exclusive { set: String },
}

struct Scope {
    limit: Limit,
    /// Maximum number of members that are out.
    at_most: usize,
    /// Number of members that are out.
    out: usize,
    /// For each member the node that is out, if one is.
    members: Vec<Option<String>>,
    /// The rollout whose requests it limits. `None` for all.
    only: Option<RolloutIndex>,
}

/// All limits of a plan.
#[derive(Default)]
pub(super) struct Scopes {
    scopes: Vec<Scope>,
    /// The scopes of each node, with its member there.
    of_node: HashMap<String, Vec<(usize, usize)>>,
}

/// Nodes that are out or about to be: those that accept no jobs, and those whose reboot or drain is requested, though
/// only in a journal.
fn nodes_out<'a>(cluster: &Cluster<'a>, rollouts: &[Rollout<'a>]) -> HashSet<&'a str> {
    let slurm = cluster.input.view.slurm.iter();
    let in_slurm = slurm.filter(|(_, info)| !accepts_jobs(info) || info.has("REBOOT_REQUESTED"));
    let members = rollouts.iter().flat_map(|rollout| &rollout.members);
    let ours = members.filter(|member| member.holds_slot).map(|member| member.name);
    in_slurm.map(|(name, _)| name.as_str()).chain(ours).collect()
}

/// Returns whether a node accepts jobs. Slurm starts one that is powered down to save power for them, unless it is DOWN,
/// DRAIN or FAIL as well, but not before the end of SuspendTimeout (`_do_power_work` in `src/slurmctld/power_save.c`,
/// 22.05 to 26.05).
fn accepts_jobs(info: &NodeInfo) -> bool {
    match unavailable(info) {
        None => true,
        Some(Unavailable::Asleep) => {
            let state = info.state.iter().filter(|word| *word != "POWERED_DOWN").cloned().collect();
            unavailable(&NodeInfo { state, ..NodeInfo::default() }).is_none()
        }
        Some(_) => false,
    }
}

impl Scopes {
    pub(super) fn new(cluster: &Cluster<'_>, rollouts: &[Rollout<'_>]) -> Self {
        let (mut scopes, out) = (Self::default(), nodes_out(cluster, rollouts));
        let is_out = |name: &str| out.contains(name) || cluster.node(name).is_none();
        let limits = cluster.input.limits;
        if let Some(max_out) = limits.max_out {
            let slurm = cluster.input.view.slurm.iter();
            let exists = slurm.filter(|(_, info)| unavailable(info) != Some(Unavailable::NoNode));
            let nodes: Vec<&str> = exists.map(|(name, _)| name.as_str()).collect();
            let at_most = max_out.limit_of(nodes.len());
            scopes.add_nodes(Limit::SiteMaxOut, at_most, None, nodes.into_iter(), is_out);
        }
        scopes.add_floors(cluster, &limits.floors, None, is_out);
        scopes.add_exclusive(&limits.exclusive, None, is_out);
        for (index, rollout) in rollouts.iter().enumerate() {
            let Some(strategy) = rollout.strategy else { continue };
            let held: HashSet<&str> =
                rollout.members.iter().filter(|member| member.holds_slot).map(|member| member.name).collect();
            let names = rollout.members.iter().map(|member| member.name);
            let only = Some(index);
            scopes.add_nodes(Limit::MaxOut, strategy.max_out, only, names, |name| held.contains(name));
            scopes.add_floors(cluster, &strategy.floors, only, is_out);
            scopes.add_exclusive(&strategy.exclusive, only, is_out);
        }
        scopes
    }

    fn add_floors(
        &mut self,
        cluster: &Cluster<'_>,
        floors: &[Floor],
        only: Option<RolloutIndex>,
        is_out: impl Fn(&str) -> bool,
    ) {
        for floor in floors {
            let of = describe(&floor.of);
            match nodes_of(cluster, &floor.of) {
                Some(nodes) => {
                    let total = nodes.len();
                    let at_most = total.saturating_sub(floor.available.floor_of(total));
                    let nodes = nodes.iter().map(String::as_str);
                    self.add_nodes(Limit::Floor { of, total }, at_most, only, nodes, &is_out);
                }
                // Nobody knows which nodes it is about: it blocks all.
                None => {
                    let nodes = cluster.input.view.slurm.keys().map(String::as_str);
                    self.add_nodes(Limit::FloorNotKnown { of }, 0, only, nodes, |_| false);
                }
            }
        }
    }

    fn add_exclusive(
        &mut self,
        sets: &[ExclusiveSet],
        only: Option<RolloutIndex>,
        is_out: impl Fn(&str) -> bool,
    ) {
        for set in sets {
            let limit = Limit::Exclusive { set: set.label.clone() };
            let members = set.members.iter().map(NodeSet::iter);
            self.add(limit, set.at_once, only, members, &is_out);
        }
    }

    fn add_nodes<'n>(
        &mut self,
        limit: Limit,
        at_most: usize,
        only: Option<RolloutIndex>,
        nodes: impl Iterator<Item = &'n str>,
        is_out: impl Fn(&str) -> bool,
    ) {
        self.add(limit, at_most, only, nodes.map(std::iter::once), is_out);
    }

    /// Adds a scope with these members, each of which is some nodes.
    fn add<'n, M: Iterator<Item = &'n str>>(
        &mut self,
        limit: Limit,
        at_most: usize,
        only: Option<RolloutIndex>,
        members: impl Iterator<Item = M>,
        is_out: impl Fn(&str) -> bool,
    ) {
        let index = self.scopes.len();
        let mut scope = Scope { limit, at_most, out: 0, members: Vec::new(), only };
        for (member, nodes) in members.enumerate() {
            let mut out = None;
            for node in nodes {
                match self.of_node.get_mut(node) {
                    Some(places) => places.push((index, member)),
                    None => drop(self.of_node.insert(node.to_owned(), vec![(index, member)])),
                }
                if out.is_none() && is_out(node) {
                    out = Some(node.to_owned());
                }
            }
            scope.out = scope.out.saturating_add(usize::from(out.is_some()));
            scope.members.push(out);
        }
        self.scopes.push(scope);
    }

    /// Returns the reason if these nodes, which go together, may not go out now.
    pub(super) fn blocked<'n>(
        &self,
        rollout: RolloutIndex,
        nodes: impl Iterator<Item = &'n str>,
    ) -> Option<Why> {
        let mut wanted: Vec<(usize, usize)> = self.places(nodes).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let scopes = wanted.chunk_by(|a, b| a.0 == b.0);
        let mut blocking = scopes.filter_map(|places| {
            let scope = self.scopes.get(places.first()?.0)?;
            let is_for = scope.only.is_none_or(|only| only == rollout);
            scope.blocks(places).filter(|_| is_for)
        });
        blocking.next()
    }

    /// Counts these nodes as out.
    pub(super) fn take<'n>(&mut self, nodes: impl Iterator<Item = &'n str>) {
        for node in nodes {
            for (scope, member) in self.of_node.get(node).into_iter().flatten() {
                let Some(scope) = self.scopes.get_mut(*scope) else { continue };
                if let Some(out @ None) = scope.members.get_mut(*member) {
                    *out = Some(node.to_owned());
                    scope.out = scope.out.saturating_add(1);
                }
            }
        }
    }

    fn places<'n>(&self, nodes: impl Iterator<Item = &'n str>) -> impl Iterator<Item = (usize, usize)> {
        nodes.filter_map(|node| self.of_node.get(node)).flatten().copied()
    }
}

impl Scope {
    /// Returns the reason if the scope has no room for these of its members.
    fn blocks(&self, places: &[(usize, usize)]) -> Option<Why> {
        let is_out = |member: usize| self.members.get(member).is_some_and(Option::is_some);
        let more = places.iter().filter(|(_, member)| !is_out(*member)).count();
        let is_exclusive = matches!(self.limit, Limit::Exclusive { .. });
        if (more == 0 && !is_exclusive) || self.out.saturating_add(more) <= self.at_most {
            return None;
        }
        // A member that goes is not in its own way.
        let goes = |member: usize| places.iter().any(|(_, other)| *other == member);
        let others = self.members.iter().enumerate().filter(|(member, _)| !goes(*member));
        let other = others.filter_map(|(_, node)| node.clone()).next();
        match &self.limit {
            Limit::MaxOut => Some(Why::MaxOut { out: self.out, limit: self.at_most }),
            Limit::SiteMaxOut => Some(Why::SiteMaxOut { out: self.out, limit: self.at_most }),
            Limit::Floor { of, total } => Some(Why::Floor {
                of: of.clone(),
                floor: total.saturating_sub(self.at_most),
                available: total.saturating_sub(self.out),
            }),
            Limit::FloorNotKnown { of } => Some(Why::FloorNotKnown { of: of.clone() }),
            Limit::Exclusive { set } => Some(match other {
                Some(node) => Why::Exclusive { set: set.clone(), node },
                None => Why::GroupInSet { set: set.clone(), at_once: self.at_most },
            }),
        }
    }
}

/// Returns the nodes of a part of the cluster. `None` if Slurm does not show the partition, or no node with the feature.
fn nodes_of(cluster: &Cluster<'_>, part: &Part) -> Option<Vec<String>> {
    let slurm = &cluster.input.view.slurm;
    match part {
        Part::Partition(name) => {
            let partition = cluster.input.partitions?.iter().find(|partition| partition.name == *name)?;
            Some(partition.nodes.iter().map(str::to_owned).collect())
        }
        Part::Feature(feature) => {
            let with = slurm.values().filter(|info| info.features.iter().any(|other| other == feature));
            let names: Vec<String> = with.map(|info| info.name.clone()).collect();
            // A feature that was set by scontrol is gone once slurmctld restarts.
            Some(names).filter(|names| !names.is_empty())
        }
        Part::Nodes(nodes) => Some(nodes.iter().map(str::to_owned).collect()),
    }
}

fn describe(part: &Part) -> String {
    match part {
        Part::Partition(name) => format!("partition {name}"),
        Part::Feature(name) => format!("feature {name}"),
        Part::Nodes(nodes) => nodes.to_string(),
    }
}
