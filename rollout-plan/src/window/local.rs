//! Local times and days, and the instants that they stand for.

use jiff::Span;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::Deserialize;
use std::str::FromStr;

/// Returns the local date.
pub(super) fn date_of(time_ms: u64, zone: &TimeZone) -> Option<Date> {
    let time = Timestamp::from_millisecond(i64::try_from(time_ms).ok()?).ok()?;
    Some(zone.to_datetime(time).date())
}

/// Returns the date this many days later.
pub(super) fn plus_days(date: Date, days: i32) -> Option<Date> {
    let days: Span = Span::new().try_days(days).ok()?;
    date.checked_add(days).ok()
}

/// Returns the first instant at which clocks show `local`, or the first one after the gap if they skip it.
pub(super) fn first(local: DateTime, zone: &TimeZone) -> Option<u64> {
    let time = zone.to_ambiguous_timestamp(local);
    match time.offset() {
        AmbiguousOffset::Gap { .. } => end_of_gap(time.earlier().ok()?, zone),
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => millis(time.earlier().ok()?),
    }
}

/// Returns the last instant at which clocks show `local`, or the first one after the gap if they skip it.
pub(super) fn last(local: DateTime, zone: &TimeZone) -> Option<u64> {
    let time = zone.to_ambiguous_timestamp(local);
    match time.offset() {
        AmbiguousOffset::Gap { .. } => end_of_gap(time.earlier().ok()?, zone),
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => millis(time.later().ok()?),
    }
}

/// Returns the instant at which the clocks are set forward next.
fn end_of_gap(before: Timestamp, zone: &TimeZone) -> Option<u64> {
    millis(zone.following(before).next()?.timestamp())
}

fn millis(time: Timestamp) -> Option<u64> {
    u64::try_from(time.as_millisecond()).ok()
}

/// Days of the week, written as `Mon..Fri`, `Sat,Sun` or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Days([bool; 7]);

impl Default for Days {
    fn default() -> Self {
        Self([true; 7])
    }
}

impl Days {
    pub(super) fn contains(self, day: Weekday) -> bool {
        self.0.iter().zip(0..).any(|(set, number)| *set && number == day.to_monday_zero_offset())
    }
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

impl TryFrom<String> for Days {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?}: write days as in \"Mon..Fri\", \"Sat,Sun\" or \"Mon..Wed,Fri\"");
        let mut days = [false; 7];
        for part in text.split(',') {
            let (first, last) = part.split_once("..").unwrap_or((part, part));
            let first = day_number(first).ok_or_else(wrong)?;
            let last = day_number(last).ok_or_else(wrong)?;
            // A range may go over Sunday.
            let length = (last + 7 - first) % 7;
            for (number, set) in days.iter_mut().enumerate() {
                *set |= (number + 7 - first) % 7 <= length;
            }
        }
        Ok(Self(days))
    }
}

/// Returns the number of a day that is written in full or by its first three letters. Monday is 0.
fn day_number(text: &str) -> Option<usize> {
    let text = text.trim().to_ascii_lowercase();
    DAYS.iter().position(|day| *day == text || day.get(..3) == Some(&text))
}

/// A time of day, `HH:MM`. `24:00` is the end of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Clock {
    pub(super) hour: i8,
    pub(super) minute: i8,
}

impl Clock {
    /// Returns the time. That of `24:00` is midnight, of the next day.
    pub(super) fn time(self) -> Time {
        Time::new(self.hour % 24, self.minute, 0, 0).unwrap_or(Time::midnight())
    }

    pub(super) fn is_end_of_day(self) -> bool {
        self.hour == 24
    }
}

impl TryFrom<String> for Clock {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parse = || {
            let (hour, minute) = text.split_once(':')?;
            let is_time = matches!(hour.len(), 1 | 2) && minute.len() == 2;
            let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            if !is_time || !is_digits(hour) || !is_digits(minute) {
                return None;
            }
            let clock = Self { hour: hour.parse().ok()?, minute: minute.parse().ok()? };
            let is_on_clock = clock.hour < 24 && clock.minute < 60;
            (is_on_clock || clock == Self { hour: 24, minute: 0 }).then_some(clock)
        };
        parse().ok_or_else(|| format!("{text:?} is no time of day: write it as in \"06:00\" or \"22:30\""))
    }
}

/// A date, `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Day(pub(super) Date);

impl TryFrom<String> for Day {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let has_form = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        match Date::from_str(&text) {
            Ok(date) if has_form => Ok(Self(date)),
            _ => Err(format!("{text:?} is no date: write it as in \"2026-12-24\", in quotes")),
        }
    }
}

/// A time zone by its IANA name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Zone(pub(super) TimeZone);

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        TimeZone::get(&text).map(Self).map_err(|_| {
            format!(
                "{text:?}: this host knows no such time zone; write an IANA name such as \"Europe/Berlin\", and install \
                 tzdata if that is missing"
            )
        })
    }
}

impl Zone {
    /// Returns the time zone of the system.
    pub(super) fn system() -> Result<Self, String> {
        let why = |error| {
            format!("the system's time zone is not known ({error}); write an IANA name such as \"UTC\"")
        };
        TimeZone::try_system().map(Self).map_err(why)
    }
}
