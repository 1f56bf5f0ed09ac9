//! The node's dealings with Slurm: its own entry in slurmctld, and slurmd.

pub(crate) mod conf_server;
pub(crate) mod node;
pub(crate) mod slurmd;
pub(crate) mod slurmd_options;
