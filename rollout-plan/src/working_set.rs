//! The nodes at work: whether they have changed since the last plan, so that jobs must be read again.

use rollout_core::controller::view::View;
use rollout_core::rollout::journal::{NodeRecord, Progress};
use std::collections::BTreeSet;

/// Words of a state that change what a node waits for.
const WORDS: [&str; 4] = ["ALLOCATED", "MIXED", "COMPLETING", "REBOOT_ISSUED"];

/// Nodes that are requested, kept out or under way, with the words of their state that matter.
pub type WorkingSet = BTreeSet<(String, [bool; WORDS.len()])>;

/// Returns the nodes at work.
#[must_use]
pub fn working_set(view: &View) -> WorkingSet {
    let is_at_work = |record: &NodeRecord| {
        let is_ordered = matches!(record.progress, Progress::Ordering { .. } | Progress::Ordered);
        is_ordered || record.has_traces_in_slurm()
    };
    let records = view.snapshot.rollouts.iter().flat_map(|rollout| &rollout.records);
    let at_work = records.filter(|(_, record)| is_at_work(record)).map(|(name, _)| {
        let has = |word: &str| view.slurm.get(name).is_some_and(|info| info.has(word));
        (name.clone(), WORDS.map(has))
    });
    at_work.collect()
}
