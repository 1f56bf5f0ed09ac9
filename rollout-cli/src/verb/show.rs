//! `show ROLLOUT`: its manifest and its journal.

use crate::context::{Context, Failure};
use crate::survey::Survey;
use crate::table::{self, local_time};
use crate::verb::status;
use rollout_cli::args::ShowArgs;
use rollout_core::controller::status::NodeStatus;
use std::collections::BTreeMap;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &ShowArgs) -> Result<ExitCode, Failure> {
    let rollout = context.rollout(&args.rollout)?;
    let manifest = context.store.manifest_text(&rollout.id)?;
    let images = match rollout.manifest.desired.image() {
        Some(_) => Survey::of(context, &rollout.nodes().into_keys().collect()).statuses(&rollout, None),
        None => Vec::new(),
    };
    if args.json {
        let mut json =
            serde_json::json!({ "rollout": rollout.id, "manifest": manifest, "journal": rollout.lines });
        if !images.is_empty() {
            let of = |status: NodeStatus| (status.node, status.images);
            json["images"] = serde_json::to_value(images.into_iter().map(of).collect::<BTreeMap<_, _>>())?;
        }
        table::json(&json)?;
        return Ok(ExitCode::SUCCESS);
    }
    table::out(&format!("{}\n\n{}\n\n", rollout.id, manifest.trim()));
    let row = |line: &rollout_core::rollout::journal::Line| {
        vec![local_time(line.t_ms), line.by.clone(), line.entry.describe()]
    };
    table::print(&["TIME", "BY", "WHAT"], &rollout.lines.iter().map(row).collect::<Vec<_>>());
    if !images.is_empty() {
        status::print_images(&images);
    }
    Ok(ExitCode::SUCCESS)
}
