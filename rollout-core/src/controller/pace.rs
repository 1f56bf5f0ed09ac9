//! The pace of a rollout: the number of nodes that it updated, and the time that it took.

use crate::agent::phase::Phase;
use crate::rollout::journal::{NodeRecord, NodeRecords, Progress};
use crate::time_limit::{Unit, write};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

const HOUR_MS: u64 = 3_600_000;

/// Units of the time that a rollout took.
const UNITS: [Unit; 3] = [('d', 24 * 3600), ('h', 3600), ('m', 60)];

/// The updated nodes of a rollout, and their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Number of updated nodes.
    pub updated: u64,
    /// Time at which the first of them was ordered, in milliseconds since 1970.
    pub from_ms: u64,
    /// Time at which the last of them was seen updated, in milliseconds since 1970.
    pub until_ms: u64,
}

impl Pace {
    /// Returns the pace of a rollout. `None` if no node is updated, or the order of none is recorded.
    #[must_use]
    pub fn of(records: &NodeRecords) -> Option<Self> {
        let is_updated = |record: &&NodeRecord| record.progress == Progress::Seen(Phase::Updated);
        let updated = || records.values().filter(is_updated);
        let from_ms = updated().filter_map(|record| record.ordering_ms).min()?;
        let until_ms = updated().map(|record| record.since_ms).max()?.max(from_ms);
        Some(Self { updated: u64::try_from(updated().count()).ok()?, from_ms, until_ms })
    }

    /// Returns the number of nodes that are updated in an hour or in a day, in words. `None` for fewer than three nodes:
    /// the time of one visit tells nothing about those of others.
    #[must_use]
    pub fn rate(&self) -> Option<String> {
        let took_ms = self.until_ms.checked_sub(self.from_ms).filter(|took_ms| *took_ms > 0)?;
        let count = Some(self.updated).filter(|count| *count >= 3)?;
        Some(match count.saturating_mul(HOUR_MS) / took_ms {
            0 => format!("{} nodes a day", count.saturating_mul(HOUR_MS * 24) / took_ms),
            an_hour => format!("{an_hour} nodes an hour"),
        })
    }
}

/// Writes the time from the first order to the last end, such as `1h20m`.
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = Duration::from_millis(self.until_ms.saturating_sub(self.from_ms));
        if took < Duration::from_secs(60) { write!(f, "{}s", took.as_secs()) } else { write(f, took, &UNITS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: u64 = 60_000;

    fn record(progress: Progress, ordering_ms: Option<u64>, since_ms: u64) -> NodeRecord {
        NodeRecord { ordering_ms, ..NodeRecord::new(progress, since_ms) }
    }

    #[test]
    fn it_is_that_of_updated_nodes() {
        let updated = Progress::Seen(Phase::Updated);
        let nodes = [
            ("n1", record(Progress::Seen(Phase::Held), Some(1), 90)),
            ("n2", record(updated, Some(20), 60)),
            ("n3", record(updated, Some(10), 40)),
            ("n4", record(updated, None, 70)),
            ("n5", record(Progress::Staged, None, 99)),
        ];
        let records: NodeRecords = nodes.map(|(name, record)| (name.to_owned(), record)).into();
        assert_eq!(Pace::of(&records), Some(Pace { updated: 3, from_ms: 10, until_ms: 70 }));
        let waiting = [("n5".to_owned(), record(Progress::Staged, None, 99))].into();
        assert_eq!(Pace::of(&waiting), None);
    }

    #[test]
    fn it_is_written_as_time_and_rate() {
        for (updated, minutes, time, rate) in [
            (2, 10, "10m", None),
            (3, 0, "0s", None),
            (3, 90, "1h30m", Some("2 nodes an hour")),
            (500, 26 * 60, "1d2h", Some("19 nodes an hour")),
            (12, 72 * 60, "3d", Some("4 nodes a day")),
        ] {
            let pace = Pace { updated, from_ms: 5, until_ms: 5 + minutes * MINUTE_MS };
            assert_eq!((pace.to_string().as_str(), pace.rate().as_deref()), (time, rate));
        }
    }
}
