//! Site-wide limits: the `[limits]` table of controller.toml. They apply to all started rollouts together.
//!
//! RebootProgram reads controller.toml as well, and must stay small. The configuration therefore keeps the table as a
//! value, whatever its keys, and only programs that start rollouts read it here. A mistake in it stops no hand-over.

use crate::amount::Amount;
use crate::exclusive::{self, ExclusiveSet};
use crate::floor::{self, Floor};
use crate::group::{self, Group};
use crate::hook::{self, Hook};
use crate::node_sets::{Resolve, nodes_of};
use crate::value;
use crate::window::{self, Windows};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::manifest::ManifestError;
use serde::Deserialize;

/// Maximum number of nodes that are requested in one tick, by default. A list of them fits into one command line.
const REQUESTS_PER_TICK: u32 = 200;

/// Beginning of the names of hooks of the site in journals.
const SITE: &str = "site:";

/// Limits for all started rollouts together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of nodes of the cluster that accept no jobs, for any reason. [`Amount::limit_of`] rounds it.
    /// `None` is no limit.
    pub max_out: Option<Amount>,
    /// Maximum number of nodes that are requested in one tick, at least 1.
    pub requests_per_tick: usize,
    /// Nodes that are never requested.
    pub never: NodeSet,
    pub floors: Vec<Floor>,
    pub exclusive: Vec<ExclusiveSet>,
    /// The groups. No two have a node in common.
    pub groups: Vec<Group>,
    pub windows: Windows,
    /// Hooks of all rollouts, called before those of a rollout itself.
    pub hooks: Vec<Hook>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_out: None,
            requests_per_tick: usize::try_from(REQUESTS_PER_TICK).unwrap_or(usize::MAX),
            never: NodeSet::default(),
            floors: Vec::new(),
            exclusive: Vec::new(),
            groups: Vec::new(),
            windows: Windows::default(),
            hooks: Vec::new(),
        }
    }
}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    max_out: Option<Amount>,
    requests_per_tick: Option<u32>,
    never: Option<String>,
    floor: Vec<floor::Written>,
    exclusive: Vec<exclusive::Written>,
    group: Vec<group::Written>,
    window: Vec<window::Written>,
    hook: Vec<hook::Written>,
}

impl Limits {
    /// Parses and checks the table as the configuration keeps it. `None` is a table without keys. Node sets are expanded
    /// by `resolve`.
    ///
    /// # Errors
    /// The first error, with its key and the correction. Keys begin with `limits`; file and line are those of the table,
    /// which the configuration knows.
    pub fn of_config(table: Option<&serde_json::Value>, resolve: Resolve<'_>) -> Result<Self, ManifestError> {
        let Some(table) = table else { return Ok(Self::default()) };
        let text =
            toml::to_string(table).map_err(|error| value("limits", format!("not a table: {error}")))?;
        let written: Written = toml::from_str(&text).map_err(|error| in_line(&text, &error))?;
        written.check(resolve)
    }
}

/// Returns the error with the line that it is about. The number of the line would be that of another text.
fn in_line(text: &str, error: &toml::de::Error) -> ManifestError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = text.lines().nth(before.matches('\n').count()).unwrap_or_default();
    value("limits", format!("{line}: {}", error.message().replace('\n', "; ")))
}

impl Written {
    fn check(self, resolve: Resolve<'_>) -> Result<Limits, ManifestError> {
        let requests = self.requests_per_tick.unwrap_or(REQUESTS_PER_TICK);
        if requests == 0 {
            return Err(value(
                "limits.requests_per_tick",
                "0: no node would ever be requested; write 1 or more",
            ));
        }
        let never = match &self.never {
            Some(text) => nodes_of("limits.never", text, resolve)?,
            None => NodeSet::default(),
        };
        let groups = group::check_all("limits.group", self.group, None, resolve)?;
        Ok(Limits {
            max_out: self.max_out,
            requests_per_tick: usize::try_from(requests).unwrap_or(usize::MAX),
            never,
            floors: floor::check_all("limits.floor", self.floor, resolve)?,
            exclusive: exclusive::check_all("limits.exclusive", self.exclusive, &groups, resolve)?,
            windows: window::check_all("limits.window", self.window)?,
            hooks: hook::check_all("limits.hook", self.hook, SITE, resolve)?,
            groups,
        })
    }
}

#[cfg(test)]
mod tests;
