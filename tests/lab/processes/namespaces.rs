//! The namespaces of one cluster, which end with the process that holds them.
//!
//! The kernel guarantees that, not this code: see `supervise.sh`. Must not know what a node is.

use std::fs::{create_dir, read_dir, read_to_string, remove_dir, remove_dir_all};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{IoContext, LabError, Result};
use crate::processes::cgroup;
use crate::processes::run::{Command, tail};
use crate::state_dir::{lock, lock_file, state_dir, try_lock};

/// inotify instances that all containers of this host share, as one user has them. Each systemd takes some, and Linux
/// allows 128.
const INOTIFY_INSTANCES: &str = "/proc/sys/fs/inotify/max_user_instances";
const ENOUGH_INSTANCES: u32 = 1024;

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A cluster's mount, pid and network namespace, its directory, and its supervisor.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// The cluster's process 1, as this process sees it.
    pub(crate) init: u32,
    /// The cluster's directory on the host.
    pub(crate) directory: PathBuf,
    /// Name of this cluster among the host's clusters.
    pub(crate) id: String,
    supervisor: Child,
}

/// Raises the limit. If that fails, a node that exceeds it reports it on its console.
fn allow_many_systemds() {
    let allowed = read_to_string(INOTIFY_INSTANCES).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if allowed.is_some_and(|allowed| allowed < ENOUGH_INSTANCES) {
        let _ = std::fs::write(INOTIFY_INSTANCES, ENOUGH_INSTANCES.to_string());
    }
}

impl Namespaces {
    /// Makes them, after a sweep of the files of dead clusters.
    pub(crate) fn new() -> Result<Namespaces> {
        let clusters = state_dir("clusters")?;
        allow_many_systemds();
        // No other process sweeps from here until our own supervisor's log is locked.
        let _sweeping = lock(&clusters.join(".lock"))?;
        sweep(&clusters)?;
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = clusters.join(&id);
        create_dir(&directory).on("create", &directory)?;
        let log = directory.join("supervisor.log");
        // The lock belongs to the open file, which the supervisor and its children inherit as stderr.
        let locked =
            Flock::lock(lock_file(&log)?, FlockArg::LockExclusive).map_err(|(_, e)| e).on("lock", &log)?;
        let stderr = locked.try_clone().on("dup", &log)?;

        let kept = directory.display().to_string();
        let groups: Vec<String> = cgroup::of_cluster(&id).iter().map(|p| p.display().to_string()).collect();
        let mut argv = vec!["sh", "-c", include_str!("supervise.sh"), "supervise", &kept];
        argv.extend(groups.iter().map(String::as_str));
        let mut supervisor = Command::new(&argv).start_with(Stdio::piped(), Stdio::piped(), stderr.into())?;
        std::mem::forget(locked); // closing our descriptor must not unlock; it goes with this process
        let mut line = String::new();
        if let Some(stdout) = supervisor.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).on("read from the supervisor in", &directory)?;
        }
        let init = descendants(supervisor.id()).into_iter().find(|pid| is_namespace_init(*pid));
        match (line.trim(), init) {
            ("ready", Some(init)) => Ok(Namespaces { init, directory, id, supervisor }),
            _ => {
                let said = tail(&read_to_string(&log).unwrap_or_default());
                Err(LabError::Setup(format!("no namespaces for a cluster (is this root?): {said}")))
            }
        }
    }

    /// Runs a command of the host's within the cluster's namespaces.
    pub(crate) fn command(&self, argv: &[&str]) -> Command {
        Command::by_way_of(way_in(self.init), argv)
    }
}

/// Command line that leads a command of the host's into a cluster's namespaces.
pub(crate) fn way_in(init: u32) -> Vec<String> {
    ["nsenter", "-t", &init.to_string(), "-m", "-n", "-p", "--"].map(String::from).to_vec()
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        if std::env::var_os("LAB_KEEP").is_some() {
            keep(&self.directory, &self.id);
        }
        drop(self.supervisor.stdin.take());
        // It ends by itself; a killed supervisor has ended, too.
        let _ = self.supervisor.wait();
    }
}

/// Moves a cluster's files out of reach of its supervisor and of sweeps.
fn keep(directory: &Path, id: &str) {
    let moved = state_dir("kept").and_then(|kept| {
        let kept = kept.join(id);
        std::fs::rename(directory, &kept).on("rename to", &kept).map(|()| kept)
    });
    match moved {
        Ok(kept) => eprintln!("lab: kept {}", kept.display()),
        Err(error) => eprintln!("lab: not kept: {error}"),
    }
}

/// Removes the files of dead clusters. A cluster is alive while its supervisor's log is locked.
fn sweep(clusters: &Path) -> Result<()> {
    for entry in read_dir(clusters).on("list", clusters)?.flatten() {
        let directory = entry.path();
        if !directory.is_dir() {
            continue;
        }
        let log = directory.join("supervisor.log");
        if log.exists() && try_lock(&log)?.is_none() {
            continue;
        }
        for group in cgroup::of_cluster(&entry.file_name().to_string_lossy()) {
            remove_groups(&group);
        }
        // The supervisor may be removing the same files; the next sweep removes the rest.
        let _ = remove_dir_all(&directory);
    }
    Ok(())
}

fn remove_groups(group: &Path) {
    for entry in read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = remove_dir(group);
}

/// All processes below this one.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let children = read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut found = Vec::new();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        found.push(child);
        found.extend(descendants(child));
    }
    found
}

/// Returns whether a process is number 1 of a pid namespace.
pub(crate) fn is_namespace_init(pid: u32) -> bool {
    let status = read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.is_some_and(|ids| ids.split_whitespace().next_back() == Some("1"))
}
