//! Rebooting the node: through systemd, and by force if that has not happened within its time limit.
//!
//! A shutdown can hang on a unit that does not stop, and by then systemd has stopped the agent. So the agent leaves a
//! process behind that outlives it (the unit has KillMode=process) and pulls the plug. systemd ends it at the very end,
//! when all units are stopped; what may hang after that is the kernel's, and systemd's RebootWatchdogSec is for it.

use crate::log;
use crate::slurm::slurmd::SYSTEMCTL;
use nix::sys::reboot::{RebootMode, reboot};
use rollout_host::exit_code::Exit;
use rollout_host::run::Program;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// The verb of the process that is left behind.
pub(crate) const BY_FORCE: &str = "reboot-by-force-after";

/// logind refuses the first one to root, too, where polkit is not installed and a program inhibits shutdowns, as dnf
/// does (systemd 257). `-i` is known to all versions, `--check-inhibitors` is not.
const WAYS: [&[&str]; 2] =
    [&["reboot", "-i"], &["start", "--no-block", "--job-mode=replace-irreversibly", "reboot.target"]];

/// The program that runs, also when the order has just replaced its file by a newer agent.
const OURSELVES: &str = "/proc/self/exe";

/// `systemctl reboot` only executor the job to systemd.
const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(60);

/// How long file systems have to write what they hold before the forced reboot. On a dead NFS they never would.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// How long after the force the node may still be up before it counts as one that cannot be rebooted.
const AFTER_FORCE: Duration = Duration::from_secs(60);

/// Reboots the node. Returns only if it cannot be rebooted at all.
pub(crate) fn reboot_within(limit: Duration) -> String {
    let mut why = Vec::new();
    let seconds = limit.as_secs().to_string();
    let left_behind = Program::new(OURSELVES, limit).args([BY_FORCE, &seconds]).detach();
    why.extend(left_behind.err().map(|error| error.to_string()));
    for way in WAYS {
        let Err(error) = Program::new(SYSTEMCTL, SYSTEMCTL_LIMIT).args(way).run() else { break };
        log::warning(&error.to_string());
        why.push(error.to_string());
    }
    thread::sleep(limit + SYNC_LIMIT + AFTER_FORCE);
    format!("the node does not reboot, not even by force: {}", why.join("; "))
}

/// Waits for somebody else to reboot the node. Returns only if nobody does.
pub(crate) fn wait_for_it(limit: Duration) -> String {
    thread::sleep(limit);
    format!("the node was not rebooted within {} s by what was to do so", limit.as_secs())
}

/// Waits, then reboots by force. What the process that is left behind does.
pub(crate) fn by_force_after(limit: Duration) -> ExitCode {
    thread::sleep(limit);
    let sync = thread::spawn(nix::unistd::sync);
    let pauses = SYNC_LIMIT.as_millis() / 100;
    (0..pauses).take_while(|_| !sync.is_finished()).for_each(|_| thread::sleep(Duration::from_millis(100)));
    match reboot(RebootMode::RB_AUTOBOOT) {
        Ok(never) => match never {},
        Err(error) => {
            log::error(&format!("reboot(2): {error}"));
            Exit::Failed.into()
        }
    }
}
