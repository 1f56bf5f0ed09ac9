//! A time limit as people write it: `"90s"`, `"10m"`, `"1h30m"`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest limit that is accepted. Slurm's own ResumeTimeout ends at 65533 s (about 18 h).
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

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
        let wrong = || NotATimeLimit(text.chars().take(40).collect());
        let mut seconds: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest.get(..digits).and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
            let unit = match rest.as_bytes().get(digits) {
                Some(b's') => 1,
                Some(b'm') => 60,
                Some(b'h') => 3600,
                _ => return Err(wrong()),
            };
            seconds = number.checked_mul(unit).and_then(|n| n.checked_add(seconds)).ok_or_else(wrong)?;
            rest = rest.get(digits + 1..).unwrap_or("");
        }
        let limit = Duration::from_secs(seconds);
        if limit.is_zero() || limit > LONGEST { Err(wrong()) } else { Ok(Self(limit)) }
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        for (amount, unit) in [(seconds / 3600, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')] {
            if amount > 0 {
                write!(f, "{amount}{unit}")?;
            }
        }
        Ok(())
    }
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
