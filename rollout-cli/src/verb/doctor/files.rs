//! Files and directories of this host, and the access of SlurmUser to them.

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Gid, User, access, geteuid, getgrouplist};
use rollout_core::doctor::access::{Entry, Identity, PathEntries};
use rollout_core::slurm::config::SlurmUser;
use rollout_host::regular_file;
use rollout_host::run::{Program, is_program};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// Runs a program as a different user, with that user's groups and without capabilities.
const SETPRIV: &str = "/usr/bin/setpriv";
const TEST: &str = "/usr/bin/test";
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// Text in our RebootProgram, and in a script that calls it.
const OUR_NAME: &[u8] = b"slurm-rollout";
/// Size limit of a file that is searched. Our RebootProgram is much smaller.
const MAX_PROGRAM: u64 = 64 * 1024 * 1024;

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

/// Returns whether this file is slurm-rollout's or names it, as a wrapper script does; `None` if it cannot be read. The
/// file is not run.
pub(super) fn names_us(path: &Path) -> Option<bool> {
    if fs::metadata(path).ok()?.len() > MAX_PROGRAM {
        return Some(false);
    }
    let bytes = regular_file::read(path, MAX_PROGRAM).ok()?;
    Some(bytes.windows(OUR_NAME.len()).any(|part| part == OUR_NAME))
}

/// Returns whether SlurmUser can write into this directory, tried as that user; `None` if it cannot be tried.
pub(crate) fn can_write(who: &Identity, dir: &Path) -> Option<bool> {
    if geteuid().as_raw() == who.uid {
        return Some(access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok());
    }
    if !geteuid().is_root() || !is_program(Path::new(SETPRIV)) {
        return None;
    }
    let gid = User::from_name(&who.name).ok().flatten()?.gid;
    let trial = Program::new(SETPRIV, TRIAL_LIMIT)
        .args([format!("--reuid={}", who.uid), format!("--regid={gid}")])
        .args(["--init-groups", "--", TEST, "-w"])
        .arg(dir)
        .args(["-a", "-x"])
        .arg(dir);
    match trial.output().ok()?.status.code() {
        Some(0) => Some(true),
        Some(1) => Some(false),
        _ => None,
    }
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
