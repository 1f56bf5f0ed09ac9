//! Several cases on one cluster.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Number of failed cases after which the others of a test are skipped: each failure may have taken a whole time limit.
const MOST_FAILURES: usize = 3;

/// Cases of one test. See [`in_cases`].
#[derive(Default)]
pub(crate) struct Cases {
    failed: RefCell<Vec<String>>,
}

impl Cases {
    /// Runs a case and records its panic, if any.
    pub(crate) fn check(&self, name: &str, case: impl FnOnce()) {
        if self.failed.borrow().len() >= MOST_FAILURES {
            println!("--- {name}: skipped");
            return;
        }
        println!("--- {name}");
        let begun = Instant::now();
        // A case leaves nothing of the test's own half done; the state of the cluster is what the next one has to
        // cope with.
        let outcome = catch_unwind(AssertUnwindSafe(case));
        println!("{:5.1} s {name}", begun.elapsed().as_secs_f32());
        if let Err(panic) = outcome {
            self.failed.borrow_mut().push(format!("{name}: {}", message(&*panic)));
        }
    }
}

/// Runs the cases that `body` checks, one after another, also after some have failed, and fails once with all failures.
/// They share a cluster, so a later failure may be a consequence of the first one.
pub(crate) fn in_cases(body: impl FnOnce(&Cases)) {
    let cases = Cases::default();
    body(&cases);
    let failed = cases.failed.into_inner();
    assert!(failed.is_empty(), "{} cases failed:\n{}", failed.len(), failed.join("\n"));
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

#[test]
fn all_failures_are_reported_at_the_end() {
    let mut ran = Vec::new();
    let report = catch_unwind(AssertUnwindSafe(|| {
        in_cases(|cases| {
            cases.check("first", || panic!("one"));
            cases.check("second", || ran.push("second"));
            cases.check("third", || assert_eq!(1, 2, "two"));
            cases.check("fourth", || panic!("three"));
            cases.check("fifth", || panic!("is skipped"));
        });
    }));
    let report = report.unwrap_err();
    let report = message(&*report);
    assert!(report.starts_with("3 cases failed:\nfirst: one\nthird: "), "{report}");
    assert!(report.contains("two") && report.ends_with("\nfourth: three"), "{report}");
    assert_eq!(ran, ["second"]);
    in_cases(|cases| cases.check("good", || ()));
}
