//! Parts of `slurm-rollout` that are a library: the command line, from which manual pages and completions are made as
//! well, and the groups of nodes.

pub mod args;
pub mod groups;
