//! The gate's unit before slurmd: exits with 0 if slurmd may start, else with 1. It goes by the files alone, so it
//! holds even if the daemon is not running.

use crate::config::{Config, OnGateTimeout};
use crate::log;
use crate::node;
use crate::state::ledger_file::LedgerFile;
use rollout_core::agent::gate::{Gate, gate};
use rollout_host::exit_code::Exit;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Additional time for the daemon, which asks Slurm and decides first. The gate's own limit is for a node without one.
const DAEMON_FIRST: Duration = Duration::from_secs(5);

/// Waits while the node is being proven after a boot, or, without a ledger, until it has its instructions or the time
/// is over.
pub(crate) fn wait(config: &Config) -> ExitCode {
    let file = LedgerFile::in_dir(&config.state_dir);
    let end = Instant::now() + config.gate_timeout.get() + DAEMON_FIRST;
    loop {
        let (state, has_order) = match (file.unsettled(), node::boot_id()) {
            (Ok(ledger), Ok(boot_id)) => {
                let admitted = config.is_volatile().then(|| file.is_admitted(&boot_id));
                (gate(ledger.as_ref(), admitted, &boot_id), ledger.is_some())
            }
            (Err(error), _) => (Gate::Closed(error.to_string()), true),
            (_, Err(error)) => (Gate::Closed(error), true),
        };
        match state {
            Gate::Open => return ExitCode::SUCCESS,
            Gate::Wait if has_order || Instant::now() < end => thread::sleep(LOOK_AGAIN),
            Gate::Wait if config.on_gate_timeout == OnGateTimeout::Open => {
                log::warning(&format!("nobody said within {} what this node should be", config.gate_timeout));
                return ExitCode::SUCCESS;
            }
            Gate::Wait => return kept_down("nobody says what this node should be"),
            Gate::Closed(why) => return kept_down(&why),
        }
    }
}

fn kept_down(why: &str) -> ExitCode {
    log::error(&format!("slurmd is kept down: {why}"));
    Exit::GateClosed.into()
}
