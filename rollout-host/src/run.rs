//! The one door through which programs are started: by absolute path, with a clean environment, without a shell,
//! with a time limit, and with the end of what they said in the error.
//!
//! Output goes to files in memory, not to pipes: a package manager outlives its agent, and dpkg dies of a pipe that
//! nobody reads any more. A daemon that a program leaves behind does not keep us waiting either.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What every program gets as PATH, for the programs that it starts itself.
pub const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// How much a program may say; one that says more is killed. `scontrol show node -o` of 10,000 nodes prints about 9 MB.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;

/// How much of what it said last stands in an error.
const TAIL: usize = 1500;

/// How long a program that is over time has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

/// A program to run.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    stdin: Option<Vec<u8>>,
    limit: Duration,
    grace: Duration,
}

/// What a program that ended said.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, from the beginning.
    pub stdout: String,
    /// Its standard error, from the beginning.
    pub stderr: String,
}

/// Why a program did not do its work. Every message names the program and what it said last.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It could not be started.
    #[error("{program} cannot be started: {source}")]
    Start {
        /// The program.
        program: String,
        /// In the system's words.
        source: io::Error,
    },
    /// It did not end in time and was killed, with all that it had started.
    #[error("{program} did not end within {} s and was killed{tail}", .limit.as_secs())]
    TimedOut {
        /// The program.
        program: String,
        /// The time limit.
        limit: Duration,
        /// The end of what it said, after a colon, if anything.
        tail: String,
    },
    /// It said more than anybody wants to know and was killed, with all that it had started.
    #[error("{program} printed more than {} MiB and was killed{tail}", MAX_OUTPUT / 1024 / 1024)]
    SaidTooMuch {
        /// The program.
        program: String,
        /// The end of what it said, after a colon.
        tail: String,
    },
    /// It ended with an error.
    #[error("{program} {ended}{tail}", ended = ended(*.status))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said, after a colon, if anything.
        tail: String,
    },
}

impl Program {
    /// A program by its absolute path, to end within `limit`.
    pub fn new(path: impl Into<PathBuf>, limit: Duration) -> Self {
        let path = path.into();
        debug_assert!(path.is_absolute(), "{} is not absolute", path.display());
        let environment = [("PATH", PATH), ("LC_ALL", "C.UTF-8"), ("HOME", "/root")];
        let environment = environment.map(|(key, value)| (key.into(), value.into())).into();
        Self { path, arguments: Vec::new(), environment, stdin: None, limit, grace: GRACE }
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

    /// Sets an environment variable. The program's environment is PATH, LC_ALL, HOME and what is set here.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Gives it this to read. Otherwise there is nothing on its standard input.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    /// How long it has to end of itself once its time is over, before it is killed; 5 s otherwise.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Runs it to its end, whatever its exit code.
    ///
    /// # Errors
    /// If it cannot be started or does not end in time.
    pub fn output(&self) -> Result<Output, RunError> {
        let said =
            [Said::new().map_err(|e| self.not_started(e))?, Said::new().map_err(|e| self.not_started(e))?];
        let [stdout, stderr] = said.each_ref().map(Said::stdio);
        let stdout = stdout.map_err(|e| self.not_started(e))?;
        let mut child = self.start(stdout, stderr.map_err(|e| self.not_started(e))?)?;
        let ended = wait(&mut child, (self.limit, self.grace), &said);
        let [stdout, stderr] = said.map(|said| said.text());
        match ended {
            Ok(status) => Ok(Output { status, stdout, stderr }),
            Err(Killed::Overdue) => Err(RunError::TimedOut {
                program: self.name(),
                limit: self.limit,
                tail: tail(&stdout, &stderr),
            }),
            Err(Killed::SaidTooMuch) => {
                Err(RunError::SaidTooMuch { program: self.name(), tail: tail(&stdout, &stderr) })
            }
        }
    }

    /// Runs it and wants exit code 0.
    ///
    /// # Errors
    /// If it cannot be started, does not end in time, or ends with another code.
    pub fn run(&self) -> Result<Output, RunError> {
        let output = self.output()?;
        if output.status.success() { Ok(output) } else { Err(self.failed(&output)) }
    }

    /// Starts it in a session of its own and leaves it alone. It outlives us, and has no terminal and no pipes of ours.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn detach(&self) -> Result<(), RunError> {
        let child = self.start(Stdio::null(), Stdio::null())?;
        // A child is reaped by whoever waits for it; this one we never wait for, and init takes it when we are gone.
        drop(child);
        Ok(())
    }

    /// The error that this output stands for, where its exit code alone does not say so.
    #[must_use]
    pub fn failed(&self, output: &Output) -> RunError {
        RunError::Failed {
            program: self.name(),
            status: output.status,
            tail: tail(&output.stdout, &output.stderr),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one door")]
    fn start(&self, stdout: Stdio, stderr: Stdio) -> Result<Child, RunError> {
        let stdin = match &self.stdin {
            None => Stdio::null(),
            Some(text) => given(text).map_err(|error| self.not_started(error))?,
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

    fn not_started(&self, source: io::Error) -> RunError {
        RunError::Start { program: self.path.display().to_string(), source }
    }

    /// The program and its arguments as a person would type them, cut where they get long.
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

/// Whether a file is there and may be executed by its owner.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o100 != 0)
}

/// Why a program was killed.
enum Killed {
    Overdue,
    SaidTooMuch,
}

/// Waits for the child's end. One that goes beyond its limits is killed with its whole process group.
fn wait(
    child: &mut Child,
    (limit, grace): (Duration, Duration),
    said: &[Said],
) -> Result<ExitStatus, Killed> {
    let why = match ends_within(child, limit, said) {
        Ok(status) => return Ok(status),
        Err(why) => why,
    };
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let _ = killpg(group, Signal::SIGTERM);
    let _ = ends_within(child, grace, &[]);
    // Also after the leader's end: what it started has its process group.
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
    Err(why)
}

fn ends_within(child: &mut Child, limit: Duration, said: &[Said]) -> Result<ExitStatus, Killed> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(status);
        }
        if said.iter().any(|said| said.len() > MAX_OUTPUT as u64) {
            return Err(Killed::SaidTooMuch);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Killed::Overdue);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// What a program is given to read: no pipe either, so that one that does not read it does not keep us waiting.
fn given(text: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("given", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(Stdio::from(file))
}

/// Where a program writes what it says.
struct Said(File);

impl Said {
    fn new() -> io::Result<Self> {
        let file = memfd_create("said", MFdFlags::MFD_CLOEXEC)?;
        // For those who open /dev/stderr anew.
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
        Ok(Self(File::from(file)))
    }

    fn stdio(&self) -> io::Result<Stdio> {
        self.0.try_clone().map(Stdio::from)
    }

    fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |file| file.len())
    }

    /// What it has said so far, from the beginning.
    fn text(&self) -> String {
        let mut bytes = vec![0; usize::try_from(self.len()).unwrap_or(usize::MAX).min(MAX_OUTPUT)];
        // It can only grow, and is in memory: what is there can be read.
        let _ = self.0.read_exact_at(&mut bytes, 0);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The end of what a program said: of its standard error, or of its output where it said nothing there.
fn tail(stdout: &str, stderr: &str) -> String {
    let said = if stderr.trim().is_empty() { stdout.trim() } else { stderr.trim() };
    if said.is_empty() {
        return String::new();
    }
    let mut from = said.len().saturating_sub(TAIL);
    while !said.is_char_boundary(from) {
        from += 1;
    }
    format!(": {}{}", if from > 0 { "…" } else { "" }, said.get(from..).unwrap_or(""))
}

fn ended(status: ExitStatus) -> String {
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
        let error = sh(&script, 300).output().unwrap_err();
        assert!(matches!(error, RunError::TimedOut { .. }), "{error}");
        assert!(error.to_string().ends_with("killed: begun"), "{error}");
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "the grandchild lives: {stat}");
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
        assert!(matches!(error, RunError::SaidTooMuch { .. }), "{error}");
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
