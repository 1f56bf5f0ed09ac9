//! A time limit as people write it: `"90s"`, `"10m"`, `"1h30m"`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest limit that is accepted. Slurm's own ResumeTimeout ends at 65533 s (about 18 h).
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A unit of time: its letter, and its seconds.
pub type Unit = (char, u64);

/// Units of a time limit, the longest first.
const UNITS: [Unit; 3] = [('h', 3600), ('m', 60), ('s', 1)];

/// A time limit of 1 second to [`LONGEST`], in whole seconds. TOML and JSON have it as text: `"10m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeLimit(Duration);

/// A text that is not a time limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time limit: write whole numbers with s, m or h, 1s to 24h, such as \"90s\", \"10m\" or \"1h30m\""
)]
pub struct NotATimeLimit(String);

impl TimeLimit {
    /// Returns a limit of this many seconds, clamped to the accepted range.
    #[must_use]
    pub fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds.max(1)).min(LONGEST))
    }

    /// Returns the limit as a duration.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for TimeLimit {
    type Err = NotATimeLimit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let limit = parse(text, &UNITS).filter(|limit| *limit <= LONGEST);
        limit.map(Self).ok_or_else(|| NotATimeLimit(text.chars().take(40).collect()))
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &UNITS)
    }
}

/// Parses whole numbers of these units, such as `1h30m`. Returns `None` for any other text, and for no time at all.
#[must_use]
pub fn parse(text: &str, units: &[Unit]) -> Option<Duration> {
    let (mut seconds, mut rest) = (0_u64, text);
    while let Some(at) = rest.find(|c: char| !c.is_ascii_digit()) {
        let (number, behind) = rest.split_at(at);
        let (_, length) = units.iter().find(|(letter, _)| behind.starts_with(*letter))?;
        seconds = number.parse::<u64>().ok()?.checked_mul(*length)?.checked_add(seconds)?;
        rest = behind.get(1..)?;
    }
    (rest.is_empty() && seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Writes a duration in these units, the longest first, without those of which it has none.
///
/// # Errors
/// If the formatter fails.
pub fn write(f: &mut fmt::Formatter<'_>, duration: Duration, units: &[Unit]) -> fmt::Result {
    let mut rest = duration.as_secs();
    for (letter, length) in units {
        let (number, behind) = (rest / length, rest % length);
        if number > 0 {
            write!(f, "{number}{letter}")?;
        }
        rest = behind;
    }
    Ok(())
}

impl TryFrom<String> for TimeLimit {
    type Error = NotATimeLimit;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TimeLimit> for String {
    fn from(limit: TimeLimit) -> Self {
        limit.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_and_prints_it_back() {
        for (text, seconds, printed) in
            [("90s", 90, "1m30s"), ("10m", 600, "10m"), ("1h30m", 5400, "1h30m"), ("24h", 86400, "24h")]
        {
            let limit: TimeLimit = text.parse().unwrap();
            assert_eq!(limit.get().as_secs(), seconds);
            assert_eq!(limit.to_string(), printed);
            assert_eq!(printed.parse::<TimeLimit>().unwrap(), limit);
        }
    }

    #[test]
    fn refuses_what_is_not_a_limit() {
        for text in [
            "",
            "10",
            "m",
            "10 m",
            "0s",
            "25h",
            "-1s",
            "1d",
            "1.5h",
            "99999999999999999999s",
            "9999999999999999999h",
        ] {
            assert!(text.parse::<TimeLimit>().is_err(), "{text:?}");
        }
    }
}
