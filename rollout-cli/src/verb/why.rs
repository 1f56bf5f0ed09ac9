//! `why ROLLOUT|NODES`: the reasons for which nodes are not updated yet. Writes nothing.

use crate::context::{Context, warn_of_unreadable};
use crate::failure::Failure;
use crate::planning::{Planning, text_of};
use crate::table::{self, one_line, out};
use rollout_cli::args::WhyArgs;
use rollout_core::controller::conduct::pending;
use rollout_core::controller::snapshot::{RecordOf, RolloutState, Snapshot};
use rollout_core::controller::status::recorded_phase;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::ConductState;
use rollout_plan::plan::Plan;
use rollout_plan::why::Why;
use serde::Serialize;
use std::process::ExitCode;

/// A node with its reasons.
#[derive(Serialize)]
struct Reasons<'a> {
    node: &'a str,
    rollout: Option<&'a str>,
    /// According to the journal of the rollout.
    phase: Option<&'static str>,
    why: Vec<Reason<'a>>,
    #[serde(skip)]
    line: String,
}

#[derive(Serialize)]
struct Reason<'a> {
    #[serde(flatten)]
    why: &'a Why,
    text: String,
}

pub(crate) fn run(context: &Context, args: &WhyArgs) -> Result<ExitCode, Failure> {
    let snapshot = context.store.snapshot()?;
    warn_of_unreadable(&snapshot);
    let mut nodes = NodeSet::default();
    for text in &args.what {
        nodes = nodes.union(&meant(context, &snapshot, text)?);
    }
    let planning = Planning::read(context, snapshot);
    let plan = planning.plan();
    let reasons: Vec<Reasons<'_>> = nodes.iter().map(|node| of_node(&planning, &plan, node)).collect();
    if args.json {
        table::json(&reasons)?;
    } else {
        reasons.iter().for_each(|reasons| out(&(one_line(&reasons.line) + "\n")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the nodes that wait for a rollout, all of its nodes if none does, or those of a hostlist or node set.
fn meant(context: &Context, snapshot: &Snapshot, text: &str) -> Result<NodeSet, Failure> {
    if let Some(rollout) = snapshot.rollout(text) {
        let waiting = pending(snapshot, rollout);
        return Ok(match waiting.is_empty() {
            true => rollout.records.keys().cloned().collect(),
            false => waiting,
        });
    }
    if context.store.is_closed(text) {
        return Err(Failure(format!(
            "{text}: is over: none of its nodes waits; see `slurm-rollout show {text}`"
        )));
    }
    context.nodes(text)
}

fn of_node<'a>(planning: &'a Planning, plan: &'a Plan, node: &'a str) -> Reasons<'a> {
    let now_ms = planning.view.now_ms;
    let of = planning.view.snapshot.owner(node);
    let (rollout, phase) = (of.and_then(|of| of.rollout_id()), of.map(|of| recorded_phase(of.record).name()));
    let why: Vec<Reason<'_>> = plan
        .waiting
        .get(node)
        .into_iter()
        .flatten()
        .map(|why| Reason { why, text: text_of(why, now_ms) })
        .collect();
    let texts: Vec<&str> = why.iter().map(|reason| reason.text.as_str()).collect();
    let text = match (texts.is_empty(), of) {
        (false, _) => texts.join("; "),
        (true, Some(of)) => unplanned(of),
        (true, None) => "no rollout is staged for it".to_owned(),
    };
    let line = match rollout {
        Some(rollout) => format!("{node}: {rollout}: {text}"),
        None => format!("{node}: {text}"),
    };
    Reasons { node, rollout, phase, why, line }
}

/// Returns the text about a node for which the plan has no reason: it is updated, or its rollout is not started.
fn unplanned(of: RecordOf<'_>) -> String {
    let note = of.record.note().map_or_else(String::new, |note| format!(": {note}"));
    let is_started = |rollout: &&RolloutState| rollout.conduct.state != ConductState::NotStarted;
    let way_on = match of.rollout.filter(|rollout| !is_started(rollout)) {
        Some(rollout) if of.record.progress.is_pending() => {
            format!("; `slurm-rollout start {}`, or `scontrol reboot` it", rollout.id)
        }
        _ => String::new(),
    };
    format!("{}{note}{way_on}", recorded_phase(of.record).name())
}
