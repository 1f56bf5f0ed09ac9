//! Compares windows with a model that looks at the local clock every minute.

use super::parse;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use proptest::prelude::*;

const MINUTE_MS: u64 = 60_000;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Zones, each with a day near which its clocks are set.
const PLACES: [(&str, &str); 9] = [
    ("Europe/Berlin", "2026-03-29"),
    ("Europe/Berlin", "2026-10-25"),
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("America/Santiago", "2026-09-06"),
    ("Pacific/Apia", "2011-12-30"),
    ("Asia/Kolkata", "2026-07-01"),
];

#[derive(Debug, Clone)]
struct Model {
    days: Vec<usize>,
    from: u32,
    to: u32,
    except: Vec<i32>,
}

impl Model {
    fn toml(&self, zone: &str, middle: Date) -> String {
        let clock = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let days: Vec<&str> = self.days.iter().map(|day| DAYS[*day]).collect();
        let except: Vec<String> = self.except.iter().map(|day| format!("'{}'", plus(middle, *day))).collect();
        format!(
            "[[window]]\nzone = '{zone}'\ndays = '{}'\nfrom = '{}'\nto = '{}'\nexcept = [{}]\n",
            days.join(","),
            clock(self.from),
            clock(self.to),
            except.join(", ")
        )
    }

    /// Returns the minutes in which the window is open, as numbers of `minutes`.
    fn open(&self, minutes: &[DateTime], middle: Date) -> Vec<bool> {
        let mut open = vec![false; minutes.len()];
        for day in -6..=6 {
            let date = plus(middle, day);
            let weekday = usize::try_from(date.weekday().to_monday_zero_offset()).unwrap();
            if !self.days.contains(&weekday) || self.except.contains(&day) {
                continue;
            }
            let last = if self.to > self.from { date } else { plus(date, 1) };
            let (from, to) = (at(date, self.from), at(last, self.to));
            let start = minutes.iter().position(|local| *local >= from).unwrap_or(minutes.len());
            let end = match minutes.iter().rposition(|local| *local <= to) {
                Some(minute) if minutes[minute] == to => minute,
                Some(minute) => minute + 1,
                None => 0,
            };
            (start..end).for_each(|minute| open[minute] = true);
        }
        open
    }
}

fn plus(date: Date, days: i32) -> Date {
    date.checked_add(jiff::Span::new().days(days)).unwrap()
}

fn at(date: Date, minutes: u32) -> DateTime {
    date.at(i8::try_from(minutes / 60).unwrap(), i8::try_from(minutes % 60).unwrap(), 0, 0)
}

fn model() -> impl Strategy<Value = Model> {
    // Times near midnight and near the hours in which clocks are set, and any other.
    let clock = || prop_oneof![0u32..240, 0u32..1440, 1320u32..1440, Just(120), Just(180)];
    let days = proptest::sample::subsequence((0..7).collect::<Vec<usize>>(), 1..=7);
    (days, clock(), clock(), proptest::collection::vec(-3i32..=3, 0..2))
        .prop_map(|(days, from, to, except)| Model { days, from, to, except })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn windows_are_open_when_the_clock_shows_it(
        place in 0..PLACES.len(),
        models in proptest::collection::vec(model(), 1..3),
        nows in proptest::collection::vec((2u64 * 1440..6 * 1440, 0..MINUTE_MS), 20),
    ) {
        let (zone_name, middle) = PLACES[place];
        let (zone, middle) = (TimeZone::get(zone_name).unwrap(), middle.parse::<Date>().unwrap());
        let begin = plus(middle, -4).to_zoned(TimeZone::UTC).unwrap().timestamp();
        let begin_ms = u64::try_from(begin.as_millisecond()).unwrap();
        let time = |minute: u64| begin_ms + minute * MINUTE_MS;
        let local = |minute| {
            zone.to_datetime(Timestamp::from_millisecond(i64::try_from(time(minute)).unwrap()).unwrap())
        };
        let minutes: Vec<DateTime> = (0..8 * 1440).map(local).collect();
        let text: String = models.iter().map(|model| model.toml(zone_name, middle)).collect();
        let windows = parse(&text).unwrap();
        let mut open = vec![false; minutes.len()];
        for model in &models {
            let more = model.open(&minutes, middle);
            open.iter_mut().zip(more).for_each(|(open, more)| *open |= more);
        }
        let end = time(8 * 1440);
        for (minute, rest) in nows {
            let (now, index) = (time(minute) + rest, usize::try_from(minute).unwrap());
            let closed = open[index..].iter().position(|open| !open).unwrap_or(open.len() - index);
            let until = (closed > 0).then(|| time(minute + closed as u64));
            prop_assert_eq!(windows.open_at(now, "").map(|until| until.min(end)), until, "open at {} in\n{}", now, text);
            let opening = match open[index..].iter().position(|open| *open) {
                Some(0) => Some(now),
                Some(later) => Some(time(minute + later as u64)),
                None => None,
            };
            let found = windows.next_opening(now, "").filter(|found| *found < end);
            prop_assert_eq!(found, opening, "opening after {} in\n{}", now, text);
        }
    }
}
