//! Calls of programs that switch power.

use rollout_core::text::one_line;
use rollout_host::run::{Program, RunError};
use std::path::Path;
use std::time::Duration;

/// Maximum time for a program to end by itself after its time limit.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// Length limit of the texts of a program, in characters.
const MAX_WHY: usize = 300;

/// Runs a program and returns its standard output.
///
/// # Errors
/// The end of what it printed, without its arguments.
pub(super) fn run(program: Program, path: &Path) -> Result<String, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    program.grace(GRACE).run().map(|output| output.stdout).map_err(|error| {
        let tail = |tail: &str| tail.trim_start_matches(": ").to_owned();
        let why = match &error {
            RunError::Start { source, .. } => format!("{} cannot be started: {source}", path.display()),
            RunError::TimedOut { limit, tail, .. } => {
                format!("{name} did not end within {} s and was killed{tail}", limit.as_secs())
            }
            RunError::Failed { tail: said, .. } if !said.is_empty() => format!("{name}: {}", tail(said)),
            RunError::Failed { status, .. } => format!("{name} ended with {status} and said nothing"),
            other => format!("{name}: {other}"),
        };
        one_line(&why, MAX_WHY)
    })
}

/// Returns the error for an output that is not understood.
pub(super) fn garbage(path: &Path, output: &str) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if output.trim().is_empty() {
        return format!("{name} printed nothing: the power is unknown");
    }
    one_line(&format!("{name} printed what is no power state: {output:.200}"), MAX_WHY)
}
