//! A period of time as people write it: `"30m"`, `"1h30m"`, `"7d"`.
//!
//! It differs from [`rollout_core::time_limit::TimeLimit`] in its range: jobs and soaks may take days.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The longest period that is accepted.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

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
        let wrong = || NotAPeriod(text.chars().take(40).collect());
        let (mut seconds, mut rest): (u64, &str) = (0, text);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest.get(..digits).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
            let unit = match rest.as_bytes().get(digits) {
                Some(b's') => 1,
                Some(b'm') => 60,
                Some(b'h') => 3600,
                Some(b'd') => 24 * 3600,
                _ => return Err(wrong()),
            };
            seconds =
                number.checked_mul(unit).and_then(|more| more.checked_add(seconds)).ok_or_else(wrong)?;
            rest = rest.get(digits + 1..).unwrap_or("");
        }
        let period = Duration::from_secs(seconds);
        if period.is_zero() || period > LONGEST { Err(wrong()) } else { Ok(Self(period)) }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let parts = [
            (seconds / 86400, 'd'),
            (seconds / 3600 % 24, 'h'),
            (seconds / 60 % 60, 'm'),
            (seconds % 60, 's'),
        ];
        parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
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
