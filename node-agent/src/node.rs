//! The node's identity: its boot, its users.

use crate::changes;
use crate::log;
use nix::unistd::User;
use rollout_core::protocol::answer::AgentStatus;
use std::time::Duration;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";

/// Returns the part of the status that does not change while the agent runs.
pub(crate) fn identity(name: &str, volatile: bool) -> Result<AgentStatus, String> {
    let running = changes::running().map_err(|error| log::warning(&error.to_string())).ok();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(AgentStatus {
        version,
        node: name.to_owned(),
        boot_id: boot_id()?,
        running,
        volatile,
        ..AgentStatus::default()
    })
}

/// Returns the kernel's id of this boot.
pub(crate) fn boot_id() -> Result<String, String> {
    match std::fs::read_to_string(BOOT_ID) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Ok(_) => Err(format!("{BOOT_ID} is empty")),
        Err(error) => Err(format!("{BOOT_ID} cannot be read: {error}")),
    }
}

/// Returns the time since the boot, or zero if the kernel does not report it.
pub(crate) fn uptime() -> Duration {
    let text = std::fs::read_to_string(UPTIME).unwrap_or_default();
    let seconds = text.split('.').next().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// Looks up a user's uid, each time anew: the name service may not have been up when the agent started.
pub(crate) fn uid_of(user: &str) -> Option<u32> {
    User::from_name(user).ok().flatten().map(|user| user.uid.as_raw())
}
