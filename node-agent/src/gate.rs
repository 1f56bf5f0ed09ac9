//! The gate's unit before slurmd: exit 0 when the node may have slurmd, 1 when not. Decides by the ledger alone, so
//! that it also works where the daemon does not.

use crate::config::Config;
use crate::ledger_file::LedgerFile;
use crate::{log, node};
use rollout_core::ledger::{Gate, gate};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Waits while the node is being proven after a boot.
pub(crate) fn wait(config: &Config) -> ExitCode {
    let file = LedgerFile::in_dir(&config.state_dir);
    loop {
        let state = match (file.unsettled(), node::boot_id()) {
            (Ok(ledger), Ok(boot_id)) => gate(ledger.as_ref(), &boot_id),
            (Err(error), _) => Gate::Closed(error.to_string()),
            (_, Err(error)) => Gate::Closed(error),
        };
        match state {
            Gate::Open => return ExitCode::SUCCESS,
            Gate::Wait => thread::sleep(LOOK_AGAIN),
            Gate::Closed(why) => {
                log::error(&format!("slurmd is kept down: {why}"));
                return ExitCode::FAILURE;
            }
        }
    }
}
