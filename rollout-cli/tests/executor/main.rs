//! The executor of started rollouts, with scripts in place of Slurm's commands that keep the state of nodes in files.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, write files that need not last, and start programs of its own"
)]

mod failed_before;
mod hooks;
mod jobs;
mod killed;
mod qualified;
mod reserved;
mod several;
mod shown;
mod site;
mod slow;
mod ticks;
mod visits;
