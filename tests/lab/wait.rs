//! Waiting for something to become true, with a limit.

use std::time::{Duration, Instant};

use crate::error::{LabError, Result};

/// Limit of every wait for a step of a rollout. A step takes seconds; this much is for a machine of two cores on which
/// five clusters boot at the same time. A wait ends as soon as its condition holds.
pub const MINUTES: Duration = Duration::from_secs(400);

const POLL: Duration = Duration::from_millis(200);

/// Asks again and again until `accept` holds and returns the accepted answer. The error has the last answer.
///
/// An assertion on something that is set *after* what was waited for before is a race: wait for that, too.
pub fn until<T: std::fmt::Debug>(
    what: &str,
    limit: Duration,
    ask: impl Fn() -> Result<T>,
    accept: impl Fn(&T) -> bool,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        let seen = ask();
        match seen {
            Ok(seen) if accept(&seen) => return Ok(seen),
            _ if Instant::now() > end => {
                return Err(LabError::Timeout {
                    what: what.to_owned(),
                    after: limit,
                    seen: format!("{seen:?}"),
                });
            }
            _ => std::thread::sleep(POLL),
        }
    }
}
