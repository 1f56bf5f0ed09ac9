//! Sealing orders with MUNGE: the credential proves the sender's uid and is for root on the nodes alone.

use crate::config::Config;
use rollout_core::protocol::order::Order;
use rollout_host::munge::MungeError;

/// Agents run as root, so nobody else on their nodes can open an order.
const READER_UID: u32 = 0;

/// An order could not be sealed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    #[error(transparent)]
    Encode(#[from] serde_json::Error),
    #[error(transparent)]
    Munge(#[from] MungeError),
}

/// Returns the order as the text to send to agents. It is good for one use on each host.
///
/// # Errors
/// If munged cannot be asked or refuses.
pub fn seal(config: &Config, order: &Order) -> Result<String, SealError> {
    Ok(config.munge().seal(&serde_json::to_vec(order)?, READER_UID)?)
}
