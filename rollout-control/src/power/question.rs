//! Input and output of our program that speaks Redfish.

use super::credentials::Credentials;
use super::{Address, PowerState};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Name of the service in the program's arguments, before the verb.
pub const SERVICE: &str = "redfish";

/// Verb that asks for the power. The others are those of [`Switch`](super::Switch).
pub const STATUS: &str = "status";

/// Input of the program, about one node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerQuestion {
    /// Time limit after which the program is killed.
    pub within_ms: u64,
    pub address: Address,
    pub credentials: Credentials,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// Output of the program: the power if it was asked for, or an error.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PowerAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub power: Option<PowerState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
