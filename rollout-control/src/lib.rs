//! The controller's side of slurm-rollout with its I/O: the state directory, and sending orders to many agents.
//!
//! Used by reboot-program, which is static and small, and by the CLI. rollout-core decides; this crate reads, locks, writes, seals
//! and sends. It must not look up names through NSS.
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
//! | [`pre_stage`] | giving agents in advance what slurmd will have them apply |

pub mod agents;
pub mod boot;
pub mod config;
pub mod follow_up;
pub mod hand_over;
pub mod pre_stage;
pub mod reconcile;
pub mod store;
