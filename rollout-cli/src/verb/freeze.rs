//! `freeze`: nothing is requested in any rollout until `thaw`.

use crate::conducting::finish_freeze;
use crate::context::Context;
use crate::failure::Failure;
use rollout_cli::args::FreezeArgs;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &FreezeArgs) -> Result<ExitCode, Failure> {
    let store = context.writer()?;
    let changed = store.freeze(args.why.clone())?;
    finish_freeze(&store, &changed, args.json)
}
