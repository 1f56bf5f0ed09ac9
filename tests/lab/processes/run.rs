//! The only place where the lab starts processes: clean environment, a time limit, and the output of both streams.
//!
//! Output goes to files in memory, not to pipes: a child that leaves something running in the background never blocks
//! us.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::error::{LabError, Result};

/// `PATH` of every process of the lab, on the host and in nodes.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A command without a limit of its own is killed after this long.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Number of bytes of a stream's end in an error.
const TAIL: usize = 2000;

/// Outcome of a command that has ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    shown: String,
}

impl Output {
    /// Makes the outcome of a command that was not started here.
    pub(crate) fn of(shown: &str, code: Option<i32>, stdout: String, stderr: String) -> Output {
        Output { code, stdout, stderr, shown: shown.lines().next().unwrap_or_default().to_string() }
    }

    /// Returns whether it ended with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Returns stdout if it ended with 0, otherwise an error with both streams.
    pub fn into_stdout(self) -> Result<String> {
        if self.success() {
            return Ok(self.stdout);
        }
        let (stderr, stdout) = (tail(&self.stderr), tail(&self.stdout));
        Err(LabError::Command { command: self.shown, code: self.code, stderr, stdout })
    }
}

/// The end of a text, for an error.
pub(crate) fn tail(text: &str) -> String {
    let mut start = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].trim_end().to_string()
}

/// A command about to be started, on the host or in a node.
#[derive(Debug, Clone)]
pub struct Command {
    /// Way to the place where it runs: `nsenter …`, `chroot …`, or empty.
    way: Vec<String>,
    argv: Vec<String>,
    env: Vec<(String, String)>,
    stdin: Vec<u8>,
    limit: Duration,
}

impl Command {
    /// A command on the host.
    pub fn new(argv: &[&str]) -> Command {
        Command::by_way_of(Vec::new(), argv)
    }

    /// A command behind `way`.
    pub(crate) fn by_way_of(way: Vec<String>, argv: &[&str]) -> Command {
        let argv = argv.iter().map(ToString::to_string).collect();
        Command { way, argv, env: Vec::new(), stdin: Vec::new(), limit: TIME_LIMIT }
    }

    /// Adds a variable to its otherwise clean environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Command {
        self.env.push((name.to_string(), value.to_string()));
        self
    }

    /// Sets its stdin.
    #[must_use]
    pub fn stdin(mut self, content: &[u8]) -> Command {
        self.stdin = content.to_vec();
        self
    }

    /// Sets the time after which it is killed.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Command {
        self.limit = limit;
        self
    }

    /// Sets its user, which is root by default.
    #[must_use]
    pub fn user(mut self, user: &str) -> Command {
        let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
        self.way.extend(["setpriv", &uid, &gid, "--init-groups", "--"].map(String::from));
        self
    }

    /// Runs it to its end, with any exit code.
    pub fn output(&self) -> Result<Output> {
        self.finish().map(|(output, _)| output)
    }

    /// Runs it and returns its stdout; an error if it does not end with 0.
    pub fn run(&self) -> Result<String> {
        self.output()?.into_stdout()
    }

    /// Runs it and returns a stdout that is no text.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        let (output, bytes) = self.finish()?;
        output.into_stdout().map(|_| bytes)
    }

    /// Runs it to its end and returns the output as text, and stdout as bytes.
    fn finish(&self) -> Result<(Output, Vec<u8>)> {
        let (mut stdout, mut stderr) = (memory()?, memory()?);
        let mut running = self.spawn_to(Stdio::from(clone(&stdout)?), Stdio::from(clone(&stderr)?))?;
        let Some(code) = running.end_within(self.limit) else {
            running.kill();
            let what = format!("the end of `{}`", self.shown());
            let seen =
                [content(&mut stderr)?, content(&mut stdout)?].map(|bytes| tail(&text(&bytes))).concat();
            return Err(LabError::Timeout { what, after: self.limit, seen });
        };
        let (bytes, stderr) = (content(&mut stdout)?, text(&content(&mut stderr)?));
        Ok((Output { code, stdout: text(&bytes), stderr, shown: self.shown() }, bytes))
    }

    /// Starts it in the background. Its output is lost; redirect it in the command if it matters.
    pub fn spawn(&self) -> Result<Background> {
        self.spawn_to(Stdio::null(), Stdio::null())
    }

    fn spawn_to(&self, stdout: Stdio, stderr: Stdio) -> Result<Background> {
        self.start(stdout, stderr).map(|child| Background::attend(&child))
    }

    /// Starts it in a process group of its own, so that all of it can be killed.
    pub(crate) fn start(&self, stdout: Stdio, stderr: Stdio) -> Result<Child> {
        let mut stdin = memory()?;
        stdin.write_all(&self.stdin).and_then(|()| stdin.rewind()).map_err(|e| self.failed(e))?;
        self.start_with(Stdio::from(stdin), stdout, stderr)
    }

    /// The same with a stdin of the caller's.
    pub(crate) fn start_with(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Result<Child> {
        // Set behind the way in, which clears the environment.
        let mut set: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !set.is_empty() {
            set.insert(0, "env".into());
        }
        let all: Vec<&String> = self.way.iter().chain(&set).chain(&self.argv).collect();
        let Some((program, args)) = all.split_first() else {
            return Err(LabError::Setup("an empty command".into()));
        };
        let mut command = std::process::Command::new(found_on_path(program));
        command.args(args).env_clear().envs([("PATH", PATH), ("HOME", "/root"), ("LC_ALL", "C.UTF-8")]);
        command.process_group(0).stdin(stdin).stdout(stdout).stderr(stderr);
        command.spawn().map_err(|e| self.failed(e))
    }

    fn shown(&self) -> String {
        // The first line of a script is enough.
        let first_lines = self.argv.iter().map(|arg| arg.lines().next().unwrap_or_default());
        first_lines.collect::<Vec<_>>().join(" ")
    }

    fn failed(&self, source: std::io::Error) -> LabError {
        let program = self.way.iter().chain(&self.argv).next().cloned().unwrap_or_default();
        LabError::Io { what: format!("cannot start {program} for `{}`", self.shown()), source }
    }
}

/// Returns the path of a program. std starts a program with a path by posix_spawn, and need not copy the page tables of
/// the whole test for each of the thousands of commands.
fn found_on_path(program: &str) -> PathBuf {
    let mut paths = PATH.split(':').map(|directory| Path::new(directory).join(program));
    paths.find(|path| path.exists()).unwrap_or_else(|| program.into())
}

/// A command whose mounts end with it, and which is killed with all its children when this process ends.
pub(crate) fn in_own_mounts(argv: &[&str]) -> Command {
    let mut all = vec![
        "setpriv",
        "--pdeathsig",
        "KILL",
        "--",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
    ];
    all.extend(argv);
    Command::new(&all)
}

/// A command in the background; dropping it kills it.
#[derive(Debug)]
pub struct Background {
    pid: Pid,
    end: Arc<End>,
}

/// End of a command: its exit code, if no signal ended it.
#[derive(Debug, Default)]
struct End {
    code: Mutex<Option<Option<i32>>>,
    known: Condvar,
}

impl Background {
    /// Starts a thread that waits for the command's end.
    fn attend(child: &Child) -> Background {
        let pid = Pid::from_raw(child.id() as i32);
        let end = Arc::new(End::default());
        let told = Arc::clone(&end);
        std::thread::spawn(move || {
            let code = wait(pid);
            *told.code.lock().unwrap_or_else(PoisonError::into_inner) = Some(code);
            told.known.notify_all();
        });
        Background { pid, end }
    }

    /// Waits for its end and returns its exit code; `None` if a signal ended it.
    pub fn wait(self) -> Option<i32> {
        self.end_within(Duration::MAX).flatten()
    }

    /// Returns whether it is still running.
    pub fn is_running(&self) -> bool {
        self.end_within(Duration::ZERO).is_none()
    }

    /// Kills it and all in its process group.
    pub fn kill(&mut self) {
        if self.is_running() {
            // It may have ended already.
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = self.end_within(Duration::MAX);
        }
    }

    fn end_within(&self, limit: Duration) -> Option<Option<i32>> {
        let code = self.end.code.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.end.known.wait_timeout_while(code, limit, |code| code.is_none());
        *known.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for the end of a child.
///
/// A container that shuts down stops all its processes for a moment. nsenter, which waits outside for the process in
/// it, then stops itself, and no process in the container can wake it: without us it would never collect that
/// process, and the container could not end.
fn wait(pid: Pid) -> Option<i32> {
    loop {
        match waitpid(pid, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Stopped(..)) => {
                // It may have been killed since.
                let _ = kill(pid, Signal::SIGCONT);
            }
            Ok(WaitStatus::Exited(_, code)) => return Some(code),
            Ok(WaitStatus::Signaled(..)) => return None,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

fn memory() -> Result<File> {
    let made = memfd_create("lab", MFdFlags::MFD_CLOEXEC);
    made.map(File::from).map_err(|e| LabError::Io { what: "memfd_create".into(), source: e.into() })
}

fn clone(file: &File) -> Result<File> {
    file.try_clone().map_err(|source| LabError::Io { what: "dup".into(), source })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn content(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    read.map_err(|source| LabError::Io { what: "read a command's output".into(), source })?;
    Ok(bytes)
}
