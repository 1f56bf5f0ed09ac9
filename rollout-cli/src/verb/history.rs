//! `history`: all rollouts, oldest first, as their journals have them. Asks nobody.

use crate::context::{Context, Failure};
use crate::table::{self, local_time};
use rollout_cli::args::HistoryArgs;
use rollout_control::store::Rollout;
use rollout_core::controller::status::{NodeStatus, by_phase, join};
use rollout_core::hostlist::NodeSet;
use serde::Serialize;
use std::process::ExitCode;

/// One rollout in the history.
#[derive(Serialize)]
struct NodeChanges {
    rollout: String,
    staged_ms: u64,
    by: String,
    nodes: NodeSet,
    phases: Vec<(String, usize)>,
}

pub(crate) fn run(context: &Context, args: &HistoryArgs) -> Result<ExitCode, Failure> {
    let past: Vec<NodeChanges> = context.store.load_all()?.iter().map(past).collect();
    if args.json {
        table::json(&past)?;
        return Ok(ExitCode::SUCCESS);
    }
    let row = |past: &NodeChanges| {
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
        &past.iter().map(row).collect::<Vec<_>>(),
    );
    Ok(ExitCode::SUCCESS)
}

fn past(rollout: &Rollout) -> NodeChanges {
    let statuses: Vec<NodeStatus> = rollout
        .nodes()
        .iter()
        .map(|(name, record)| NodeStatus { note: None, ..join(name, &rollout.id, record, None, None, None) })
        .collect();
    let first = rollout.lines.first();
    NodeChanges {
        rollout: rollout.id.clone(),
        staged_ms: first.map_or(0, |line| line.t_ms),
        by: first.map_or_else(String::new, |line| line.by.clone()),
        nodes: rollout.manifest.nodes.clone(),
        phases: by_phase(&statuses)
            .into_iter()
            .map(|(_, phase, nodes, _)| (phase.name().to_owned(), nodes.len()))
            .collect(),
    }
}
