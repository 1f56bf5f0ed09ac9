//! Everything that slurm-rollout decides, without any I/O.
//!
//! No files, sockets, processes, threads or clock: times, boot ids and file contents come in as arguments, and
//! decisions go out as values. Every rule can therefore be tested as a table.
//!
//! | module | holds |
//! |---|---|
//! | [`text`], [`time_limit`], [`hostlist`] | text in one line, durations and Slurm's node lists |
//! | [`nodeset`] | ClusterShell's node expressions |
//! | [`slurm`] | the output of `scontrol` as types, and the meaning of Slurm's states and Reasons |
//! | [`rollout`] | a rollout as it is stored: manifest, images, journal, undo |
//! | [`protocol`] | the messages between controller and agents |
//! | [`agent`] | the agent of one node: phases, ledger, gate |
//! | [`controller`] | the controller's decisions about nodes |
//! | [`doctor`] | findings about an installation, with the remedy |
#![forbid(unsafe_code)]

pub mod agent;
pub mod controller;
pub mod doctor;
pub mod hostlist;
pub mod nodeset;
pub mod protocol;
pub mod rollout;
pub mod slurm;
pub mod text;
pub mod time_limit;
