//! Simulation of started rollouts: the planner, the journal and the agent that ship run against a model of slurmctld,
//! with a virtual clock.
//!
//! One seed is one run: a cluster with its jobs, rollouts with their strategies, faults, and admins who act by hand.
//! The seed alone decides what happens, so that every failure can be repeated.
//!
//! | module | holds |
//! |---|---|
//! | [`rng`] | random numbers |
//! | [`slurm`] | slurmctld |
//! | [`host`] | nodes, with the real agent |
//! | [`store`] | the state directory, with the real journal |
//! | [`executor`] | the executor, with the real planner |
//! | [`hooks`] | programs that the executor calls |
//! | [`world`] | the clock and the events; RebootProgram, `reconcile`, admins |
//! | [`faults`] | what can go wrong |
//! | [`load`], [`scenario`] | jobs and runs from a seed |
//! | [`invariants`] | what must hold |
//! | [`compare`] | strategies on the same seeds |
#![forbid(unsafe_code)]

pub mod compare;
pub mod executor;
pub mod faults;
pub mod hooks;
pub mod host;
pub mod invariants;
pub mod load;
pub mod rng;
pub mod scenario;
pub mod slurm;
pub mod store;
pub mod world;

use invariants::Violation;
use scenario::Scenario;
use world::{Summary, World};

/// Runs one seed.
///
/// # Errors
/// The first invariant that does not hold, with the last events.
pub fn run(seed: u64) -> Result<Summary, Violation> {
    run_showing(seed, None)
}

/// Runs one seed. A violation has this many events.
///
/// # Errors
/// The first invariant that does not hold.
pub fn run_showing(seed: u64, events: Option<usize>) -> Result<Summary, Violation> {
    let invalid = |text| Violation { name: "scenario", text, trace: Vec::new() };
    let scenario = Scenario::random(seed).map_err(invalid)?;
    let mut world = World::new(scenario).map_err(invalid)?;
    world.shown = events.unwrap_or(world.shown);
    world.run()
}
