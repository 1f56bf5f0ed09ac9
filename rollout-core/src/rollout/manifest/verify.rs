//! Checks after the boot: `[verify]`.

use crate::time_limit::TimeLimit;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

/// Checks after the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// Commands with their arguments, run without a shell. Each must exit with 0, and is tried until it does.
    #[serde(default)]
    pub commands: Vec<Vec<String>>,
    /// Paths that must become mount points within the timeout.
    #[serde(default)]
    pub mounts: Vec<String>,
    /// Time limit for all checks together.
    #[serde(default = "default_verify_timeout")]
    pub timeout: TimeLimit,
    /// Time limit of one try of a command. `None` leaves it the rest of `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_timeout: Option<TimeLimit>,
    /// Time limit for slurmd's start and its registration. Left out at its default, so that older agents take the
    /// order.
    #[serde(
        default = "default_registration_timeout",
        skip_serializing_if = "is_default_registration_timeout"
    )]
    pub registration_timeout: TimeLimit,
    /// Fate of the node once its changes are undone, if applying or verifying failed.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// The job that qualifies the first nodes of a wave. rollout-plan alone knows its keys.
    #[serde(default, skip_serializing)]
    pub job: PassedOver,
}

/// A part of a manifest that no order carries, and that is not read here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PassedOver;

impl<'de> Deserialize<'de> for PassedOver {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// Fate of a node whose changes were undone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is given back on its old version.
    #[default]
    Rollback,
    /// It is kept out of service until an admin runs `retry` or `release`.
    Hold,
}

impl Default for Verify {
    fn default() -> Self {
        Self {
            commands: Vec::new(),
            mounts: Vec::new(),
            timeout: default_verify_timeout(),
            command_timeout: None,
            registration_timeout: default_registration_timeout(),
            on_failure: OnFailure::default(),
            job: PassedOver,
        }
    }
}

fn default_verify_timeout() -> TimeLimit {
    TimeLimit::from_secs(5 * 60)
}

fn default_registration_timeout() -> TimeLimit {
    TimeLimit::from_secs(5 * 60)
}

fn is_default_registration_timeout(limit: &TimeLimit) -> bool {
    *limit == default_registration_timeout()
}
