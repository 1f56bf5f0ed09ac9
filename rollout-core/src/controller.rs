//! The controller's decisions about nodes.
//!
//! | module | holds |
//! |---|---|
//! | [`hand_over`] | the nodes that Slurm hands to RebootProgram |
//! | [`lost_orders`] | orders that never reached an agent |
//! | [`follow_up`] | nodes that need instructions after their order was accepted |
//! | [`status`] | journal, agents and Slurm joined for display |

pub mod follow_up;
pub mod hand_over;
pub mod lost_orders;
pub mod status;
