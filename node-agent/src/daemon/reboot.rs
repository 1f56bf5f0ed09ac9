//! Rebooting the node: through systemd, and by force if it is still up at the time limit.
//!
//! A shutdown can hang on a unit that does not stop, and by then systemd has stopped the agent. So the agent leaves a
//! process behind that outlives it (the unit has KillMode=process) and forces the reboot. systemd kills that process at
//! the very end, after all units are stopped. A hang after that is in the kernel, for which systemd has
//! RebootWatchdogSec.

use crate::log;
use crate::slurm::slurmd::SYSTEMCTL;
use nix::sys::reboot::{RebootMode, reboot};
use rollout_host::exit_code::Exit;
use rollout_host::run::Program;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// Verb of the process that is left behind.
pub(crate) const BY_FORCE: &str = "reboot-by-force-after";

/// Commands to try in this order. Without polkit, logind refuses the first one even to root while a program inhibits
/// shutdowns, as dnf does (systemd 257). All versions know `-i`; not all know `--check-inhibitors`.
const COMMANDS: [&[&str]; 2] =
    [&["reboot", "-i"], &["start", "--no-block", "--job-mode=replace-irreversibly", "reboot.target"]];

/// Environment of systemctl. Since systemd 254, `reboot` starts a loaded kernel by kexec, which bypasses the boot
/// source and the boot loader, and only restarts user space if /run/nextroot is there, which is no boot to Slurm
/// (`src/systemctl/systemctl-logind.c`).
const A_REAL_REBOOT: [(&str, &str); 2] =
    [("SYSTEMCTL_SKIP_AUTO_KEXEC", "1"), ("SYSTEMCTL_SKIP_AUTO_SOFT_REBOOT", "1")];

/// The running program, even if the order has just replaced its file by a newer agent.
const OURSELVES: &str = "/proc/self/exe";

/// `systemctl reboot` only passes the job to systemd.
const SYSTEMCTL_LIMIT: Duration = Duration::from_secs(60);

/// Time for file systems to write their buffers before the forced reboot. On a dead NFS they never would.
const SYNC_LIMIT: Duration = Duration::from_secs(10);

/// Time after the force until a node that is still up counts as one that cannot be rebooted.
const AFTER_FORCE: Duration = Duration::from_secs(60);

/// Reboots the node, by this command of the site unless it is empty or fails. Returns only if it cannot be rebooted at
/// all, with the reason.
pub(crate) fn reboot_within(command: &[String], limit: Duration) -> String {
    let mut why = Vec::new();
    let seconds = limit.as_secs().to_string();
    let left_behind = Program::new(OURSELVES, limit).args([BY_FORCE, &seconds]).detach();
    why.extend(left_behind.err().map(|error| error.to_string()));
    for program in programs(command, limit) {
        let Err(error) = program.run() else { break };
        log::warning(&error.to_string());
        why.push(error.to_string());
    }
    thread::sleep(limit + SYNC_LIMIT + AFTER_FORCE);
    format!("the node does not reboot, not even by force: {}", why.join("; "))
}

/// Returns the programs to try, in this order.
fn programs(command: &[String], limit: Duration) -> Vec<Program> {
    let of_the_site =
        command.split_first().map(|(program, arguments)| Program::new(program, limit).args(arguments));
    of_the_site.into_iter().chain(COMMANDS.map(systemctl)).collect()
}

fn systemctl(command: &[&str]) -> Program {
    let program = Program::new(SYSTEMCTL, SYSTEMCTL_LIMIT).args(command);
    A_REAL_REBOOT.into_iter().fold(program, |program, (key, value)| program.env(key, value))
}

/// Waits for the boot service to reboot the node. Returns only if it does not, with the reason.
pub(crate) fn wait_for_it(limit: Duration) -> String {
    thread::sleep(limit);
    format!("the node was not rebooted within {} s by what was to do so", limit.as_secs())
}

/// Waits, then reboots by force: the task of the process that is left behind.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_the_site_comes_first() {
        let command = ["/usr/sbin/fast-reboot", "--image", "2"].map(str::to_owned);
        for (command, count) in [(&command[..], 3), (&[], 2)] {
            let programs = programs(command, Duration::from_secs(1));
            assert_eq!(programs.len(), count);
            assert_eq!(format!("{:?}", programs[0]).contains("fast-reboot"), count == 3);
        }
    }

    #[test]
    fn a_reboot_is_neither_a_kexec_nor_a_soft_reboot() {
        let shown = format!("{:?}", systemctl(COMMANDS[0]));
        for key in ["SYSTEMCTL_SKIP_AUTO_KEXEC", "SYSTEMCTL_SKIP_AUTO_SOFT_REBOOT"] {
            assert!(shown.contains(key), "{shown}");
        }
    }
}
