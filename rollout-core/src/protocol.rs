//! The messages between the controller and the agents: JSON over HTTP/1.1.
//!
//! | module | holds |
//! |---|---|
//! | [`order`] | orders to agents |
//! | [`answer`] | answers of agents, and the paths and limits of their HTTP interface |
//! | [`rehearsal`] | reports of agents about rehearsals |

pub mod answer;
pub mod order;
pub mod rehearsal;
