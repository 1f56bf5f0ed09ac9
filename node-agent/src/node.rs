//! Which node this is, and which boot of it.

use crate::changes;
use crate::config::Config;
use crate::log;
use rollout_core::protocol::answer::AgentStatus;
use std::time::Duration;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";

/// The node's NodeName: configured, or the host name up to its first dot.
pub(crate) fn name(config: &Config) -> Result<String, String> {
    if let Some(name) = &config.node_name {
        return Ok(name.clone());
    }
    let host =
        nix::unistd::gethostname().map_err(|error| format!("the host name cannot be read: {error}"))?;
    let host = host.to_string_lossy();
    match host.split('.').next() {
        // What it is before the network has given it one.
        Some("localhost") => Err("the host name is still localhost".to_owned()),
        Some(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => {
            Err(format!("the host name {host:?} gives no NodeName; set node_name in {}", crate::config::PATH))
        }
    }
}

/// What this node is, for as long as it runs.
pub(crate) fn itself(name: &str, volatile: bool) -> Result<AgentStatus, String> {
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

/// The kernel's id of this boot.
pub(crate) fn boot_id() -> Result<String, String> {
    match std::fs::read_to_string(BOOT_ID) {
        Ok(id) if !id.trim().is_empty() => Ok(id.trim().to_owned()),
        Ok(_) => Err(format!("{BOOT_ID} is empty")),
        Err(error) => Err(format!("{BOOT_ID} cannot be read: {error}")),
    }
}

/// How long the kernel has been running; zero if it does not say.
pub(crate) fn uptime() -> Duration {
    let text = std::fs::read_to_string(UPTIME).unwrap_or_default();
    let seconds = text.split('.').next().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}
