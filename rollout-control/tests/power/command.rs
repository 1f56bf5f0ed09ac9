//! A site's own program.

use crate::site::{Site, appears};
use rollout_control::power::PowerState;
use rollout_control::power::switching::Task;
use std::time::{Duration, Instant};

/// Keeps the power of each node in a file, and records its arguments.
const SWITCH: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >>calls
shift
case $1 in
status) cat "power-$2" ;;
on | off) echo "$1" >"power-$2" ;;
soft-off) echo off >"power-$2" ;;
esac
"#;

fn table(site: &Site, script: &str) -> String {
    let path = site.write("switch", script, 0o755);
    format!("via = 'command'\ncommand = [{path:?}, '--site']\ntime_limit = '3s'\n")
}

#[test]
fn it_gets_an_action_and_a_node() {
    let site = Site::new();
    let table = table(&site, SWITCH);
    site.write("power-cn1", "on\n", 0o644);
    let cycle = site.run_one(&table, Task::Cycle { soft: true });
    assert_eq!((cycle.power, cycle.changed, cycle.error), (Some(PowerState::On), true, None));
    let calls = site.read("calls");
    let calls: Vec<&str> = calls.lines().collect();
    let expected = ["status", "soft-off", "status", "status", "on", "status"];
    assert_eq!(calls, expected.map(|action| format!("--site {action} cn1")));
}

#[test]
fn all_but_on_and_off_is_unknown() {
    for (script, why) in [
        ("#!/bin/sh\necho ON\n", "switch printed what is no power state: ON"),
        ("#!/bin/sh\necho off; echo on\n", "switch printed what is no power state: off on"),
        ("#!/bin/sh\n", "switch printed nothing"),
        ("#!/bin/sh\necho off\nexit 3\n", "switch: off"),
        ("#!/bin/sh\nexit 3\n", "switch ended with exit status: 3"),
        ("#!/bin/sh\necho 'no such node' >&2\nexit 1\n", "switch: no such node"),
        ("#!/bin/sh\nprintf '\\377\\000off'\n", "switch printed what is no power state"),
        ("#!/no/such/interpreter\n", "switch cannot be started"),
    ] {
        let site = Site::new();
        let outcome = site.run_one(&table(&site, script), Task::Off { soft: false });
        let error = outcome.error.unwrap();
        assert_eq!((outcome.power, outcome.changed), (None, false), "{script}");
        assert!(error.contains(why) && error.len() < 1000, "{script}: {error}");
    }
}

#[test]
fn one_that_hangs_or_prints_without_end_is_killed() {
    for (script, why) in [
        (
            "#!/bin/sh\ntouch \"$(dirname \"$0\")/begun\"\nexec sleep 600\n",
            "did not end within 3 s and was killed",
        ),
        ("#!/bin/sh\ntouch \"$(dirname \"$0\")/begun\"\nexec yes off\n", "and was killed"),
    ] {
        let site = Site::new();
        let begun = Instant::now();
        let outcome = site.run_one(&table(&site, script), Task::Status);
        assert!(appears(&site.path("begun")));
        let error = outcome.error.unwrap();
        assert!(outcome.power.is_none() && error.contains(why) && error.len() < 1000, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn one_that_others_can_write_is_not_run() {
    let site = Site::new();
    let table = table(&site, SWITCH);
    site.write("switch", SWITCH, 0o777);
    let error = site.run_one(&table, Task::Status).error.unwrap();
    assert!(error.contains("chmod go-w"), "{error}");
    assert_eq!(site.read("calls"), "");
}
