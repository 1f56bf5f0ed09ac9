//! `rollout-sim --runs N --seed S`: runs seeds from S on, and prints the first failures with their last events.
//! `--events E` sets the number of these.
//!
//! `rollout-sim --compare N --seed S`: compares strategies on N seeds.

use rollout_sim::compare::{Setting, Strategy, bound, measure};
use rollout_sim::run_showing;
use std::process::ExitCode;
use std::time::Instant;

/// Number of failures after which it ends.
const ENOUGH: u64 = 10;

fn main() -> ExitCode {
    let Arguments { runs, seed: first, events: shown, compared } = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!(
                "rollout-sim: {error}\nUsage: rollout-sim [--runs N] [--seed S] [--events E] [--compare N]"
            );
            return ExitCode::from(2);
        }
    };
    if compared > 0 {
        return compare(first, compared);
    }
    let begun = Instant::now();
    let (mut failed, mut happened, mut plans, mut requests) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut updated, mut not_updated) = (0_usize, 0_usize);
    for seed in first..first.saturating_add(runs) {
        match run_showing(seed, shown) {
            Ok(summary) => {
                happened = happened.saturating_add(summary.events);
                plans = plans.saturating_add(summary.plans);
                requests = requests.saturating_add(summary.requests);
                updated = updated.saturating_add(summary.updated);
                not_updated = not_updated.saturating_add(summary.failed);
            }
            Err(violation) => {
                println!("seed {seed}:\n{violation}\n");
                failed = failed.saturating_add(1);
            }
        }
        if failed == ENOUGH {
            break;
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{runs} runs in {took:.1} s: {happened} events, {plans} plans, {requests} requests, {updated} nodes updated, \
         {not_updated} not; {failed} runs failed"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a table for each of some clusters.
fn compare(first: u64, seeds: u64) -> ExitCode {
    let settings = [
        Setting { nodes: 64, at_once: 6, utilization: 0.8, shared: 0 },
        Setting { nodes: 64, at_once: 6, utilization: 0.8, shared: 700 },
    ];
    for setting in settings {
        println!(
            "{setting:?}\n{:20} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "", "lost h", "took h", "out", "jobs", "wait h"
        );
        println!("{:20} {}", "lower bound", bound(setting));
        for strategy in Strategy::ALL {
            for seed in first..first.saturating_add(seeds) {
                match measure(seed, strategy, setting) {
                    Ok(figures) => println!("{:20} {figures}", strategy.name()),
                    Err(error) => {
                        println!("{}, seed {seed}: {error}", strategy.name());
                        return ExitCode::FAILURE;
                    }
                }
            }
        }
    }
    ExitCode::SUCCESS
}

struct Arguments {
    runs: u64,
    seed: u64,
    events: Option<usize>,
    /// Number of seeds to compare strategies on.
    compared: u64,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { runs: 100, seed: 1, events: None, compared: 0 };
    let mut arguments = std::env::args().skip(1);
    while let Some(key) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{key}: a number is missing"))?;
        let number: u64 = value.parse().map_err(|error| format!("{key} {value}: {error}"))?;
        match key.as_str() {
            "--runs" => found.runs = number,
            "--compare" => found.compared = number,
            "--seed" => found.seed = number,
            "--events" => found.events = usize::try_from(number).ok(),
            _ => return Err(format!("{key}: unknown argument")),
        }
    }
    Ok(found)
}
