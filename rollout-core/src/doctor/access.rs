//! Access of SlurmUser to RebootProgram's file and to the state directory.
//!
//! Decided by modes and owners, so that a finding can name the change. Access lists are not considered here; if access
//! can be tried, the trial counts.

use super::Finding;
use crate::slurm::config::Release;

/// First release of Slurm that must be able to read the program it executes (`access(R_OK|X_OK)` in `run_command`).
const WANTS_TO_READ: Release = Release { year: 23, month: 2 };
/// First release that refuses a program that is writable for a group or for all.
const REFUSES_WRITABLE: Release = Release { year: 26, month: 5 };

/// The sticky bit. In such a directory, users can rename and remove only their own entries.
const STICKY: u32 = 0o1000;

/// Minimum of free space for the state directory: less is a problem, and less than ten times as much a warning. A
/// rollout's journal has about 1 kB per node.
const MIN_FREE: u64 = 10 * 1024 * 1024;

/// Consequence of a state directory that root may not read.
const SQUASHED: &str =
    "its file system treats root as nobody (root_squash): `slurm-rollout` of root shows and stages nothing";

/// A user with the numbers that decide about access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub uid: u32,
    pub gids: Vec<u32>,
}

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub path: String,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    pub is_dir: bool,
}

/// The directories of a path from the root on, then its last entry; or the reason why there is none.
pub type PathEntries = Result<Vec<Entry>, String>;

/// Facts about RebootProgram's file.
#[derive(Debug, Clone)]
pub struct ProgramFacts<'a> {
    /// The path in slurm.conf.
    pub path: &'a str,
    pub entries: PathEntries,
    /// True if the file is slurm-rollout's or names it. `None` if it cannot be read.
    pub is_ours: Option<bool>,
    pub release: Option<Release>,
}

/// Facts about the state directory.
#[derive(Debug, Clone)]
pub struct StateFacts<'a> {
    /// The path in the configuration.
    pub path: &'a str,
    pub entries: PathEntries,
    /// Result of trying to write there as SlurmUser. `None` if it was not tried.
    pub slurm_user_writes: Option<bool>,
    /// Result of trying to take the lock there as SlurmUser, or the error. `None` if it was not tried.
    pub slurm_user_locks: Option<Result<(), String>>,
    /// Access of root, which an NFS export with `root_squash` treats as nobody. `None` if root does not run this.
    pub root: Option<RootAccess>,
    /// Free space, in bytes.
    pub free: Option<u64>,
    /// Number of files in it that SlurmUser neither owns nor can write, and one of them.
    pub foreign: Option<(usize, String)>,
}

/// Access of root to the state directory, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootAccess {
    pub reads: bool,
    pub writes: bool,
}

impl Entry {
    /// Returns whether `who` has all of these permissions (4 read, 2 write, 1 execute or enter), by owner, group and
    /// mode.
    #[must_use]
    pub fn allows(&self, who: &Identity, wanted: u32) -> bool {
        if who.uid == 0 {
            return wanted & 1 == 0 || self.is_dir || self.mode & 0o111 != 0;
        }
        let shift = if self.uid == who.uid {
            6
        } else if who.gids.contains(&self.gid) {
            3
        } else {
            0
        };
        (self.mode >> shift) & wanted == wanted
    }

    fn mode_text(&self) -> String {
        format!("{:04o}", self.mode & 0o7777)
    }
}

/// Checks RebootProgram's file and the directories above it.
#[must_use]
pub fn program(facts: &ProgramFacts<'_>, who: Option<&Identity>) -> Vec<Finding> {
    const CHECK: &str = "reboot-program";
    let path = facts.path;
    let fails = "Slurm cannot run it: nodes that are to be rebooted stay DOWN until ResumeTimeout, and nothing is tried again";
    let entries = match &facts.entries {
        Ok(entries) => entries,
        Err(why) => {
            return vec![Finding::problem(CHECK, format!("{path}: {why}")).because(fails).cured_by(
                "install the package slurm-rollout on this controller, or mend RebootProgram in slurm.conf",
            )];
        }
    };
    let mut findings = Vec::new();
    let Some((file, dirs)) = entries.split_last() else { return findings };
    if file.is_dir {
        return vec![Finding::problem(CHECK, format!("{path} is a directory")).because(fails)];
    }
    if facts.is_ours == Some(false) {
        findings.push(
            Finding::problem(
                CHECK,
                format!("{path} is not slurm-rollout's RebootProgram and does not name it"),
            )
            .because("nodes are rebooted, and what is staged is never applied")
            .cured_by(format!("in slurm.conf: RebootProgram={}", super::slurm::REBOOT_PROGRAM_PATH)),
        );
    }
    let mode = file.mode_text();
    if let Some(who) = who {
        let user = &who.name;
        let reads = facts.release.is_none_or(|release| release >= WANTS_TO_READ);
        if !file.allows(who, 1) {
            let what = format!("{path} (mode {mode}) is not executable for SlurmUser {user}");
            findings.push(Finding::problem(CHECK, what).because(fails).cured_by(format!("chmod 755 {path}")));
        } else if !file.allows(who, 4) {
            let what = format!("{path} (mode {mode}) is not readable for SlurmUser {user}");
            let finding = if reads { Finding::problem(CHECK, what) } else { Finding::warning(CHECK, what) };
            let why = format!("since {WANTS_TO_READ} Slurm runs only what it may also read");
            findings.push(finding.because(why).cured_by(format!("chmod 755 {path}")));
        }
        for dir in dirs.iter().filter(|dir| !dir.allows(who, 1)) {
            let what =
                format!("{} (mode {}) cannot be entered by SlurmUser {user}", dir.path, dir.mode_text());
            let cure = format!("chmod a+x {}", dir.path);
            findings.push(Finding::problem(CHECK, what).because(fails).cured_by(cure));
        }
    }
    let takes_over = "who can change it decides what SlurmUser runs, and so what root does on every node";
    if file.mode & 0o022 != 0 {
        let refuses = facts.release.is_some_and(|release| release >= REFUSES_WRITABLE);
        let why = match refuses {
            true => format!(
                "`scontrol reboot` fails with \"Invalid power action\", and in a PowerAction line it keeps slurmctld from \
                 starting; {takes_over}"
            ),
            false => format!("{takes_over}; Slurm refuses to use it from {REFUSES_WRITABLE} on"),
        };
        let what = format!("{path} (mode {mode}) is writable for its group or for all");
        findings.push(Finding::problem(CHECK, what).because(why).cured_by(format!("chmod 755 {path}")));
    }
    for entry in entries.iter().filter(|entry| entry.uid != 0) {
        let what = format!("{} belongs to uid {}, not to root", entry.path, entry.uid);
        let finding = Finding::problem(CHECK, what).because(takes_over);
        findings.push(finding.cured_by(format!("chown root:root {}", entry.path)));
    }
    let open = |dir: &&Entry| dir.mode & 0o022 != 0 && dir.mode & STICKY == 0;
    for dir in dirs.iter().filter(open).filter(|dir| dir.mode & 0o002 != 0 || dir.gid != 0) {
        let what = format!("{} (mode {}) is writable for others than root", dir.path, dir.mode_text());
        let cure = format!("chmod go-w {}", dir.path);
        findings.push(Finding::problem(CHECK, what).because(takes_over).cured_by(cure));
    }
    if findings.is_empty() {
        let user = who.map(|who| format!(", executable for SlurmUser {}", who.name)).unwrap_or_default();
        findings.push(Finding::ok(CHECK, format!("{path} is root's, mode {mode}{user}")));
    }
    findings
}

/// Reports a state directory that root may not look at.
#[must_use]
pub fn hidden_from_root(path: &str, why: &str) -> Finding {
    Finding::problem("state-directory", format!("root may not look at {path}: {why}"))
        .because(SQUASHED)
        .cured_by("as SlurmUser, `chmod a+x` the directories above it, and `chmod 755` itself")
}

/// Checks the state directory.
#[must_use]
pub fn state(facts: &StateFacts<'_>, who: &Identity) -> Vec<Finding> {
    const CHECK: &str = "state-directory";
    let (path, user) = (facts.path, &who.name);
    let fails = "RebootProgram, which runs as SlurmUser, can record nothing: no node is ordered";
    let entries = match &facts.entries {
        Ok(entries) => entries,
        Err(why) => {
            return vec![
                Finding::problem(CHECK, format!("{path}: {why}"))
                    .because(fails)
                    .cured_by(format!("install -d -o {user} -g {user} -m 755 {path}")),
            ];
        }
    };
    let mut findings = Vec::new();
    let Some((dir, above)) = entries.split_last() else { return findings };
    let mode = dir.mode_text();
    if !dir.is_dir {
        return vec![Finding::problem(CHECK, format!("{path} is no directory")).because(fails)];
    }
    for entry in above.iter().filter(|entry| !entry.allows(who, 1)) {
        let what =
            format!("{} (mode {}) cannot be entered by SlurmUser {user}", entry.path, entry.mode_text());
        let cure = format!("chmod a+x {}", entry.path);
        findings.push(Finding::problem(CHECK, what).because(fails).cured_by(cure));
    }
    if dir.uid != who.uid {
        let what = format!("{path} belongs to uid {}, not to SlurmUser {user}({})", dir.uid, who.uid);
        // Files that root's command line writes there are given to the directory's owner.
        let why = format!("{fails}, and what `slurm-rollout stage` writes is given to that owner");
        findings
            .push(Finding::problem(CHECK, what).because(why).cured_by(format!("chown -R {user}: {path}")));
    } else if facts.slurm_user_writes == Some(false) || !dir.allows(who, 7) {
        let what = format!("SlurmUser {user} cannot write into {path} (mode {mode})");
        let cure = format!("chmod 755 {path}; is its file system mounted read-only?");
        findings.push(Finding::problem(CHECK, what).because(fails).cured_by(cure));
    }
    if dir.mode & 0o022 != 0 {
        let what = format!("{path} (mode {mode}) is writable for its group or for all");
        let why = "who can write there decides what is applied to every node, as root";
        findings.push(Finding::problem(CHECK, what).because(why).cured_by(format!("chmod 755 {path}")));
    }
    if facts.root.is_some_and(|root| !root.reads) {
        let what = format!("root may not read {path} (mode {mode})");
        findings.push(
            Finding::problem(CHECK, what)
                .because(SQUASHED)
                .cured_by(format!("as {user}: `chmod 755 {path}`")),
        );
    }
    if let Some(Err(why)) = &facts.slurm_user_locks {
        let what = format!("SlurmUser {user} cannot take the lock in {path}: {why}");
        let cure = "mount its file system with locks (NFS with lockd and without nolock, Lustre with flock), or set state_dir \
                    in controller.toml to one that has them";
        findings.push(Finding::problem(CHECK, what).because(fails).cured_by(cure));
    }
    if let Some((count, example)) = facts.foreign.as_ref().filter(|_| dir.uid == who.uid) {
        let what = format!("{count} in {path} not writable for SlurmUser {user}, such as {example}");
        findings
            .push(Finding::problem(CHECK, what).because(fails).cured_by(format!("chown -R {user}: {path}")));
    }
    if let Some(free) = facts.free.filter(|free| *free < 10 * MIN_FREE) {
        let what = format!("{path} has {} MB free", free / 1_000_000);
        let finding =
            if free < MIN_FREE { Finding::problem(CHECK, what) } else { Finding::warning(CHECK, what) };
        findings.push(
            finding.because("on a full disk nothing is staged and no node ordered").cured_by("make room"),
        );
    }
    if findings.is_empty() {
        let tried = if facts.slurm_user_writes.is_some() { ", who can write there" } else { "" };
        let root = match facts.root {
            Some(RootAccess { writes: false, .. }) => "; root cannot, and acts as that user there",
            _ => "",
        };
        findings.push(Finding::ok(CHECK, format!("{path} is SlurmUser {user}'s{tried}{root}")));
    }
    findings
}

#[cfg(test)]
mod tests;
