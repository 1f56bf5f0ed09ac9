//! The command line of `slurm-rollout`, as a library: the program parses it, and manual pages and completions are made
//! from it.

pub mod args;
