//! The verbs of the command line, except the daemon.

pub(crate) mod client;
pub(crate) mod command_line;
pub(crate) mod doctor;
pub(crate) mod gate;
pub(crate) mod reboot_node;
pub(crate) mod rescue;
