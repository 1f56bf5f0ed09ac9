//! Watching which nodes are out at the same time, as Slurm shows it.

use super::users::End;
use crate::prelude::*;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// Words of a state in which a node takes no jobs.
const OUT: [&str; 4] = ["DRAIN", "DOWN", "REBOOT_ISSUED", "NOT_RESPONDING"];

/// The sets of nodes that were seen out at the same time.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeSet<BTreeSet<String>>);

impl Seen {
    /// Returns the largest number of nodes.
    pub(super) fn most(&self) -> usize {
        self.0.iter().map(BTreeSet::len).max().unwrap_or_default()
    }

    /// Returns whether nodes of both lists were out at the same time.
    pub(super) fn together(&self, one: &[&str], other: &[&str]) -> bool {
        let has = |out: &BTreeSet<String>, nodes: &[&str]| nodes.iter().any(|node| out.contains(*node));
        self.0.iter().any(|out| has(out, one) && has(out, other))
    }
}

/// Does the work and returns its result with the nodes that were out meanwhile.
pub(super) fn watched<T>(site: &Site, work: impl FnOnce() -> T) -> (T, Seen) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut seen = Seen::default();
            while !is_over.load(Ordering::Relaxed) {
                // slurmctld may be restarting.
                if let Ok(text) = site.cluster.scontrol(&["show", "node", "-o"]) {
                    seen.0.insert(text.lines().filter_map(out).collect());
                }
                std::thread::sleep(LOOK_AGAIN);
            }
            seen
        });
        let done = {
            let _end = End(&is_over);
            work()
        };
        (done, watching.join().unwrap())
    })
}

/// Returns the name of a node that takes no jobs, from its line.
fn out(line: &str) -> Option<String> {
    let name = line.split_whitespace().next()?.strip_prefix("NodeName=")?;
    let state = state_of(line)?;
    let is_out = state.contains('*') || state.split('+').any(|word| OUT.contains(&word));
    is_out.then(|| name.to_owned())
}
