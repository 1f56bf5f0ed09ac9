//! `history`: all rollouts, oldest first, by their journals. Asks neither agents nor Slurm.

use crate::context::{Context, warn_of_unreadable};
use crate::failure::Failure;
use crate::table::{self, local_time};
use rollout_cli::args::HistoryArgs;
use rollout_core::controller::closing::{ClosedRollout, summary};
use rollout_core::controller::conduct::ConductSummary;
use rollout_core::controller::pace::Pace;
use rollout_core::hostlist::NodeSet;
use serde::Serialize;
use std::process::ExitCode;

/// One rollout in the history.
#[derive(Serialize)]
struct Past {
    rollout: String,
    staged_ms: u64,
    by: String,
    nodes: NodeSet,
    phases: Vec<(String, usize)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conduct: Option<ConductSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pace: Option<Pace>,
}

impl Past {
    fn new(rollout: String, summary: ClosedRollout) -> Self {
        let ClosedRollout { staged_ms, by, nodes, phases, conduct, pace, .. } = summary;
        Self { rollout, staged_ms, by, nodes, phases: phases.into_iter().collect(), conduct, pace }
    }

    /// Returns the state of a rollout that was started and did not just run to its end, the phases of its nodes, and the
    /// time that the updates took.
    fn last_known(&self) -> String {
        let mut phases: Vec<_> =
            self.phases.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
        if let Some(pace) = &self.pace {
            let rate = pace.rate().map_or_else(String::new, |rate| format!(" ({rate})"));
            phases.push(format!("took {pace}{rate}"));
        }
        let phases = if phases.is_empty() { "unstaged".to_owned() } else { phases.join(", ") };
        match self.conduct.as_ref().filter(|conduct| conduct.state != "done") {
            Some(conduct) => format!("{}; {phases}", conduct.describe(&local_time(conduct.since_ms))),
            None => phases,
        }
    }
}

pub(crate) fn run(context: &Context, args: &HistoryArgs) -> Result<ExitCode, Failure> {
    let snapshot = context.store.snapshot()?;
    warn_of_unreadable(&snapshot);
    let open = snapshot.rollouts.iter().map(|rollout| Past::new(rollout.id.clone(), summary(rollout, 0)));
    let closed = context.store.closed()?.into_iter().map(|(id, summary)| Past::new(id, summary));
    let mut all: Vec<Past> = closed.chain(open).collect();
    all.sort_by(|one, other| (one.staged_ms, &one.rollout).cmp(&(other.staged_ms, &other.rollout)));
    if args.json {
        table::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |past: &Past| {
        vec![
            past.rollout.clone(),
            local_time(past.staged_ms),
            past.by.clone(),
            past.nodes.to_string(),
            past.last_known(),
        ]
    };
    table::print(
        &["ROLLOUT", "STAGED", "BY", "NODELIST", "LAST KNOWN"],
        &all.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(ExitCode::SUCCESS)
}
