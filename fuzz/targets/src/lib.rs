//! OrderKind everything that reads foreign bytes promises, as functions of these bytes that panic where a promise is broken.
//!
//! Two things call them: an ordinary test feeds them the seeds and mutations of those (`tests/mutations.rs`, part of
//! `./check`), and libFuzzer whatever finds its way deeper (`fuzz/README.md`). Strangers write what `connection` gets, who
//! may order a node `order`; damage, other versions and people write the rest.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is what these functions are for")]

mod files;
mod mutation;
mod peers;
mod slurm;
mod texts;

pub use mutation::Mutations;

/// A function of foreign bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name; its seeds are in `fuzz/seeds/NAME`.
    pub name: &'static str,
    /// Panics where a promise is broken.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 10] = [
    Target { name: "config", run: texts::config },
    Target { name: "connection", run: peers::connection },
    Target { name: "hostlist", run: texts::hostlist },
    Target { name: "journal", run: files::journal },
    Target { name: "ledger", run: files::ledger },
    Target { name: "manifest", run: texts::manifest },
    Target { name: "munged", run: peers::munged },
    Target { name: "order", run: peers::order },
    Target { name: "scontrol", run: slurm::scontrol },
    Target { name: "staged", run: files::staged },
];

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}

/// What goes to logs, terminals and Reasons is one line, whoever wrote what it quotes.
#[track_caller]
fn is_one_line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
