//! Programs that a killed agent left running. A package manager outlives its agent (the unit has KillMode=process) and
//! continues to change the node, so the next agent waits for its end before it looks at anything.

use crate::log;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rollout_host::process::{Stat, pids};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Time between SIGTERM and SIGKILL for a program that exceeds its limit.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until no program of an earlier agent is running. Kills those that are not done within `limit`.
pub(crate) fn wait_for(limit: Duration) {
    for (signal, time) in [(Signal::SIGTERM, limit), (Signal::SIGKILL, GRACE)] {
        let running = wait(time);
        for (group, program) in &running {
            log::warning(&format!("{program} of an earlier agent is not done in time: {signal}"));
            let _ = killpg(Pid::from_raw(*group), signal);
        }
        if running.is_empty() {
            return;
        }
    }
    wait(GRACE);
}

/// Returns the cgroup of the installed agent, as in `/proc/PID/cgroup`: our own, or that of the agent that we stand in
/// for.
fn agents_group(ours: &str) -> String {
    ours.replace("/slurm-rollout-rescue.service", "/slurm-rollout-agent.service")
}

/// Waits for all programs, at most `limit`. Returns those that are still running.
fn wait(limit: Duration) -> Vec<(i32, String)> {
    let end = Instant::now() + limit;
    let mut logged = false;
    loop {
        let running = programs();
        if running.is_empty() || Instant::now() >= end {
            return running;
        }
        if !logged {
            let names: Vec<&str> = running.iter().map(|(_, program)| program.as_str()).collect();
            log::info(&format!("waiting for what an earlier agent started: {}", names.join(", ")));
            logged = true;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Returns the programs of earlier agents with their process groups.
fn programs() -> Vec<(i32, String)> {
    let Ok(ours) = std::fs::read_to_string("/proc/self/cgroup") else { return Vec::new() };
    // An agent that was started by hand shares its cgroup with unrelated programs.
    if !ours.contains(".service") {
        return Vec::new();
    }
    let agents = agents_group(&ours);
    let running = pids().filter_map(|pid| {
        let in_our_unit = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .is_ok_and(|group| group == ours || group == agents);
        let stat = in_our_unit.then(|| Stat::of(pid)).flatten().filter(is_of_one_that_is_gone)?;
        // The program that forces the node down must stay.
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (!command.contains(crate::daemon::reboot::BY_FORCE)).then_some((stat.group, stat.name))
    });
    running.collect()
}

/// Returns whether a program is running that an agent started which is gone. Each program that an agent starts leads a
/// process group in the session of its agent, and what it starts in turn is in that group, also after its own end. A
/// daemon that a package started has a session of its own.
fn is_of_one_that_is_gone(stat: &Stat) -> bool {
    let is_ours = stat.group != stat.session && !stat.has_ended;
    is_ours && !Path::new("/proc").join(stat.session.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_of_an_agent_that_is_gone() {
        let gone = i32::MAX;
        let here = i32::try_from(std::process::id()).unwrap();
        for (group, session, has_ended, found) in [
            (70, gone, false, true),
            (70, gone, true, false),
            (70, here, false, false),
            // A daemon, and what it started.
            (70, 70, false, false),
        ] {
            let stat = Stat { name: "dnf".to_owned(), group, session, has_ended };
            assert_eq!(is_of_one_that_is_gone(&stat), found, "{stat:?}");
        }
    }
}
