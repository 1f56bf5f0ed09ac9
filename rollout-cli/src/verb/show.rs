//! `show ROLLOUT`: its manifest and its journal.

use crate::context::{Context, Failure};
use crate::table::{self, local_time};
use rollout_cli::args::ShowArgs;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &ShowArgs) -> Result<ExitCode, Failure> {
    let rollout = context.rollout(&args.rollout)?;
    let manifest = context.store.manifest_text(&rollout.id)?;
    if args.json {
        let json =
            serde_json::json!({ "rollout": rollout.id, "manifest": manifest, "journal": rollout.lines });
        table::json(&json)?;
        return Ok(ExitCode::SUCCESS);
    }
    table::out(&format!("{}\n\n{}\n\n", rollout.id, manifest.trim()));
    let row = |line: &rollout_core::journal::Line| {
        vec![local_time(line.t_ms), line.by.clone(), line.entry.describe()]
    };
    table::print(&["TIME", "BY", "WHAT"], &rollout.lines.iter().map(row).collect::<Vec<_>>());
    Ok(ExitCode::SUCCESS)
}
