//! The power of nodes: one narrow trait, and a file for each provider. [`switching`] is the only user.
//!
//! A provider asks for a state or requests a change, of one node. It neither waits for the change nor repeats a request.
//! Providers do not depend on Slurm, journals or agents.

pub mod assigned;
pub mod config;
pub mod credentials;
pub mod question;
pub mod switching;

mod address;
mod command;
mod ipmi;
mod powerman;
mod program;
mod provider;
mod redfish;

pub use address::Address;
pub use assigned::{Assigned, PowerTable, assign, targets};
pub use config::PowerConfig;
pub use provider::{Programs, provider};

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Power of a node, as far as it is known for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerState {
    On,
    Off,
}

/// A change of a node's power that can be requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    On,
    /// Cuts the power.
    Off,
    /// Asks the node's system to shut down.
    SoftOff,
}

/// A node as providers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub node: String,
    /// Its address, or its name at the provider.
    pub address: Address,
    /// Path of its system in Redfish, if the table has one.
    pub system: Option<String>,
}

/// A provider. All calls can be repeated, and all end within `limit` and the time to kill a program.
pub trait Power: Send + Sync {
    /// Returns the power of a node.
    ///
    /// # Errors
    /// The reason for not knowing it. No state is assumed.
    fn status(&self, target: &Target, limit: Duration) -> Result<PowerState, String>;

    /// Requests a change. The node may take its time.
    ///
    /// # Errors
    /// The reason for which the request was refused, or may not have arrived.
    fn switch(&self, target: &Target, switch: Switch, limit: Duration) -> Result<(), String>;
}

impl PowerState {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Switch {
    pub const ALL: [Self; 3] = [Self::On, Self::Off, Self::SoftOff];

    /// Returns the word for it on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::SoftOff => "soft-off",
        }
    }

    /// Returns the state that it leads to.
    #[must_use]
    pub fn leads_to(self) -> PowerState {
        match self {
            Self::On => PowerState::On,
            Self::Off | Self::SoftOff => PowerState::Off,
        }
    }
}
