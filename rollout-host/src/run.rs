//! Runs programs: by absolute path, with a clean environment, without a shell, with a time limit, and with the end of
//! their output in errors. This is the only module that starts processes.
//!
//! Output goes to files in memory, not to pipes: a package manager outlives its agent, and dpkg dies of a pipe
//! without a reader. Nor do we wait for a daemon that a program leaves behind.

mod background;
mod memory_file;

pub use background::{Background, BackgroundEnd, kill_with_environment};

use crate::process::{Stat, pids};
use memory_file::{Capture, stdin_file};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// PATH of every program, for the programs that it starts itself.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// Size limit of each output; a program that prints more is killed. `scontrol show node -o` of 10,000 nodes prints
/// about 9 MB.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;

/// Number of bytes of the end of a program's output that an error contains.
const TAIL: usize = 1500;

/// Default time between SIGTERM and SIGKILL for a program that exceeds its time limit.
const GRACE: Duration = Duration::from_secs(5);

/// Time for a killed program to end. One that hangs in the kernel, on a file system without its server, never does. It
/// is left behind: nothing may wait for it.
const KILLED: Duration = Duration::from_secs(5);

/// A program to run, with arguments, environment, standard input and time limit.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    limit: Duration,
    grace: Duration,
    waits_for_group: bool,
}

/// The exit status and output of a program that ended.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A failure to run a program. Every message names the program and contains the end of its output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    #[error("{program} cannot be started: {source}")]
    Start { program: String, source: io::Error },
    /// The program did not end in time and was killed, with its whole process group.
    #[error("{program} did not end within {} s and was killed{tail}", .limit.as_secs())]
    TimedOut {
        program: String,
        limit: Duration,
        /// End of the output, after a colon; empty if there is no output.
        tail: String,
    },
    /// The program exceeded the output limit and was killed, with its whole process group.
    #[error("{program} printed more than {} MiB and was killed{tail}", MAX_OUTPUT / 1024 / 1024)]
    TooMuchOutput {
        program: String,
        /// End of the output, after a colon.
        tail: String,
    },
    /// Nobody waits for the program any more. It was killed, with its whole process group.
    #[error("{program} was cancelled and killed")]
    Cancelled { program: String },
    /// The program ended with an exit code other than 0, or by a signal.
    #[error("{program} {exit}{tail}", exit = describe_exit(*.status))]
    Failed {
        program: String,
        status: ExitStatus,
        /// End of the output, after a colon; empty if there is no output.
        tail: String,
    },
}

impl Program {
    /// Creates a program by its absolute path, which must end within `limit`.
    pub fn new(path: impl Into<PathBuf>, limit: Duration) -> Self {
        let path = path.into();
        debug_assert!(path.is_absolute(), "{} is not absolute", path.display());
        let environment = [("PATH", PATH), ("LC_ALL", "C.UTF-8"), ("HOME", "/root")];
        let environment = environment.map(|(key, value)| (key.into(), value.into())).into();
        Self {
            path,
            arguments: Vec::new(),
            environment,
            stdin: None,
            limit,
            grace: GRACE,
            waits_for_group: false,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable, in addition to PATH, LC_ALL and HOME. No other variable is inherited.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the text on standard input, which is empty by default.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// Sets the time between SIGTERM and SIGKILL if the program exceeds a limit, 5 s by default.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Waits for everything that the program started, within the time limit, if it fails. A package manager may fail
    /// because a child was killed, whose scripts go on.
    #[must_use]
    pub fn waits_for_group(mut self) -> Self {
        self.waits_for_group = true;
        self
    }

    /// Runs the program to its end and accepts any exit code. A program that is ended by a signal takes everything
    /// along that it started: that gets the rest of the time limit to end by itself.
    ///
    /// # Errors
    /// If it cannot be started, does not end in time or prints too much.
    pub fn output(&self) -> Result<Output, RunError> {
        let captures = [
            Capture::new().map_err(|e| self.not_started(e))?,
            Capture::new().map_err(|e| self.not_started(e))?,
        ];
        let [stdout, stderr] = captures.each_ref().map(Capture::stdio);
        let stdout = stdout.map_err(|e| self.not_started(e))?;
        let mut child = self.start(stdout, stderr.map_err(|e| self.not_started(e))?)?;
        let outcome = self.wait(&mut child, &captures);
        let [stdout, stderr] = captures.map(|capture| capture.text());
        match outcome {
            Ok(status) => Ok(Output { status, stdout, stderr }),
            Err(reason) => Err(self.killed(&reason, tail(&stdout, &stderr))),
        }
    }

    /// Runs the program to its end and requires exit code 0.
    ///
    /// # Errors
    /// If it cannot be started, does not end in time, prints too much or ends with a different code.
    pub fn run(&self) -> Result<Output, RunError> {
        let output = self.output()?;
        if output.status.success() { Ok(output) } else { Err(self.failed(&output)) }
    }

    /// Starts the program in a process group of its own, with standard output and error on /dev/null, and does not wait
    /// for it. It outlives us.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn detach(&self) -> Result<(), RunError> {
        let child = self.start(Stdio::null(), Stdio::null())?;
        // We never wait for this child; init reaps it after our end.
        drop(child);
        Ok(())
    }

    /// Returns the error for this output, for programs whose exit code alone does not decide.
    #[must_use]
    pub fn failed(&self, output: &Output) -> RunError {
        RunError::Failed {
            program: self.name(),
            status: output.status,
            tail: tail(&output.stdout, &output.stderr),
        }
    }

    /// Waits for the child's end. Ends it with its whole process group if it exceeds a limit.
    fn wait(&self, child: &mut Child, captures: &[Capture]) -> Result<ExitStatus, KillReason> {
        let begun = Instant::now();
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let ended = ends_within(child, self.limit, captures);
        if let Ok(status) = &ended {
            let leaves_some = status.signal().is_some() || (self.waits_for_group && !status.success());
            if !leaves_some || group_ends_within(group, self.limit.saturating_sub(begun.elapsed())) {
                return ended;
            }
        }
        let _ = killpg(group, Signal::SIGTERM);
        let _ = ends_within(child, self.grace, &[]);
        // Needed even if the leader has ended: its children have its process group.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = ends_within(child, KILLED, &[]);
        // A child must not go on beside what follows. It cannot escape, unless the kernel keeps it.
        group_ends_within(group, KILLED);
        ended
    }

    #[allow(clippy::disallowed_methods, reason = "the only place that starts processes")]
    fn start(&self, stdout: Stdio, stderr: Stdio) -> Result<Child, RunError> {
        let stdin = match &self.stdin {
            None => Stdio::null(),
            Some(text) => stdin_file(text).map_err(|error| self.not_started(error))?,
        };
        Command::new(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .map_err(|error| self.not_started(error))
    }

    /// Returns the error of a program that was killed. `tail` is the end of its output.
    fn killed(&self, reason: &KillReason, tail: String) -> RunError {
        let program = self.name();
        match reason {
            KillReason::TimedOut => RunError::TimedOut { program, limit: self.limit, tail },
            KillReason::TooMuchOutput => RunError::TooMuchOutput { program, tail },
            KillReason::Cancelled => RunError::Cancelled { program },
        }
    }

    fn not_started(&self, source: io::Error) -> RunError {
        RunError::Start { program: self.path.display().to_string(), source }
    }

    /// Returns the program and its arguments as a person would type them, cut if they are long.
    fn name(&self) -> String {
        let mut name = self.path.display().to_string();
        for argument in &self.arguments {
            if name.len() + argument.len() > 200 {
                return name + " …";
            }
            name = name + " " + &argument.to_string_lossy();
        }
        name
    }
}

/// Returns true if `path` is a file that its owner may execute.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o100 != 0)
}

enum KillReason {
    TimedOut,
    TooMuchOutput,
    Cancelled,
}

/// Waits until no process of the group is left, and returns whether that happened in time.
fn group_ends_within(group: Pid, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while lives(group) {
        let remaining = end.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return false;
        }
        thread::sleep(Duration::from_millis(50).min(remaining));
    }
    true
}

/// Returns whether a process of the group is running. killpg(2) does not tell: it also finds those that have ended and
/// that init has not reaped.
fn lives(group: Pid) -> bool {
    pids().filter_map(Stat::of).any(|stat| stat.group == group.as_raw() && !stat.has_ended)
}

fn ends_within(child: &mut Child, limit: Duration, captures: &[Capture]) -> Result<ExitStatus, KillReason> {
    ends_within_unless(child, limit, captures, None)
}

/// Waits for the child's end, unless that is cancelled.
fn ends_within_unless(
    child: &mut Child,
    limit: Duration,
    captures: &[Capture],
    is_cancelled: Option<&AtomicBool>,
) -> Result<ExitStatus, KillReason> {
    let begin = Instant::now();
    let end = begin + limit;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(status);
        }
        if captures.iter().any(|capture| capture.len() > MAX_OUTPUT as u64) {
            return Err(KillReason::TooMuchOutput);
        }
        if is_cancelled.is_some_and(|is_cancelled| is_cancelled.load(Ordering::Relaxed)) {
            return Err(KillReason::Cancelled);
        }
        let remaining = end.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Err(KillReason::TimedOut);
        }
        // A small part of the time so far: a short program is not much longer for being waited for.
        let pause = (begin.elapsed() / 16).clamp(Duration::from_millis(1), Duration::from_millis(50));
        thread::sleep(pause.min(remaining));
    }
}

/// Returns the end of standard error, or of standard output if standard error is empty.
fn tail(stdout: &str, stderr: &str) -> String {
    let output = if stderr.trim().is_empty() { stdout.trim() } else { stderr.trim() };
    if output.is_empty() {
        return String::new();
    }
    let mut from = output.len().saturating_sub(TAIL);
    while !output.is_char_boundary(from) {
        from += 1;
    }
    format!(": {}{}", if from > 0 { "…" } else { "" }, output.get(from..).unwrap_or(""))
}

fn describe_exit(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit_ms: u64) -> Program {
        Program::new("/bin/sh", Duration::from_millis(limit_ms)).args(["-c", script])
    }

    #[test]
    fn gives_output_and_nothing_of_our_environment() {
        let output = Program::new("/usr/bin/env", Duration::from_secs(5)).env("A", "b").run().unwrap();
        let mut lines: Vec<_> = output.stdout.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["A=b", "HOME=/root", "LC_ALL=C.UTF-8", &format!("PATH={PATH}")]);
    }

    #[test]
    fn it_reads_what_it_is_given_and_need_not() {
        let text = "many words\n".repeat(100_000);
        let cat = Program::new("/bin/cat", Duration::from_secs(20));
        assert_eq!(cat.clone().stdin(text.clone()).run().unwrap().stdout, text);
        assert_eq!(cat.run().unwrap().stdout, "");
        assert_eq!(sh("echo done", 20_000).stdin(text).run().unwrap().stdout, "done\n");
    }

    #[test]
    fn an_error_names_the_program_and_what_it_said_last() {
        let error = sh("echo first; echo no such package >&2; exit 3", 5000).run().unwrap_err().to_string();
        assert!(error.contains("exit code 3") && error.ends_with(": no such package"), "{error}");
        let error = sh("echo only here; exit 1", 5000).run().unwrap_err().to_string();
        assert!(error.ends_with(": only here"), "{error}");
        let error = sh("kill -9 $$", 5000).run().unwrap_err().to_string();
        assert!(error.contains("signal 9"), "{error}");
        let error = Program::new("/no/such", Duration::from_secs(1)).run().unwrap_err().to_string();
        assert!(error.starts_with("/no/such cannot be started"), "{error}");
    }

    #[test]
    fn one_that_hangs_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; echo begun; wait", pid.display());
        let error = sh(&script, 3000).output().unwrap_err();
        assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
        assert!(error.to_string().ends_with("killed: begun"), "{error}");
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "the grandchild lives: {stat}");
    }

    /// Returns a script whose child goes on for a moment and then writes the file.
    fn leaves_a_child(written: &Path, end: &str) -> String {
        format!("(sleep 0.5; echo done > {}) & {end}", written.display())
    }

    #[test]
    fn what_a_killed_program_started_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let written = dir.path().join("written");
        let output = sh(&leaves_a_child(&written, "kill -9 $$"), 20_000).output().unwrap();
        assert_eq!(output.status.signal(), Some(9));
        assert!(written.exists());
        std::fs::remove_file(&written).unwrap();
        let failing = sh(&leaves_a_child(&written, "exit 1"), 20_000).waits_for_group();
        assert_eq!(failing.output().unwrap().status.code(), Some(1));
        assert!(written.exists());
    }

    #[test]
    fn what_a_killed_program_started_is_ended_with_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; kill -9 $$", pid.display());
        let begun = Instant::now();
        sh(&script, 300).output().unwrap();
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "the child lives: {stat}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_daemon_that_a_program_leaves_does_not_keep_us() {
        let begun = Instant::now();
        let output = sh("sleep 30 & echo done", 20_000).run().unwrap();
        assert_eq!(output.stdout, "done\n");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn one_that_never_stops_talking_is_killed() {
        let error = sh("exec yes", 20_000).run().unwrap_err();
        assert!(matches!(error, RunError::TooMuchOutput { .. }), "{error}");
    }

    #[test]
    fn bytes_that_are_no_text_and_endless_output_do_no_harm() {
        let output = sh("printf '\\377\\n'", 5000).run().unwrap();
        assert_eq!(output.stdout, "\u{fffd}\n");
        let error =
            sh("yes 'longer and longer' | head -c 100000 >&2; exit 1", 5000).run().unwrap_err().to_string();
        assert!(error.len() < 2 * TAIL, "{}", error.len());
    }
}
