//! The RebootProgram: slurmctld runs it with the nodes that are to be rebooted, it tells their agents and is gone.
//!
//! `reboot-program [--config FILE] NODES [FEATURES]`
//!
//! This file only sets up the process, calls [`rollout_control::hand_over`] and says in syslog what came of it.

mod arguments;
mod log;
mod process;

use arguments::Arguments;
use log::Log;
use rollout_control::config::Config;
use rollout_control::hand_over::{Report, hand_over};
use rollout_core::controller::hand_over::Skipped;
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
    let (config, request) = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Arguments::Run(config, request)) => (config, request),
        Ok(Arguments::Say(text)) => return process::say(&text),
        Err(error) => {
            Log::open().error(&format!("{error}; see `reboot-program --help`"));
            return ExitCode::from(NOTHING_DONE);
        }
    };
    let log = Log::open();
    let config = match Config::load(&config) {
        Ok(config) => config,
        Err(error) => {
            log.error(&format!("{}: nothing ordered: {error}", request.nodes));
            return ExitCode::from(NOTHING_DONE);
        }
    };
    let by = format!("reboot-program[{}]", std::process::id());
    let report = hand_over(&config, &by, &request, begun);
    tell(&log, &request.nodes, &report, begun);
    exit_code(&report)
}

fn tell(log: &Log, nodes: &NodeSet, report: &Report, begun: Instant) {
    for warning in &report.warnings {
        log.warning(warning);
    }
    for (why, nodes) in &report.skipped {
        log.warning(&format!("{}: {}", nodes.iter().cloned().collect::<NodeSet>(), why.describe()));
    }
    for (why, nodes) in report.not_ordered() {
        log.error(&format!("{nodes}: {why}"));
    }
    let (ordered, ms) = (report.ordered.len(), begun.elapsed().as_millis());
    log.info(&format!("{nodes}: {ordered} of {} ordered in {ms} ms", nodes.len()));
}

fn exit_code(report: &Report) -> ExitCode {
    // That another invocation orders a node, or has, is as good as our doing it.
    let refused = |why: &Skipped| matches!(why, Skipped::Unknown | Skipped::NotHandedOver);
    if report.failed.is_empty() && !report.skipped.keys().any(refused) {
        ExitCode::SUCCESS
    } else if report.ordered.is_empty() {
        ExitCode::from(NOTHING_DONE)
    } else {
        ExitCode::from(SOME_FAILED)
    }
}
