//! The output of `scontrol` and `squeue` as types, and the meaning of Slurm's states and Reasons. Read against Slurm
//! 22.05 to 26.05.
//!
//! | module | holds |
//! |---|---|
//! | [`addresses`] | NodeAddr of nodes |
//! | [`availability`] | whether jobs can start on a node, by its state |
//! | [`jobs`] | `squeue`, and when the jobs of a node end |
//! | [`partitions`] | `scontrol show part` |
//! | [`reservations`] | `scontrol show res` |
//! | [`patience`] | ResumeTimeout, compared with the time that nodes take |
//! | [`parsed`] | records that were read, and lines that could not be |
//! | [`next_state`] | drains from before a reboot, as Slurm remembers them |
//! | [`groups`] | groups of nodes: partitions, features, states |
//! | [`node`] | `scontrol show node` |
//! | [`node_name`] | the NodeName of a host |
//! | [`reason`] | the Reason of a node: ours, that of a reboot, or that of others |
//! | [`config`] | `scontrol show config` |
//! | [`controllers`] | the hosts of slurmctld, and the role of a host |
//! | [`drains`] | drains set by others, which outlive a rollout |
//! | [`hand_over_mode`] | the daemon that runs RebootProgram, by Slurm's configuration |

pub mod addresses;
pub mod availability;
pub mod config;
pub mod controllers;
pub mod drains;
mod fields;
pub mod groups;
pub mod hand_over_mode;
pub mod jobs;
pub mod next_state;
pub mod node;
pub mod node_name;
pub mod parsed;
pub mod partitions;
pub mod patience;
pub mod reason;
pub mod reservations;
