//! `stop ROLLOUT`: ends it. Nodes that wait are unstaged here, and requests are withdrawn by `reconcile`.

use crate::conducting::Conducting;
use crate::context::Context;
use crate::failure::Failure;
use crate::unstaging::unstage;
use rollout_cli::args::StopArgs;
use rollout_core::controller::conduct;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &StopArgs) -> Result<ExitCode, Failure> {
    let decide = |snapshot: &_, id: &str| conduct::stop(snapshot, id);
    let mut stopped = Conducting::decide(context, &args.rollout, decide)?;
    let waiting = conduct::to_unstage(&stopped.state()?);
    // Repeated after a crash or a failure, it continues with the rest.
    if !waiting.is_empty() {
        let unstaged = unstage(context, &stopped.store, &stopped.id, &waiting)?;
        let left = waiting.difference(&unstaged);
        stopped.unstaged = unstaged;
        if !left.is_empty() {
            stopped.failed = Some(format!("{left}: not unstaged; `slurm-rollout stop` tries again"));
        }
    }
    stopped.finish(args.json)
}
