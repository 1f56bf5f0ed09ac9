//! `slurm-rollout`: what an admin types. One file a verb; what is decided is decided in rollout-core.

mod context;
mod survey;
mod table;
mod verb;

use clap::Parser;
use context::{Context, Failure};
use rollout_cli::args::{Args, Verb};
use std::process::ExitCode;

/// Something was not done.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = Context::new(&args).and_then(|context| match args.verb {
        Verb::Doctor(_) | Verb::Config(_) => Err(Failure("not there yet".to_owned())),
        Verb::Stage(args) => verb::stage::run(&context, &args),
        Verb::Unstage(args) => verb::unstage::run(&context, &args),
        Verb::Status(args) => verb::status::run(&context, &args),
        Verb::Show(args) => verb::show::run(&context, &args),
        Verb::History(args) => verb::history::run(&context, &args),
        Verb::Retry(args) => verb::retry::run(&context, &args),
        Verb::Release(args) => verb::release::run(&context, &args),
    });
    match done {
        Ok(code) => code,
        Err(Failure(why)) => {
            eprintln!("slurm-rollout: {why}");
            ExitCode::from(FAILED)
        }
    }
}
