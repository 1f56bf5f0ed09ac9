//! Sealing orders: the credential proves that SlurmUser or root gave them.

use crate::config::Config;
use rollout_core::protocol::order::Order;
use rollout_host::sealing::SealingError;

/// An order could not be sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    #[error(transparent)]
    Encode(#[from] serde_json::Error),
    #[error(transparent)]
    Sealing(#[from] SealingError),
}

/// Returns the order as the text to send to agents. It is good for one use on each host.
///
/// # Errors
/// If munged cannot be asked or refuses, or the key cannot be used.
pub fn seal(config: &Config, order: &Order) -> Result<String, SealError> {
    Ok(config.sealing().seal(&serde_json::to_string(order)?)?)
}
