//! The part of their time limits that jobs use, by those that were seen to end.

use super::{Job, JobLimit};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};

/// Number of jobs that are remembered.
const KEPT: usize = 500;

/// Number of jobs from which on they tell about others.
const ENOUGH: usize = 20;

/// A job counts if its time limit is at least this many times the time between two looks, in which it has ended.
const LOOKS_IN_LIMIT: u64 = 20;

/// The parts of their time limits that the last jobs used, in percent, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UsedLimits(VecDeque<u8>);

impl UsedLimits {
    /// Returns the median, in percent. `None` if too few jobs are known.
    #[must_use]
    pub fn median(&self) -> Option<u8> {
        let mut sorted: Vec<u8> = self.0.iter().map(|percent| (*percent).min(100)).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().filter(|_| sorted.len() >= ENOUGH)
    }

    /// Adds the jobs that have ended between two looks at all jobs, at these times in seconds since 1970.
    ///
    /// A job that was suspended, requeued or cancelled counts like the others, with the time since its last start.
    pub fn observe(&mut self, (before_s, before): (u64, &[Job]), (now_s, now): (u64, &[Job])) {
        let Some(looks_s) = now_s.checked_sub(before_s) else { return };
        let state = |job: &Job| job.state.clone();
        let running: HashMap<u32, String> = now.iter().map(|job| (job.record, state(job))).collect();
        for job in before.iter().filter(|job| job.state == "R") {
            let (Some(start_s), JobLimit::Seconds(limit_s)) = (job.start_s, job.limit) else { continue };
            let has_ended = running.get(&job.record).is_none_or(|state| state == "CG");
            if !has_ended || limit_s == 0 || limit_s < looks_s.saturating_mul(LOOKS_IN_LIMIT) {
                continue;
            }
            let end_s = before_s.saturating_add(looks_s / 2);
            let percent = end_s.saturating_sub(start_s).saturating_mul(100) / limit_s;
            self.0.push_back(u8::try_from(percent.min(100)).unwrap_or(100));
        }
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_jobs;
    use super::*;

    fn jobs(text: &str) -> Vec<Job> {
        let parsed = parse_jobs(text);
        assert!(parsed.is_complete(), "{parsed:?}");
        parsed.items
    }

    #[test]
    fn jobs_count_once_they_have_ended() {
        let line =
            |record: u32, state: &str| format!("{record}|{record}|{state}|0|1000|4600|1:00:00|batch|cn1|\n");
        let before = [(1, "R"), (2, "R"), (3, "R"), (4, "PD"), (5, "S"), (6, "CG")];
        let text = |jobs: &[(u32, &str)]| {
            jobs.iter().map(|(record, state)| line(*record, state)).collect::<String>()
        };
        let mut used = UsedLimits::default();
        let (before, now) = (jobs(&text(&before)), jobs(&text(&[(2, "CG"), (3, "R")])));
        used.observe((1885, &before), (1915, &now));
        assert_eq!(used.0, [25, 25], "the first and the second");
    }

    #[test]
    fn jobs_without_a_limit_and_those_with_a_short_one_tell_nothing() {
        let before = jobs(
            "1|1|R|0|1000|NONE|UNLIMITED|batch|cn1|\n\
             2|2|R|0|1000|1599|9:59|batch|cn1|\n\
             3|3|R|0|1000|1600|10:00|batch|cn1|\n",
        );
        let mut used = UsedLimits::default();
        used.observe((1285, &before), (1315, &[]));
        assert_eq!(used.0, [50]);
        used.observe((1315, &before), (1285, &[]));
        assert_eq!(used.0.len(), 1, "the clock was set back");
    }

    #[test]
    fn the_median_needs_some_jobs_and_the_oldest_are_forgotten() {
        let mut used = UsedLimits((1..20).collect());
        assert_eq!(used.median(), None);
        used.0.push_back(200);
        assert_eq!(used.median(), Some(11));
        let many: String =
            (0..600).map(|record| format!("{record}|{record}|R|0|1000|4600|1:00:00|batch|cn1|\n")).collect();
        used.observe((1900, &jobs(&many)), (1900, &[]));
        assert_eq!((used.0.len(), used.median()), (KEPT, Some(25)));
    }
}
