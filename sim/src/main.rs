//! `rollout-sim --runs N --seed S`: runs seeds from S on, and prints the first failures with their last events.
//! `--events E` sets the number of these.

use rollout_sim::run_showing;
use std::process::ExitCode;
use std::time::Instant;

/// Number of failures after which it ends.
const ENOUGH: u64 = 10;

fn main() -> ExitCode {
    let Arguments { runs, seed: first, events: shown } = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("rollout-sim: {error}\nUsage: rollout-sim [--runs N] [--seed S] [--events E]");
            return ExitCode::from(2);
        }
    };
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

struct Arguments {
    runs: u64,
    seed: u64,
    events: Option<usize>,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments { runs: 100, seed: 1, events: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(key) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{key}: a number is missing"))?;
        let number: u64 = value.parse().map_err(|error| format!("{key} {value}: {error}"))?;
        match key.as_str() {
            "--runs" => found.runs = number,
            "--seed" => found.seed = number,
            "--events" => found.events = usize::try_from(number).ok(),
            _ => return Err(format!("{key}: unknown argument")),
        }
    }
    Ok(found)
}
