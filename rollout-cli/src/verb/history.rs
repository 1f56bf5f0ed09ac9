//! `history`: all rollouts, oldest first, by their journals. Asks neither agents nor Slurm.

use crate::context::{Context, warn_of_unreadable};
use crate::failure::Failure;
use crate::table::{self, local_time};
use rollout_cli::args::HistoryArgs;
use rollout_core::controller::closing::{ClosedRollout, summary};
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
}

impl Past {
    fn new(rollout: String, summary: ClosedRollout) -> Self {
        let ClosedRollout { staged_ms, by, nodes, phases, .. } = summary;
        Self { rollout, staged_ms, by, nodes, phases: phases.into_iter().collect() }
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
        let phases: Vec<_> = past.phases.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
        vec![
            past.rollout.clone(),
            local_time(past.staged_ms),
            past.by.clone(),
            past.nodes.to_string(),
            if phases.is_empty() { "unstaged".to_owned() } else { phases.join(", ") },
        ]
    };
    table::print(
        &["ROLLOUT", "STAGED", "BY", "NODELIST", "LAST KNOWN"],
        &all.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(ExitCode::SUCCESS)
}
