//! Slurm's own text: the configuration that a cluster gets, and node states as `scontrol` prints them.

pub(crate) mod conf;
pub(crate) mod node_state;
