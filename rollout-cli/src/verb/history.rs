//! `history`: all rollouts, oldest first, by their journals. Asks neither agents nor Slurm.

use crate::context::{Context, warn_of_unreadable};
use crate::failure::Failure;
use crate::table::{self, local_time};
use rollout_cli::args::HistoryArgs;
use rollout_core::controller::closing::{ClosedRollout, summary};
use rollout_core::controller::conduct::ConductSummary;
use rollout_core::controller::pace::Pace;
use rollout_core::controller::status::DisplayPhase;
use rollout_core::hostlist::NodeSet;
use rollout_plan::strategy;
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
    #[serde(skip_serializing_if = "Option::is_none")]
    wave: Option<Wave>,
}

/// The last wave that nodes of a started rollout have reached.
#[derive(Serialize)]
struct Wave {
    /// Counted from 1.
    number: usize,
    of: usize,
}

impl Wave {
    /// Returns the wave of a rollout. `None` if it has one at most, or its manifest cannot be read.
    fn of(context: &Context, rollout: &str, summary: &ClosedRollout) -> Option<Self> {
        summary.conduct.as_ref()?;
        let text = context.store.manifest_text(rollout).ok()?;
        let waves = strategy::of_manifest(&text, &summary.nodes).ok()?.waves;
        let has_begun = |(phase, _): &(&String, &usize)| *phase != DisplayPhase::Staged.name();
        let begun = summary.phases.iter().filter(has_begun).map(|(_, count)| count).sum();
        let of = Some(waves.len()).filter(|of| *of > 1)?;
        Some(Self { number: strategy::reached(&waves, begun), of })
    }
}

impl Past {
    fn new(context: &Context, rollout: String, summary: ClosedRollout) -> Self {
        let wave = Wave::of(context, &rollout, &summary);
        let ClosedRollout { staged_ms, by, nodes, phases, conduct, pace, .. } = summary;
        Self { rollout, staged_ms, by, nodes, phases: phases.into_iter().collect(), conduct, pace, wave }
    }

    /// Returns the state of a rollout that was started and did not just run to its end, its wave, the phases of its
    /// nodes, and the time that the updates took.
    fn last_known(&self) -> String {
        let mut phases: Vec<_> =
            self.phases.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
        if let Some(pace) = &self.pace {
            let rate = pace.rate().map_or_else(String::new, |rate| format!(" ({rate})"));
            phases.push(format!("took {pace}{rate}"));
        }
        if phases.is_empty() {
            phases.push("unstaged".to_owned());
        }
        if let Some(Wave { number, of }) = self.wave {
            phases.insert(0, format!("wave {number} of {of}"));
        }
        let phases = phases.join(", ");
        let is_telling =
            |conduct: &&ConductSummary| conduct.state != "done" || conduct.hook_failure.is_some();
        match self.conduct.as_ref().filter(is_telling) {
            Some(conduct) => format!("{}; {phases}", conduct.describe(&local_time(conduct.since_ms))),
            None => phases,
        }
    }
}

pub(crate) fn run(context: &Context, args: &HistoryArgs) -> Result<ExitCode, Failure> {
    let snapshot = context.store.snapshot()?;
    warn_of_unreadable(&snapshot);
    let open = snapshot.rollouts.iter().map(|rollout| (rollout.id.clone(), summary(rollout, 0)));
    let closed = context.store.closed()?.into_iter();
    let mut all: Vec<Past> =
        closed.chain(open).map(|(id, summary)| Past::new(context, id, summary)).collect();
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
