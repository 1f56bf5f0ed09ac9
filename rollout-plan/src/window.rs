//! Maintenance windows: the times at which nodes may be requested.
//!
//! A window starts on certain days at a time of the local clock and ends at another, perhaps past midnight. Clocks that
//! are set forward or back make some local times occur never or twice:
//!
//! - A `from` or `to` that is skipped stands for the first instant after the gap. So a window never is open at a time
//!   of day that is not in it, and a window that lies in the gap does not open on that day.
//! - Of a `from` that occurs twice the first one counts, of a `to` the last one. So a window that contains the repeated
//!   hour contains it twice.
//!
//! Times are milliseconds since 1970, as in journals. A time that no calendar has is in no window.

mod interval;
mod local;
mod written;

pub(crate) use written::{Written, check_all};

use interval::{Interval, delay_of};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use local::Days;
use std::collections::BTreeSet;
use std::time::Duration;

/// Number of days that are searched for an opening.
pub const SEARCHED_DAYS: i32 = 400;

/// The time after which windows that follow each other without a pause are no longer joined.
const JOINED_MS: u64 = 31 * DAY_MS;

const DAY_MS: u64 = 24 * 3600 * 1000;

/// One maintenance window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The days on which it starts.
    days: Days,
    from: Time,
    /// Not after `from`: it ends on the next day.
    to: Time,
    zone: TimeZone,
    /// Dates on which it does not start.
    except: BTreeSet<Date>,
    /// The only dates on which it starts. Empty if there is no such restriction.
    only: BTreeSet<Date>,
    /// The longest delay of its start.
    jitter: Duration,
}

/// Sets of windows. It is open if a window of every set is. Without a set it is always open.
///
/// The delay that `jitter` causes depends on `key`, the name of a node or rollout, alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    all_of: Vec<Vec<Window>>,
}

impl Windows {
    /// Creates the union of these windows. Without a window it is always open.
    pub(crate) fn any_of(windows: Vec<Window>) -> Self {
        Self { all_of: if windows.is_empty() { Vec::new() } else { vec![windows] } }
    }

    /// Returns the windows that are open if both are, such as those of a rollout and of the site.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self { all_of: self.all_of.iter().chain(&other.all_of).cloned().collect() }
    }

    /// Returns whether there is no window, so that any time will do.
    #[must_use]
    pub fn is_always_open(&self) -> bool {
        self.all_of.is_empty()
    }

    /// Returns the time until which it is open, or `None` if it is closed. It is open before that time only. Windows
    /// without a pause between them count as one, for at least 31 days.
    #[must_use]
    pub fn open_at(&self, now_ms: u64, key: &str) -> Option<u64> {
        let mut ends = self.all_of.iter().map(|windows| open_until(windows, now_ms, key));
        ends.try_fold(u64::MAX, |earliest, end| Some(earliest.min(end?)))
    }

    /// Returns the first time from now on at which it is open: now, if it is. `None` if it does not open within
    /// [`SEARCHED_DAYS`].
    #[must_use]
    pub fn next_opening(&self, now_ms: u64, key: &str) -> Option<u64> {
        let horizon = horizon(now_ms);
        let mut time = now_ms;
        while time <= horizon {
            let mut openings = self.all_of.iter().map(|windows| opens_from(windows, time, key));
            let latest = openings.try_fold(time, |latest, opening| Some(latest.max(opening?)))?;
            if latest == time {
                return Some(time);
            }
            time = latest;
        }
        None
    }

    /// Returns whether something that begins now and takes as long as expected ends before it closes.
    #[must_use]
    pub fn fits(&self, now_ms: u64, expected: Duration, key: &str) -> bool {
        self.open_at(now_ms, key).is_some_and(|until| until.saturating_sub(now_ms) >= millis(expected))
    }

    /// Returns the first time from now on at which something fits that takes as long as expected. `None` if there is
    /// none within [`SEARCHED_DAYS`]: probably every window is too short.
    #[must_use]
    pub fn next_fit(&self, now_ms: u64, expected: Duration, key: &str) -> Option<u64> {
        let horizon = horizon(now_ms);
        let mut time = self.next_opening(now_ms, key)?;
        while time <= horizon {
            if self.fits(time, expected, key) {
                return Some(time);
            }
            time = self.next_opening(self.open_at(time, key)?, key)?;
        }
        None
    }
}

fn horizon(now_ms: u64) -> u64 {
    now_ms.saturating_add(DAY_MS.saturating_mul(u64::from(SEARCHED_DAYS.unsigned_abs())))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time until which one of the windows is open without a pause.
fn open_until(windows: &[Window], now_ms: u64, key: &str) -> Option<u64> {
    let mut until = now_ms;
    while until <= now_ms.saturating_add(JOINED_MS) {
        let ends = windows.iter().filter_map(|window| window.open_until(until, key));
        let Some(end) = ends.max() else { break };
        until = end;
    }
    (until > now_ms).then_some(until)
}

/// Returns the first time from `now_ms` on at which one of the windows is open.
fn opens_from(windows: &[Window], now_ms: u64, key: &str) -> Option<u64> {
    if windows.iter().any(|window| window.open_until(now_ms, key).is_some()) {
        return Some(now_ms);
    }
    windows.iter().filter_map(|window| window.starts_after(now_ms, key)).min()
}

impl Window {
    /// Returns the end of the window if it is open.
    fn open_until(&self, now_ms: u64, key: &str) -> Option<u64> {
        // One day back for a window past midnight, and one for zones that skip a whole date.
        let intervals = self.intervals(now_ms, -2..=1, key);
        intervals.filter(|interval| interval.contains(now_ms)).map(|interval| interval.end_ms).max()
    }

    /// Returns the next start of the window after `now_ms`.
    fn starts_after(&self, now_ms: u64, key: &str) -> Option<u64> {
        let mut intervals = self.intervals(now_ms, -2..=SEARCHED_DAYS, key);
        intervals.find(|interval| interval.start_ms > now_ms).map(|interval| interval.start_ms)
    }

    /// Returns the intervals that start on these days, relative to the day of `now_ms`.
    fn intervals(
        &self,
        now_ms: u64,
        days: std::ops::RangeInclusive<i32>,
        key: &str,
    ) -> impl Iterator<Item = Interval> {
        let (today, delay) = (local::date_of(now_ms, &self.zone), delay_of(key, self.jitter));
        days.filter_map(move |day| self.starting_on(local::plus_days(today?, day)?, delay))
    }

    /// Returns whether the window starts on this date.
    fn starts_on(&self, date: Date) -> bool {
        let is_listed = self.only.is_empty() || self.only.contains(&date);
        is_listed && !self.except.contains(&date) && self.days.contains(date.weekday())
    }

    /// Returns the interval in which the window is open if it starts on this date.
    fn starting_on(&self, date: Date, delay: Duration) -> Option<Interval> {
        if !self.starts_on(date) {
            return None;
        }
        let last_date = if self.to > self.from { date } else { local::plus_days(date, 1)? };
        let start = local::first(date.to_datetime(self.from), &self.zone)?;
        let end = local::last(last_date.to_datetime(self.to), &self.zone)?;
        let interval = Interval { start_ms: start.saturating_add(millis(delay)), end_ms: end };
        (interval.start_ms < interval.end_ms).then_some(interval)
    }
}

#[cfg(test)]
mod tests;
