//! `status [ROLLOUT|NODES]`: the present state of nodes. Writes nothing.

use crate::conducting::states;
use crate::context::{Context, warn_of_unreadable};
use crate::failure::Failure;
use crate::images;
use crate::planning::{Planning, is_planned};
use crate::progress::Style;
use crate::status_of;
use crate::table::{self, local_time, out};
use rollout_cli::args::StatusArgs;
use rollout_control::store::StoreError;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::controller::status::{NodeStatus, by_phase, may_have_moved_on};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::NodeRecord;
use rollout_host::exit_code::Exit;
use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Pause between two looks of `--watch`.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Has a terminal start anew at its first line, and clear the rest.
const HOME_AND_CLEAR: &str = "\x1b[H\x1b[J";

pub(crate) fn run(context: &Context, args: &StatusArgs) -> Result<ExitCode, Failure> {
    let style = match (args.watch, io::stdout().is_terminal()) {
        (false, _) => Style::Once,
        (true, true) => Style::Redrawn,
        (true, false) => Style::Appended,
    };
    let mut shown = look(context, args, style)?;
    let mut before = String::new();
    loop {
        match style {
            Style::Once => {
                out(&shown.text);
                return Ok(shown.exit());
            }
            Style::Redrawn => out(&format!("{HOME_AND_CLEAR}{}", shown.text)),
            Style::Appended => out(&new_lines(&before, &shown.text)),
        }
        if shown.is_over {
            return Ok(shown.exit());
        }
        before = shown.text;
        thread::sleep(LOOK_AGAIN);
        shown = look(context, args, style)?;
    }
}

/// Returns the lines that are not in the text before.
fn new_lines(before: &str, text: &str) -> String {
    let before: BTreeSet<&str> = before.lines().collect();
    text.lines().filter(|line| !before.contains(line)).map(|line| format!("{line}\n")).collect()
}

/// The result of one look.
struct Shown {
    text: String,
    needs_attention: bool,
    /// All rollouts of it are over.
    is_over: bool,
}

impl Shown {
    fn exit(&self) -> ExitCode {
        let exit = if self.needs_attention { Exit::NeedsAttention } else { Exit::Success };
        exit.into()
    }
}

fn look(context: &Context, args: &StatusArgs, style: Style) -> Result<Shown, Failure> {
    let Selection { snapshot, rollouts, only } = select(context, args.what.as_deref())?;
    warn_of_unreadable(&snapshot);
    if rollouts.is_empty() && !args.json {
        eprintln!("slurm-rollout: nothing is staged; see `slurm-rollout stage --help`");
        let text = states(snapshot.frozen.as_ref(), std::iter::empty(), None, style);
        return Ok(Shown { text, needs_attention: false, is_over: true });
    }
    let shown = |name: &String| only.as_ref().is_none_or(|only| only.contains(name));
    // Thousands of agents would take longer than Slurm, and change none of the phases.
    let in_full = args.nodes || args.json;
    let is_asked = |record: &NodeRecord| in_full || may_have_moved_on(record);
    let meant = snapshot.rollouts.iter().filter(|rollout| rollouts.contains(&rollout.id));
    let records = || meant.clone().flat_map(|rollout| &rollout.records).filter(|(name, _)| shown(name));
    let nodes: NodeSet = records().map(|(name, _)| name.clone()).collect();
    let asked = records().filter(|(_, record)| is_asked(record)).map(|(name, _)| name.clone()).collect();
    let view = context.survey_of(snapshot, &nodes, &asked);
    let selected = view.snapshot.rollouts.iter().filter(|rollout| rollouts.contains(&rollout.id));
    let selected: Vec<&RolloutState> = selected.collect();
    let statuses: Vec<NodeStatus> =
        selected.iter().flat_map(|rollout| status_of::in_view(&view, rollout, only.as_ref())).collect();
    let needs_attention = statuses.iter().any(|status| status.phase.needs_attention());
    let is_over = selected.iter().all(|rollout| rollout.is_over());
    if args.json {
        let text = serde_json::to_string_pretty(&statuses)? + "\n";
        return Ok(Shown { text, needs_attention, is_over });
    }
    // Without Slurm a plan would only repeat that.
    let is_planned = !view.slurm.is_empty() && selected.iter().any(|rollout| is_planned(rollout));
    let planning = is_planned.then(|| Planning::read(context, view.snapshot.clone()));
    let states = states(view.snapshot.frozen.as_ref(), selected.iter().copied(), planning.as_ref(), style);
    let text = match args.nodes {
        true => states + &of_nodes(&statuses) + &images::table(&statuses),
        false => states + &of_phases(&statuses),
    };
    Ok(Shown { text, needs_attention, is_over })
}

/// The rollouts to show.
struct Selection {
    snapshot: Snapshot,
    /// Ids of the rollouts.
    rollouts: Vec<String>,
    /// Only these of their nodes.
    only: Option<NodeSet>,
}

fn select(context: &Context, what: Option<&str>) -> Result<Selection, Failure> {
    let ids = |snapshot: &Snapshot| snapshot.rollouts.iter().map(|rollout| rollout.id.clone()).collect();
    let Some(what) = what else {
        let mut snapshot = context.store.snapshot()?;
        let newest_open_ms = snapshot.rollouts.last().map_or(0, |rollout| rollout.staged_ms);
        let newest_closed = context.store.closed()?.pop();
        if let Some((id, _)) = newest_closed.filter(|(_, closed)| closed.staged_ms > newest_open_ms) {
            snapshot.rollouts.push(context.store.rollout(&id)?.state);
        }
        return Ok(Selection { rollouts: ids(&snapshot), snapshot, only: None });
    };
    match context.store.find(what) {
        Ok(id) => {
            let mut snapshot = context.store.snapshot()?;
            if snapshot.rollout(&id).is_none() {
                snapshot.rollouts.push(context.store.rollout(&id)?.state);
            }
            Ok(Selection { rollouts: vec![id], snapshot, only: None })
        }
        Err(StoreError::NoSuchRollout(_)) => {
            let nodes =
                context.nodes(what).map_err(|Failure(why)| Failure(format!("no such rollout, and {why}")))?;
            let snapshot = context.store.snapshot_with_past_of(&nodes)?;
            let has_them = |rollout: &&RolloutState| rollout.records.keys().any(|name| nodes.contains(name));
            let with_them = snapshot.rollouts.iter().filter(has_them);
            let rollouts: Vec<String> = with_them.map(|rollout| rollout.id.clone()).collect();
            if rollouts.is_empty() {
                return Err(Failure(format!("{what} is no rollout, and no rollout has such a node")));
            }
            Ok(Selection { rollouts, snapshot, only: Some(nodes) })
        }
        Err(error) => Err(error.into()),
    }
}

fn of_nodes(statuses: &[NodeStatus]) -> String {
    let row = |status: &NodeStatus| {
        vec![
            status.node.clone(),
            status.rollout.clone(),
            status.phase.name().to_owned(),
            local_time(status.since_ms),
            status.slurm_state.clone().unwrap_or_else(|| "?".to_owned()),
            status.note.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = statuses.iter().map(row).collect();
    table::layout(&["NODE", "ROLLOUT", "PHASE", "SINCE", "SLURM", "NOTE"], &rows)
}

fn of_phases(statuses: &[NodeStatus]) -> String {
    let rows: Vec<_> = by_phase(statuses)
        .into_iter()
        .map(|(rollout, phase, nodes, note)| {
            vec![
                rollout.to_owned(),
                phase.name().to_owned(),
                nodes.len().to_string(),
                nodes.to_string(),
                note.unwrap_or_default().to_owned(),
            ]
        })
        .collect();
    table::layout(&["ROLLOUT", "PHASE", "NODES", "NODELIST", "NOTE"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_gets_the_lines_that_are_new() {
        let before = "a: running\n\nROLLOUT PHASE\na staged\n";
        for (text, printed) in
            [(before, ""), ("a: running\n\nROLLOUT PHASE\na updated\n", "a updated\n"), ("", "")]
        {
            assert_eq!(new_lines(before, text), printed);
        }
        assert_eq!(new_lines("", before), before);
    }
}
