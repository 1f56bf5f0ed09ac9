use super::*;
use crate::plan::DEFAULT_VISIT;

/// Monday, 2026-11-30T20:00 UTC.
const NOW_MS: u64 = 1_796_068_800_000;
const HOUR_MS: u64 = 3_600_000;

#[test]
fn times_are_as_long_as_needed() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    for (hours, utc, local) in [
        (1, "21:00", "22:00"),
        (3, "23:00", "Tue 00:00"),
        (4, "Tue 00:00", "Tue 01:00"),
        (6 * 24, "Sun 20:00", "Sun 21:00"),
        (7 * 24, "2026-12-07 20:00", "2026-12-07 21:00"),
    ] {
        let why = Why::Window { opens_ms: Some(NOW_MS + hours * HOUR_MS) };
        assert_eq!(why.text(&TimeZone::UTC, NOW_MS).to_string(), format!("window opens {utc}"));
        assert_eq!(why.text(&berlin, NOW_MS).to_string(), format!("window opens {local}"));
    }
    let before = Why::Soak { wave: "1".into(), until_ms: NOW_MS - 24 * HOUR_MS };
    assert_eq!(before.text(&TimeZone::UTC, NOW_MS).to_string(), "soak after wave 1 until 2026-11-29 20:00");
    assert_eq!(before.to_string(), "soak after wave 1 until 2026-11-29 20:00 UTC");
    let never = Why::Soak { wave: "1".into(), until_ms: u64::MAX };
    assert_eq!(never.to_string(), format!("soak after wave 1 until {} ms", u64::MAX));
}

#[test]
fn each_reason_is_one_line_and_json() {
    let at = NOW_MS + HOUR_MS;
    let job = |about_ms| Why::Job { job: "4711".into(), uid: 1000, about_ms, limit_ms: at };
    let takes_ms = u64::try_from(DEFAULT_VISIT.as_millis()).unwrap();
    for (why, text, json) in [
        (
            job(Some(NOW_MS)),
            "job 4711 of uid 1000 until about 20:00 (limit 21:00)",
            r#"{"is":"job","job":"4711","uid":1000,"about_ms":1796068800000,"limit_ms":1796072400000}"#,
        ),
        (
            job(None),
            "job 4711 of uid 1000 until 21:00 at the latest",
            r#"{"is":"job","job":"4711","uid":1000,"about_ms":null,"limit_ms":1796072400000}"#,
        ),
        (
            Why::Exclusive { set: "ioservers".into(), node: "n08".into() },
            "exclusive set ioservers: n08 is out",
            r#"{"is":"exclusive","set":"ioservers","node":"n08"}"#,
        ),
        (Why::MaxOut { out: 12, limit: 12 }, "max_out 12 of 12", r#"{"is":"max-out","out":12,"limit":12}"#),
        (
            Why::Drained { by: None, reason: "bad DIMM".into() },
            "drained by an unknown user: bad DIMM",
            r#"{"is":"drained","by":null,"reason":"bad DIMM"}"#,
        ),
        (
            Why::Floor { of: "partition gpu".into(), floor: 8, available: 8 },
            "floor of partition gpu: 8 must stay available, 8 are",
            r#"{"is":"floor","of":"partition gpu","floor":8,"available":8}"#,
        ),
        (
            Why::WindowTooShort { takes_ms, fits_ms: Some(at) },
            "window too short now: a visit takes 15 min, next 21:00",
            r#"{"is":"window-too-short","takes_ms":900000,"fits_ms":1796072400000}"#,
        ),
        (
            Why::Window { opens_ms: None },
            "no window opens in the next 400 days",
            r#"{"is":"window","opens_ms":null}"#,
        ),
        (
            Why::Wave { wave: "10%".into(), nodes: 3, one: "n1".into() },
            "wave 10%: n1 and 2 others have not ended",
            r#"{"is":"wave","wave":"10%","nodes":3,"one":"n1"}"#,
        ),
        (
            Why::JobStays { job: "7".into(), how: "requeued".into(), since_ms: NOW_MS },
            "job 7 was to be requeued at 20:00 and is still there",
            r#"{"is":"job-stays","job":"7","how":"requeued","since_ms":1796068800000}"#,
        ),
        (
            Why::Group { group: "ns1".into(), node: "n1".into(), why: Box::new(Why::JobsNotKnown) },
            "group ns1: n1: Slurm's jobs could not be read",
            r#"{"is":"group","group":"ns1","node":"n1","why":{"is":"jobs-not-known"}}"#,
        ),
        (
            Why::UnderWay { phase: Some("verifying".into()), since_ms: NOW_MS },
            "verifying since 20:00",
            r#"{"is":"under-way","phase":"verifying","since_ms":1796068800000}"#,
        ),
        (
            Why::Failed { failure: Failure::NoOrder, error: None },
            "rebooted without an order",
            r#"{"is":"failed","failure":"no-order","error":null}"#,
        ),
    ] {
        assert_eq!(why.text(&TimeZone::UTC, NOW_MS).to_string(), text);
        assert_eq!(serde_json::to_string(&why).unwrap(), json);
    }
}
