//! Access to the machine, shared by the controller's programs and the node agent: programs, durable files, MUNGE,
//! scontrol, configuration files, exit codes and the clock.
//!
//! This crate makes no decisions. It must stay free of name service lookups (NSS), because the static reboot-program
//! links it.

pub mod clock;
pub mod config;
pub mod durable;
pub mod exit_code;
pub mod munge;
pub mod order_key;
pub mod process;
pub mod random;
pub mod reboot_program;
pub mod regular_file;
pub mod run;
pub mod scontrol;
pub mod sealing;
pub mod trust;
