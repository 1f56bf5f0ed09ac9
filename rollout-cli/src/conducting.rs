//! The common part of the verbs that steer started rollouts, and the display of their state.

use crate::context::Context;
use crate::failure::Failure;
use crate::planning::Planning;
use crate::progress::{self, Style};
use crate::table::{json, local_time, one_line, out};
use rollout_control::store::{Changed, StoreWriter};
use rollout_core::controller::conduct::{ConductSummary, Decision, Refusal, summary};
use rollout_core::controller::freeze::Freeze;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::hostlist::NodeSet;
use serde::Serialize;
use std::process::ExitCode;

/// A verb that has been decided and recorded.
pub(crate) struct Conducting {
    pub(crate) store: StoreWriter,
    /// The rollout.
    pub(crate) id: String,
    decision: Decision,
    /// Nodes that were unstaged.
    pub(crate) unstaged: NodeSet,
    /// The part that could not be done.
    pub(crate) failed: Option<String>,
}

/// The result as JSON.
#[derive(Serialize)]
struct Outcome<'a> {
    rollout: &'a str,
    /// The verb had an effect.
    changed: bool,
    report: &'a str,
    conduct: Option<ConductSummary>,
    frozen: Option<Freeze>,
    #[serde(skip_serializing_if = "NodeSet::is_empty")]
    unstaged: &'a NodeSet,
}

impl Conducting {
    /// Has a verb decided for a rollout, and records the decision.
    pub(crate) fn decide(
        context: &Context,
        name: &str,
        decide: impl FnOnce(&Snapshot, &str) -> Result<Decision, Refusal>,
    ) -> Result<Self, Failure> {
        let store = context.writer()?;
        let id = store.find(name)?;
        let decision = store.decide(&id, |snapshot| decide(snapshot, &id))?;
        Ok(Self { store, id, decision, unstaged: NodeSet::new(), failed: None })
    }

    /// Returns the rollout as it is now.
    pub(crate) fn state(&self) -> Result<RolloutState, Failure> {
        Ok(self.store.rollout(&self.id)?.state)
    }

    /// Wakes up `reconcile`, and prints the result. A repeated verb wakes it as well: it may have died.
    pub(crate) fn finish(self, as_json: bool) -> Result<ExitCode, Failure> {
        self.store.call_follow_up()?;
        let Self { id, decision, unstaged, .. } = &self;
        if as_json {
            json(&Outcome {
                rollout: id,
                changed: !decision.entries.is_empty(),
                report: &decision.report,
                conduct: summary(&self.state()?),
                frozen: self.store.frozen(),
                unstaged,
            })?;
        } else {
            out(&format!("{id}: {}\n", one_line(&decision.report)));
            if !unstaged.is_empty() {
                out(&format!("{id}: {unstaged} unstaged\n"));
            }
        }
        self.failed.map_or(Ok(ExitCode::SUCCESS), |failed| Err(Failure(failed)))
    }
}

/// Wakes up `reconcile`, and prints the result of freezing or thawing.
pub(crate) fn finish_freeze(
    store: &StoreWriter,
    changed: &Changed,
    as_json: bool,
) -> Result<ExitCode, Failure> {
    store.call_follow_up()?;
    let Changed { before, now } = changed;
    let report = match (before, now) {
        (None, Some(freeze)) => format!("this site is {}", freeze.describe()),
        (Some(_), Some(freeze)) => format!("this site was frozen already: {}", freeze.describe()),
        (Some(_), None) => "this site is no longer frozen: running rollouts go on".to_owned(),
        (None, None) => "this site was not frozen".to_owned(),
    };
    if as_json {
        json(&serde_json::json!({ "changed": before != now, "report": report, "frozen": now }))?;
    } else {
        out(&(one_line(&report) + "\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what to do about a rollout that goes on only when somebody says so.
fn to_go_on(rollout: &RolloutState, conduct: &ConductSummary) -> Option<String> {
    let resume = format!("`slurm-rollout resume {}`", rollout.id);
    match conduct.state.as_str() {
        "halted" => Some(format!(
            "once the cause is gone: `slurm-rollout retry NODES` for nodes that failed, then {resume}"
        )),
        "paused" => Some(format!("{resume} has it go on")),
        _ => None,
    }
}

/// Returns the state of those of these rollouts that were started, with their progress if a plan was made, and the
/// freeze of the site, one line each and a blank line below them.
pub(crate) fn states<'a>(
    frozen: Option<&Freeze>,
    rollouts: impl Iterator<Item = &'a RolloutState>,
    planning: Option<&Planning>,
    style: Style,
) -> String {
    let mut lines: Vec<String> = Vec::new();
    let plan = planning.map(Planning::plan);
    for rollout in rollouts {
        let Some(conduct) = summary(rollout) else { continue };
        lines.push(format!("{}: {}", rollout.id, conduct.describe(&local_time(conduct.since_ms))));
        if let Some((planning, plan)) =
            planning.zip(plan.as_ref().and_then(|plan| plan.rollouts.get(&rollout.id)))
        {
            let forecast = planning.forecast(&rollout.id);
            let shown = progress::lines(rollout, plan, forecast.as_ref(), style, planning.view.now_ms);
            lines.extend(shown.into_iter().map(|line| format!("  {line}")));
        }
        lines.extend(to_go_on(rollout, &conduct).map(|line| format!("  {line}")));
    }
    lines.extend(frozen.map(|freeze| format!("this site is {}", freeze.describe())));
    if lines.is_empty() {
        return String::new();
    }
    lines.iter().map(|line| one_line(line) + "\n").chain(["\n".to_owned()]).collect()
}
