//! Plans for display: from live data of Slurm, as the executor makes them. Nothing is written.

use crate::before_start::{doubts, failed_before};
use crate::context::Context;
use crate::table::local_time;
use jiff::tz::TimeZone;
use rollout_cli::executor::rules::Rules;
use rollout_cli::executor::usage::Usage;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::controller::view::View;
use rollout_core::rollout::journal::ConductState;
use rollout_host::clock;
use rollout_plan::bad_version::BadVersion;
use rollout_plan::budget::Doubt;
use rollout_plan::forecast::{Forecast, forecast};
use rollout_plan::plan::{Input, Plan, plan};
use rollout_plan::why::Why;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time limit for each question to Slurm.
const SLURM_LIMIT: Duration = Duration::from_secs(5);

/// Everything that a plan depends on.
pub(crate) struct Planning {
    pub(crate) view: View,
    usage: Usage,
    pub(crate) rules: Rules,
}

impl Planning {
    /// Asks Slurm, and reads limits, strategies and earlier rollouts. Parts that are not known are warned of.
    pub(crate) fn read(context: &Context, snapshot: Snapshot) -> Self {
        let scontrol = context.config.scontrol().within(SLURM_LIMIT);
        let mut warnings = Vec::new();
        let nodes = scontrol.show_all_nodes().unwrap_or_else(|error| {
            warnings.push(format!("Slurm was not asked: {error}"));
            Vec::new()
        });
        let mut usage = Usage::default();
        if !nodes.is_empty() {
            usage = Usage::read(&scontrol);
            usage.used_percent = context.store.used_limits().median();
            usage.read_runs(&scontrol, &snapshot);
        }
        warnings.extend(usage.trouble.iter().cloned());
        let mut rules = Rules::default();
        warnings.extend(rules.read_limits(&context.config).err());
        rules.read_strategies(&context.store, &snapshot);
        rules.read_history(&context.store, &snapshot);
        for warning in warnings {
            eprintln!("slurm-rollout: warning: {warning}");
        }
        let slurm = nodes.into_iter().map(|info| (info.name.clone(), info)).collect();
        let view = View { snapshot, slurm, agents: BTreeMap::new(), now_ms: clock::now_ms() };
        Self { view, usage, rules }
    }

    pub(crate) fn input(&self) -> Input<'_> {
        self.rules.input(&self.view, &self.usage)
    }

    /// Returns the doubts that Slurm waits long enough for the nodes of a rollout.
    pub(crate) fn doubts(&self, rollout: &RolloutState) -> Vec<Doubt> {
        let Some(Ok(strategy)) = self.rules.strategy(&rollout.id) else { return Vec::new() };
        let expected = self.rules.expected(&rollout.id);
        doubts(&self.view.snapshot, rollout, strategy, self.usage.settings(), expected)
    }

    /// Returns the nodes of a rollout that is not started on whose kind of hardware its changes failed.
    pub(crate) fn failed_before(&self, rollout: &RolloutState) -> Vec<BadVersion> {
        match (self.rules.strategy(&rollout.id), self.rules.ends(&rollout.id)) {
            (Some(Ok(strategy)), Some(ends)) => {
                failed_before(&self.view.snapshot, rollout, strategy, ends, &self.view.slurm)
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.input())
    }

    pub(crate) fn forecast(&self, id: &str) -> Option<Forecast> {
        forecast(&self.input(), id)
    }
}

/// Returns whether a rollout was started and is not over, so that a plan tells about it.
pub(crate) fn is_planned(rollout: &RolloutState) -> bool {
    rollout.conduct.state != ConductState::NotStarted && !rollout.is_over()
}

/// Returns a reason as one line, with local times.
pub(crate) fn text_of(why: &Why, now_ms: u64) -> String {
    why.text(&TimeZone::system(), now_ms).to_string()
}

/// Returns the end of a rollout by its forecast, in words.
pub(crate) fn end(forecast: &Forecast) -> Option<String> {
    let (likely_ms, latest_ms) = (forecast.likely_ms?, forecast.latest_ms);
    let latest = latest_ms.filter(|latest_ms| *latest_ms != likely_ms);
    let latest = latest.map_or_else(String::new, |ms| format!(", at the latest {}", local_time(ms)));
    let left = match forecast.unknown.len() {
        0 => String::new(),
        number => format!(" without {number} of its nodes"),
    };
    Some(format!("over about {}{latest}{left}", local_time(likely_ms)))
}

/// Returns whether the state of the rollout, which is shown as well, has the same reason.
pub(crate) fn is_of_the_state(why: &Why) -> bool {
    matches!(why, Why::Paused { .. } | Why::Halted { .. } | Why::Stopped { .. } | Why::Frozen { .. })
}
