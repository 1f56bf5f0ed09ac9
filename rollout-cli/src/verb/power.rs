//! `power ACTION NODES`: switches nodes on and off, and reads their power.

use crate::context::Context;
use crate::failure::Failure;
use crate::power_tables::{NodeValues, tables};
use crate::table;
use clap::error::ErrorKind;
use rollout_cli::args::{PowerArgs, PowerTask, command};
use rollout_control::power::credentials::SlurmIds;
use rollout_control::power::switching::{Outcome, Task, carry_out};
use rollout_control::power::{PowerState, Programs, assign};
use rollout_core::controller::power::{kept_on, refusals};
use rollout_core::hostlist::NodeSet;
use rollout_host::exit_code::Exit;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

/// Time limit for Slurm.
const SLURM_LIMIT: Duration = Duration::from_secs(10);

/// The outcome of a node as JSON.
#[derive(Serialize)]
struct NodeOutcome<'a> {
    node: &'a str,
    power: Option<PowerState>,
    changed: bool,
    error: Option<&'a str>,
}

pub(crate) fn run(context: &Context, args: &PowerArgs) -> Result<ExitCode, Failure> {
    let task = task(args);
    if !context.is_root_or_slurm_user() {
        return Err(Failure(
            "only root and SlurmUser may switch nodes: they can read the passwords".to_owned(),
        ));
    }
    let nodes = context.nodes(&args.nodes)?;
    let tables = tables(&context.config)?;
    let values = NodeValues::read(&context.config, &tables, &nodes).map_err(Failure)?;
    let cuts_power = matches!(task, Task::Off { .. } | Task::Cycle { .. });
    if cuts_power && !args.force {
        check_out_of_service(context, args, &nodes)?;
    }
    let slurm = SlurmIds::of_state_directory(&context.config.state_dir);
    let value = |node: &str, key: &str| values.of(node, key);
    let (assigned, failed) = assign(&tables, &nodes, &value, &Programs::default(), slurm);
    let mut outcomes = carry_out(task, assigned);
    outcomes.extend(failed.into_iter().map(|(node, why)| (node, Outcome::unknown(why))));
    print(args, &outcomes)?;
    let is_done = outcomes.values().all(|outcome| outcome.error.is_none());
    Ok(if is_done { Exit::Success } else { Exit::Failed }.into())
}

/// Returns the task. Options without a meaning for it are errors of the command line.
fn task(args: &PowerArgs) -> Task {
    let PowerArgs { soft, force, .. } = *args;
    match args.task {
        PowerTask::Off => Task::Off { soft },
        PowerTask::Cycle => Task::Cycle { soft },
        PowerTask::Status | PowerTask::On if soft || force => {
            let why = "--soft and --force are for off and cycle alone";
            command().error(ErrorKind::ArgumentConflict, why).exit()
        }
        PowerTask::Status => Task::Status,
        PowerTask::On => Task::On,
    }
}

/// Refuses nodes that have jobs or may get some. If Slurm does not tell, it refuses all.
fn check_out_of_service(context: &Context, args: &PowerArgs, nodes: &NodeSet) -> Result<(), Failure> {
    let name = if args.task == PowerTask::Off { "off" } else { "cycle" };
    let scontrol = context.config.scontrol().within(SLURM_LIMIT);
    let unasked = |why: String| {
        Failure(format!(
            "nothing was switched: nobody knows whether {nodes} have jobs: {why}. `scontrol ping`; or `slurm-rollout power \
             {name} --force {nodes}`, if you know it"
        ))
    };
    let known = scontrol.show_nodes(nodes).map_err(|error| unasked(error.to_string()))?;
    let jobs = scontrol.jobs().map_err(|error| unasked(error.to_string()))?;
    if let Some(unread) = jobs.unread.first() {
        return Err(unasked(format!("squeue printed {:?}: {}", unread.line, unread.why)));
    }
    let kept = kept_on(nodes, &known, &jobs.items);
    if kept.is_empty() {
        return Ok(());
    }
    let lines = refusals(&kept, &jobs.items).join("\nslurm-rollout: ");
    Err(Failure(format!("nothing was switched. --force switches all the same.\nslurm-rollout: {lines}")))
}

fn print(args: &PowerArgs, outcomes: &BTreeMap<String, Outcome>) -> Result<(), Failure> {
    if args.json {
        let nodes = outcomes.iter().map(|(node, outcome)| NodeOutcome {
            node,
            power: outcome.power,
            changed: outcome.changed,
            error: outcome.error.as_deref(),
        });
        return Ok(table::json(&nodes.collect::<Vec<_>>())?);
    }
    table::print(&["POWER", "NODES", "NODELIST", "NOTE"], &rows(args.task, outcomes));
    Ok(())
}

/// Returns a row for all nodes with the same power and the same note, those without a known power last.
fn rows(task: PowerTask, outcomes: &BTreeMap<String, Outcome>) -> Vec<Vec<String>> {
    let mut groups: BTreeMap<(bool, Option<PowerState>, String), Vec<String>> = BTreeMap::new();
    for (node, outcome) in outcomes {
        let note = match (&outcome.error, task) {
            (Some(why), _) => why.clone(),
            (None, PowerTask::Status) => String::new(),
            (None, _) if outcome.changed => "switched, and read back".to_owned(),
            (None, _) => "was so already".to_owned(),
        };
        groups.entry((outcome.power.is_none(), outcome.power, note)).or_default().push(node.clone());
    }
    let mut rows = Vec::new();
    for ((_, power, note), nodes) in groups {
        let nodes: NodeSet = nodes.into_iter().collect();
        let power = power.map_or("unknown", PowerState::name);
        rows.push(vec![power.to_owned(), nodes.len().to_string(), nodes.to_string(), note]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_the_same_outcome_are_one_row() {
        let read = |power, changed| Outcome { power: Some(power), changed, error: None };
        let outcomes: BTreeMap<String, Outcome> = [
            ("cn1", read(PowerState::Off, true)),
            ("cn2", read(PowerState::Off, true)),
            ("cn3", read(PowerState::Off, false)),
            ("cn4", Outcome::unknown("no answer")),
        ]
        .map(|(node, outcome)| (node.to_owned(), outcome))
        .into();
        let rows: Vec<String> =
            rows(PowerTask::Off, &outcomes).into_iter().map(|row| row.join(" ")).collect();
        let expected =
            ["off 2 cn[1-2] switched, and read back", "off 1 cn3 was so already", "unknown 1 cn4 no answer"];
        assert_eq!(rows, expected);
    }
}
