//! `approve ROLLOUT WAVE`: lets the next wave begin.

use crate::conducting::Conducting;
use crate::context::Context;
use crate::failure::Failure;
use rollout_cli::args::ApproveArgs;
use rollout_core::controller::conduct;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &ApproveArgs) -> Result<ExitCode, Failure> {
    let decide = |snapshot: &_, id: &str| conduct::approve(snapshot, id, args.wave);
    Conducting::decide(context, &args.rollout, decide)?.finish(args.json)
}
