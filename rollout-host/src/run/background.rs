//! Programs that run in the background. They can be ended at any time, and leave nothing behind in their process group.

use super::{
    Capture, GRACE, KILLED, Program, RunError, ends_within, ends_within_unless, group_ends_within, tail,
};
use crate::process::{Stat, environment, pids};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgrp};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

/// A program that runs in the background. It is ended when this is dropped.
#[derive(Debug)]
pub struct Background {
    is_cancelled: Arc<AtomicBool>,
    ended: Receiver<BackgroundEnd>,
    watcher: Option<JoinHandle<()>>,
}

/// The end of a program that ran in the background.
#[derive(Debug)]
pub struct BackgroundEnd {
    /// Its exit status, whatever that is, or the reason for which it has none.
    pub status: Result<ExitStatus, RunError>,
    /// Standard output and error, as they were written.
    pub output: String,
}

impl Program {
    /// Starts the program in a process group of its own, and watches it from a thread. When it ends, exceeds a limit or is
    /// cancelled, the whole group is ended.
    #[must_use]
    pub fn background(self) -> Background {
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let (sender, ended) = channel();
        let cancelled = Arc::clone(&is_cancelled);
        let watcher = thread::spawn(move || {
            // Nobody may be left to hear of it.
            let _ = sender.send(self.watch(&cancelled));
        });
        Background { is_cancelled, ended, watcher: Some(watcher) }
    }

    fn watch(&self, is_cancelled: &AtomicBool) -> BackgroundEnd {
        let not_started =
            |error| BackgroundEnd { status: Err(self.not_started(error)), output: String::new() };
        let capture = match Capture::new() {
            Ok(capture) => capture,
            Err(error) => return not_started(error),
        };
        let started = match (capture.stdio(), capture.stdio()) {
            (Ok(stdout), Ok(stderr)) => self.start(stdout, stderr),
            (Err(error), _) | (_, Err(error)) => return not_started(error),
        };
        let mut child = match started {
            Ok(child) => child,
            Err(error) => return BackgroundEnd { status: Err(error), output: String::new() },
        };
        let captures = [capture];
        let ended = ends_within_unless(&mut child, self.limit, &captures, Some(is_cancelled));
        end_group(&mut child, ended.is_ok());
        let [capture] = captures;
        let output = capture.text();
        let status = ended.map_err(|reason| self.killed(&reason, tail("", &output)));
        BackgroundEnd { status, output }
    }
}

/// Ends the process group of a child, first with SIGTERM if it has not ended.
fn end_group(child: &mut Child, has_ended: bool) {
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    if !has_ended {
        let _ = killpg(group, Signal::SIGTERM);
        let _ = ends_within(child, GRACE, &[]);
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = ends_within(child, KILLED, &[]);
    group_ends_within(group, KILLED);
}

impl Background {
    /// Returns the end of the program, once. `None` if it runs.
    pub fn poll(&mut self) -> Option<BackgroundEnd> {
        self.ended.try_recv().ok()
    }

    /// Asks for the end of the program, and does not wait for it.
    pub fn cancel(&self) {
        self.is_cancelled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.cancel();
        if let Some(watcher) = self.watcher.take() {
            // It has its own limits, and panics nowhere.
            let _ = watcher.join();
        }
    }
}

/// Kills the process groups of this user's processes that have this variable in their environment, such as programs that
/// outlived the one that started them. Those of our own group are left.
pub fn kill_with_environment(key: &str, value: &str) {
    let entry = format!("{key}={value}");
    let has_it = |pid: &i32| environment(*pid).contains(&entry);
    let groups = pids().filter(has_it).filter_map(Stat::of).filter(|stat| !stat.has_ended);
    for group in groups.map(|stat| Pid::from_raw(stat.group)).filter(|group| *group != getpgrp()) {
        let _ = killpg(group, Signal::SIGKILL);
        group_ends_within(group, KILLED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(30);

    fn sh(script: &str, limit: Duration) -> Program {
        Program::new("/bin/sh", limit).args(["-c", script])
    }

    fn end(background: &mut Background) -> BackgroundEnd {
        let begun = Instant::now();
        loop {
            if let Some(end) = background.poll() {
                return end;
            }
            assert!(begun.elapsed() < LONG);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid_in(file: &Path) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(pid) = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
                return pid;
            }
            assert!(begun.elapsed() < LONG);
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_gone(pid: i32) -> bool {
        Stat::of(pid).is_none_or(|stat| stat.has_ended)
    }

    #[test]
    fn it_ends_by_itself_with_its_output_and_what_it_left_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; cat; echo problem >&2; exit 3", file.display());
        let mut background = sh(&script, LONG).stdin("{}\n").background();
        let BackgroundEnd { status, output } = end(&mut background);
        assert_eq!((status.unwrap().code(), output.as_str()), (Some(3), "{}\nproblem\n"));
        assert!(background.poll().is_none(), "the end comes once");
        assert!(is_gone(pid_in(&file)));
        let mut missing = Program::new("/no/such", LONG).background();
        assert!(matches!(end(&mut missing).status, Err(RunError::Start { .. })));
    }

    #[test]
    fn it_is_killed_with_its_group_when_its_time_is_over_or_nobody_wants_it_any_more() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; echo begun; wait", file.display());
        let BackgroundEnd { status, output } = end(&mut sh(&script, Duration::from_secs(1)).background());
        assert!(matches!(status, Err(RunError::TimedOut { .. })), "{status:?}");
        assert_eq!(output, "begun\n");
        assert!(is_gone(pid_in(&file)));
        std::fs::remove_file(&file).unwrap();
        let background = sh(&script, LONG).background();
        let pid = pid_in(&file);
        drop(background);
        assert!(is_gone(pid));
    }

    #[test]
    fn one_that_outlived_its_watcher_is_found_by_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let value = dir.path().to_string_lossy().into_owned();
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        sh(&script, LONG).env("ROLLOUT_TEST", &value).detach().unwrap();
        let pid = pid_in(&file);
        kill_with_environment("ROLLOUT_TEST", &(value.clone() + "x"));
        assert!(!is_gone(pid));
        kill_with_environment("ROLLOUT_TEST", &value);
        assert!(is_gone(pid));
    }
}
