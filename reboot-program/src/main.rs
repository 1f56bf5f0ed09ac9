//! The RebootProgram: slurmctld runs it with the nodes to reboot. It sends orders to their agents and ends.
//!
//! `reboot-program [--config FILE] NODES [FEATURES]`
//!
//! This file only sets up the process, calls [`rollout_control::hand_over`] and logs the outcome.

mod arguments;
mod log;
mod process;
#[cfg(all(panic = "abort", target_feature = "crt-static"))]
mod stack_bounds;
#[cfg(all(panic = "abort", target_feature = "crt-static"))]
mod unwinder;

use arguments::Arguments;
use log::Log;
use rollout_control::config::Config;
use rollout_control::hand_over::{Report, hand_over};
use rollout_core::controller::hand_over::Skipped;
use rollout_core::hostlist::NodeSet;
use rollout_host::exit_code::Exit;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    process::reset_signals();
    let (config, request) = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(Arguments::Run(config, request)) => (config, request),
        Ok(Arguments::Print(text)) => return process::print(&text),
        Err(error) => {
            Log::open().error(&format!("{error}; see `reboot-program --help`"));
            return Exit::Usage.into();
        }
    };
    let log = Log::open();
    let config = match Config::load(&config) {
        Ok(config) => config,
        Err(error) => {
            log.error(&format!("{}: nothing ordered: {error}", request.nodes));
            return Exit::NothingDone.into();
        }
    };
    let by = format!("reboot-program[{}]", std::process::id());
    let report = hand_over(&config, &by, &request, started);
    log_report(&log, &request.nodes, &report, started);
    outcome(&report).into()
}

fn log_report(log: &Log, nodes: &NodeSet, report: &Report, started: Instant) {
    for warning in &report.warnings {
        log.warning(warning);
    }
    for (why, nodes) in &report.skipped {
        log.warning(&format!("{}: {}", nodes.iter().cloned().collect::<NodeSet>(), why.describe()));
    }
    for (why, nodes) in report.not_ordered() {
        log.error(&format!("{nodes}: {why}"));
    }
    let (ordered, ms) = (report.ordered.len(), started.elapsed().as_millis());
    log.info(&format!("{nodes}: {ordered} of {} ordered in {ms} ms", nodes.len()));
}

/// Returns the outcome, which Slurm only logs.
fn outcome(report: &Report) -> Exit {
    // A node that a different invocation orders, or has ordered, counts as done.
    let refused = |why: &Skipped| matches!(why, Skipped::Unknown | Skipped::NotHandedOver);
    if report.failed.is_empty() && !report.skipped.keys().any(refused) {
        Exit::Success
    } else if report.ordered.is_empty() {
        Exit::NothingDone
    } else {
        Exit::SomeNodesFailed
    }
}
