use super::*;
use jiff::Timestamp;
use serde::Deserialize;

mod model;

#[derive(Deserialize)]
struct Document {
    window: Vec<Written>,
}

fn parse(text: &str) -> Result<Windows, String> {
    let document: Document = toml::from_str(text).map_err(|error| error.to_string())?;
    check_all("window", document.window).map_err(|error| error.to_string())
}

/// Returns the windows of a table without its header.
fn window(keys: &str) -> Windows {
    parse(&format!("[[window]]\nzone = 'Europe/Berlin'\n{keys}")).unwrap()
}

fn ms(time: &str) -> u64 {
    u64::try_from(time.parse::<Timestamp>().unwrap().as_millisecond()).unwrap()
}

fn shown(time_ms: Option<u64>) -> String {
    let time = |time_ms| Timestamp::from_millisecond(i64::try_from(time_ms).unwrap()).unwrap().to_string();
    time_ms.map_or_else(|| "-".to_owned(), time)
}

/// Asserts the open interval that contains or follows each time.
fn assert_intervals(windows: &Windows, cases: &[(&str, &str, &str)]) {
    for (now, start, end) in cases {
        let opening = windows.next_opening(ms(now), "");
        assert_eq!(shown(opening), *start, "start after {now}");
        let until = opening.and_then(|opening| windows.open_at(opening, ""));
        assert_eq!(shown(until), *end, "end after {now}");
    }
}

#[test]
fn a_window_past_midnight_belongs_to_the_day_on_which_it_starts() {
    // 2026-11-20 is a Friday, and Berlin is one hour ahead.
    let windows = window("days = 'Mon..Fri'\nfrom = '22:00'\nto = '06:00'");
    assert_intervals(
        &windows,
        &[
            ("2026-11-20T12:00:00Z", "2026-11-20T21:00:00Z", "2026-11-21T05:00:00Z"),
            ("2026-11-20T21:00:00Z", "2026-11-20T21:00:00Z", "2026-11-21T05:00:00Z"),
            ("2026-11-21T04:59:59.999Z", "2026-11-21T04:59:59.999Z", "2026-11-21T05:00:00Z"),
            ("2026-11-21T05:00:00Z", "2026-11-23T21:00:00Z", "2026-11-24T05:00:00Z"),
            ("2026-11-23T02:00:00Z", "2026-11-23T21:00:00Z", "2026-11-24T05:00:00Z"),
        ],
    );
    assert_eq!(windows.open_at(ms("2026-11-22T23:00:00Z"), ""), None, "the night to Monday starts on Sunday");
}

#[test]
fn clocks_set_forward_skip_what_is_in_the_gap() {
    // Berlin, 2026-03-29: 02:00 to 03:00 are skipped at 01:00 UTC.
    let before = "2026-03-28T22:00:00Z";
    for (from, to, start, end) in [
        ("01:30", "03:30", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
        ("02:30", "04:00", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
        ("02:00", "04:00", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
        ("01:00", "02:30", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
        ("01:00", "02:00", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
        ("01:00", "03:00", "2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z"),
        ("02:10", "02:50", "2026-03-30T00:10:00Z", "2026-03-30T00:50:00Z"),
        ("02:00", "02:00", "2026-03-28T22:00:00Z", "2026-04-29T00:00:00Z"),
    ] {
        assert_intervals(&window(&format!("from = '{from}'\nto = '{to}'")), &[(before, start, end)]);
    }
}

#[test]
fn clocks_set_back_repeat_the_hour_inside_the_window() {
    // Berlin, 2026-10-25: 02:00 to 03:00 occur from 00:00 and from 01:00 UTC.
    let before = "2026-10-24T22:00:00Z";
    for (from, to, start, end) in [
        ("01:30", "03:30", "2026-10-24T23:30:00Z", "2026-10-25T02:30:00Z"),
        ("02:30", "03:30", "2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"),
        ("01:00", "02:30", "2026-10-24T23:00:00Z", "2026-10-25T01:30:00Z"),
        ("02:15", "02:45", "2026-10-25T00:15:00Z", "2026-10-25T01:45:00Z"),
        ("01:00", "02:00", "2026-10-24T23:00:00Z", "2026-10-25T01:00:00Z"),
        ("03:00", "04:00", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"),
    ] {
        assert_intervals(&window(&format!("from = '{from}'\nto = '{to}'")), &[(before, start, end)]);
    }
}

#[test]
fn clocks_may_be_set_by_half_an_hour_or_skip_a_date() {
    // Lord Howe Island, 2026-04-05 02:00 +11:00: back to 01:30 +10:30. 2026-10-04 02:00 +10:30: forward to 02:30.
    let lord_howe = |from: &str, to: &str| {
        parse(&format!("[[window]]\nzone = 'Australia/Lord_Howe'\nfrom = '{from}'\nto = '{to}'")).unwrap()
    };
    assert_intervals(
        &lord_howe("01:45", "01:50"),
        &[("2026-04-04T14:00:00Z", "2026-04-04T14:45:00Z", "2026-04-04T15:20:00Z")],
    );
    assert_intervals(
        &lord_howe("02:10", "02:45"),
        &[("2026-10-03T14:00:00Z", "2026-10-03T15:30:00Z", "2026-10-03T15:45:00Z")],
    );
    // Samoa skipped 2011-12-30: a window that would start on it begins with the next day.
    let samoa = parse("[[window]]\nzone = 'Pacific/Apia'\nfrom = '22:00'\nto = '06:00'").unwrap();
    assert_intervals(&samoa, &[("2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T16:00:00Z")]);
}

#[test]
fn holidays_are_left_out_and_single_dates_chosen() {
    let nights = "from = '22:00'\nto = '04:00'\n";
    assert_intervals(
        &window(&format!("{nights}except = ['2026-12-24', '2026-12-25']")),
        &[
            ("2026-12-24T01:00:00Z", "2026-12-24T01:00:00Z", "2026-12-24T03:00:00Z"),
            ("2026-12-24T04:00:00Z", "2026-12-26T21:00:00Z", "2026-12-27T03:00:00Z"),
        ],
    );
    let once = window(&format!("{nights}only = ['2026-12-28', '2026-12-30']"));
    assert_intervals(
        &once,
        &[
            ("2026-11-01T00:00:00Z", "2026-12-28T21:00:00Z", "2026-12-29T03:00:00Z"),
            ("2026-12-29T12:00:00Z", "2026-12-30T21:00:00Z", "2026-12-31T03:00:00Z"),
            ("2026-12-31T03:00:00Z", "-", "-"),
        ],
    );
}

#[test]
fn windows_unite_and_those_without_a_pause_are_one() {
    let text = "[[window]]\nzone = 'UTC'\ndays = 'Fri'\nfrom = '20:00'\nto = '24:00'\n\
                [[window]]\nzone = 'UTC'\ndays = 'Sat,Sun'\n\
                [[window]]\nzone = 'UTC'\ndays = 'Sun'\nfrom = '23:00'\nto = '05:00'\n";
    let windows = parse(text).unwrap();
    assert_intervals(&windows, &[("2026-11-18T00:00:00Z", "2026-11-20T20:00:00Z", "2026-11-23T05:00:00Z")]);
    let always = parse("[[window]]\nzone = 'UTC'\n").unwrap();
    let until = always.open_at(ms("2026-11-18T12:00:00Z"), "").unwrap();
    assert!(until >= ms("2026-12-19T12:00:00Z"), "{until}");
}

#[test]
fn both_of_two_sets_must_be_open() {
    let site = parse("[[window]]\nzone = 'UTC'\ndays = 'Mon..Fri'\nfrom = '20:00'\nto = '06:00'\n").unwrap();
    let rollout = parse("[[window]]\nzone = 'UTC'\ndays = 'Sat'\nfrom = '00:00'\nto = '12:00'\n").unwrap();
    let both = site.and(&rollout);
    assert_intervals(&both, &[("2026-11-18T00:00:00Z", "2026-11-21T00:00:00Z", "2026-11-21T06:00:00Z")]);
    let never = site.and(&parse("[[window]]\nzone = 'UTC'\nfrom = '06:00'\nto = '20:00'\n").unwrap());
    assert_eq!(never.next_opening(ms("2026-11-18T00:00:00Z"), ""), None);
    assert_eq!(site.and(&Windows::default()), site);
}

#[test]
fn nothing_starts_that_cannot_finish() {
    let windows = window("days = 'Mon..Thu'\nfrom = '20:00'\nto = '22:00'");
    let hours = |n: u64| Duration::from_secs(n * 3600);
    let (open, late) = (ms("2026-11-18T19:00:00Z"), ms("2026-11-18T20:00:00.001Z"));
    assert!(windows.fits(open, hours(2), "") && windows.fits(late - 1, hours(1), ""));
    assert!(!windows.fits(late, hours(1), "") && !windows.fits(open - 1, hours(1), ""));
    assert_eq!(shown(windows.next_fit(late, hours(1), "")), "2026-11-19T19:00:00Z");
    assert_eq!(windows.next_fit(late, hours(3), ""), None, "no window is that long");
    assert_eq!(windows.next_fit(late, Duration::MAX, ""), None);
    let any_time = Windows::default();
    assert!(any_time.is_always_open() && any_time.fits(late, Duration::from_secs(u64::MAX / 2000), ""));
    assert_eq!(any_time.open_at(late, ""), Some(u64::MAX));
    assert_eq!(any_time.next_fit(late, hours(3), ""), Some(late));
}

#[test]
fn jitter_delays_the_start_by_the_name_alone() {
    let windows = window("from = '20:00'\nto = '22:00'\njitter = '1h'");
    let start = ms("2026-11-18T19:00:00Z");
    let delay = |day: u64, name: &str| {
        let start = start + day * DAY_MS;
        let opening = windows.next_opening(start, name).unwrap();
        assert_eq!(windows.open_at(opening, name), Some(start + 2 * 3600 * 1000), "the end stays");
        opening - start
    };
    let delays: BTreeSet<u64> = (0..50).map(|n| delay(0, &format!("cn{n}"))).collect();
    assert!(delays.len() > 40 && delays.iter().all(|delay| *delay <= 3600 * 1000), "{delays:?}");
    assert_eq!(delay(0, "cn1"), delay(3, "cn1"));
}

#[test]
fn a_time_that_no_calendar_has_is_in_no_window() {
    let windows = window("from = '20:00'\nto = '22:00'");
    for time in [u64::MAX, u64::MAX / 2, 400_000 * 366 * DAY_MS] {
        assert_eq!((windows.open_at(time, ""), windows.next_opening(time, "")), (None, None), "{time}");
        assert!(!windows.fits(time, Duration::ZERO, ""));
    }
    assert!(windows.next_opening(0, "").is_some());
}

#[test]
fn days_are_words_ranges_and_ranges_over_sunday() {
    for (text, expected) in [
        ("Mon..Fri", "1111100"),
        ("Sat,Sun", "0000011"),
        ("fri..mon", "1000111"),
        ("Monday, wed..thu", "1011000"),
        ("Tue..Tue", "0100000"),
        ("Mon..Sun", "1111111"),
    ] {
        let days = Days::try_from(text.to_owned()).unwrap();
        let mut day = jiff::civil::date(2026, 11, 16);
        let found: String = (0..7)
            .map(|_| {
                let contains = days.contains(day.weekday());
                day = day.tomorrow().unwrap();
                if contains { '1' } else { '0' }
            })
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn refuses_with_the_key_or_the_line() {
    for (keys, named) in [
        ("days = 'Mon-Fri'", "line 3, column 8"),
        ("days = ''", "Mon..Fri"),
        ("days = 'M..F'", "Mon..Fri"),
        ("from = '20:00'", "window[1].to: from without to"),
        ("to = '20:00'", "window[1].from: to without from"),
        ("from = '24:00'\nto = '01:00'", "window[1].from: 24:00"),
        ("from = '25:00'\nto = '01:00'", "no time of day"),
        ("from = '20:60'\nto = '01:00'", "no time of day"),
        ("from = '20'\nto = '01:00'", "no time of day"),
        ("from = '-1:00'\nto = '01:00'", "no time of day"),
        ("from = '20:00:00'\nto = '01:00'", "no time of day"),
        ("except = ['24.12.2026']", "no date"),
        ("except = ['2026-02-29']", "no date"),
        ("except = [2026-12-24]", "expected a string"),
        ("only = ['2026-12-24']\nexcept = ['2026-12-24']", "window[1].only: the window never opens"),
        ("only = ['2026-11-20']\ndays = 'Mon'", "window[1].only: the window never opens"),
        ("from = '20:00'\nto = '22:00'\njitter = '2h'", "window[1].jitter: the window would have no length"),
        ("jitter = '0s'", "no period"),
        ("colour = 'red'", "expected one of `days`, `from`, `to`"),
    ] {
        let error = parse(&format!("[[window]]\nzone = 'UTC'\n{keys}")).expect_err(keys);
        assert!(error.contains(named), "{keys}: {error}");
    }
    let error = parse("[[window]]\nzone = 'Europe/Berln'").unwrap_err();
    assert!(error.contains("line 2, column 8") && error.contains("no such time zone"), "{error}");
}
