//! Errors of the lab. Tests print them, so each has all details.

use std::io;
use std::path::Path;
use std::time::Duration;

/// Result of a function of the lab.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Failure of the lab itself, or of a command that it ran.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A command did not end with 0.
    #[error("`{command}` ended with {code:?}: {stderr}{stdout}")]
    Command {
        /// The command as it was started, without the way into the node.
        command: String,
        /// Its exit code; `None` if a signal ended it.
        code: Option<i32>,
        /// The end of what it wrote to stderr.
        stderr: String,
        /// The end of what it wrote to stdout.
        stdout: String,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// The attempt, and its path.
        what: String,
        source: io::Error,
    },
    /// A wait has reached its limit.
    #[error("{what} did not happen within {after:?}; last seen: {seen}")]
    Timeout {
        what: String,
        after: Duration,
        /// The last state that was seen.
        seen: String,
    },
    /// The node has no power, or is between two boots.
    #[error("node {0} is not running")]
    Off(String),
    /// This machine, or the request, cannot make a lab.
    #[error("{0}")]
    Setup(String),
}

/// Adds the attempt to an I/O error.
pub(crate) trait IoContext<T> {
    /// Adds a verb and a path.
    fn on(self, verb: &str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn on(self, verb: &str, path: &Path) -> Result<T> {
        self.map_err(|source| LabError::Io {
            what: format!("{verb} {}", path.display()),
            source: source.into(),
        })
    }
}
