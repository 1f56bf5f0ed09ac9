//! Slurm, as this node deals with it: its own entry in slurmctld, and slurmd.

pub(crate) mod node;
pub(crate) mod slurmd;
