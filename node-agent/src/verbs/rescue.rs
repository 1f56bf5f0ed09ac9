//! Rescue of a node whose installed agent does not work: a rollout may bring a new agent, and the new agent may be
//! broken.
//!
//! Before packages are changed the agent keeps a copy of itself. After a boot in the middle of an order
//! slurm-rollout-rescue.service starts the copy, which only watches while the installed agent answers. If that falls
//! silent, the copy takes its place and continues with the ledger. A node without a working agent is never proven, so
//! the copy undoes the order.

use crate::config::Config;
use crate::log;
use crate::node_name;
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

/// The copy. In /usr/libexec and not beside the ledger: SELinux does not let systemd start a program from /var/lib.
const COPY: &str = "/usr/libexec/slurm-rollout/rescue-agent";
/// The running program, even if its file was replaced meanwhile.
const OURSELVES: &str = "/proc/self/exe";
const MODE: u32 = 0o755;

const AGENT_UNIT: &str = "slurm-rollout-agent.service";
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// Time for which the installed agent may be silent: it starts in a second, and a crash costs it two more.
const MAX_SILENCE: Duration = Duration::from_secs(60);
const POLL_PAUSE: Duration = Duration::from_secs(1);
/// Pause between two questions for the node's name, which Slurm may have to answer.
const NAME_PAUSE: Duration = Duration::from_secs(5);

/// Keeps a copy of this agent until the order is settled. An existing copy stays: it is older, and worked.
pub(crate) fn keep_copy() -> Result<(), String> {
    let copy = Path::new(COPY);
    if copy.exists() {
        return Ok(());
    }
    let copied = std::fs::read(OURSELVES).and_then(|program| {
        if let Some(directory) = copy.parent() {
            std::fs::create_dir_all(directory)?;
        }
        durable::replace(copy, &program, MODE)
    });
    copied.map_err(|error| format!("keeping a copy of this agent as {COPY}: {error}"))
}

/// Removes the copy, once an order is settled.
pub(crate) fn remove_copy() {
    match std::fs::remove_file(COPY) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => log::warning(&format!("{COPY}: {error}")),
        _ => {}
    }
}

/// Waits until the copy is no longer needed and returns `None`, or until it must take over and returns the reason.
pub(crate) fn watch(config: &Config) -> Option<String> {
    let file = LedgerFile::in_dir(&config.state_dir);
    let (mut last_answer, mut is_named) = (Instant::now(), false);
    loop {
        // An older agent cannot read an unreadable ledger either.
        let Ok(Some(ledger)) = file.unsettled() else { return None };
        is_named = is_named || is_ours(node_name::find(config).map(|found| found.name), &ledger);
        if !is_named {
            // The agent refuses it as well until the host has its name, or an admin has decided.
            last_answer = Instant::now();
            thread::sleep(NAME_PAUSE);
            continue;
        }
        let answers = client::ask_status(config)
            .is_ok_and(|status| status.order.is_some_and(|order| order.id == ledger.order.id));
        if answers && ledger.phase == Phase::Held {
            return None;
        }
        if answers {
            last_answer = Instant::now();
        } else if last_answer.elapsed() >= MAX_SILENCE {
            return Some(reason(&ledger));
        }
        thread::sleep(POLL_PAUSE);
    }
}

/// Returns whether a ledger is this node's. The host name may be set late in a boot.
fn is_ours<E>(name: Result<String, E>, ledger: &Ledger) -> bool {
    name.is_ok_and(|name| !ledger.is_of_another_node(&name))
}

/// Stops the installed agent, whose port and socket we need. Programs that it started continue.
pub(crate) fn take_over(why: &str) {
    log::error(&format!("standing in for {AGENT_UNIT}: {why}"));
    if let Err(error) = Program::new(SYSTEMCTL, STOP_LIMIT).args(["stop", "--", AGENT_UNIT]).run() {
        log::error(&error.to_string());
    }
}

fn reason(ledger: &Ledger) -> String {
    let silence = MAX_SILENCE.as_secs();
    format!(
        "the installed slurm-rollout-agent has not answered for {silence} s while {} (`systemctl status {AGENT_UNIT}`)",
        ledger.phase.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::hostlist::NodeSet;
    use rollout_core::protocol::order::{GiveBack, Order, OrderId, OrderKind};

    #[test]
    fn the_copy_waits_until_the_host_has_the_name_of_its_ledger() {
        let back = GiveBack { resume_if_late: true, drained: None };
        let nodes = NodeSet::parse("n1").unwrap();
        let order = Order::new(OrderId::from_random(1), nodes, OrderKind::Reboot(back.into()));
        let older = Ledger::begin(order, Phase::Rebooting, "boot", 1, None);
        let ledger = Ledger { node: Some("n1".to_owned()), ..older.clone() };
        let named = |name: &str| Ok::<_, String>(name.to_owned());
        assert!(is_ours(named("n1"), &ledger) && is_ours(named("n1"), &older));
        assert!(!is_ours(named("localhost-live"), &ledger));
        assert!(!is_ours(Err("the host name is still localhost"), &ledger));
    }
}
