//! `show ROLLOUT`: its manifest, its journal, the output of its hooks and, if it changes images, the images of its nodes.

use crate::context::Context;
use crate::failure::Failure;
use crate::images;
use crate::status_of;
use crate::table::{self, local_time, one_line};
use rollout_cli::args::ShowArgs;
use rollout_core::controller::status::NodeStatus;
use rollout_core::rollout::journal::{Entry, Line};
use std::collections::BTreeMap;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &ShowArgs) -> Result<ExitCode, Failure> {
    let rollout = context.rollout(&args.rollout)?;
    let id = &rollout.state.id;
    let manifest = context.store.manifest_text(id)?;
    let images = match rollout.state.image() {
        Some(_) => status_of::rollout(context, &rollout.state)?,
        None => Vec::new(),
    };
    let outputs = context.store.hook_outputs(id);
    if args.json {
        let mut json = serde_json::json!({ "rollout": id, "manifest": manifest, "journal": rollout.lines });
        if !images.is_empty() {
            let of = |status: NodeStatus| (status.node, status.images);
            json["images"] = serde_json::to_value(images.into_iter().map(of).collect::<BTreeMap<_, _>>())?;
        }
        if !outputs.is_empty() {
            json["hook_outputs"] = serde_json::to_value(&outputs)?;
        }
        table::json(&json)?;
        return Ok(ExitCode::SUCCESS);
    }
    table::out(&format!("{id}\n\n{}\n\n", manifest.trim()));
    let row = |line: &Line| vec![local_time(line.t_ms), line.by.clone(), line.entry.describe()];
    table::print(&["TIME", "BY", "WHAT"], &rollout.lines.iter().map(row).collect::<Vec<_>>());
    table::out(&images::table(&images));
    for (run, output) in &outputs {
        table::out(&of_hook(&rollout.lines, *run, output));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the output of a hook, below the line about its call.
fn of_hook(lines: &[Line], run: u32, output: &str) -> String {
    let is_call = |line: &&Line| matches!(line.entry, Entry::HookStarted { run: of, .. } if of == run);
    let call = lines.iter().find(is_call);
    let title = call.map_or_else(|| format!("hook, call {run}"), |line| line.entry.describe());
    let output: String = output.lines().map(|line| format!("  {}\n", one_line(line))).collect();
    format!("\n{title}:\n{output}")
}
