//! The lease on looking after started rollouts.

use super::{MODE, StoreError, StoreWriter};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::{Pid, gethostname};
use rollout_core::controller::lease::{DURATION_MS, Holder, Lease, Verdict, decide};
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::{clock, durable};
use std::io;
use std::path::Path;

/// Boot id of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns this process as a holder of the lease.
///
/// # Errors
/// Fails if the host's name or boot id cannot be read.
pub fn this_process() -> Result<Holder, StoreError> {
    let boot_id = Path::new(BOOT_ID);
    let text = regular_file::read_text(boot_id, MAX_WRITTEN_BY_HAND);
    let host = gethostname()
        .map_err(|error| StoreError::io(Path::new("/proc/sys/kernel/hostname"), "read")(error.into()));
    Ok(Holder {
        host: host?.to_string_lossy().into_owned(),
        boot_id: text.map_err(StoreError::io(boot_id, "read"))?.trim().to_owned(),
        pid: std::process::id(),
    })
}

impl StoreWriter {
    /// Takes or renews the lease for `me`, unless another process has it.
    ///
    /// # Errors
    /// Fails if it cannot be read or written. Then `me` does not have it.
    pub fn take_lease(&self, me: &Holder) -> Result<Verdict, StoreError> {
        let lock = self.lock()?;
        let now_ms = clock::now_ms();
        let verdict = decide(self.lease()?.as_ref(), me, is_running, now_ms);
        if verdict == Verdict::Take {
            let lease = Lease { holder: me.clone(), until_ms: now_ms.saturating_add(DURATION_MS) };
            lock.replace_json(&self.lease_path(), &lease, MODE)?;
        }
        Ok(verdict)
    }

    /// Ends the lease of `me` ahead of its time.
    ///
    /// # Errors
    /// Fails if it cannot be read or removed. Then it ends by itself.
    pub fn return_lease(&self, me: &Holder) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        if !self.lease()?.is_some_and(|lease| lease.holder == *me) {
            return Ok(());
        }
        let path = self.lease_path();
        match std::fs::remove_file(&path).and_then(|()| durable::sync_parent(&path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::io(&path, "removed")(error))
            }
            _ => Ok(()),
        }
    }
}

/// Returns whether a process of this host exists. One that cannot be asked about does.
fn is_running(pid: u32) -> bool {
    match i32::try_from(pid) {
        Ok(pid) if pid > 0 => kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH),
        _ => false,
    }
}
