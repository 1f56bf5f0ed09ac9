//! The controller's side of slurm-rollout with its I/O: the state directory, and sending orders to many agents.
//!
//! Used by reboot-program, which is static and small, and by the CLI. rollout-core decides; this crate reads, locks,
//! writes, seals and sends. It must not look up names through NSS.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | `/etc/slurm-rollout/controller.toml` |
//! | [`store`] | the state directory: manifests, journals, the lock |
//! | [`agents`] | talking to one agent and to many |
//! | [`boot`] | changing what nodes boot from, and restoring it |
//! | [`hand_over`] | one invocation of RebootProgram |
//! | [`reconcile`] | the same for nodes whose invocation got lost |
//! | [`follow_up`] | nodes that need instructions after their order was accepted |
//! | [`held`] | telling held nodes to retry, or to return to service |
//! | [`pre_stage`] | giving agents staged orders in advance, if slurmd runs RebootProgram |
//! | [`mod@rehearse`] | asking agents what an order would do |
//! | [`power`] | switching nodes on and off, and reading their power |
//! | [`survey`] | asking Slurm and the agents for the present state |

pub mod agents;
pub mod boot;
pub mod config;
pub mod follow_up;
pub mod hand_over;
pub mod held;
pub mod power;
pub mod pre_stage;
pub mod reconcile;
pub mod rehearse;
pub mod store;
pub mod survey;
mod template;
