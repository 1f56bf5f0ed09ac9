//! `reconcile`: sends the orders that Slurm lost on the way, and looks after nodes that have to be told more than once. A
//! timer runs it, so it says nothing where nothing is to do.

use crate::context::{Context, Failure, who};
use crate::table::{json, out};
use rollout_cli::args::ReconcileArgs;
use rollout_control::follow_up::{Looked, look};
use rollout_control::hand_over::Report;
use rollout_control::reconcile::{Reconciled, ask_slurm, deliver_again, reconcile};
use rollout_core::hostlist::NodeSet;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// How soon nodes that are on their way are looked at again, and Slurm is asked again meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const ASK_SLURM_AGAIN: Duration = Duration::from_secs(30);

/// Some node that waits for an order did not get it.
const NOT_ALL: u8 = 1;

pub(crate) fn run(context: &Context, args: &ReconcileArgs) -> Result<ExitCode, Failure> {
    context.must_write()?;
    let (mut code, mut looked) = once(context, args)?;
    let mut asked_slurm = Instant::now();
    while args.wait && !looked.on_their_way.is_empty() {
        thread::sleep(LOOK_AGAIN);
        if asked_slurm.elapsed() < ASK_SLURM_AGAIN {
            looked = look(&context.config, &context.store, None)?;
            tell(&looked, args);
        } else {
            (code, looked) = once(context, args)?;
            asked_slurm = Instant::now();
        }
    }
    Ok(code)
}

/// Everything once: what is to be given beforehand, what got lost, and who has to be looked after.
fn once(context: &Context, args: &ReconcileArgs) -> Result<(ExitCode, Looked), Failure> {
    let infos = ask_slurm(&context.config, &context.store);
    for (rollout, told) in deliver_again(&context.config, &context.store)? {
        if !told.nodes.is_empty() && !args.json {
            out(&format!("{rollout}: given to the agents of {}\n", told.nodes));
        }
    }
    let infos = infos?;
    let looked = look(&context.config, &context.store, Some(&infos))?;
    tell(&looked, args);
    let by = format!("reconcile by {}", who());
    let code = match reconcile(&context.config, &context.store, &by, infos)? {
        Reconciled::NothingLost if args.json => say(&NodeSet::default(), &Report::default(), args)?,
        Reconciled::NothingLost => ExitCode::SUCCESS,
        Reconciled::NotOurs { nodes, why } => {
            return Err(Failure(format!("{nodes}: not ordered: {why}")));
        }
        Reconciled::Ordered { nodes, report } => say(&nodes, &report, args)?,
    };
    Ok((code, looked))
}

fn tell(looked: &Looked, args: &ReconcileArgs) {
    for line in looked.done.iter().filter(|_| !args.json) {
        out(&format!("{line}\n"));
    }
    for line in &looked.failed {
        eprintln!("slurm-rollout: {line}");
    }
}

fn say(nodes: &NodeSet, report: &Report, args: &ReconcileArgs) -> Result<ExitCode, Failure> {
    let ordered: NodeSet = report.ordered.iter().cloned().collect();
    for warning in &report.warnings {
        eprintln!("slurm-rollout: warning: {warning}");
    }
    if args.json {
        let failed = report.not_ordered();
        json(&serde_json::json!({ "lost": nodes, "ordered": ordered, "failed": failed }))?;
    } else if !ordered.is_empty() {
        out(&format!("{ordered}: handed over by Slurm and never told: ordered now\n"));
    }
    for (why, nodes) in &report.skipped {
        eprintln!("slurm-rollout: {}: {}", nodes.iter().cloned().collect::<NodeSet>(), why.describe());
    }
    let not_ordered = report.not_ordered();
    for (why, nodes) in &not_ordered {
        eprintln!("slurm-rollout: {nodes}: {why}");
    }
    Ok(if not_ordered.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NOT_ALL) })
}
