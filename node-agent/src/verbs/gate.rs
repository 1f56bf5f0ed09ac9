//! The gate's unit before slurmd: exit 0 when the node may have slurmd, 1 when not. Decides by the ledger alone, so
//! that it also works where the daemon does not.

use crate::config::{Config, OnGateTimeout};
use crate::log;
use crate::node;
use crate::state::ledger_file::LedgerFile;
use rollout_core::agent::ledger::{Gate, gate};
use rollout_host::exit_code::Exit;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The daemon, which asks Slurm, goes first; this is for when there is none.
const DAEMON_FIRST: Duration = Duration::from_secs(5);

/// Waits while the node is being proven after a boot, and on one without a ledger until it is known what it should be.
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
