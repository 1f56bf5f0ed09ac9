//! The controller's decisions about nodes, as pure functions of a [`view::View`] or its [`snapshot::Snapshot`].
//!
//! | module | holds |
//! |---|---|
//! | [`snapshot`] | the state directory, read once |
//! | [`view`] | the same with Slurm's state and the agents' answers |
//! | [`staging`] | the nodes that a manifest can be staged for |
//! | [`node_states`] | nodes that `scontrol reboot` does not reach |
//! | [`pre_staging`] | orders that agents must hold in advance |
//! | [`hand_over`] | the nodes that Slurm hands to RebootProgram |
//! | [`lost_nodes`] | nodes that accepted their order and did not come back |
//! | [`lost_orders`] | orders that never reached an agent |
//! | [`follow_up`] | steps that are due after an order was sent |
//! | [`held`] | `retry` and `release` |
//! | [`rehearsal`] | `rehearse` |
//! | [`reversal`] | `undo` |
//! | [`conduct`] | `start`, `pause`, `resume`, `stop` and `approve` |
//! | [`freeze`] | `freeze` and `thaw` |
//! | [`lease`] | the process that looks after started rollouts |
//! | [`pace`] | the time that a rollout takes |
//! | [`power`] | `power off` and `power cycle` |
//! | [`closing`] | rollouts that are over, and their retention |
//! | [`status`] | journal, agents and Slurm joined for display |

pub mod closing;
pub mod conduct;
pub mod follow_up;
pub mod freeze;
pub mod hand_over;
pub mod held;
pub mod lease;
pub mod lost_nodes;
pub mod lost_orders;
pub mod node_states;
pub mod pace;
pub mod power;
pub mod pre_staging;
pub mod rehearsal;
pub mod reversal;
pub mod snapshot;
pub mod staging;
pub mod status;
#[cfg(test)]
mod testing;
pub mod view;
