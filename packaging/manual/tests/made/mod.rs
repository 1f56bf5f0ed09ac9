//! The manual as the program writes it.

use rollout_host::run::{Program, is_program};
use std::path::Path;
use std::time::Duration;

/// 2023-11-14, in the afternoon.
pub const EPOCH: &str = "1700000000";

/// A directory with `man` and `completions`.
pub struct Made(tempfile::TempDir);

impl Made {
    /// Made with a date.
    pub fn new() -> Self {
        Self::with(|program| program.env("SOURCE_DATE_EPOCH", EPOCH))
    }

    /// Made with this environment.
    pub fn with(environment: impl Fn(Program) -> Program) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let manual = Program::new(env!("CARGO_BIN_EXE_rollout-manual"), Duration::from_secs(60));
        environment(manual.arg(dir.path())).run().unwrap();
        Self(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A program of the machine that runs the tests.
pub fn program(name: &str) -> Program {
    let path = format!("/usr/bin/{name}");
    assert!(is_program(Path::new(&path)), "{path} is missing: see install-prerequisites");
    Program::new(path, Duration::from_secs(60))
}
