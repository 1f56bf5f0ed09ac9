//! The journal of a rollout: one JSON line for each thing that happened to its nodes, and [`replay`], which reduces
//! these lines to a record for each node.
//!
//! Replay takes any lines in any order and never fails. Torn lines and lines of a newer format are skipped.
//!
//! Every line about an order names that order. A line about an order that is not the node's last one is late news and
//! changes nothing.
//!
//! [`JournalState`] has the state of a started rollout as well. Its lines change no order.

mod conduct;
mod entry;
mod hook;
mod progress;
mod qualification;
mod record;
mod request;

pub use conduct::{Conduct, ConductState, JobEnd, JobRecord, JournalState};
pub use entry::{Booted, Entry, Line, lines};
pub use hook::{AfterFailure, HookCall, HookCalls, HookFailure, Hooks, Moment, OpenCall};
pub use progress::Progress;
pub use qualification::{Outcome, Qualification, Run};
pub use record::{BootChange, NodeRecord, NodeRecords, Restoration, replay, replay_line};
pub use request::{KeptOut, Request, Way};

#[cfg(test)]
mod tests;
