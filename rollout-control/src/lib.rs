//! The controller's side of slurm-rollout with its I/O: the state directory, and sending orders to many agents.
//!
//! Used by reboot-program, which is static and small, and by the CLI. What is decided is decided in rollout-core;
//! this crate reads, locks, writes, seals and sends. It must not look up names through NSS.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | `/etc/slurm-rollout/controller.toml` |
//! | [`store`] | the state directory: manifests, journals, the lock |
//! | [`address`] | from NodeAddr to an IP address |
//! | [`agent_client`] | one HTTP exchange with one agent |
//! | [`boot_change`] | changing what nodes boot from, and putting it back, with a journal line before each |
//! | [`boot_source`] | what nodes boot from: the providers of images on the controller's side |
//! | [`ask`] | asking many agents at once where they stand
//! | [`dispatch`] | the same for many nodes at once, within a deadline |
//! | [`deliver`] | giving agents beforehand what slurmd will have them apply |
//! | [`hand_over`] | the whole of what an invocation of RebootProgram does |
//! | [`reconcile`] | the same for nodes whose invocation got lost |
//! | [`watch`] | looking after nodes that have to be told more than once |

pub mod address;
pub mod agent_client;
pub mod ask;
pub mod boot_change;
pub mod boot_source;
pub mod config;
pub mod deliver;
pub mod dispatch;
pub mod hand_over;
pub mod reconcile;
pub mod store;
pub mod watch;
