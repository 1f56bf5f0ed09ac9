//! Tests against services that behave like the published ones, and tests of the program itself.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

mod bos;
mod bss;
mod openchami;
mod program;
mod server;
