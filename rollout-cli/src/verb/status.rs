//! `status [ROLLOUT|NODES]`: where the nodes stand.

use crate::context::{Context, Failure, nodes};
use crate::survey::Survey;
use crate::table::{self, local_time};
use rollout_cli::args::StatusArgs;
use rollout_control::store::{Rollout, StoreError};
use rollout_core::agent::phase::Phase;
use rollout_core::controller::status::{NodeStatus, by_phase};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{NodeRecord, Progress};
use rollout_host::exit_code::Exit;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &StatusArgs) -> Result<ExitCode, Failure> {
    let (rollouts, only) = choose(context, args.what.as_deref())?;
    if rollouts.is_empty() && !args.json {
        eprintln!("slurm-rollout: nothing is staged; see `slurm-rollout stage --help`");
        return Ok(ExitCode::SUCCESS);
    }
    let asked: NodeSet = rollouts
        .iter()
        .flat_map(|rollout| rollout.nodes().into_keys())
        .filter(|name| only.as_ref().is_none_or(|only| only.contains(name)))
        .collect();
    let survey = Survey::of(context, &asked);
    if let Some(why) = &survey.no_slurm {
        eprintln!("slurm-rollout: warning: Slurm was not asked: {why}");
    }
    let mut statuses = Vec::new();
    for rollout in &rollouts {
        statuses.extend(survey.statuses(rollout, only.as_ref()));
        if context.may_write {
            survey.remember(context, rollout)?;
        }
    }
    let drains = context.store.drains();
    for status in &mut statuses {
        if let Some(drain) = drains.get(&status.node) {
            let by = drain.by.as_deref().unwrap_or("somebody");
            let drained = format!("drained by {by}, and stays so: {}", drain.reason);
            status.note =
                Some(status.note.take().map_or(drained.clone(), |note| format!("{note}; {drained}")));
        }
    }
    print(&statuses, args)?;
    let attention = statuses.iter().any(|status| status.phase.needs_attention());
    Ok(if attention { Exit::NeedsAttention } else { Exit::Success }.into())
}

/// Which rollouts are shown, and only which of their nodes.
fn choose(context: &Context, what: Option<&str>) -> Result<(Vec<Rollout>, Option<NodeSet>), Failure> {
    let Some(what) = what else {
        let mut all = context.store.load_all()?;
        let newest = all.pop();
        all.retain(is_unfinished);
        all.extend(newest);
        return Ok((all, None));
    };
    match context.store.find(what) {
        Ok(id) => Ok((vec![context.store.load(&id)?], None)),
        Err(StoreError::NoSuchRollout(_)) => {
            let nodes =
                nodes(what).map_err(|_| Failure(format!("{what:?} is neither a rollout nor a hostlist")))?;
            let mut all = context.store.load_all()?;
            all.retain(|rollout| rollout.nodes().keys().any(|name| nodes.contains(name)));
            if all.is_empty() {
                return Err(Failure(format!("{what} is no rollout, and no rollout has such a node")));
            }
            Ok((all, Some(nodes)))
        }
        Err(error) => Err(error.into()),
    }
}

fn is_unfinished(rollout: &Rollout) -> bool {
    let finished = |node: &NodeRecord| {
        matches!(node.progress, Progress::Seen(Phase::Updated | Phase::RolledBack | Phase::Released))
    };
    !rollout.nodes().values().all(finished)
}

/// Of rollouts that change images: what is staged, what should be running, and what is.
pub(crate) fn print_images(statuses: &[NodeStatus]) {
    let or_dash = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
    let row = |status: &NodeStatus| {
        let images = status.images.as_ref()?;
        let names = [&images.staged, &images.wanted, &images.running].map(or_dash);
        Some([vec![status.node.clone(), status.rollout.clone()], names.to_vec()].concat())
    };
    let rows: Vec<_> = statuses.iter().filter_map(row).collect();
    if !rows.is_empty() {
        table::out("\n");
        table::print(&["NODE", "ROLLOUT", "STAGED", "WANTED", "RUNNING"], &rows);
    }
}

fn print(statuses: &[NodeStatus], args: &StatusArgs) -> Result<(), Failure> {
    if args.json {
        table::json(&statuses)?;
        return Ok(());
    }
    if args.nodes {
        let row = |status: &NodeStatus| {
            let slurm = status.slurm_state.clone().unwrap_or_else(|| "?".to_owned());
            let note = status.note.clone().unwrap_or_default();
            let name = status.phase.name().to_owned();
            vec![status.node.clone(), status.rollout.clone(), name, local_time(status.since_ms), slurm, note]
        };
        let rows: Vec<_> = statuses.iter().map(row).collect();
        table::print(&["NODE", "ROLLOUT", "PHASE", "SINCE", "SLURM", "NOTE"], &rows);
        print_images(statuses);
    } else {
        let rows: Vec<_> = by_phase(statuses)
            .into_iter()
            .map(|(rollout, phase, nodes, note)| {
                let note = note.unwrap_or_default().to_owned();
                vec![
                    rollout.to_owned(),
                    phase.name().to_owned(),
                    nodes.len().to_string(),
                    nodes.to_string(),
                    note,
                ]
            })
            .collect();
        table::print(&["ROLLOUT", "PHASE", "NODES", "NODELIST", "NOTE"], &rows);
    }
    Ok(())
}
