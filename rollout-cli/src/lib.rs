//! The command line of `slurm-rollout`, as a library: the program parses it, and manual pages and completions are made
//! from it.

#[allow(missing_docs, reason = "documentation on an argument is its help text")]
pub mod args;
