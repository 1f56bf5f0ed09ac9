//! The lease on looking after started rollouts: one process has it, on one controller.
//!
//! It only keeps two processes from doing the same work. If two have it, because the clocks of two hosts differ, each
//! still decides under the lock of the state directory and by the journals.

use serde::{Deserialize, Serialize};

/// Duration of a lease, in milliseconds. Its holder renews it at every look.
pub const DURATION_MS: u64 = 30_000;

/// Difference from which the end of a lease is due to a wrong clock, in milliseconds. MUNGE accepts no credential from
/// such a host (its default time to live is 300 s).
const WRONG_CLOCK_MS: u64 = 300_000 + DURATION_MS;

/// A process that looks after started rollouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub host: String,
    /// The kernel's boot id.
    pub boot_id: String,
    pub pid: u32,
}

/// A lease as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    #[serde(flatten)]
    pub holder: Holder,
    /// End if it is not renewed, in milliseconds since 1970.
    pub until_ms: u64,
}

/// The decision for a process that asks for the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has the lease from now on, or goes on having it.
    Take,
    /// Another one has it, until this time in milliseconds since 1970 unless it is renewed.
    Held { by: Holder, until_ms: u64 },
}

/// Decides whether `me` takes or renews the lease. `is_running` tells whether a process of this host exists.
#[must_use]
pub fn decide(
    current: Option<&Lease>,
    me: &Holder,
    is_running: impl Fn(u32) -> bool,
    now_ms: u64,
) -> Verdict {
    let Some(Lease { holder, until_ms }) = current else { return Verdict::Take };
    let is_gone = holder.host == me.host && (holder.boot_id != me.boot_id || !is_running(holder.pid));
    let is_over = *until_ms <= now_ms || until_ms.saturating_sub(now_ms) > WRONG_CLOCK_MS;
    if holder == me || is_gone || is_over {
        return Verdict::Take;
    }
    Verdict::Held { by: holder.clone(), until_ms: *until_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(host: &str, boot_id: &str, pid: u32) -> Holder {
        Holder { host: host.into(), boot_id: boot_id.into(), pid }
    }

    #[test]
    fn one_process_has_it_until_its_end_or_death() {
        let me = holder("ctl1", "b1", 10);
        // Process 11 runs on this host, 12 does not.
        let is_running = |pid: u32| pid != 12;
        for (current, until_ms, taken) in [
            (None, 0, true),
            // Its own.
            (Some(me.clone()), 1_030_000, true),
            (Some(me.clone()), 1_000_000, true),
            // A process of this host: alive, gone, of another boot.
            (Some(holder("ctl1", "b1", 11)), 1_030_000, false),
            (Some(holder("ctl1", "b1", 11)), 1_000_001, false),
            (Some(holder("ctl1", "b1", 11)), 1_000_000, true),
            (Some(holder("ctl1", "b1", 12)), 1_030_000, true),
            (Some(holder("ctl1", "b0", 11)), 1_030_000, true),
            (Some(holder("ctl1", "b0", 10)), 1_030_000, true),
            // Another host, where nobody can look. Its boot id may be the same: containers share a kernel.
            (Some(holder("ctl2", "b2", 12)), 1_030_000, false),
            (Some(holder("ctl2", "b1", 12)), 1_030_000, false),
            (Some(holder("ctl2", "b1", 10)), 1_030_000, false),
            (Some(holder("ctl2", "b2", 12)), 1_000_000, true),
            (Some(holder("ctl2", "b2", 12)), 0, true),
            // The clock of the other host is ahead, a little or wrong.
            (Some(holder("ctl2", "b2", 12)), 1_330_000, false),
            (Some(holder("ctl2", "b2", 12)), 1_330_001, true),
            (Some(holder("ctl2", "b2", 12)), u64::MAX, true),
        ] {
            let lease = current.map(|holder| Lease { holder, until_ms });
            let held =
                lease.clone().map(|lease| Verdict::Held { by: lease.holder, until_ms: lease.until_ms });
            let expected = if taken { Some(Verdict::Take) } else { held };
            assert_eq!(Some(decide(lease.as_ref(), &me, is_running, 1_000_000)), expected, "{lease:?}");
        }
    }

    #[test]
    fn its_file_names_the_holder() {
        let lease = Lease { holder: holder("ctl1", "b1", 10), until_ms: 7 };
        let text = r#"{"host":"ctl1","boot_id":"b1","pid":10,"until_ms":7}"#;
        assert_eq!(serde_json::to_string(&lease).unwrap(), text);
        assert_eq!(serde_json::from_str::<Lease>(text).unwrap(), lease);
    }
}
