//! Runs every target on its seeds and on thousands of mutations of them, the same ones every time.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, and keeps the failing input"
)]

use rollout_fuzz::{Mutations, TARGETS, target};
use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Limits of a run, whichever is reached first.
const MUTATIONS: usize = 50_000;
const BUDGET: Duration = Duration::from_secs(5);

fn seeds_of(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds").join(name);
    let files = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<PathBuf> = files.collect();
    files.into_iter().map(|file| (file.clone(), fs::read(file).unwrap())).collect()
}

/// Runs a target. Keeps the input in a file if the target panics, for people and libFuzzer.
fn run(name: &str, input: &str, bytes: &[u8]) {
    let run = target(name).run;
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(bytes))) {
        let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-broken"));
        fs::write(&kept, bytes).unwrap();
        println!("{name} broke at {input}, kept as {}: {}", kept.display(), bytes.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

fn seeds_and_mutations(name: &str) {
    let seeds = seeds_of(name);
    assert!(seeds.len() > 2, "{name} has seeds");
    for (path, bytes) in &seeds {
        run(name, &path.display().to_string(), bytes);
    }
    let end = Instant::now() + BUDGET;
    let mutations = Mutations::of(seeds.into_iter().map(|(_, bytes)| bytes).collect());
    let mut count = 0;
    for bytes in mutations.take(MUTATIONS).take_while(|_| Instant::now() < end) {
        count += 1;
        run(name, &format!("mutation {count}"), &bytes);
    }
    println!("{name}: {count} mutations");
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            seeds_and_mutations(stringify!($name));
        })*

        #[test]
        fn every_target_is_tested_and_has_a_program_for_libfuzzer() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
            let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
            let found: BTreeSet<String> =
                fs::read_dir(programs).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            assert_eq!(found, names.iter().map(|name| format!("{name}.rs")).collect());
        }
    };
}

tests! { config connection hostlist jobs journal ledger manifest munged nodeset order scontrol staged }
