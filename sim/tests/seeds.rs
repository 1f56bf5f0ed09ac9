//! A short simulation: the first seeds, and seeds that once failed.

use rollout_sim::run;

/// Number of seeds that are run each time.
const SEEDS: u64 = 200;

fn check(seeds: impl Iterator<Item = u64>) {
    let failures: Vec<String> = seeds
        .filter_map(|seed| run(seed).err().map(|violation| format!("seed {seed}:\n{violation}")))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn no_invariant_fails_in_the_first_seeds() {
    check(1..=SEEDS);
}

#[test]
fn no_invariant_fails_in_seeds_that_once_failed() {
    let lines = include_str!("seeds.txt").lines();
    check(lines.filter_map(|line| line.split('#').next()?.trim().parse().ok()));
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed).ok(), run(seed).ok());
    }
}
