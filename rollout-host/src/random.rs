//! Random numbers from the kernel.

use crate::clock;
use rollout_core::protocol::order::OrderId;

/// Fills a buffer with bytes that no file system can compress.
///
/// # Errors
/// If the kernel gives none.
pub fn fill(bytes: &mut [u8]) -> std::io::Result<()> {
    getrandom::fill(bytes).map_err(|error| std::io::Error::other(error.to_string()))
}

/// Returns a new order id.
#[must_use]
pub fn order_id() -> OrderId {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // An order id must be unique, not secret. Time and process id are unique on one machine.
        bytes = ((u128::from(clock::now_ms()) << 64) | u128::from(std::process::id())).to_be_bytes();
    }
    OrderId::from_random(u128::from_be_bytes(bytes))
}
