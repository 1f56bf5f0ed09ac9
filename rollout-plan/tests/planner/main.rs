//! The planner, through its public interface: scripted scenarios, and properties of any plan.

#![allow(clippy::unwrap_used)]

mod forecast;
mod properties;
mod scenarios;
mod script;
mod world;
