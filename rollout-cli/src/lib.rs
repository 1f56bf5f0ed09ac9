//! Parts of `slurm-rollout` that are a library: the command line, from which manual pages and completions are made as
//! well, the groups of nodes, and the executor of started rollouts.

pub mod args;
pub mod executor;
pub mod groups;
