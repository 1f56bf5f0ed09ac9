//! Power of nodes through the real programs: ipmitool with ipmi_sim, powerman with powermand and its vpcd, and commands
//! of a site. `./install-prerequisites` installs them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, write files that need not last, and start daemons of its own"
)]

mod command;
mod ipmi;
mod powerman;
mod site;
