//! The RebootProgram: slurmctld runs it with the nodes to reboot. It sends orders to their agents and ends.
//!
//! `reboot-program [--config FILE] NODES [FEATURES]`
//!
//! This file only sets up the process, calls [`rollout_control::hand_over`] and logs the outcome.

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

/// Some nodes were not ordered. Slurm only logs exit codes.
const SOME_FAILED: u8 = 1;
/// No node was ordered, for example because of a usage error.
const NOTHING_DONE: u8 = 2;

fn main() -> ExitCode {
    let started = Instant::now();
    process::reset_signals();
    let (config, request) = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Arguments::Run(config, request)) => (config, request),
        Ok(Arguments::Print(text)) => return process::print(&text),
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
    let report = hand_over(&config, &by, &request, started);
    log_report(&log, &request.nodes, &report, started);
    exit_code(&report)
}

fn log_report(log: &Log, nodes: &NodeSet, report: &Report, started: Instant) {
    for warning in &report.warnings {
        log.warning(warning);
    }
    for (why, nodes) in &report.skipped {
        log.warning(&format!("{}: {}", nodes.iter().cloned().collect::<NodeSet>(), why.describe()));
    }
    for (why, nodes) in &report.failed {
        log.error(&format!("{}: {why}", nodes.iter().cloned().collect::<NodeSet>()));
    }
    let (ordered, ms) = (report.ordered.len(), started.elapsed().as_millis());
    log.info(&format!("{nodes}: {ordered} of {} ordered in {ms} ms", nodes.len()));
}

fn exit_code(report: &Report) -> ExitCode {
    // A node that a different invocation orders, or has ordered, counts as done.
    let refused = |why: &Skipped| matches!(why, Skipped::Unknown | Skipped::NotHandedOver);
    if report.failed.is_empty() && !report.skipped.keys().any(refused) {
        ExitCode::SUCCESS
    } else if report.ordered.is_empty() {
        ExitCode::from(NOTHING_DONE)
    } else {
        ExitCode::from(SOME_FAILED)
    }
}
