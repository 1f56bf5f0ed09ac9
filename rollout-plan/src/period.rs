//! A period of time as people write it: `"30m"`, `"1h30m"`, `"7d"`.
//!
//! It differs from [`rollout_core::time_limit::TimeLimit`] in its range: jobs and soaks may take days.

use rollout_core::time_limit::{Unit, parse, write};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest period that is accepted.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

const UNITS: [Unit; 4] = [('d', 24 * 3600), ('h', 3600), ('m', 60), ('s', 1)];

/// A period of 1 second to 365 days, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(Duration);

/// A text that is not a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAPeriod(String);

impl fmt::Display for NotAPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is no period: write whole numbers with s, m, h or d, 1s to 365d, such as \"30m\", \"1h30m\" or \"7d\"",
            self.0
        )
    }
}

impl std::error::Error for NotAPeriod {}

impl Period {
    /// Returns the period as a duration.
    #[must_use]
    pub fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for Period {
    type Err = NotAPeriod;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let period = parse(text, &UNITS).filter(|period| *period <= LONGEST);
        period.map(Self).ok_or_else(|| NotAPeriod(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, &UNITS)
    }
}

impl TryFrom<String> for Period {
    type Error = NotAPeriod;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds, printed) in
            [("90s", 90, "1m30s"), ("30m", 1800, "30m"), ("1h30m", 5400, "1h30m"), ("36h", 129_600, "1d12h")]
        {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.get().as_secs(), period.to_string().as_str()), (seconds, printed));
        }
        for text in ["", "10", "d", "1 d", "0s", "366d", "-1d", "1w", "1.5h", "99999999999999999999s"] {
            assert!(text.parse::<Period>().is_err(), "{text:?}");
        }
        assert!("213503982334602d".parse::<Period>().is_err(), "no overflow");
    }

    proptest! {
        #[test]
        fn text_and_period_are_the_same(seconds in 1u64..=365 * 86400) {
            let period = Period(Duration::from_secs(seconds));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
        }
    }
}
