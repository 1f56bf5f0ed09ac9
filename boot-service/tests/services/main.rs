//! Services that behave as the published ones, and the program that speaks with them.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

mod bos;
mod bss;
mod program;
mod server;
