//! An interval of time, and the delay of its start.

use std::time::Duration;

/// An interval without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) start_ms: u64,
    pub(super) end_ms: u64,
}

impl Interval {
    pub(super) fn contains(self, time_ms: u64) -> bool {
        self.start_ms <= time_ms && time_ms < self.end_ms
    }
}

/// Returns a delay of at most `jitter`, in whole seconds. It depends on `key` alone, so each tick, each controller and
/// each day have the same one.
pub(super) fn delay_of(key: &str, jitter: Duration) -> Duration {
    Duration::from_secs(hash(key) % jitter.as_secs().saturating_add(1).max(1))
}

/// FNV-1a, mixed once more: names that differ in their last digit alone would else be neighbors.
fn hash(key: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_repeat_and_spread_over_the_whole_jitter() {
        let jitter = Duration::from_secs(3599);
        let delays: Vec<u64> = (0..6000).map(|n| delay_of(&format!("cn{n:04}"), jitter).as_secs()).collect();
        for tenth in 0..10 {
            let here = delays.iter().filter(|delay| **delay / 360 == tenth).count();
            assert!((500..700).contains(&here), "{tenth}: {here}");
        }
        assert_eq!(delay_of("driver-580", jitter), delay_of("driver-580", jitter));
        assert_eq!(delay_of("driver-580", Duration::ZERO), Duration::ZERO);
        assert!(delay_of("driver-580", Duration::MAX) < Duration::MAX);
    }
}
