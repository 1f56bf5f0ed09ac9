//! What an agent that was killed has left running. A package manager outlives its agent (the unit has KillMode=process)
//! and goes on changing the node; the agent that comes after lets it come to its end before it looks at anything.

use crate::log;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long a program that is over time has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until no program of an earlier agent runs any more. What is not done within `limit` is killed.
pub(crate) fn see_out(limit: Duration) {
    for (signal, time) in [(Signal::SIGTERM, limit), (Signal::SIGKILL, GRACE)] {
        let left = wait(time);
        for (pid, program) in &left {
            log::warning(&format!("{program} of an earlier agent is not done in time: {signal}"));
            let _ = killpg(Pid::from_raw(*pid), signal);
        }
        if left.is_empty() {
            return;
        }
    }
    wait(GRACE);
}

/// The cgroup of the installed agent, as `/proc/PID/cgroup` has it: ours, or the one that we stand in for.
fn agents_group(ours: &str) -> String {
    ours.replace("/slurm-rollout-rescue.service", "/slurm-rollout-agent.service")
}

/// What is still there after that time.
fn wait(limit: Duration) -> Vec<(i32, String)> {
    let end = Instant::now() + limit;
    let mut said = false;
    loop {
        let left = programs();
        if left.is_empty() || Instant::now() >= end {
            return left;
        }
        if !said {
            let names: Vec<&str> = left.iter().map(|(_, program)| program.as_str()).collect();
            log::info(&format!("waiting for what an earlier agent started: {}", names.join(", ")));
            said = true;
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// The programs, by process id.
fn programs() -> Vec<(i32, String)> {
    let Ok(ours) = std::fs::read_to_string("/proc/self/cgroup") else { return Vec::new() };
    // Started by hand, the agent shares its cgroup with strangers.
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
        let program = started_by_one_that_is_gone(&stat)?;
        // What forces the node down shall stay.
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        (!command.contains(crate::daemon::reboot::BY_FORCE)).then(|| (pid, program.to_owned()))
    })
    .collect()
}

/// The name of a program that we start ourselves, from its `/proc/PID/stat`, if its agent is gone. Such a program leads
/// a process group in the session of its agent. A daemon that a package started has a session of its own.
fn started_by_one_that_is_gone(stat: &str) -> Option<&str> {
    // A name may hold blanks and brackets.
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let (state, _parent, group, session) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let leads = group == pid && session != pid && !matches!(state, "Z" | "X");
    (leads && !Path::new("/proc").join(session).exists()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_of_an_agent_that_is_gone() {
        let gone = i32::MAX;
        let here = std::process::id();
        for (stat, name) in [
            (format!("70 (dnf) S 1 70 {gone} 0 -1"), Some("dnf")),
            (format!("70 (a) b (c) R 1 70 {gone} 0 -1"), Some("a) b (c")),
            (format!("70 (dnf) Z 1 70 {gone} 0 -1"), None),
            (format!("70 (dnf) S {here} 70 {here} 0 -1"), None),
            (format!("71 (sleep) S 70 70 {gone} 0 -1"), None),
            ("70 (daemon) S 1 70 70 0 -1".to_owned(), None),
            ("nonsense".to_owned(), None),
        ] {
            assert_eq!(started_by_one_that_is_gone(&stat), name, "{stat}");
        }
    }
}
