//! What slurm-rollout knows and decides: hostlists, manifests, orders, phases, the journal, and Slurm's text as types.
//!
//! Everything here is pure. No files, sockets, processes, threads or clock: time, boot ids and file contents
//! come in as arguments, decisions go out as values. That is what lets every rule be tested as a table.
//!
//! | module | holds |
//! |---|---|
//! | [`hostlist`] | Slurm's node expressions: parse, expand, fold |
//! | [`manifest`] | the admin's TOML file, read and checked |
//! | [`order`] | what one invocation sends to the agents of some nodes |
//! | [`agent_api`] | what an agent answers |
//! | [`image`] | images that nodes boot, and what proves one |
//! | [`phase`] | `step(phase, event)`: the whole behaviour of an agent |
//! | [`ledger`] | the agent's record of the order it carries out, and the decisions taken from it alone |
//! | [`hand_over`] | what becomes of the nodes that Slurm hands to RebootProgram |
//! | [`drains`] | drains that somebody else set, which outlive a rollout |
//! | [`expect`] | nodes that have to be told after their boot what they should be |
//! | [`lost`] | orders that got lost between Slurm and a node |
//! | [`journal`] | the controller's record of a rollout, and its fold to a status for each node |
//! | [`slurm`] | `scontrol show node` as types, and what Slurm's states and Reasons mean to a rollout |
//! | [`slurm_config`] | `scontrol show config` as types |
//! | [`way`] | by which way Slurm hands nodes over |
//! | [`doctor`] | what is wrong with an installation, and what to do |
//! | [`undo`] | what brings nodes back to what they were before a rollout |
//! | [`status`] | journal, agents and Slurm joined to what a person is shown |
#![forbid(unsafe_code)]

pub mod agent_api;
pub mod doctor;
pub mod drains;
pub mod expect;
pub mod hand_over;
pub mod hostlist;
pub mod image;
pub mod journal;
pub mod ledger;
pub mod lost;
pub mod manifest;
pub mod order;
pub mod phase;
pub mod slurm;
pub mod slurm_config;
pub mod status;
pub mod time_limit;
pub mod undo;
pub mod way;
