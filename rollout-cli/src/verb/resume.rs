//! `resume ROLLOUT`: continues after a pause or a halt.

use crate::conducting::Conducting;
use crate::context::Context;
use crate::failure::Failure;
use rollout_cli::args::ResumeArgs;
use rollout_core::controller::conduct;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &ResumeArgs) -> Result<ExitCode, Failure> {
    let decide = |snapshot: &_, id: &str| conduct::resume(snapshot, id);
    Conducting::decide(context, &args.rollout, decide)?.finish(args.json)
}
