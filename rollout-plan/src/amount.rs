//! Amounts of nodes: a count, or a percentage of a total.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A count or a percentage, written as `12`, `"12"` or `"5%"`. At least one.
///
/// A percentage of a total is rounded to the careful side: see [`Amount::limit_of`] and [`Amount::floor_of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount {
    /// A number of nodes.
    Count(u32),
    /// A percentage, 1 to 100.
    Percent(u8),
}

/// A text that is not an amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAnAmount(String);

impl fmt::Display for NotAnAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no amount: write a count from 1 such as 12, or \"1%\" to \"100%\"", self.0)
    }
}

impl std::error::Error for NotAnAmount {}

impl Amount {
    /// Returns the amount as an upper limit: rounded down, but at least 1. It may exceed the total.
    #[must_use]
    pub fn limit_of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => as_usize(count),
            Self::Percent(percent) => hundredths(total, percent).0.max(1),
        }
    }

    /// Returns the amount as a lower limit: rounded up. It may exceed the total.
    #[must_use]
    pub fn floor_of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => as_usize(count),
            Self::Percent(percent) => {
                let (whole, rest) = hundredths(total, percent);
                if rest { whole.saturating_add(1) } else { whole }
            }
        }
    }
}

/// Returns the whole part of the percentage, and if there is a rest.
fn hundredths(total: usize, percent: u8) -> (usize, bool) {
    let percent = usize::from(percent);
    // Exact without overflow, because the total is split first.
    let (hundreds, rest) = (total / 100, total % 100);
    (hundreds.saturating_mul(percent).saturating_add(rest * percent / 100), rest * percent % 100 != 0)
}

fn as_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl FromStr for Amount {
    type Err = NotAnAmount;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || NotAnAmount(text.chars().take(40).collect());
        let (digits, is_percent) = match text.strip_suffix('%') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u32 = digits.parse().map_err(|_| wrong())?;
        match (number, is_percent) {
            (0, _) => Err(wrong()),
            (_, false) => Ok(Self::Count(number)),
            (1..=100, true) => u8::try_from(number).map(Self::Percent).map_err(|_| wrong()),
            (_, true) => Err(wrong()),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AmountVisitor)
    }
}

struct AmountVisitor;

impl Visitor<'_> for AmountVisitor {
    type Value = Amount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a count from 1 such as 12, or \"1%\" to \"100%\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Amount, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Amount, E> {
        match u32::try_from(number) {
            Ok(count @ 1..) => Ok(Amount::Count(count)),
            _ => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Amount, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Key {
        a: Amount,
    }

    #[test]
    fn reads_integers_and_text_and_writes_text() {
        for (written, amount, text) in [
            ("12", Amount::Count(12), "12"),
            ("'12'", Amount::Count(12), "12"),
            ("'012'", Amount::Count(12), "12"),
            ("'5%'", Amount::Percent(5), "5%"),
            ("'100%'", Amount::Percent(100), "100%"),
        ] {
            let key: Key = toml::from_str(&format!("a = {written}")).unwrap();
            assert_eq!(key, Key { a: amount }, "{written}");
            assert_eq!(amount.to_string(), text);
            assert_eq!(serde_json::to_string(&key).unwrap(), format!("{{\"a\":\"{text}\"}}"));
        }
    }

    #[test]
    fn refuses_what_is_no_amount_with_its_line() {
        for written in [
            "0",
            "-1",
            "'0'",
            "'0%'",
            "'101%'",
            "''",
            "'%'",
            "'5 %'",
            "'1.5%'",
            "'-1'",
            "'+1'",
            "4294967296",
            "1.5",
            "true",
            "'٣'",
        ] {
            let error = toml::from_str::<Key>(&format!("\na = {written}")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains("\"100%\""), "{written}: {error}");
        }
    }

    #[test]
    fn a_limit_rounds_down_to_at_least_one_and_a_floor_rounds_up() {
        for (text, total, limit, floor) in [
            ("5%", 100, 5, 5),
            ("5%", 119, 5, 6),
            ("5%", 1, 1, 1),
            ("5%", 0, 1, 0),
            ("100%", 7, 7, 7),
            ("80%", 16, 12, 13),
            ("12", 4, 12, 12),
            ("99%", usize::MAX, usize::MAX / 100 * 99 + 14, usize::MAX / 100 * 99 + 15),
        ] {
            let amount: Amount = text.parse().unwrap();
            assert_eq!((amount.limit_of(total), amount.floor_of(total)), (limit, floor), "{text} of {total}");
        }
    }

    proptest! {
        #[test]
        fn percentages_are_the_exact_ones(total in 0usize..1_000_000, percent in 1u8..=100) {
            let amount = Amount::Percent(percent);
            let (limit, floor) = (amount.limit_of(total), amount.floor_of(total));
            prop_assert_eq!(limit, (total * usize::from(percent) / 100).max(1));
            prop_assert_eq!(floor, (total * usize::from(percent)).div_ceil(100));
            prop_assert!(floor <= total);
        }
    }
}
