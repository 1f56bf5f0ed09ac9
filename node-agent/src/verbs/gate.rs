//! The gate's unit before slurmd: exits with 0 if slurmd may start, else with 1. It goes by the files alone, so it
//! holds even if the daemon is not running. Without the directory that has the files it stays shut.

use crate::config::{Config, OnGateTimeout};
use crate::log;
use crate::node;
use crate::state::ledger_file::LedgerFile;
use rollout_core::agent::gate::{Gate, gate};
use rollout_host::exit_code::Exit;
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Additional time for the daemon, which asks Slurm and decides first. The gate's own limit is for a node without one.
const DAEMON_FIRST: Duration = Duration::from_secs(5);

/// Time for the state directory to appear. The agent's unit creates it at the first start, once its file system is
/// mounted.
const DIRECTORY_LIMIT: Duration = Duration::from_secs(60);

/// Waits while the node is being proven after a boot, or, without a ledger, until it has its instructions or the time
/// is over.
pub(crate) fn wait(config: &Config) -> ExitCode {
    let file = LedgerFile::in_dir(&config.state_dir);
    let begun = Instant::now();
    let end = begun + config.gate_timeout.get() + DAEMON_FIRST;
    loop {
        if is_missing(config) {
            if begun.elapsed() >= DIRECTORY_LIMIT {
                return kept_down(&missing(config));
            }
            thread::sleep(LOOK_AGAIN);
            continue;
        }
        let (state, has_order) = look(config, &file);
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

fn look(config: &Config, file: &LedgerFile) -> (Gate, bool) {
    match (file.unsettled(), node::boot_id()) {
        (Ok(ledger), Ok(boot_id)) => {
            let admitted = config.is_volatile().then(|| file.is_admitted(&boot_id));
            (gate(ledger.as_ref(), admitted, &boot_id), ledger.is_some())
        }
        (Err(error), _) => (Gate::Closed(error.to_string()), true),
        (_, Err(error)) => (Gate::Closed(error), true),
    }
}

/// Returns whether the state directory is missing, so that its ledger cannot be read. A node that keeps no ledger over
/// a boot comes up without one, and waits for its instructions.
fn is_missing(config: &Config) -> bool {
    let is_absent = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
    !config.is_volatile() && std::fs::metadata(&config.state_dir).is_err_and(is_absent)
}

fn missing(config: &Config) -> String {
    let dir = config.state_dir.display();
    format!(
        "{dir} is not there, so nobody knows whether this node has an order: is its file system mounted, and \
         slurm-rollout-agent.service running?"
    )
}

fn kept_down(why: &str) -> ExitCode {
    log::error(&format!("slurmd is kept down: {why}"));
    Exit::GateClosed.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LedgerStorage;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a file in place of the directory")]
    fn without_its_directory_the_gate_stays_shut() {
        let dir = tempfile::tempdir().unwrap();
        let mounted = dir.path().join("mounted");
        let config = Config { state_dir: mounted.clone(), ..Config::default() };
        let volatile = Config { ledger: LedgerStorage::Volatile, ..config.clone() };
        let state = |config: &Config| look(config, &LedgerFile::in_dir(&config.state_dir)).0;
        assert!(is_missing(&config) && missing(&config).contains("mounted"));
        assert!(!is_missing(&volatile), "it has none after each boot");
        assert_eq!(state(&volatile), Gate::Wait);
        std::fs::write(&mounted, "").unwrap();
        assert!(!is_missing(&config));
        assert!(matches!(state(&config), Gate::Closed(why) if why.contains("order.json: cannot be read")));
        std::fs::remove_file(&mounted).unwrap();
        std::fs::create_dir(&mounted).unwrap();
        assert!(!is_missing(&config));
        assert_eq!(state(&config), Gate::Open, "there is no order");
        std::fs::write(mounted.join("order.json"), "{").unwrap();
        assert!(matches!(state(&config), Gate::Closed(_)));
    }
}
