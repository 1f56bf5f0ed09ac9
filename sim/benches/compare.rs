//! What a rollout costs with each strategy: `cargo bench -p rollout-sim --bench compare [-- exclusive|shared]`.
//!
//! [`NODES`] nodes with a load of [`LOAD`] in the simulation, and the same jobs for all strategies. Printed, never
//! asserted.
//!
//! | figure | how |
//! |---|---|
//! | lost | node-hours of nodes on which no job could start, as far as none ran |
//! | unused | node-hours by which requested nodes that still took jobs were used less than others |
//! | took | time from the start until the last node is back, in hours and as a multiple of the bound |
//! | out | most nodes on which no job could start at the same time |
//! | wait | mean wait of the jobs that were submitted in the first 24 h, in hours |
//!
//! Lost and unused are for each updated node, as multiples of the bound: the time of a node without jobs from its
//! request until it is back. For a limit, the bound of the time is as many rounds of it as needed.

#![allow(clippy::unwrap_used)]

use rollout_sim::compare::{Figures, Setting, Strategy, bound, measure};
use std::time::Instant;

const NODES: usize = 1_000;
const LOAD: f64 = 0.85;
const SEED: u64 = 1;

fn main() {
    let begun = Instant::now();
    for (kind, is_shared) in [("exclusive", false), ("shared", true)] {
        // Cargo adds `--bench`.
        let mut kinds = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).peekable();
        if kinds.peek().is_none() || kinds.any(|argument| argument == kind) {
            compare(kind, Setting { nodes: NODES, at_once: NODES, utilization: LOAD, is_shared });
        }
    }
    println!("\n{:.0} s", begun.elapsed().as_secs_f64());
}

fn compare(kind: &str, all: Setting) {
    let unchanged = measure(SEED, Strategy::Unchanged, all).unwrap();
    println!("\n{NODES} {kind} nodes, load {:.1} %", 100.0 * unchanged.load);
    println!(
        "{:10} {:18} {:>7} {:>7} {:>9} {:>7} {:>6} {:>6}",
        "max_out", "strategy", "lost", "unused", "took", "", "out", "wait"
    );
    println!("{:10} {:18} {:48.2}", "", Strategy::Unchanged.name(), unchanged.wait_h);
    for strategy in [Strategy::AllAsap, Strategy::SingleLock] {
        let at_once = if strategy == Strategy::SingleLock { 1 } else { NODES };
        print("", strategy, Setting { at_once, ..all });
    }
    for percent in [20, 5, 2] {
        let setting = Setting { at_once: NODES * percent / 100, ..all };
        for strategy in Strategy::LIMITED {
            print(&format!("{percent} %"), strategy, setting);
        }
    }
}

fn print(limit: &str, strategy: Strategy, setting: Setting) {
    let bound = bound(SEED, setting).unwrap();
    let figures = measure(SEED, strategy, setting).unwrap();
    let Figures { updated, most_out, wait_h, .. } = figures;
    let (each_h, bound_h) = (figures.lost_for_each_h(), bound.lost_for_each_h());
    #[allow(clippy::cast_precision_loss, reason = "counts are small")]
    let unused = figures.unused_h / updated.max(1) as f64 / bound_h;
    let took = match (figures.took_h, bound.took_h) {
        (Some(took_h), Some(least_h)) => format!("{took_h:7.1} h {:7.2}", took_h / least_h),
        _ => format!("{updated} only {:7}", ""),
    };
    println!(
        "{limit:10} {:18} {:7.2} {unused:7.2} {took:>17} {most_out:6} {wait_h:6.2}",
        strategy.name(),
        each_h / bound_h
    );
}
