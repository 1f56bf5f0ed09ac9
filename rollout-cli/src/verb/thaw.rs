//! `thaw`: ends a freeze.

use crate::conducting::finish_freeze;
use crate::context::Context;
use crate::failure::Failure;
use rollout_cli::args::ThawArgs;
use std::process::ExitCode;

pub(crate) fn run(context: &Context, args: &ThawArgs) -> Result<ExitCode, Failure> {
    let store = context.writer()?;
    let changed = store.thaw()?;
    finish_freeze(&store, &changed, args.json)
}
