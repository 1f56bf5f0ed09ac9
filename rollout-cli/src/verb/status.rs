//! `status [ROLLOUT|NODES]`: the present state of nodes. Writes nothing.

use crate::conducting::print_states;
use crate::context::{Context, warn_of_unreadable};
use crate::failure::Failure;
use crate::images;
use crate::status_of;
use crate::table::{self, local_time};
use rollout_cli::args::StatusArgs;
use rollout_control::store::StoreError;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::controller::status::{NodeStatus, by_phase};
use rollout_core::hostlist::NodeSet;
use rollout_host::exit_code::Exit;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &StatusArgs) -> Result<ExitCode, Failure> {
    let Selection { snapshot, rollouts, only } = select(context, args.what.as_deref())?;
    warn_of_unreadable(&snapshot);
    if rollouts.is_empty() && !args.json {
        print_states(snapshot.frozen.as_ref(), std::iter::empty());
        eprintln!("slurm-rollout: nothing is staged; see `slurm-rollout stage --help`");
        return Ok(ExitCode::SUCCESS);
    }
    let shown = |name: &String| only.as_ref().is_none_or(|only| only.contains(name));
    let selected = snapshot.rollouts.iter().filter(|rollout| rollouts.contains(&rollout.id));
    let asked: NodeSet =
        selected.flat_map(|rollout| rollout.records.keys()).filter(|name| shown(name)).cloned().collect();
    let view = context.survey(snapshot, &asked);
    let selected = view.snapshot.rollouts.iter().filter(|rollout| rollouts.contains(&rollout.id));
    let statuses: Vec<NodeStatus> =
        selected.flat_map(|rollout| status_of::in_view(&view, rollout, only.as_ref())).collect();
    if !args.json {
        let selected = view.snapshot.rollouts.iter().filter(|rollout| rollouts.contains(&rollout.id));
        print_states(view.snapshot.frozen.as_ref(), selected);
    }
    print(&statuses, args)?;
    let attention = statuses.iter().any(|status| status.phase.needs_attention());
    Ok(if attention { Exit::NeedsAttention } else { Exit::Success }.into())
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

fn print(statuses: &[NodeStatus], args: &StatusArgs) -> Result<(), Failure> {
    if args.json {
        table::json(&statuses)?;
    } else if args.nodes {
        print_nodes(statuses);
        images::print(statuses);
    } else {
        print_phases(statuses);
    }
    Ok(())
}

fn print_nodes(statuses: &[NodeStatus]) {
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
    table::print(&["NODE", "ROLLOUT", "PHASE", "SINCE", "SLURM", "NOTE"], &rows);
}

fn print_phases(statuses: &[NodeStatus]) {
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
    table::print(&["ROLLOUT", "PHASE", "NODES", "NODELIST", "NOTE"], &rows);
}
