//! Standing in for an installed agent that does not come up: a rollout may bring a new agent, and that one may be broken.
//!
//! Before packages are changed the agent keeps a copy of itself. After a boot in mid-order slurm-rollout-rescue.service
//! starts the copy, which only watches as long as the installed agent answers. If that falls silent, the copy takes its
//! place and carries on with the ledger; as a node without a working agent is proven to be nothing, that leads back.

use crate::config::Config;
use crate::log;
use crate::slurm::slurmd::SYSTEMCTL;
use crate::state::ledger_file::LedgerFile;
use crate::verbs::client;
use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::phase::Phase;
use rollout_host::durable;
use rollout_host::run::Program;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// In /usr/libexec and not beside the ledger: SELinux lets systemd start no program from /var/lib.
const COPY: &str = "/usr/libexec/slurm-rollout/rescue-agent";
/// The program that runs, also when its file was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";
const MODE: u32 = 0o755;

const AGENT_UNIT: &str = "slurm-rollout-agent.service";
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// So long an agent may be silent: it starts in a second, and a crash costs it two more.
const SILENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Keeps a copy of this agent until the order is settled. One that is there stays: it is older, and was good.
pub(crate) fn keep() -> Result<(), String> {
    let copy = Path::new(COPY);
    if copy.exists() {
        return Ok(());
    }
    let kept = std::fs::read(OURSELVES).and_then(|program| {
        if let Some(directory) = copy.parent() {
            std::fs::create_dir_all(directory)?;
        }
        durable::replace(copy, &program, MODE)
    });
    kept.map_err(|error| format!("keeping a copy of this agent as {COPY}: {error}"))
}

/// Removes the copy. To be called when an order is settled.
pub(crate) fn forget() {
    match std::fs::remove_file(COPY) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => log::warning(&format!("{COPY}: {error}")),
        _ => {}
    }
}

/// Waits until the order needs nobody to stand in any more, or somebody to do so: then it says why.
pub(crate) fn watch(config: &Config) -> Option<String> {
    let file = LedgerFile::in_dir(&config.state_dir);
    let mut heard = Instant::now();
    loop {
        // A ledger that cannot be read is not better understood by an older agent.
        let Ok(Some(ledger)) = file.unsettled() else { return None };
        let answers = client::ask_status(config)
            .is_ok_and(|status| status.order.is_some_and(|order| order.id == ledger.order.id));
        if answers && ledger.phase == Phase::Held {
            return None;
        }
        if answers {
            heard = Instant::now();
        } else if heard.elapsed() >= SILENCE {
            return Some(why(&ledger));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Ends what is left of the installed agent, whose port and socket we need. What it started goes on.
pub(crate) fn take_over(why: &str) {
    log::error(&format!("standing in for {AGENT_UNIT}: {why}"));
    if let Err(error) = Program::new(SYSTEMCTL, STOP_LIMIT).args(["stop", "--", AGENT_UNIT]).run() {
        log::error(&error.to_string());
    }
}

fn why(ledger: &Ledger) -> String {
    let silence = SILENCE.as_secs();
    format!(
        "the installed slurm-rollout-agent has not answered for {silence} s while {} (`systemctl status {AGENT_UNIT}`)",
        ledger.phase.name()
    )
}
