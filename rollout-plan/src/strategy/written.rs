//! The keys of the table, and their checks.

use super::halt::{self, Halt};
use super::jobs::{self, Jobs};
use super::preset::{Preset, Settings};
use super::sequence::{self, Order};
use super::waves::{self, WaveText};
use super::{Down, Strategy, after};
use crate::amount::Amount;
use crate::group::Group;
use crate::node_sets::{hostlist, nodes_of};
use crate::period::Period;
use crate::{exclusive, floor, group, hook, value, window};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::manifest::ManifestError;
use serde::Deserialize;
use std::time::Duration;

/// A strategy as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Written {
    preset: Option<Preset>,
    step: Option<Amount>,
    max_out: Option<Amount>,
    waves: Option<Vec<WaveText>>,
    approve: Vec<WaveText>,
    soak: Option<Period>,
    order: Order,
    down: Down,
    after: Option<String>,
    never: Option<String>,
    jobs: jobs::Written,
    halt: halt::Written,
    floor: Vec<floor::Written>,
    exclusive: Vec<exclusive::Written>,
    group: Vec<group::Written>,
    window: Vec<window::Written>,
    hook: Vec<hook::Written>,
}

impl Written {
    /// Checks the strategy of the rollout `name`, whose nodes were written as `written_nodes`.
    pub(super) fn check(
        self,
        name: &str,
        written_nodes: &str,
        all: &NodeSet,
    ) -> Result<Strategy, ManifestError> {
        let never = match &self.never {
            Some(text) => nodes_of("strategy.never", text, &hostlist)?.intersection(all),
            None => NodeSet::default(),
        };
        let nodes = all.difference(&never);
        if nodes.is_empty() {
            let why = "no node of the rollout is left; never names all of them";
            return Err(value("strategy.never", why));
        }
        let Settings { max_out, waves } = Settings::of(self.preset, self.step, nodes.len())?;
        let max_out = self.max_out.map_or(max_out, |amount| amount.limit_of(nodes.len())).min(nodes.len());
        let groups = group::check_all("strategy.group", self.group, Some(&nodes), &hostlist)?;
        check_groups_fit(&groups, max_out)?;
        let waves = self.waves.unwrap_or(waves);
        Ok(Strategy {
            sequence: sequence::of(self.order, written_nodes, &nodes, &groups),
            order: self.order,
            max_out,
            waves: waves::check(&waves, &self.approve, &nodes, &groups)?,
            soak: self.soak.map_or(Duration::ZERO, Period::get),
            down: self.down,
            after: self.after.map(|after| after::check(after, name)).transpose()?,
            jobs: Jobs::check(self.jobs)?,
            halt: Halt::check(self.halt, nodes.len())?,
            floors: floor::check_all("strategy.floor", self.floor, &hostlist)?,
            exclusive: exclusive::check_all("strategy.exclusive", self.exclusive, &groups, &hostlist)?,
            windows: window::check_all("strategy.window", self.window)?,
            hooks: hook::check_all("strategy.hook", self.hook, "", &hostlist)?,
            groups,
            never,
            nodes,
            verify_job: None,
        })
    }
}

/// Refuses a group that could never go.
fn check_groups_fit(groups: &[Group], max_out: usize) -> Result<(), ManifestError> {
    match groups.iter().find(|group| group.nodes.len() > max_out) {
        Some(group) => {
            let (name, size) = (&group.name, group.nodes.len());
            let why = format!(
                "{max_out} at once, but the group {name} has {size} nodes that go together; write {size} or more"
            );
            Err(value("strategy.max_out", why))
        }
        None => Ok(()),
    }
}
