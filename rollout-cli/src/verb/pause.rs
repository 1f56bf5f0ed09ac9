//! `pause ROLLOUT`: requests no more nodes for now.

use crate::conducting::Conducting;
use crate::context::Context;
use crate::failure::Failure;
use rollout_cli::args::PauseArgs;
use rollout_core::controller::conduct;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &PauseArgs) -> Result<ExitCode, Failure> {
    let decide = |snapshot: &_, id: &str| conduct::pause(snapshot, id, args.why.clone());
    Conducting::decide(context, &args.rollout, decide)?.finish(args.json)
}
