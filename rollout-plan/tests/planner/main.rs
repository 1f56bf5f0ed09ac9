//! The planner, through its public interface: scripted scenarios, and properties of any plan.

#![allow(clippy::unwrap_used)]

mod deadlines;
mod forecast;
mod hooks;
mod properties;
mod reservations;
mod scenarios;
mod script;
mod world;
