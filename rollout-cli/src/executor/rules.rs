//! Rules by which nodes are requested: the limits of the site, the strategies of rollouts, and findings in earlier ones.

use super::history::{self, Findings};
use super::usage::Usage;
use crate::groups::SiteGroups;
use rollout_control::config::Config;
use rollout_control::store::StoreReader;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::controller::view::View;
use rollout_core::rollout::journal::ConductState;
use rollout_plan::bad_version::Ends;
use rollout_plan::history::Expected;
use rollout_plan::limits::Limits;
use rollout_plan::plan::Input;
use rollout_plan::strategy::{self, Strategy};
use std::collections::BTreeMap;
use std::time::Duration;

/// The rules, as last read.
#[derive(Debug, Default)]
pub struct Rules {
    limits: Limits,
    /// They were read, now or earlier.
    has_limits: bool,
    /// The reason for which no limits are known: then no rollout has a strategy.
    no_limits: Option<String>,
    strategies: BTreeMap<String, Result<Strategy, String>>,
    /// Findings in earlier rollouts about each rollout whose history was read.
    findings: BTreeMap<String, Findings>,
    visits: BTreeMap<String, Duration>,
}

impl Rules {
    /// Reads the limits of the site.
    ///
    /// # Errors
    /// The reason, if they cannot be read. Those that were read before stay.
    pub fn read_limits(&mut self, config: &Config) -> Result<(), String> {
        let groups = SiteGroups::new(config);
        let resolve = |set: &str| groups.resolve(set).map_err(|error| error.to_string());
        let limits = Limits::of_config(config.limits.as_ref(), &resolve).map_err(|error| error.to_string());
        self.set_limits(limits)
    }

    /// Takes limits, or the reason for having none.
    ///
    /// # Errors
    /// The reason.
    pub fn set_limits(&mut self, limits: Result<Limits, String>) -> Result<(), String> {
        match limits {
            Ok(limits) => {
                if self.no_limits.take().is_some() {
                    self.strategies.clear();
                }
                (self.limits, self.has_limits) = (limits, true);
                Ok(())
            }
            Err(error) => {
                let why = format!("the limits in controller.toml cannot be read: {error}");
                // Limits that were known go on to hold.
                if !self.has_limits {
                    self.no_limits = Some(why.clone());
                    self.strategies.clear();
                }
                Err(why)
            }
        }
    }

    /// Reads the strategies of rollouts that are new, and those that could not be read. A strategy does not change.
    pub fn read_strategies(&mut self, store: &StoreReader, snapshot: &Snapshot) {
        self.strategies.retain(|id, strategy| strategy.is_ok() && snapshot.rollout(id).is_some());
        for rollout in &snapshot.rollouts {
            if !self.strategies.contains_key(&rollout.id) {
                let text = store.manifest_text(&rollout.id).map_err(|error| error.to_string());
                self.add(rollout, text);
            }
        }
    }

    /// Reads what earlier rollouts tell about those that were started since the last call.
    pub fn read_history(&mut self, store: &StoreReader, snapshot: &Snapshot) {
        self.findings.retain(|id, _| snapshot.rollout(id).is_some());
        self.visits.retain(|id, _| snapshot.rollout(id).is_some());
        let is_planned =
            |rollout: &&RolloutState| rollout.conduct.state != ConductState::NotStarted && !rollout.is_over();
        let is_new = |rollout: &&RolloutState| !self.findings.contains_key(&rollout.id);
        let new: Vec<&RolloutState> = snapshot.rollouts.iter().filter(is_planned).filter(is_new).collect();
        if new.is_empty() {
            return;
        }
        let mut found = history::read(store, snapshot, &new);
        for rollout in new {
            let findings = found.remove(&rollout.id).unwrap_or_default();
            let visit = findings.expected.iter().map(|expected| (rollout.id.clone(), expected.takes()));
            self.visits.extend(visit);
            self.findings.insert(rollout.id.clone(), findings);
        }
    }

    /// Returns the time to expect of the nodes of a rollout, if earlier ones tell.
    #[must_use]
    pub fn expected(&self, id: &str) -> Option<&Expected> {
        self.findings.get(id)?.expected.as_ref()
    }

    /// Returns the ends of nodes in earlier rollouts with the changes of this one, if they were read.
    #[must_use]
    pub fn ends(&self, id: &str) -> Option<&Ends> {
        self.findings.get(id).map(|findings| &findings.ends)
    }

    /// Takes the strategy in the text of a rollout's manifest.
    pub fn add(&mut self, rollout: &RolloutState, text: Result<String, String>) {
        let strategy = || {
            if let Some(why) = &self.no_limits {
                return Err(why.clone());
            }
            let manifest = rollout.manifest.as_ref().map_err(String::clone)?;
            strategy::of_manifest(&text?, &manifest.nodes).map_err(|error| error.to_string())
        };
        self.strategies.insert(rollout.id.clone(), strategy());
    }

    /// Returns the strategy of a rollout, or the reason for which it has none.
    #[must_use]
    pub fn strategy(&self, id: &str) -> Option<&Result<Strategy, String>> {
        self.strategies.get(id)
    }

    /// Returns everything that a plan depends on, without the hooks, which the executor alone knows.
    #[must_use]
    pub fn input<'a>(&'a self, view: &'a View, usage: &'a Usage) -> Input<'a> {
        Input {
            view,
            jobs: usage.jobs(),
            partitions: usage.partitions.as_deref(),
            reservations: usage.reservations.as_deref(),
            runs: usage.runs.as_deref(),
            hooks: None,
            strategies: &self.strategies,
            limits: &self.limits,
            visits: &self.visits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::rollout::journal::Conduct;
    use rollout_core::rollout::manifest::Manifest;

    const TEXT: &str =
        "name = 'r'\nnodes = 'n[1-4]'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n";

    fn rollout() -> RolloutState {
        RolloutState {
            id: "r".to_owned(),
            staged_ms: 0,
            by: "ann".to_owned(),
            manifest: Manifest::parse(TEXT).map_err(|error| error.to_string()),
            records: BTreeMap::new(),
            conduct: Conduct::default(),
        }
    }

    #[test]
    fn without_limits_no_rollout_has_a_strategy() {
        let (mut rules, rollout) = (Rules::default(), rollout());
        let add = |rules: &mut Rules| rules.add(&rollout, Ok(TEXT.to_owned()));
        assert!(rules.set_limits(Err("limits.never: no such group".to_owned())).is_err());
        add(&mut rules);
        assert!(rules.strategy("r").unwrap().as_ref().is_err_and(|why| why.contains("no such group")));
        let limits = Limits { requests_per_tick: 7, ..Limits::default() };
        rules.set_limits(Ok(limits.clone())).unwrap();
        assert_eq!(rules.strategy("r"), None, "it is read again");
        add(&mut rules);
        assert!(rules.strategy("r").unwrap().is_ok());
        // Limits that were known go on to hold.
        assert!(rules.set_limits(Err("torn".to_owned())).is_err());
        assert!(rules.strategy("r").unwrap().is_ok());
        assert_eq!(rules.limits, limits);
    }
}
