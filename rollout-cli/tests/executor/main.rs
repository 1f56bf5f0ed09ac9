//! The executor of started rollouts, with scripts in place of Slurm's commands that keep the state of nodes in files.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, write files that need not last, and start programs of its own"
)]

mod failed_before;
mod killed;
mod reserved;
mod shown;
mod site;
mod ticks;
mod visits;
