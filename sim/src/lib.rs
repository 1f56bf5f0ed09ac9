//! Simulation of started rollouts: the planner, the journal and the agent that ship, against a model of slurmctld.
#![forbid(unsafe_code)]

pub mod rng;
pub mod slurm;
