//! The decisions of the agent on one node.
//!
//! | module | holds |
//! |---|---|
//! | [`phase`] | `step(phase, event)`: the life of an order on its node |
//! | [`ledger`] | the agent's record of the order it carries out |

pub mod ledger;
pub mod phase;
