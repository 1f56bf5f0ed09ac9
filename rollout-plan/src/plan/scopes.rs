//! Limits as counters. A scope is a part of the cluster of which only so many members may be out: the nodes of a
//! rollout, those of a site, those of a floor, the groups of an exclusive set.
//!
//! A scope counts a member that is out already once. Requesting it takes no more room, except in an exclusive set:
//! a reboot of one member while another is out is what such a set forbids. There, a group is out only while nodes of it
//! reboot, because some node of a large group is always down. A straggler, which our drain keeps out of service, is
//! only in the way of members in service: two stragglers would wait for each other for ever.

use super::cluster::{Cluster, unavailable};
use super::rollouts::Rollout;
use crate::exclusive::ExclusiveSet;
use crate::floor::{Floor, Part};
use crate::standing::{Member, Standing};
use crate::why::Why;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::availability::Unavailable;
use rollout_core::slurm::node::NodeInfo;
use std::collections::{BTreeMap, HashMap, HashSet};

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
    /// Members of an exclusive set that are a single node which is out of service, though it may not reboot.
    absent: BTreeMap<usize, String>,
    /// Members of an exclusive set that our drain keeps out of service.
    stragglers: HashSet<usize>,
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

/// Nodes that are out or about to be.
struct NodesOut<'b, 'a> {
    cluster: &'b Cluster<'a>,
    /// Nodes that accept no jobs, and those whose reboot or drain is requested, though only in a journal.
    all: HashSet<&'a str>,
    /// Nodes that reboot or are about to, and the groups that are drained for it.
    rebooting: HashSet<&'a str>,
    /// Nodes that are back and wait for their update in a drain of ours.
    stragglers: HashSet<&'a str>,
}

impl<'b, 'a> NodesOut<'b, 'a> {
    fn new(cluster: &'b Cluster<'a>, rollouts: &[Rollout<'a>]) -> Self {
        let stragglers: HashSet<&str> = rollouts.iter().flat_map(stragglers).collect();
        let members = rollouts.iter().flat_map(|rollout| &rollout.members);
        let ours = members.filter(|member| member.holds_slot).map(|member| member.name);
        let (mut all, mut rebooting) = (HashSet::new(), HashSet::new());
        for name in ours {
            all.insert(name);
            if !stragglers.contains(name) {
                rebooting.insert(name);
            }
        }
        for (name, info) in &cluster.input.view.slurm {
            let is_rebooting = info.has("REBOOT_REQUESTED") || info.has("REBOOT_ISSUED");
            if is_rebooting {
                rebooting.insert(name.as_str());
            }
            if is_rebooting || !accepts_jobs(info) {
                all.insert(name.as_str());
            }
        }
        Self { cluster, all, rebooting, stragglers }
    }

    fn has(&self, name: &str) -> bool {
        self.all.contains(name) || self.cluster.node(name).is_none()
    }
}

/// Returns the nodes that were down when their turn came, are back, and wait for their update in a drain of ours.
fn stragglers<'b, 'a>(rollout: &'b Rollout<'a>) -> impl Iterator<Item = &'a str> + use<'b, 'a> {
    // A group that comes back in order is drained while it is in service. A node that was down had a Reason.
    let has_no_reason =
        |member: &&Member<'_>| member.kept_out.is_some_and(|kept_out| kept_out.reason.is_none());
    let in_order = rollout.units.iter().filter(|unit| unit.bring_up().is_some());
    let of_groups = in_order.flat_map(|unit| rollout.members_of(unit)).filter(has_no_reason);
    let of_groups: HashSet<&str> = of_groups.map(|member| member.name).collect();
    let waiting = rollout.members.iter().filter(|member| member.standing == Standing::Waiting);
    let kept_out = waiting.filter(|member| member.kept_out.is_some() && !member.is_queued());
    kept_out.map(|member| member.name).filter(move |name| !of_groups.contains(name))
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
        let (mut scopes, out) = (Self::default(), NodesOut::new(cluster, rollouts));
        let is_out = |name: &str| out.has(name);
        let limits = cluster.input.limits;
        if let Some(max_out) = limits.max_out {
            let slurm = cluster.input.view.slurm.iter();
            let exists = slurm.filter(|(_, info)| unavailable(info) != Some(Unavailable::NoNode));
            let nodes: Vec<&str> = exists.map(|(name, _)| name.as_str()).collect();
            let at_most = max_out.limit_of(nodes.len());
            scopes.add_nodes(Limit::SiteMaxOut, at_most, None, nodes.into_iter(), is_out);
        }
        scopes.add_floors(cluster, &limits.floors, None, is_out);
        scopes.add_exclusive(&limits.exclusive, None, &out);
        for (index, rollout) in rollouts.iter().enumerate() {
            let Some(strategy) = rollout.strategy else { continue };
            let held: HashSet<&str> =
                rollout.members.iter().filter(|member| member.holds_slot).map(|member| member.name).collect();
            let names = rollout.members.iter().map(|member| member.name);
            let only = Some(index);
            scopes.add_nodes(Limit::MaxOut, strategy.max_out, only, names, |name| held.contains(name));
            scopes.add_floors(cluster, &strategy.floors, only, is_out);
            scopes.add_exclusive(&strategy.exclusive, only, &out);
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

    fn add_exclusive(&mut self, sets: &[ExclusiveSet], only: Option<RolloutIndex>, out: &NodesOut<'_, '_>) {
        for set in sets {
            let limit = Limit::Exclusive { set: set.label.clone() };
            let members = set.members.iter().map(NodeSet::iter);
            self.add(limit, set.at_once, only, members, |name| out.rebooting.contains(name));
            let Some(scope) = self.scopes.last_mut() else { continue };
            let single = set.members.iter().enumerate().filter(|(_, nodes)| nodes.len() == 1);
            for (member, name) in single.filter_map(|(member, nodes)| Some((member, nodes.iter().next()?))) {
                if out.has(name) {
                    scope.absent.insert(member, name.to_owned());
                }
                if out.stragglers.contains(name) {
                    scope.stragglers.insert(member);
                }
            }
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
        let (absent, stragglers) = (BTreeMap::new(), HashSet::new());
        let mut scope = Scope { limit, at_most, out: 0, members: Vec::new(), absent, stragglers, only };
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

    /// Returns whether a limit of a rollout is exceeded that counts this node, which is counted as out already.
    pub(super) fn exceeded(&self, rollout: RolloutIndex, node: &str) -> bool {
        let mut scopes = self.places(std::iter::once(node)).filter_map(|(scope, _)| self.scopes.get(scope));
        scopes.any(|scope| scope.only.is_none_or(|only| only == rollout) && scope.out > scope.at_most)
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
        // A member that goes is not in its own way.
        let goes = |member: usize| places.iter().any(|(_, other)| *other == member);
        // The reboot of a straggler takes nothing away that is in service.
        let takes_away = places.iter().any(|(_, member)| !self.stragglers.contains(member));
        let absent =
            self.absent.iter().filter(|(member, _)| takes_away && !goes(**member) && !is_out(**member));
        let absent: Vec<&String> = absent.map(|(_, node)| node).collect();
        let out = self.out.saturating_add(absent.len());
        if (more == 0 && !is_exclusive) || out.saturating_add(more) <= self.at_most {
            return None;
        }
        let others = self.members.iter().enumerate().filter(|(member, _)| !goes(*member));
        let other = others.filter_map(|(_, node)| node.as_ref()).chain(absent).next().cloned();
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
