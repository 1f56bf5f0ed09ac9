//! Faults that were found once, each as a short story: lines of journals, the answers of the agent, and the decision
//! that was wrong.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

#[path = "regressions/acknowledgements.rs"]
mod acknowledgements;
#[path = "regressions/boot_sources.rs"]
mod boot_sources;
#[path = "regressions/lost_answer.rs"]
mod lost_answer;
#[path = "regressions/other_rollouts.rs"]
mod other_rollouts;
#[path = "support/world.rs"]
mod world;
