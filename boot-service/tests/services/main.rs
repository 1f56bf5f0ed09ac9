//! Tests against services that behave like the published ones, and tests of the program itself.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may end with any panic, which clippy knows only of #[test] functions, and start daemons"
)]

mod bos;
mod bss;
mod openchami;
mod program;
mod redfish;
mod server;
mod sushy;
