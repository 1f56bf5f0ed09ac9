//! Programs that a killed agent left running. A package manager outlives its agent (the unit has KillMode=process) and
//! continues to change the node, so the next agent waits for its end before it looks at anything.

use crate::log;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
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
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let in_our_unit = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .is_ok_and(|group| group == ours || group == agents);
        let stat =
            in_our_unit.then(|| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()).flatten()?;
        let (group, program) = started_by_one_that_is_gone(&stat)?;
        // The program that forces the node down must stay.
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (!command.contains(crate::daemon::reboot::BY_FORCE)).then(|| (group, program.to_owned()))
    })
    .collect()
}

/// Returns the process group and the name of a program, from its `/proc/PID/stat`, if an agent started it that is gone.
/// Each program that an agent starts leads a process group in the session of its agent, and what it starts in turn is
/// in that group, also after its own end. A daemon that a package started has a session of its own.
fn started_by_one_that_is_gone(stat: &str) -> Option<(i32, &str)> {
    // A name may contain blanks and parentheses.
    let (_, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let (state, _parent, group, session) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let is_ours = group != session && !matches!(state, "Z" | "X");
    let is_alone = is_ours && !Path::new("/proc").join(session).exists();
    is_alone.then(|| Some((group.parse().ok()?, name))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_of_an_agent_that_is_gone() {
        let gone = i32::MAX;
        let here = std::process::id();
        for (stat, name) in [
            (format!("70 (dnf) S 1 70 {gone} 0 -1"), Some((70, "dnf"))),
            (format!("70 (a) b (c) R 1 70 {gone} 0 -1"), Some((70, "a) b (c"))),
            (format!("70 (dnf) Z 1 70 {gone} 0 -1"), None),
            (format!("70 (dnf) S {here} 70 {here} 0 -1"), None),
            (format!("71 (dpkg) S 1 70 {gone} 0 -1"), Some((70, "dpkg"))),
            ("71 (daemon) S 1 70 70 0 -1".to_owned(), None),
            ("70 (daemon) S 1 70 70 0 -1".to_owned(), None),
            ("nonsense".to_owned(), None),
        ] {
            assert_eq!(started_by_one_that_is_gone(&stat), name, "{stat}");
        }
    }
}
