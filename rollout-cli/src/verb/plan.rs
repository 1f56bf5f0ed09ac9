//! `plan FILE|ROLLOUT`: how a rollout would go, from live data of Slurm. Writes nothing.

use crate::before_start::{self, unknown_after};
use crate::context::{Context, warn_of_unreadable};
use crate::failure::Failure;
use crate::manifest_file::{ManifestFile, names_file};
use crate::planning::{Planning, end, text_of};
use crate::progress::{self, Style};
use crate::table::{self, local_time, one_line, out};
use rollout_cli::args::PlanArgs;
use rollout_control::store::Staged;
use rollout_core::controller::conduct::{ConductSummary, summary};
use rollout_core::controller::freeze::Freeze;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Conduct, ConductState, NodeRecord, Progress};
use rollout_host::clock;
use rollout_host::exit_code::Exit;
use rollout_plan::bad_version::BadVersion;
use rollout_plan::budget::Doubt;
use rollout_plan::forecast::{Forecast, Visit};
use rollout_plan::plan::RolloutPlan;
use rollout_plan::why::Why;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

const HOUR_MS: u64 = 3_600_000;

/// The rollout to plan.
struct Subject {
    id: String,
    /// The state directory, as it would be if the rollout were staged and started.
    snapshot: Snapshot,
    /// Text of a manifest that is not staged.
    text: Option<String>,
    /// Its state. `None` if it is not started.
    conduct: Option<ConductSummary>,
    /// Reasons for which it could not be staged or started.
    refused: Vec<String>,
}

/// The result as JSON.
#[derive(Serialize)]
struct Planned<'a> {
    rollout: &'a str,
    conduct: Option<&'a ConductSummary>,
    frozen: Option<&'a Freeze>,
    refused: &'a [String],
    plan: Option<&'a RolloutPlan>,
    forecast: &'a Forecast,
    /// Doubts that Slurm waits long enough for rebooted nodes.
    resume_timeout: Vec<Doubtful<'a>>,
    /// Changes that cannot be undone.
    without_undo: Vec<String>,
    /// Nodes on whose kind of hardware the same changes failed, for which `start` refuses it.
    failed_before: Vec<FailedBefore<'a>>,
    /// Reasons for which nodes wait now, the most decisive first.
    waiting: BTreeMap<&'a str, &'a [Why]>,
}

#[derive(Serialize)]
struct Doubtful<'a> {
    #[serde(flatten)]
    doubt: &'a Doubt,
    /// `start` refuses it.
    refuses: bool,
    text: String,
}

#[derive(Serialize)]
struct FailedBefore<'a> {
    #[serde(flatten)]
    bad: &'a BadVersion,
    text: String,
}

pub(crate) fn run(context: &Context, args: &PlanArgs) -> Result<ExitCode, Failure> {
    let mut subject = subject(context, &args.what)?;
    warn_of_unreadable(&subject.snapshot);
    let mut planning = Planning::read(context, std::mem::take(&mut subject.snapshot));
    let id = subject.id.as_str();
    let rollout = planning.view.snapshot.rollout(id).cloned();
    let rollout = rollout.ok_or_else(|| Failure(format!("{id}: it is over: there is nothing to plan")))?;
    if let Some(text) = subject.text.take() {
        planning.rules.add(&rollout, Ok(text));
        subject.refused.extend(unknown_nodes(&planning, &rollout));
    }
    match planning.rules.strategy(id) {
        Some(Err(error)) => return Err(Failure(format!("{id}: {error}"))),
        Some(Ok(strategy)) if subject.conduct.is_none() => {
            subject.refused.extend(unknown_after(context, id, strategy)?);
        }
        Some(Ok(_)) | None => {}
    }
    let (plan, forecast) = (planning.plan(), planning.forecast(id).unwrap_or_default());
    let doubts = planning.doubts(&rollout);
    let is_new = subject.conduct.is_none();
    let doubtful = |doubt| Doubtful { doubt, refuses: is_new && doubt.refuses(), text: doubt.to_string() };
    // A rollout that runs was started all the same.
    let bad = if is_new { planning.failed_before(&rollout) } else { Vec::new() };
    let failed_before = |bad| FailedBefore { bad, text: before_start::text_of(bad) };
    let waiting = plan.waiting.iter().filter(|(node, _)| rollout.records.contains_key(*node));
    let planned = Planned {
        rollout: id,
        conduct: subject.conduct.as_ref(),
        frozen: planning.view.snapshot.frozen.as_ref(),
        refused: &subject.refused,
        plan: plan.rollouts.get(id),
        forecast: &forecast,
        resume_timeout: doubts.iter().map(doubtful).collect(),
        without_undo: rollout
            .manifest
            .as_ref()
            .map(|manifest| manifest.desired.without_undo())
            .unwrap_or_default(),
        failed_before: bad.iter().map(failed_before).collect(),
        waiting: waiting.map(|(node, whys)| (node.as_str(), whys.as_slice())).collect(),
    };
    if args.json {
        table::json(&planned)?;
    } else {
        print(&planned, &rollout, planning.view.now_ms, args.nodes);
    }
    let would_be_given_up = planned.resume_timeout.iter().any(|doubtful| doubtful.refuses);
    let is_doubtful =
        !subject.refused.is_empty() || !forecast.unknown.is_empty() || would_be_given_up || !bad.is_empty();
    Ok(if is_doubtful { Exit::NeedsAttention } else { Exit::Success }.into())
}

/// Returns the rollout that is meant, as if it were started.
fn subject(context: &Context, what: &str) -> Result<Subject, Failure> {
    let mut snapshot = context.store.snapshot()?;
    if names_file(what) {
        let ManifestFile { text, manifest } = ManifestFile::read(&context.config, Path::new(what))?;
        let (id, refused) = match context.store.would_stage(&manifest) {
            Ok(Staged::New(id)) => (id, Vec::new()),
            Ok(Staged::Already(id)) => return of_snapshot(snapshot, id),
            Err(error) => (format!("{} (new)", manifest.name), vec![error.to_string()]),
        };
        snapshot.rollouts.push(as_if_started(&id, manifest));
        return Ok(Subject { id, snapshot, text: Some(text), conduct: None, refused });
    }
    let id = context.store.find(what)?;
    of_snapshot(snapshot, id)
}

fn of_snapshot(mut snapshot: Snapshot, id: String) -> Result<Subject, Failure> {
    let mut conduct = None;
    if let Some(rollout) = snapshot.rollouts.iter_mut().find(|rollout| rollout.id == id) {
        conduct = summary(rollout);
        if rollout.conduct.state == ConductState::NotStarted {
            rollout.conduct.state = ConductState::Running;
        }
    }
    Ok(Subject { id, snapshot, text: None, conduct, refused: Vec::new() })
}

fn as_if_started(id: &str, manifest: rollout_core::rollout::manifest::Manifest) -> RolloutState {
    let now_ms = clock::now_ms();
    let record = || NodeRecord { staged_ms: Some(now_ms), ..NodeRecord::new(Progress::Staged, now_ms) };
    RolloutState {
        id: id.to_owned(),
        staged_ms: now_ms,
        by: String::new(),
        records: manifest.nodes.iter().map(|node| (node.to_owned(), record())).collect(),
        manifest: Ok(manifest),
        conduct: Conduct { state: ConductState::Running, ..Conduct::default() },
    }
}

/// Returns the reason for refusing nodes that Slurm does not have.
fn unknown_nodes(planning: &Planning, rollout: &RolloutState) -> Option<String> {
    let slurm = &planning.view.slurm;
    let names = rollout.records.keys().filter(|name| !slurm.is_empty() && !slurm.contains_key(*name));
    let unknown: NodeSet = names.cloned().collect();
    (!unknown.is_empty()).then(|| format!("nodes: Slurm has no {unknown}"))
}

fn print(planned: &Planned<'_>, state: &RolloutState, now_ms: u64, with_nodes: bool) {
    let Planned { rollout, forecast, .. } = planned;
    let line = |text: String| out(&(one_line(&text) + "\n"));
    for refused in planned.refused {
        line(format!("{rollout}: would be refused: {refused}"));
    }
    for FailedBefore { text, .. } in &planned.failed_before {
        line(format!("{rollout}: would be refused: {text}"));
    }
    for Doubtful { refuses, text, .. } in &planned.resume_timeout {
        line(format!("{rollout}: {}: {text}", if *refuses { "would be refused" } else { "warning" }));
    }
    for warning in &planned.without_undo {
        line(format!("{rollout}: warning: {warning}"));
    }
    let conduct = planned.conduct.map(|conduct| conduct.describe(&local_time(conduct.since_ms)));
    line(format!(
        "{rollout}: {}",
        conduct.unwrap_or_else(|| "not started; this is how it would go".to_owned())
    ));
    if let Some(frozen) = planned.frozen {
        line(format!("this site is {}", frozen.describe()));
    }
    for shown in planned.plan.iter().flat_map(|plan| progress::lines(state, plan, None, Style::Once, now_ms))
    {
        line(format!("  {shown}"));
    }
    line(format!("  {}", end(forecast).unwrap_or_else(|| "no node is left, or no end is known".to_owned())));
    line(format!("  at most {} out at once{}", forecast.peak_out, by_partition(forecast)));
    line(format!("  {} node-hours lost", tenths(forecast.lost_ms)));
    if !forecast.unknown.is_empty() {
        line(format!("  no time known: {}", forecast.unknown));
    }
    print_waves(&forecast.visits);
    if with_nodes {
        print_visits(&forecast.visits);
    }
    print_waiting(&planned.waiting, now_ms);
}

fn by_partition(forecast: &Forecast) -> String {
    let peaks = forecast.peak_by_partition.iter().map(|(partition, peak)| format!("{peak} of {partition}"));
    let peaks: Vec<String> = peaks.collect();
    if peaks.is_empty() { String::new() } else { format!(": {}", peaks.join(", ")) }
}

/// Returns milliseconds as hours with one decimal.
fn tenths(ms: u64) -> String {
    let tenths = ms.saturating_mul(10) / HOUR_MS;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn print_waves(visits: &[Visit]) {
    let mut waves: BTreeMap<usize, Vec<&Visit>> = BTreeMap::new();
    for visit in visits {
        waves.entry(visit.wave).or_default().push(visit);
    }
    let row = |(wave, visits): (usize, Vec<&Visit>)| {
        let nodes: NodeSet = visits.iter().map(|visit| visit.node.clone()).collect();
        let from_ms = visits.iter().map(|visit| visit.requested_ms).min().unwrap_or_default();
        let until_ms = visits.iter().map(|visit| visit.back_ms).max().unwrap_or_default();
        vec![
            wave.to_string(),
            nodes.len().to_string(),
            local_time(from_ms),
            local_time(until_ms),
            nodes.to_string(),
        ]
    };
    print_table(&["WAVE", "NODES", "FROM", "UNTIL", "NODELIST"], waves.into_iter().map(row).collect());
}

fn print_visits(visits: &[Visit]) {
    let row = |visit: &Visit| {
        let times = [visit.requested_ms, visit.handed_over_ms, visit.back_ms].map(local_time);
        [vec![visit.node.clone(), visit.wave.to_string()], times.to_vec()].concat()
    };
    print_table(&["NODE", "WAVE", "REQUESTED", "HANDED OVER", "BACK"], visits.iter().map(row).collect());
}

fn print_waiting(waiting: &BTreeMap<&str, &[Why]>, now_ms: u64) {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (node, whys) in waiting {
        if let Some(why) = whys.first() {
            reasons.entry(text_of(why, now_ms)).or_default().push((*node).to_owned());
        }
    }
    let row = |(why, nodes): (String, Vec<String>)| {
        let nodes = NodeSet::from_iter(nodes);
        vec![nodes.len().to_string(), nodes.to_string(), why]
    };
    print_table(&["NODES", "NODELIST", "NOW"], reasons.into_iter().map(row).collect());
}

fn print_table(head: &[&str], rows: Vec<Vec<String>>) {
    if !rows.is_empty() {
        out("\n");
        table::print(head, &rows);
    }
}
