//! What both sides of slurm-rollout need from the machine they run on: programs, durable files, MUNGE, scontrol,
//! configuration files and the clock.
//!
//! It decides nothing. It must stay free of name service lookups (NSS), because the static reboot-program links it.

pub mod clock;
pub mod config;
pub mod durable;
pub mod munge;
pub mod random;
pub mod run;
pub mod scontrol;
