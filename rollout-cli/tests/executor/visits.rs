//! Times of visits that earlier rollouts tell: windows and ResumeTimeout.

use crate::site::{Site, tick};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rollout_cli::executor::rules::Rules;
use rollout_plan::plan::DEFAULT_VISIT;
use serde_json::Value;
use std::fs;

/// A window that has been open for a while, and closes in 20 minutes.
fn closing_window() -> String {
    let time = |minutes| {
        let time = Timestamp::now() + SignedDuration::from_mins(minutes);
        time.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string()
    };
    format!("[[strategy.window]]\nfrom = '{}'\nto = '{}'\nzone = 'UTC'\n", time(-30), time(20))
}

/// Returns the time of the first visit by `plan`.
fn planned_s(site: &Site) -> u64 {
    let (_, out) = site.run("plan --json driver");
    let plan: Value = serde_json::from_str(&out).unwrap();
    let visit = &plan["forecast"]["visits"][0];
    (visit["back_ms"].as_u64().unwrap() - visit["handed_over_ms"].as_u64().unwrap()) / 1000
}

#[test]
fn a_window_has_room_for_a_visit_as_long_as_earlier_ones() {
    for (past_s, requests) in [(None, true), (Some(60), true), (Some(1800), false)] {
        let site = Site::started(&closing_window());
        if let Some(past_s) = past_s {
            site.add_past("old", past_s);
        }
        let report = tick(&mut site.executor());
        assert_eq!((report.failed.len(), report.done.len()), (0, usize::from(requests)), "{past_s:?}");
        let (_, why) = site.run("why n2");
        assert_eq!(why.contains("max_out"), requests, "{past_s:?}: {why}");
        if !requests {
            assert!(why.contains("a visit takes 30 min"), "{why}");
            let (_, status) = site.run("status");
            assert!(status.contains(why.trim_start_matches("n2: driver: ").trim()), "{why}{status}");
        }
    }
}

#[test]
fn history_is_read_once() {
    let site = Site::started("");
    site.add_past("old", 300);
    let (mut rules, snapshot) = (Rules::default(), site.store.snapshot().unwrap());
    for _ in 0..2 {
        rules.read_history(&site.store, &snapshot);
        let expected = rules.expected("driver").unwrap();
        assert_eq!((expected.takes_ms, expected.rollout.as_str()), (300_000, "old"));
        let _ = fs::remove_dir_all(site.path("state/closed"));
    }
    let mut rules = Rules::default();
    rules.read_history(&site.store, &snapshot);
    assert_eq!(rules.expected("driver"), None);
}

#[test]
fn history_that_cannot_be_read_is_left_out() {
    let site = Site::started("");
    assert_eq!(planned_s(&site), DEFAULT_VISIT.as_secs());
    for (name, took_s) in [("old1", 100), ("old2", 200), ("old3", 300)] {
        site.add_past(name, took_s);
    }
    assert_eq!(planned_s(&site), 300);
    fs::write(site.path("state/closed/old3/manifest.toml"), "torn").unwrap();
    assert_eq!(planned_s(&site), 200);
    fs::remove_file(site.path("state/closed/old2/journal")).unwrap();
    assert_eq!(planned_s(&site), 100);
    // A node of its own is back, at once here.
    let mut executor = site.executor();
    tick(&mut executor);
    fs::remove_dir_all(site.path("state/closed")).unwrap();
    site.advance();
    site.advance();
    tick(&mut executor);
    assert!(planned_s(&site) < 60, "{}", planned_s(&site));
}

#[test]
fn only_the_newest_of_many_rollouts_are_read() {
    let site = Site::started("");
    for number in 0..60 {
        // Of the same time, the one with the greatest name counts as the newest.
        site.add_past(&format!("old{number:02}"), if number < 10 { 1000 } else { 100 });
    }
    assert_eq!(planned_s(&site), 100);
    fs::remove_dir_all(site.path("state/closed/old59")).unwrap();
    assert_eq!(planned_s(&site), 100, "nine of ten");
    for number in 50..59 {
        fs::remove_dir_all(site.path(&format!("state/closed/old{number}"))).unwrap();
    }
    assert_eq!(planned_s(&site), 1000);
}

/// The limits of the manifest add up to 35 minutes.
#[test]
fn a_rollout_is_started_only_if_slurm_waits_long_enough() {
    let longer = "driver: n[1-6] of partition batch: ResumeTimeout is 600 s, but such nodes take 13 min from hand-over \
                  to registration (one earlier update: n1 in old): Slurm would give up nodes that are only slow; set \
                  ResumeTimeout in slurm.conf to at least 780, better 1800, or start it with --accept-resume-timeout\n";
    let limits = "n[1-6] of partition batch: ResumeTimeout is 600 s, and the time limits of the manifest add up to \
                  35 min; no earlier rollout tells how long it takes: a node that needs more is lost, unless you set \
                  ResumeTimeout in slurm.conf to 2100\n";
    let started = "driver: started for 6 nodes: n[1-6]\n";
    let warned = |text: &str| format!("{started}slurm-rollout: warning: {text}");
    for (past_s, timeout, arguments, code, shown) in [
        (Some(780), "600 sec", "start driver", 1, format!("slurm-rollout: {longer}")),
        (
            Some(780),
            "600 sec",
            "start driver --accept-resume-timeout",
            0,
            warned(&longer["driver: ".len()..]),
        ),
        (Some(780), "1800 sec", "start driver", 0, started.to_owned()),
        (None, "600 sec", "start driver", 0, warned(limits)),
        (None, "2100 sec", "start driver", 0, started.to_owned()),
    ] {
        let site = Site::new("");
        fs::write(site.path("resume-timeout"), timeout).unwrap();
        if let Some(past_s) = past_s {
            site.add_past("old", past_s);
        }
        let (plan_code, plan) = site.run("plan driver");
        let refuses = shown != started && past_s.is_some();
        assert_eq!(plan_code, if refuses { 3 } else { 0 }, "{past_s:?} {timeout}: {plan}");
        let json: Value = serde_json::from_str(&site.run("plan --json driver").1).unwrap();
        if shown == started {
            assert_eq!(json["resume_timeout"], Value::Array(Vec::new()));
        } else {
            let text = json["resume_timeout"][0]["text"].as_str().unwrap();
            assert!(shown.contains(text), "{text}");
            assert_eq!(json["resume_timeout"][0]["refuses"], refuses);
            let what = if refuses { "would be refused" } else { "warning" };
            assert!(plan.starts_with(&format!("driver: {what}: {text}\n")), "{plan}");
        }
        assert_eq!(site.run(arguments), (code, shown), "{past_s:?} {timeout}");
    }
}

#[test]
fn nodes_that_are_not_taken_need_no_time() {
    let site = Site::new("[strategy]\nnever = 'n1'\n");
    fs::write(site.path("resume-timeout"), "60 sec").unwrap();
    let (code, out) = site.run("start driver");
    assert!(code == 0 && out.contains("warning: n[2-6] of partition batch: "), "{out}");
    // Nobody asked Slurm.
    let site = Site::new("");
    fs::write(site.path("away"), "").unwrap();
    let (code, out) = site.run("start driver");
    assert!(code == 0 && out.contains("warning: n[1-6]: Slurm's ResumeTimeout is not known: "), "{out}");
}
