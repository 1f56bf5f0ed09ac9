//! The RebootProgram: slurmctld runs it with the nodes that are to be rebooted, it tells their agents and is gone.
//!
//! `reboot-program [--config FILE] NODES [FEATURES]`
//!
//! This file only sets up the process, calls [`rollout_control::hand_over`] and says in syslog what came of it.

mod arguments;
mod log;
mod process;

use arguments::{Arguments, Request};
use log::Log;
use rollout_control::config::Config;
use rollout_control::hand_over::{Report, hand_over};
use rollout_control::store::Store;
use rollout_core::hostlist::NodeSet;
use std::process::ExitCode;
use std::time::Instant;

/// Some node was not ordered. Slurm does nothing with exit codes but log them.
const SOME_FAILED: u8 = 1;
/// Called wrongly, or nothing could be done.
const NOTHING_DONE: u8 = 2;

fn main() -> ExitCode {
    let begun = Instant::now();
    process::be_independent_of_the_caller();
    let arguments = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Arguments::Run(request)) => request,
        Ok(Arguments::Say(text)) => return process::say(&text),
        Err(error) => {
            Log::open().error(&format!("{error}; see `reboot-program --help`"));
            return ExitCode::from(NOTHING_DONE);
        }
    };
    let log = Log::open();
    match run(&arguments, begun) {
        Ok(report) => tell(&log, &arguments.nodes, &report, begun),
        Err(error) => {
            log.error(&format!("{}: nothing ordered: {error}", arguments.nodes));
            ExitCode::from(NOTHING_DONE)
        }
    }
}

fn run(request: &Request, begun: Instant) -> Result<Report, Box<dyn std::error::Error>> {
    let config = Config::load(&request.config)?;
    let store = Store::open(&config.state_dir, &format!("reboot-program[{}]", std::process::id()))?;
    Ok(hand_over(&config, &store, &request.nodes, begun)?)
}

fn tell(log: &Log, nodes: &NodeSet, report: &Report, begun: Instant) -> ExitCode {
    for warning in &report.warnings {
        log.warning(warning);
    }
    for (why, nodes) in &report.skipped {
        log.warning(&format!("{}: {}", nodes.iter().cloned().collect::<NodeSet>(), why.describe()));
    }
    for (why, nodes) in &report.failed {
        log.error(&format!("{}: {why}", nodes.iter().cloned().collect::<NodeSet>()));
    }
    log.info(&format!(
        "{nodes}: {} of {} ordered in {} ms",
        report.ordered.len(),
        nodes.len(),
        begun.elapsed().as_millis()
    ));
    if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(SOME_FAILED) }
}
