//! Files and directories of this host, and the access of SlurmUser to them.

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Gid, User, access, geteuid, getgrouplist};
use rollout_core::doctor::access::{Entry, Identity, PathEntries, RootAccess};
use rollout_core::slurm::config::SlurmUser;
use rollout_host::run::{Output, Program, is_program};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Runs a program as a different user, with that user's groups and without capabilities.
const SETPRIV: &str = "/usr/bin/setpriv";
const TEST: &str = "/usr/bin/test";
const FLOCK: &str = "/usr/bin/flock";
const TRUE: &str = "/usr/bin/true";
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// Result of looking at a path.
pub(super) enum Look {
    Done(PathEntries),
    /// This user may not look, with the error.
    Denied(String),
}

/// Returns the entries of a path, from the root on, with links resolved.
pub(super) fn path_entries(path: &Path) -> Look {
    let look = || -> io::Result<Vec<Entry>> {
        let real = fs::canonicalize(path)?;
        let mut entries = real.ancestors().map(entry).collect::<io::Result<Vec<_>>>()?;
        entries.reverse();
        Ok(entries)
    };
    match look() {
        Ok(entries) => Look::Done(Ok(entries)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Look::Denied(format!("{}: {error}", path.display()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Look::Done(Err(missing(path))),
        Err(error) => Look::Done(Err(error.to_string())),
    }
}

/// Describes the missing part of a path.
fn missing(path: &Path) -> String {
    let existing = path.ancestors().skip(1).find(|above| above.exists());
    let first =
        path.ancestors().filter(|part| Some(*part) != existing).take_while(|part| !part.exists()).last();
    match first {
        Some(first) if first != path => format!("{} is not there", first.display()),
        _ => "is not there".to_owned(),
    }
}

fn entry(path: &Path) -> io::Result<Entry> {
    let about = fs::metadata(path)?;
    Ok(Entry {
        path: path.display().to_string(),
        uid: about.uid(),
        gid: about.gid(),
        mode: about.mode(),
        is_dir: about.is_dir(),
    })
}

/// Returns SlurmUser with its groups on this host.
pub(crate) fn identity(user: &SlurmUser) -> Identity {
    let known = User::from_name(&user.name).ok().flatten();
    let groups = known.and_then(|known| {
        let name = CString::new(user.name.as_str()).ok()?;
        Some(getgrouplist(&name, known.gid).unwrap_or_else(|_| vec![known.gid]))
    });
    let gids = groups.unwrap_or_default().into_iter().map(Gid::as_raw).collect();
    Identity { name: user.name.clone(), uid: user.uid, gids }
}

/// Returns whether SlurmUser can write into this directory, tried as that user; `None` if it cannot be tried.
pub(crate) fn can_write(who: &Identity, dir: &Path) -> Option<bool> {
    if geteuid().as_raw() == who.uid {
        return Some(access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok());
    }
    let test = [TEST.as_ref(), "-w".as_ref(), dir.as_os_str(), "-a".as_ref(), "-x".as_ref(), dir.as_os_str()];
    match as_user(who, &test).ok()?.status.code() {
        Some(0) => Some(true),
        Some(1) => Some(false),
        _ => None,
    }
}

/// Returns root's access to this directory, if root runs this.
pub(super) fn of_root(dir: &Path) -> Option<RootAccess> {
    let may = |flags| access(dir, flags | AccessFlags::X_OK).is_ok();
    geteuid().is_root().then(|| RootAccess { reads: may(AccessFlags::R_OK), writes: may(AccessFlags::W_OK) })
}

/// Returns whether SlurmUser can take the lock of the state directory, tried as that user, or the error. `None` if it
/// cannot be tried, or there is no lock yet.
pub(super) fn can_lock(who: &Identity, lock: &Path) -> Option<Result<(), String>> {
    if !lock.exists() || !is_program(Path::new(FLOCK)) {
        return None;
    }
    let nonblocking = [FLOCK.as_ref(), "--nonblock".as_ref(), lock.as_os_str(), TRUE.as_ref()];
    let output = match geteuid().as_raw() == who.uid {
        true => Program::new(FLOCK, TRIAL_LIMIT).args(&nonblocking[1..]).output().ok()?,
        false => as_user(who, &nonblocking).ok()?,
    };
    match output.status.code() {
        // 1: another process holds it, so locks work.
        Some(0 | 1) => Some(Ok(())),
        Some(_) => Some(Err(output.stderr.trim().to_owned())),
        None => None,
    }
}

/// Runs a program as this user.
///
/// # Errors
/// With the cause, if it cannot be run or does not end in time.
pub(super) fn as_user(who: &Identity, argv: &[&OsStr]) -> Result<Output, String> {
    let name = &who.name;
    if !geteuid().is_root() {
        return Err(format!("only root can become {name}"));
    }
    if !is_program(Path::new(SETPRIV)) {
        return Err(format!("there is no {SETPRIV} to become {name} with (util-linux)"));
    }
    let user =
        User::from_name(name).map_err(|error| format!("the user {name} cannot be looked up: {error}"))?;
    let gid = user.ok_or_else(|| format!("this host has no user {name}"))?.gid;
    let program = Program::new(SETPRIV, TRIAL_LIMIT)
        .args([format!("--reuid={}", who.uid), format!("--regid={gid}")])
        .args(["--init-groups", "--"])
        .args(argv);
    program.output().map_err(|error| error.to_string())
}

/// Returns the free space for SlurmUser, in bytes.
pub(super) fn free(dir: &Path) -> Option<u64> {
    let about = statvfs(dir).ok()?;
    Some(about.blocks_available().saturating_mul(about.fragment_size()))
}

/// Returns the number of entries that SlurmUser cannot write but must (directories, the lock and journals), and one of
/// them.
pub(super) fn foreign(who: &Identity, dir: &Path) -> Option<(usize, String)> {
    let mut found = Vec::new();
    let rollouts = dir.join("rollouts");
    let must_be_writable = |entry: &Entry| {
        let name = entry.path.rsplit('/').next().unwrap_or("");
        entry.is_dir || matches!(name, "lock" | "journal" | "plain-reboots")
    };
    let mut look = |dir: &Path| -> Vec<Entry> {
        let entries: Vec<Entry> =
            fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|e| entry(&e.path()).ok()).collect();
        found.extend(
            entries.iter().filter(|e| must_be_writable(e) && !e.allows(who, 2)).map(|e| e.path.clone()),
        );
        entries
    };
    look(dir);
    for rollout in look(&rollouts) {
        if rollout.is_dir {
            look(Path::new(&rollout.path));
        }
    }
    found.sort();
    Some((found.len(), found.first()?.clone()))
}
