//! Everything that is decided about started rollouts: the strategy of a rollout, the limits of the site, and the plan of
//! a tick.
//!
//! Nothing here does I/O or reads the clock. The one exception is in parsing: [`window`] looks a time zone up in the
//! system's time zone database. Afterwards the zone is a value like any other.

pub mod amount;
pub mod bad_version;
pub mod budget;
pub mod exclusive;
pub mod floor;
pub mod forecast;
pub mod group;
pub mod history;
pub mod hook;
pub mod limits;
mod node_sets;
pub mod period;
pub mod plan;
pub mod standing;
pub mod strategy;
pub mod why;
pub mod window;
pub mod working_set;

pub use node_sets::Resolve;

use rollout_core::rollout::manifest::ManifestError;

/// Returns the error about a value that TOML accepts and a strategy does not.
fn value(key: impl Into<String>, reason: impl Into<String>) -> ManifestError {
    ManifestError::Value { key: key.into(), reason: reason.into() }
}
