//! Forecasts of small rollouts.

use crate::script;
use rollout_plan::forecast::{Forecast, forecast};

fn of(script: &str) -> Forecast {
    script::read(script).with_input(|input| forecast(input, "driver")).unwrap()
}

/// Returns each visit as `node: requested, handed over, back`, in minutes from now.
fn visits(forecast: &Forecast) -> Vec<String> {
    let now_ms = script::read("").now_ms;
    let minutes = |ms: u64| (ms - now_ms) / 60_000;
    let visits = forecast.visits.iter().map(|visit| {
        let [requested, handed_over, back] =
            [visit.requested_ms, visit.handed_over_ms, visit.back_ms].map(minutes);
        format!("{}: {requested}, {handed_over}, {back}", visit.node)
    });
    visits.collect()
}

#[test]
fn each_slot_takes_the_next_node_once_the_one_before_is_back() {
    let forecast = of("node n[1-4] IDLE\nnode n3 ALLOCATED\njob 1 R n3 -1h +1h\npartition batch n[1-3]\n\
                       rollout driver n[1-4] {\nmax_out = 2\n}\nvisit driver 10m\n");
    // The job may take 30 s longer, until slurmctld looks.
    assert_eq!(visits(&forecast), ["n1: 0, 0, 10", "n2: 0, 0, 10", "n4: 10, 10, 20", "n3: 10, 60, 70"]);
    assert_eq!((forecast.peak_out, forecast.peak_by_partition["batch"]), (2, 2));
    assert_eq!(forecast.likely_ms, forecast.latest_ms);
    // Four visits. The full node loses nothing while it waits.
    assert_eq!(forecast.lost_ms / 60_000, 40);
}

#[test]
fn likely_ends_are_earlier_than_limits() {
    let forecast =
        of("node n1 MIXED\njob 1 R n1 -1h +1h\nused 75\nrollout driver n1 {\n}\nvisit driver 10m\n");
    assert_eq!(visits(&forecast), ["n1: 0, 30, 40"]);
    let now_ms = script::read("").now_ms;
    let minutes = |ms: Option<u64>| (ms.unwrap() - now_ms) / 60_000;
    assert_eq!((minutes(forecast.likely_ms), minutes(forecast.latest_ms)), (40, 70));
    assert_eq!(forecast.lost_ms / 60_000, 40);
}

#[test]
fn waves_soak_and_windows_take_their_time() {
    let forecast = of(
        "node n[1-3] IDLE\nrollout driver n[1-3] {\nmax_out = 3\nwaves = [1]\nsoak = \"30m\"\n}\nvisit driver 10m\n",
    );
    assert_eq!(visits(&forecast), ["n1: 0, 0, 10", "n2: 40, 40, 50", "n3: 40, 40, 50"]);
    let forecast = of("node n[1-2] IDLE\nrollout driver n[1-2] {\n\
                       window = [{ from = \"21:00\", to = \"21:15\", zone = \"UTC\" }]\n}\nvisit driver 10m\n");
    assert_eq!(visits(&forecast), ["n1: 60, 60, 70", "n2: 1500, 1500, 1510"]);
}

#[test]
fn nodes_without_a_known_end_are_left_out() {
    let forecast = of(
        "node n1 IDLE\nnode n2 MIXED\njob 1 R n2 -1h none\nrollout driver n[1-3] {\n}\nvisit driver 10m\n",
    );
    assert_eq!((forecast.unknown.to_string().as_str(), visits(&forecast).len()), ("n[2-3]", 1));
}

#[test]
fn nodes_that_are_out_hold_their_slot() {
    let forecast =
        of("node n1 DOWN+DRAIN+REBOOT_ISSUED by root: driver\nnode n2 IDLE\nrollout driver n[1-2] {\n}\n\
                       visit driver 10m\n");
    assert_eq!(visits(&forecast), ["n1: 0, 0, 10", "n2: 10, 10, 20"]);
}
