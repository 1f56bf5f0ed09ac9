//! `archive [ROLLOUTS]`: moves rollouts that are over out of the history.

use crate::context::Context;
use crate::failure::Failure;
use crate::table::out;
use rollout_cli::args::ArchiveArgs;
use rollout_control::store::Archived;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &ArchiveArgs) -> Result<ExitCode, Failure> {
    let store = context.writer()?;
    if args.rollouts.is_empty() {
        let archived =
            store.archive_expired(context.config.retention(), context.config.delete_archived_after())?;
        print("archived", &archived.archived);
        print("deleted from the archive", &archived.deleted);
        return moved_all(&archived);
    }
    let ids = args.rollouts.iter().map(|name| store.find(name)).collect::<Result<Vec<_>, _>>()?;
    let archived = store.archive(&ids)?;
    print("archived", &archived.archived);
    moved_all(&archived)?;
    let open: Vec<&str> =
        ids.iter().filter(|id| !archived.archived.contains(id)).map(String::as_str).collect();
    if open.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure(format!(
        "{}: not over yet, so not archived; see `slurm-rollout status`, and unstage the nodes that will not come back. \
         `slurm-rollout reconcile` closes a rollout soon after its end",
        open.join(", ")
    )))
}

fn moved_all(archived: &Archived) -> Result<ExitCode, Failure> {
    if archived.failed.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(Failure(archived.failed.join("\n"))) }
}

fn print(what: &str, ids: &[String]) {
    for id in ids {
        out(&format!("{id}: {what}\n"));
    }
}
