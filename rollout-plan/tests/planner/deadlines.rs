//! Deadlines of many jobs at once.

use crate::script;
use rollout_plan::plan::{Effect, Plan};

/// Returns the numbers of jobs that are ended, of those for the first time, and of those for the last time.
fn ends(plan: &Plan) -> (usize, usize) {
    let ends = plan.steps.iter().filter(|step| matches!(step.effect, Some(Effect::End { .. })));
    let first = ends.clone().take_while(|step| step.before.is_some()).count();
    (first, ends.skip(first).filter(|step| step.before.is_none()).count())
}

#[test]
fn a_tick_ends_some_jobs_and_first_those_that_were_not_tried() {
    let mut text = "node n1 MIXED+DRAIN+REBOOT_REQUESTED by root: driver\n".to_owned();
    (1..=120).for_each(|job| text += &format!("job {job} R n1 -9h +9h\n"));
    text += "rollout driver n1 {\njobs = { at_most = \"1h\", then = \"cancel\" }\n}\n\
             -61m driver requested n1 asap\n-61m driver taken n1\n";
    (1..=30).for_each(|job| text += &format!("-1m driver ended {job} n1\n"));
    let mut world = script::read(&text);
    for expected in [(50, 0), (40, 10), (0, 50)] {
        let plan = world.plan();
        assert_eq!(ends(&plan), expected);
        let lines = plan.steps.iter().filter_map(|step| step.before.clone());
        lines.for_each(|line| world.write("driver", line));
    }
}
