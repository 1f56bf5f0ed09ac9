//! Units: the nodes that are requested together. A group of the strategy, else the nodes of the rollout in a group of
//! the site, else a single node.

use super::rollouts::Rollout;
use crate::group::Group;
use crate::limits::Limits;
use crate::standing::{Member, Skip, Standing};
use crate::strategy::{Down, Strategy};
use std::collections::HashMap;

/// Nodes that are requested together.
#[derive(Debug)]
pub(crate) struct Unit<'a> {
    pub(crate) group: Option<&'a Group>,
    /// Places of its nodes among the members of the rollout.
    pub(crate) members: Vec<usize>,
}

impl<'a> Unit<'a> {
    /// Returns the sets of its nodes that come back one after another, if there are several.
    pub(crate) fn bring_up(&self) -> Option<&'a Group> {
        self.group.filter(|group| group.bring_up.len() > 1)
    }

    /// Returns the node that is down, if the strategy takes such a node out of the rollout with its unit.
    pub(super) fn cancelled_by<'b>(&'b self, rollout: &'b Rollout<'a>) -> Option<&'b Member<'a>> {
        let cancels = rollout.strategy.is_some_and(|strategy| strategy.down == Down::Cancel);
        let mut members = rollout.members_of(self).filter(|_| cancels);
        members.find(|member| member.standing == Standing::Skipped(Skip::Down))
    }
}

/// Returns the units of a rollout, in the order of the strategy.
pub(super) fn of<'a>(
    strategy: &'a Strategy,
    limits: &'a Limits,
    members: &[Member<'a>],
    by_name: &HashMap<&'a str, usize>,
) -> Vec<Unit<'a>> {
    // Groups of the strategy come last and replace those of the site.
    let groups = limits.groups.iter().chain(&strategy.groups);
    let group_of: HashMap<&str, &'a Group> =
        groups.flat_map(|group| group.nodes.iter().map(move |node| (node, group))).collect();
    let mut units: Vec<Unit<'a>> = Vec::new();
    let mut of_group: HashMap<&str, usize> = HashMap::new();
    for name in strategy.sequence.iter().map(String::as_str) {
        let Some(member) = by_name.get(name).copied().filter(|member| *member < members.len()) else {
            continue;
        };
        let group = group_of.get(name).copied();
        match group.and_then(|group| of_group.get(group.name.as_str())).and_then(|unit| units.get_mut(*unit))
        {
            Some(unit) => unit.members.push(member),
            None => {
                if let Some(group) = group {
                    of_group.insert(&group.name, units.len());
                }
                units.push(Unit { group, members: vec![member] });
            }
        }
    }
    units
}
