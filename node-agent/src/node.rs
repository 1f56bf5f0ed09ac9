//! The node's identity: its name, its boot, its users.

use crate::changes;
use crate::config::Config;
use crate::log;
use nix::unistd::User;
use rollout_core::protocol::answer::AgentStatus;
use std::time::Duration;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";

/// Returns the node's NodeName: the configured one, or the host name up to its first dot.
pub(crate) fn name(config: &Config) -> Result<String, String> {
    if let Some(name) = &config.node_name {
        return Ok(name.clone());
    }
    let host =
        nix::unistd::gethostname().map_err(|error| format!("the host name cannot be read: {error}"))?;
    let host = host.to_string_lossy();
    match host.split('.').next() {
        // The host name before the network has provided one.
        Some("localhost") => Err("the host name is still localhost".to_owned()),
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => {
            Err(format!("the host name {host:?} gives no NodeName; set node_name in {}", crate::config::PATH))
        }
    }
}

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
