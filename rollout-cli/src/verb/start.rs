//! `start ROLLOUT`: has the reboots of its nodes requested.

use crate::conducting::Conducting;
use crate::context::Context;
use crate::failure::Failure;
use rollout_cli::args::StartArgs;
use rollout_core::controller::conduct;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &StartArgs) -> Result<ExitCode, Failure> {
    let decide = |snapshot: &_, id: &str| conduct::start(snapshot, id);
    Conducting::decide(context, &args.rollout, decide)?.finish(args.json)
}
