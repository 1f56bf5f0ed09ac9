//! The daemon: the one loop that carries out orders.
//!
//! | module | holds |
//! |---|---|
//! | [`driver`] | the loop: persists, answers and executes |
//! | [`execute`] | the actions |
//! | [`verify`] | the proof of a node |
//! | [`reboot`] | rebooting, by force if needed |
//! | [`orphans`] | programs that an agent left behind when it died |
//! | [`boot_restored`] | the controller's notice that the boot source is restored |
//! | [`wait_for_instructions`] | a node without a ledger that waits for its instructions |

pub(crate) mod boot_restored;
pub(crate) mod driver;
pub(crate) mod execute;
pub(crate) mod orphans;
pub(crate) mod reboot;
pub(crate) mod verify;
pub(crate) mod wait_for_instructions;
