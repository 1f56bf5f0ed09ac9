//! A short simulation: the first seeds, and seeds that showed faults of the product.

use rollout_sim::run;

/// Number of seeds that are run each time.
const SEEDS: u64 = 60;

fn check(seeds: impl IntoIterator<Item = u64>) {
    let failure = |seed| run(seed).err().map(|violation| format!("seed {seed}:\n{violation}"));
    let failures: Vec<String> = seeds.into_iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn no_invariant_fails_in_the_first_seeds() {
    check(1..=SEEDS);
}

#[test]
fn a_rollout_whose_nodes_all_failed_before_it_could_be_started_needs_no_reasons() {
    check([83]);
}

#[test]
fn a_straggler_whose_drain_an_admin_removed_takes_room_under_the_limits() {
    check([15]);
}

#[test]
fn a_node_that_hung_for_hours_does_not_make_all_windows_too_short() {
    check([778]);
}

#[test]
fn a_drain_of_ours_to_which_slurm_has_appended_a_note_is_removed() {
    check([937]);
}

#[test]
fn a_request_whose_executor_died_is_not_made_an_hour_later_against_a_floor() {
    check([1621]);
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in [1, 2, 3] {
        assert_eq!(run(seed).ok(), run(seed).ok());
    }
}
