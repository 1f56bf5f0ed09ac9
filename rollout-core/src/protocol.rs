//! The messages between the controller and the agents: JSON over HTTP/1.1.
//!
//! | module | holds |
//! |---|---|
//! | [`order`] | orders to agents |
//! | [`answer`] | answers of agents, and the paths and limits of their HTTP interface |

pub mod answer;
pub mod order;
