//! Runs the program and the tools of the tests.

use rollout_host::run::{Program, is_program};
use std::path::Path;
use std::time::Duration;

/// A time on 2023-11-14, in the afternoon.
pub const EPOCH: &str = "1700000000";

/// A temporary directory with `man` and `completions`, as the program writes them.
pub struct Generated(tempfile::TempDir);

impl Generated {
    /// Runs the program with a date.
    pub fn new() -> Self {
        Self::with(|program| program.env("SOURCE_DATE_EPOCH", EPOCH))
    }

    /// Runs the program with a modified environment.
    pub fn with(environment: impl Fn(Program) -> Program) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manual = Program::new(env!("CARGO_BIN_EXE_rollout-manual"), Duration::from_secs(60));
        environment(manual.arg(dir.path())).run().unwrap();
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Returns a program of the machine that runs the tests.
pub fn program(name: &str) -> Program {
    let path = format!("/usr/bin/{name}");
    assert!(is_program(Path::new(&path)), "{path} is missing: see install-prerequisites");
    Program::new(path, Duration::from_secs(60))
}
