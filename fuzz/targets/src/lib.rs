//! Fuzz targets: functions that parse bytes which we did not write, and panic if our code violates an invariant.
//!
//! They are called by an ordinary test with the seeds and mutations of the seeds (`tests/mutations.rs`, part of
//! `./check`), and by libFuzzer with inputs that reach further code (`fuzz/README.md`). Input of `connection` comes
//! from strangers, input of `order` from users who may send orders to the node. All other input comes from people,
//! other versions and damage to files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these functions report violations by panicking")]

mod files;
mod jobs;
mod mutation;
mod nodesets;
mod peers;
mod slurm;
mod texts;

pub use mutation::Mutations;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the target. Its seeds are in `fuzz/seeds/NAME`.
    pub name: &'static str,
    /// Panics if an invariant is violated.
    pub run: fn(&[u8]),
}

/// All targets, by name.
pub const TARGETS: [Target; 12] = [
    Target { name: "config", run: texts::config },
    Target { name: "connection", run: peers::connection },
    Target { name: "hostlist", run: texts::hostlist },
    Target { name: "jobs", run: jobs::jobs },
    Target { name: "journal", run: files::journal },
    Target { name: "ledger", run: files::ledger },
    Target { name: "manifest", run: texts::manifest },
    Target { name: "munged", run: peers::munged },
    Target { name: "nodeset", run: nodesets::nodeset },
    Target { name: "order", run: peers::order },
    Target { name: "scontrol", run: slurm::scontrol },
    Target { name: "staged", run: files::staged },
];

/// Returns the target with this name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}

/// Asserts that a text for logs, terminals and Reasons is one line, whatever it quotes.
#[track_caller]
fn assert_one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
