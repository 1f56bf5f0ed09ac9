//! `reconcile`: sends the orders that Slurm lost on the way. A timer runs it, so it says nothing where nothing is to do.

use crate::context::{Context, Failure, who};
use crate::table::{json, out};
use rollout_cli::args::ReconcileArgs;
use rollout_control::hand_over::Report;
use rollout_control::reconcile::{Reconciled, deliver_again, look, reconcile};
use rollout_core::hostlist::NodeSet;
use std::process::ExitCode;

/// Some node that waits for an order did not get it.
const NOT_ALL: u8 = 1;

pub(crate) fn run(context: &Context, args: &ReconcileArgs) -> Result<ExitCode, Failure> {
    context.must_write()?;
    let nodes = look(&context.config, &context.store);
    for (rollout, told) in deliver_again(&context.config, &context.store)? {
        if !told.nodes.is_empty() && !args.json {
            out(&format!("{rollout}: given to the agents of {}\n", told.nodes));
        }
    }
    let (nodes, report) =
        match reconcile(&context.config, &context.store, &format!("reconcile by {}", who()), nodes?)? {
            Reconciled::NothingLost if args.json => {
                return say(&NodeSet::default(), &Report::default(), args);
            }
            Reconciled::NothingLost => return Ok(ExitCode::SUCCESS),
            Reconciled::NotOurs { nodes, why } => {
                return Err(Failure(format!("{nodes}: not ordered: {why}")));
            }
            Reconciled::Ordered { nodes, report } => (nodes, report),
        };
    say(&nodes, &report, args)
}

fn say(nodes: &NodeSet, report: &Report, args: &ReconcileArgs) -> Result<ExitCode, Failure> {
    let ordered: NodeSet = report.ordered.iter().cloned().collect();
    for warning in &report.warnings {
        eprintln!("slurm-rollout: warning: {warning}");
    }
    if args.json {
        let failed: serde_json::Map<_, _> = report
            .failed
            .iter()
            .map(|(why, nodes)| (why.clone(), nodes.iter().cloned().collect::<NodeSet>().to_string().into()))
            .collect();
        json(&serde_json::json!({ "lost": nodes, "ordered": ordered, "failed": failed }))?;
    } else if !ordered.is_empty() {
        out(&format!("{ordered}: handed over by Slurm and never told: ordered now\n"));
    }
    for (why, nodes) in &report.skipped {
        eprintln!("slurm-rollout: {}: {}", nodes.iter().cloned().collect::<NodeSet>(), why.describe());
    }
    for (why, nodes) in &report.failed {
        eprintln!("slurm-rollout: {}: {why}", nodes.iter().cloned().collect::<NodeSet>());
    }
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALL) })
}
