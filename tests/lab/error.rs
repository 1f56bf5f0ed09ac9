//! What can go wrong in the lab. Tests print these, so each carries all there is to know.

use std::io;
use std::path::Path;
use std::time::Duration;

/// The lab's result.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Why the lab could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A command ended with something else than 0.
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
        /// What was tried, and on which path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {after:?}; last seen: {seen}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
        /// What was there instead.
        seen: String,
    },
    /// The node has no power, or is between two boots.
    #[error("node {0} is not running")]
    Off(String),
    /// This machine, or what was asked for, cannot make a lab.
    #[error("{0}")]
    Setup(String),
}

/// Names what was tried when an I/O error passes by.
pub(crate) trait IoContext<T> {
    /// Says what was tried on which path.
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
