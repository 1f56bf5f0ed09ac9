//! Running package managers: within time limits, waiting for locks that other processes hold, and with errors that
//! state the cause instead of all that a package manager prints.

use crate::changes::ChangeError;
use crate::log;
use rollout_core::slurm::reason::MAX_LENGTH;
use rollout_host::run::{Output, Program, RunError};
use std::thread;
use std::time::{Duration, Instant};

/// Number of times the time limit of a change for which its undo waits for locks. A node that is neither old nor new is
/// worth more patience than one on which nothing was changed yet.
const UNDO_PATIENCE: u32 = 3;

/// Pause between attempts to get a lock.
const LOCK_PAUSE: Duration = Duration::from_secs(2);

/// Length limit for a package manager's words, in bytes. The rest of a Slurm Reason is for the rollout, the change
/// and the attempt.
const MAX_WORDS: usize = MAX_LENGTH - 100;

/// The time that programs of a change have.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeBudget {
    /// End of waiting for locks.
    end: Instant,
    limit: Duration,
    /// Each program has the whole limit once it has its lock: it must not be killed in its middle because others were
    /// slow before.
    is_transaction: bool,
}

impl TimeBudget {
    /// Returns the time that all programs share which only read and prepare.
    pub(super) fn new(limit: Duration) -> Self {
        Self { end: Instant::now() + limit, limit, is_transaction: false }
    }

    /// Returns the time for programs that change the node.
    pub(super) fn for_transaction(limit: Duration) -> Self {
        Self { is_transaction: true, ..Self::new(limit) }
    }

    /// Returns the time for programs that undo a change.
    pub(super) fn for_undo(limit: Duration) -> Self {
        Self { end: Instant::now() + limit * UNDO_PATIENCE, limit, is_transaction: true }
    }

    /// Returns the time for one program. Never zero: a program that gets no time reports no cause either.
    pub(super) fn for_program(self) -> Duration {
        let remaining = self.end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        if self.is_transaction { self.limit } else { remaining }
    }

    /// Waits until a condition holds.
    pub(super) fn wait_until(self, attempt: &str, holds: impl Fn() -> bool) -> Result<(), ChangeError> {
        let mut waits = false;
        while !holds() {
            if Instant::now() >= self.end {
                let problem = format!("another process still holds it after {} s", self.limit.as_secs());
                return Err(ChangeError::state(attempt, problem));
            }
            if !std::mem::replace(&mut waits, true) {
                log::info(attempt);
            }
            thread::sleep(LOCK_PAUSE);
        }
        Ok(())
    }

    /// Runs a program until it exits with 0, again and again while a lock is held.
    pub(super) fn run(
        self,
        manager: &'static str,
        attempt: &str,
        program: impl Fn(Duration) -> Program,
    ) -> Result<Output, ChangeError> {
        self.run_until(manager, attempt, program, |output| output.status.success())
    }

    /// Runs a program until its output is accepted, again and again while a lock is held.
    pub(super) fn run_until(
        self,
        manager: &'static str,
        attempt: &str,
        program: impl Fn(Duration) -> Program,
        accepts: impl Fn(&Output) -> bool,
    ) -> Result<Output, ChangeError> {
        let failed = |error: RunError, output: Option<&Output>| ChangeError::Manager {
            attempt: attempt.to_owned(),
            manager,
            words: words(&error, output, self.limit),
            error: Box::new(error),
        };
        let mut waits = false;
        loop {
            let program = program(self.for_program()).waits_for_group();
            let output = program.output().map_err(|error| failed(error, None))?;
            if accepts(&output) {
                return Ok(output);
            }
            if !is_locked(&output) || Instant::now() >= self.end {
                return Err(failed(program.failed(&output), Some(&output)));
            }
            if !std::mem::replace(&mut waits, true) {
                log::info(&format!(
                    "{attempt} with {manager}: another process holds the lock, waiting for it"
                ));
            }
            thread::sleep(LOCK_PAUSE);
        }
    }
}

/// Returns whether the tool failed because another process holds a lock: dnf4 (exit 200 with exit_on_lock), dnf5,
/// apt-get, dpkg, rpm, zypper.
fn is_locked(output: &Output) -> bool {
    let contains = |words: &str| output.stderr.contains(words) || output.stdout.contains(words);
    // debconf reports a lock of its own in the same words, and goes on without it.
    let dpkg_is_locked = output
        .stderr
        .lines()
        .any(|line| line.starts_with("dpkg: error") && line.contains("locked by another process"));
    output.status.code() == Some(200)
        || contains("Failed to obtain the transaction lock")
        || contains("Failed to obtain rpm transaction lock")
        || contains("can't create transaction lock")
        || contains("Could not get lock")
        || contains("Unable to acquire the dpkg frontend lock")
        || contains("System management is locked by the application with pid")
        || dpkg_is_locked
}

/// Returns how the program ended and the lines that give the cause. `limit` is the limit of the whole change.
fn words(error: &RunError, output: Option<&Output>, limit: Duration) -> String {
    let (ended, tail) = match error {
        RunError::Failed { status, tail, .. } => {
            (status.code().map_or("was killed".to_owned(), |code| format!("exit code {code}")), tail)
        }
        RunError::TimedOut { tail, .. } => (format!("not done within {} s, killed", limit.as_secs()), tail),
        _ => return error.to_string(),
    };
    let cause = match output {
        Some(output) => joint_cause(&output.stdout, &output.stderr),
        None => cause(tail.strip_prefix(": ").unwrap_or(tail)),
    };
    if cause.is_empty() { ended } else { format!("{cause} ({ended})") }
}

/// Returns the cause in the output. dnf explains on standard output why it finds no package, and only reports on
/// standard error that it found none.
fn joint_cause(stdout: &str, stderr: &str) -> String {
    const EXPLAIN: [&str; 9] = [
        "All matches were filtered out",
        "Argument '",
        "No match for argument",
        "error: ",
        "warning: %",
        "Module or Group",
        // zypper.
        "Warning: Skipping repository",
        "Problem: ",
        "remove lock to allow",
    ];
    let explains = |line: &&str| EXPLAIN.iter().any(|words| line.starts_with(words));
    match stderr.trim().is_empty() {
        true => cause(stdout),
        false => {
            let explanation = stdout.lines().map(str::trim).filter(explains).map(str::to_owned);
            let all: Vec<String> =
                explanation.chain([cause(stderr)]).filter(|part| !part.is_empty()).collect();
            shortened(all.join(" "))
        }
    }
}

/// Returns the lines of a package manager's output that name the cause, or the last ones, as one line.
fn cause(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_noise = |line: &str| {
        const BEGINNINGS: [&str; 15] = [
            "N: ",
            // An unreachable repository, which "Ignoring repositories" names in the end.
            "Errors during downloading metadata",
            "- Curl error",
            "Error: Failed to download metadata",
            "(try to add",
            "You can try",
            "--",
            "W: ",
            "warning: ",
            "Warning: ",
            "rpm: ",
            ">>> Running",
            ">>> Finished",
            // zypper, which offers solutions.
            "Solution ",
            "Choose from above",
        ];
        // Progress of dnf5.
        let is_scriptlet = line.starts_with("warning: %");
        line.contains("% |") || !is_scriptlet && BEGINNINGS.iter().any(|word| line.starts_with(word))
    };
    let relevant: Vec<&str> = lines.iter().copied().filter(|line| !is_noise(line)).collect();
    let names_cause = |line: &&str| {
        const CAUSES: [&str; 18] = [
            "E: ",
            "All matches were filtered out",
            "Argument '",
            "Ignoring repositories",
            "warning: %",
            "Error",
            "error: ",
            "Problem",
            "No match for",
            "Failed to",
            "dpkg: error",
            ">>> Error",
            "Transaction failed",
            "Waiting for a lock",
            "Waiting for process",
            // zypper.
            "No provider of",
            "Package '",
            "System management is locked",
        ];
        line.contains(" already locked ") || CAUSES.iter().any(|word| line.starts_with(word))
    };
    let from = relevant.iter().position(names_cause).unwrap_or(relevant.len().saturating_sub(3));
    let chosen = relevant.get(from..).unwrap_or(&[]);
    let chosen = if chosen.is_empty() { &lines[..] } else { chosen };
    shortened(chosen.join(" "))
}

fn shortened(mut line: String) -> String {
    if line.len() > MAX_WORDS {
        let end = (0..=MAX_WORDS).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (output of a tool, the cause in it): real output of dnf 4.23, dnf5 5.4, apt 3.0.
    const OUTPUTS: &[(&str, &str)] = &[
        (
            "Package alpha-1.0-1.noarch is already installed.\nNo match for argument: nosuch\nError: Unable to find a match: nosuch\n",
            "No match for argument: nosuch Error: Unable to find a match: nosuch",
        ),
        (
            "Failed to resolve the transaction:\nNo match for argument: nosuch\nYou can try to add to command line:\n  --skip-unavailable to skip unavailable packages\n",
            "Failed to resolve the transaction: No match for argument: nosuch",
        ),
        (
            "W: Download is performed unsandboxed\nE: Unable to locate package nosuch\n",
            "E: Unable to locate package nosuch",
        ),
        (
            "[4/7] Upgrading beta-0:1.1-1.noarch     100% |  50.8 KiB/s | 520.0   B |  00m00s\n>>> Running %pre scriptlet: broken-0:1.0-1.noarch\n>>> Error in %pre scriptlet: broken-0:1.0-1.noarch\n>>> Scriptlet output:\n>>> no way\n[6/7] Removing alpha-0:1.0-1.noarch     100% |  22.0   B/s |   3.0   B |  00m00s\nTransaction failed: Rpm transaction failed.\nWarning: skipped OpenPGP checks for 3 packages\n",
            ">>> Error in %pre scriptlet: broken-0:1.0-1.noarch >>> Scriptlet output: >>> no way Transaction failed: Rpm transaction failed.",
        ),
        ("only\nsome\nother\nwords\n", "some other words"),
        (
            "warning: waiting for transaction lock on /var/lib/rpm/.rpm.lock\n",
            "warning: waiting for transaction lock on /var/lib/rpm/.rpm.lock",
        ),
        (
            "N: Download is performed unsandboxed as root\nN: See apt-secure(8)\ndpkg was interrupted\n",
            "dpkg was interrupted",
        ),
        (
            "Errors during downloading metadata for repository 'dead':\n  - Curl error (7): Couldn't connect\nError: Failed to download metadata for repo 'dead': Cannot download repomd.xml\nIgnoring repositories: dead\nError: Unable to find a match: nosuch\n",
            "Ignoring repositories: dead Error: Unable to find a match: nosuch",
        ),
        ("", ""),
    ];

    #[test]
    fn an_excluded_package_is_reported_as_excluded() {
        let stdout = "Last metadata expiration check: 0:00:02 ago.\n\
                      All matches were filtered out by exclude filtering for argument: slurm\n";
        let expected = "All matches were filtered out by exclude filtering for argument: slurm \
                        Error: Unable to find a match: slurm";
        assert_eq!(joint_cause(stdout, "Error: Unable to find a match: slurm\n"), expected);
        assert_eq!(joint_cause("No match for argument: a\n", ""), "No match for argument: a");
    }

    /// Output of zypper 1.14.42.
    #[test]
    fn a_problem_and_a_skipped_repository_of_zypper_are_found() {
        let stdout =
            "Warning: Skipping repository 'dead' because of the above error.\nLoading repository data...\n";
        let stderr = "Some of the repositories have not been refreshed because of an error.\nPackage 'beta-1.1' not found.\n";
        let expected =
            "Warning: Skipping repository 'dead' because of the above error. Package 'beta-1.1' not found.";
        assert_eq!(joint_cause(stdout, stderr), expected);
        let stdout = "Resolving package dependencies...\n\nProblem: beta-1.1-1.noarch requires alpha = 1.1, but this \
                      requirement cannot be provided\n Solution 1: keep alpha-1.0-1.noarch\n Solution 2: Following \
                      actions will be done:\n  remove lock to allow removal of alpha-1.0-1.noarch\n\nChoose from above \
                      solutions by number or cancel [1/2/c/d/?] (c): c\n";
        let expected = "Problem: beta-1.1-1.noarch requires alpha = 1.1, but this requirement cannot be provided remove \
                        lock to allow removal of alpha-1.0-1.noarch";
        assert_eq!(joint_cause(stdout, ""), expected);
    }

    #[test]
    fn the_cause_is_found() {
        for (output, expected) in OUTPUTS {
            assert_eq!(cause(output), *expected);
        }
        assert!(cause(&"E: ü".repeat(200)).len() < MAX_WORDS + 4);
    }

    fn sh(script: &'static str) -> impl Fn(Duration) -> Program {
        move |limit| Program::new("/bin/sh", limit).args(["-c", script])
    }

    #[test]
    fn errors_name_attempt_manager_cause_and_end() {
        let budget = TimeBudget::new(Duration::from_secs(5));
        let error = budget.run("apt", "installing a", sh("echo 'E: no' >&2; exit 100")).unwrap_err();
        assert_eq!(error.to_string(), "installing a with apt: E: no (exit code 100)");
        let error =
            TimeBudget::new(Duration::from_secs(1)).run("dnf", "installing a", sh("sleep 60")).unwrap_err();
        assert_eq!(error.to_string(), "installing a with dnf: not done within 1 s, killed");
    }

    #[test]
    fn a_held_lock_is_waited_for_within_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!("[ -e {0} ] || {{ touch {0}; exit 200; }}", mark.display());
        let program = |limit| Program::new("/bin/sh", limit).args(["-c", &script]);
        TimeBudget::new(Duration::from_secs(10)).run("dnf", "installing a", program).unwrap();
        // The way back waits longer, and its programs have the whole limit nevertheless.
        let lock = dir.path().join("lock");
        let script = format!(
            "n=$(cat {0} 2>/dev/null); echo x$n >{0}; [ \"$n\" = xx ] || {{ echo 'dpkg: error: dpkg frontend lock was locked by another process with pid 1' >&2; exit 2; }}; \
             sleep 0.1",
            lock.display()
        );
        let program = |limit| Program::new("/bin/sh", limit).args(["-c", &script]);
        TimeBudget::for_undo(Duration::from_secs(2)).run("dpkg", "going back", program).unwrap();
        let begun = Instant::now();
        let script = "echo 'E: Could not get lock /var/lib/dpkg/lock' >&2; exit 100";
        let error =
            TimeBudget::new(Duration::from_secs(1)).run("apt", "installing a", sh(script)).unwrap_err();
        assert!(error.to_string().contains("Could not get lock"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
