//! Communication with agents.
//!
//! | module | holds |
//! |---|---|
//! | [`address`] | NodeAddr of nodes, and resolving it to an IP address |
//! | [`client`] | one HTTP exchange with one agent |
//! | [`ask_all`] | one request to many agents |
//! | [`seal`] | sealing an order for agents |
//! | [`dispatch`] | work on many items with bounded threads and a deadline |

pub mod address;
pub mod ask_all;
pub mod client;
pub mod dispatch;
mod http;
pub mod seal;
