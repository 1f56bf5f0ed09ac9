//! `slurm-rollout`: what an admin types. One file a verb; what is decided is decided in rollout-core.

mod after_staging;
mod before_start;
mod conducting;
mod context;
mod failure;
mod host;
mod images;
mod manifest_file;
mod planning;
mod power_tables;
mod progress;
mod status_of;
mod table;
mod unstaging;
mod verb;

use clap::FromArgMatches;
use context::Context;
use failure::Failure;
use rollout_cli::args::{Args, ConfigVerb, Verb, command};
use rollout_host::exit_code::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    // The first three are for when something is broken: they open no state directory, and take a configuration as it
    // is.
    let context = || Context::new(&args);
    let done = match &args.verb {
        Verb::Config(ConfigVerb::Check(check)) => verb::config::check(&args.config, check),
        Verb::Doctor(doctor) => verb::doctor::run(&args.config, doctor),
        Verb::SealProbe { nodes } => verb::doctor::probe::print(&args.config, nodes),
        Verb::Stage(args) => context().and_then(|context| verb::stage::run(&context, args)),
        Verb::Start(args) => context().and_then(|context| verb::start::run(&context, args)),
        Verb::Pause(args) => context().and_then(|context| verb::pause::run(&context, args)),
        Verb::Resume(args) => context().and_then(|context| verb::resume::run(&context, args)),
        Verb::Stop(args) => context().and_then(|context| verb::stop::run(&context, args)),
        Verb::Approve(args) => context().and_then(|context| verb::approve::run(&context, args)),
        Verb::Freeze(args) => context().and_then(|context| verb::freeze::run(&context, args)),
        Verb::Thaw(args) => context().and_then(|context| verb::thaw::run(&context, args)),
        Verb::Unstage(args) => context().and_then(|context| verb::unstage::run(&context, args)),
        Verb::Status(args) => context().and_then(|context| verb::status::run(&context, args)),
        Verb::Plan(args) => context().and_then(|context| verb::plan::run(&context, args)),
        Verb::Rehearse(args) => context().and_then(|context| verb::rehearse::run(&context, args)),
        Verb::Why(args) => context().and_then(|context| verb::why::run(&context, args)),
        Verb::Show(args) => context().and_then(|context| verb::show::run(&context, args)),
        Verb::History(args) => context().and_then(|context| verb::history::run(&context, args)),
        Verb::Retry(args) => context().and_then(|context| verb::retry::run(&context, args)),
        Verb::Undo(args) => context().and_then(|context| verb::undo::run(&context, args)),
        Verb::Power(args) => context().and_then(|context| verb::power::run(&context, args)),
        Verb::Reconcile(args) => context().and_then(|context| verb::reconcile::run(&context, args)),
        Verb::Archive(args) => context().and_then(|context| verb::archive::run(&context, args)),
        Verb::Release(args) => context().and_then(|context| verb::release::run(&context, args)),
    };
    match done {
        Ok(code) => code,
        Err(Failure(why)) => {
            eprintln!("slurm-rollout: {why}");
            Exit::Failed.into()
        }
    }
}
