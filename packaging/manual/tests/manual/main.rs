//! Tests of the generated manual with the programs that display and use it.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

mod completions;
mod generated;
mod hooks;
mod pages;
