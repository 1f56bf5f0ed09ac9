//! Running package managers: all programs of one change share a time limit, a lock held by another process is waited
//! for, and an error states the cause instead of all that a package manager prints.

use crate::changes::ChangeError;
use rollout_core::slurm::reason::MAX_LENGTH;
use rollout_host::run::{Output, Program, RunError};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit for waiting for another process's lock: apt-daily and dnf-makecache end within it, a person at a
/// prompt does not.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(60);

/// Pause between attempts to get a lock.
const LOCK_PAUSE: Duration = Duration::from_secs(2);

/// Length limit for a package manager's words, in bytes. The rest of a Slurm Reason is for the rollout, the change
/// and the attempt.
const MAX_WORDS: usize = MAX_LENGTH - 100;

/// The time limit that all programs of a change share.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeBudget {
    end: Instant,
    limit: Duration,
}

impl TimeBudget {
    pub(super) fn new(limit: Duration) -> Self {
        Self { end: Instant::now() + limit, limit }
    }

    /// Returns the time that remains. Never zero: a program that gets no time reports no cause either.
    pub(super) fn remaining(self) -> Duration {
        self.end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))
    }

    /// Runs a program until it exits with 0, again and again while a lock is held.
    pub(super) fn run(
        self,
        manager: &'static str,
        attempt: &str,
        program: impl Fn(Duration) -> Program,
    ) -> Result<Output, ChangeError> {
        let failed = |error: RunError| ChangeError::Manager {
            attempt: attempt.to_owned(),
            manager,
            words: words(&error, self.limit),
            error: Box::new(error),
        };
        let lock_end = Instant::now() + LOCK_WAIT.min(self.remaining());
        loop {
            let program = program(self.remaining());
            let output = program.output().map_err(failed)?;
            if output.status.success() {
                return Ok(output);
            }
            if !is_locked(&output) || Instant::now() >= lock_end {
                return Err(failed(program.failed(&output)));
            }
            thread::sleep(LOCK_PAUSE);
        }
    }
}

/// Returns whether the tool failed because another process holds a lock: dnf4 (exit 200 with exit_on_lock), dnf5,
/// apt-get, dpkg, rpm.
fn is_locked(output: &Output) -> bool {
    let contains = |words: &str| output.stderr.contains(words) || output.stdout.contains(words);
    output.status.code() == Some(200)
        || contains("Failed to obtain the transaction lock")
        || contains("Failed to obtain rpm transaction lock")
        || contains("can't create transaction lock")
        || contains("Could not get lock")
        || contains("Unable to acquire the dpkg frontend lock")
        || contains("locked by another process")
        || contains("lock was locked by")
}

/// Returns how the program ended and the lines that give the cause. `limit` is the limit of the whole change.
fn words(error: &RunError, limit: Duration) -> String {
    let (ended, tail) = match error {
        RunError::Failed { status, tail, .. } => {
            (status.code().map_or("was killed".to_owned(), |code| format!("exit code {code}")), tail)
        }
        RunError::TimedOut { tail, .. } => (format!("not done within {} s, killed", limit.as_secs()), tail),
        _ => return error.to_string(),
    };
    let cause = cause(tail.strip_prefix(": ").unwrap_or(tail));
    if cause.is_empty() { ended } else { format!("{cause} ({ended})") }
}

/// Returns the lines of a package manager's output that name the cause, or the last ones, as one line.
fn cause(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_noise = |line: &str| {
        const BEGINNINGS: [&str; 9] = [
            "(try to add",
            "You can try",
            "--",
            "W: ",
            "warning: ",
            "Warning: ",
            "rpm: ",
            ">>> Running",
            ">>> Finished",
        ];
        // Progress of dnf5.
        line.contains("% |") || BEGINNINGS.iter().any(|word| line.starts_with(word))
    };
    let relevant: Vec<&str> = lines.iter().copied().filter(|line| !is_noise(line)).collect();
    let names_cause = |line: &&str| {
        const CAUSES: [&str; 11] = [
            "E: ",
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
        ];
        line.contains(" already locked ") || CAUSES.iter().any(|word| line.starts_with(word))
    };
    let from = relevant.iter().position(names_cause).unwrap_or(relevant.len().saturating_sub(3));
    let chosen = relevant.get(from..).unwrap_or(&[]);
    let chosen = if chosen.is_empty() { &lines[..] } else { chosen };
    let mut line = chosen.join(" ");
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
        ("", ""),
    ];

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
        let begun = Instant::now();
        let script = "echo 'E: Could not get lock /var/lib/dpkg/lock' >&2; exit 100";
        let error =
            TimeBudget::new(Duration::from_secs(1)).run("apt", "installing a", sh(script)).unwrap_err();
        assert!(error.to_string().contains("Could not get lock"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
