//! Availability of nodes for jobs, by the states and flags of its `State=` (`node_states` and `node_state_flags` in
//! `src/common/slurm_protocol_defs.c`, 22.05 to 26.05).
//!
//! A floor counts available nodes. A state or flag of a later release makes a node unavailable, because nothing is
//! known about it.

use super::node::NodeInfo;
use std::fmt;

/// Availability of a node for jobs, as far as its state tells. It may be full, and partitions and reservations may keep
/// jobs away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    Available,
    Unavailable(Unavailable),
}

/// State in which no job starts on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unavailable {
    /// FUTURE or EXTERNAL: the node does not exist yet, or has no slurmd.
    NoNode,
    /// INVALID_REG: it registered with less than is configured. Only a valid registration ends this state.
    InvalidRegistration,
    /// REBOOT_ISSUED: Slurm has handed it over and waits for it to register.
    Rebooting,
    /// POWERING_UP or POWER_UP: it boots for a job or after power saving.
    Booting,
    /// POWER_DOWN, POWERING_DOWN or POWERED_DOWN: power saving. Slurm starts it if a job needs it.
    Asleep,
    Down,
    /// UNKNOWN: it has not registered since slurmctld started.
    NeverRegistered,
    NotResponding,
    /// FAIL: an admin expects it to fail.
    Failing,
    /// DRAIN, set by anyone: an admin, a health check, Slurm, or `scontrol reboot ASAP`.
    Drained,
    /// MAINTENANCE: in a reservation with the flag MAINT.
    InMaintenance,
    /// Slurm shows a state or flag that this version does not know.
    Unrecognized,
}

/// Base states of nodes that work.
const WORKING: [&str; 3] = ["IDLE", "MIXED", "ALLOCATED"];

/// Flags that keep no job away for good.
///
/// Jobs start beside COMPLETING ones, and before a planned one. BLOCKED (24.11) and PERFCTRS (22.05) last as long as a
/// job. REBOOT_REQUESTED without DRAIN leaves the node in service. RESERVED nodes run the jobs of the reservation.
/// DYNAMIC_FUTURE stays on a node that has registered.
const HARMLESS: [&str; 9] = [
    "BLOCKED",
    "CLOUD",
    "COMPLETING",
    "DYNAMIC_FUTURE",
    "DYNAMIC_NORM",
    "PERFCTRS",
    "PLANNED",
    "REBOOT_REQUESTED",
    "RESERVED",
];

/// States and flags that keep jobs away, the most telling ones first.
const HARMFUL: [(&str, Unavailable); 16] = [
    ("FUTURE", Unavailable::NoNode),
    ("EXTERNAL", Unavailable::NoNode),
    ("INVALID_REG", Unavailable::InvalidRegistration),
    ("REBOOT_ISSUED", Unavailable::Rebooting),
    ("POWERING_UP", Unavailable::Booting),
    ("POWER_UP", Unavailable::Booting),
    ("POWERED_DOWN", Unavailable::Asleep),
    ("POWERING_DOWN", Unavailable::Asleep),
    ("POWER_DOWN", Unavailable::Asleep),
    ("DOWN", Unavailable::Down),
    ("ERROR", Unavailable::Down),
    ("UNKNOWN", Unavailable::NeverRegistered),
    ("NOT_RESPONDING", Unavailable::NotResponding),
    ("FAIL", Unavailable::Failing),
    ("DRAIN", Unavailable::Drained),
    ("MAINTENANCE", Unavailable::InMaintenance),
];

impl Availability {
    /// Returns the availability of a node by its state.
    #[must_use]
    pub fn of(node: &NodeInfo) -> Self {
        if let Some((_, why)) = HARMFUL.iter().find(|(word, _)| node.has(word)) {
            return Self::Unavailable(*why);
        }
        let mut words = node.state.iter().map(String::as_str);
        let is_working = words.next().is_some_and(|base| WORKING.contains(&base));
        match is_working && words.all(|flag| HARMLESS.contains(&flag)) {
            true => Self::Available,
            false => Self::Unavailable(Unavailable::Unrecognized),
        }
    }

    /// Returns whether jobs can start on the node.
    #[must_use]
    pub fn is_available(self) -> bool {
        self == Self::Available
    }
}

impl Unavailable {
    /// Returns a few words for people, such as `down`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoNode => "no node yet",
            Self::InvalidRegistration => "registered with less than is configured",
            Self::Rebooting => "rebooting",
            Self::Booting => "booting",
            Self::Asleep => "powered down to save power",
            Self::Down => "down",
            Self::NeverRegistered => "not registered since slurmctld started",
            Self::NotResponding => "not responding",
            Self::Failing => "marked as failing",
            Self::Drained => "drained",
            Self::InMaintenance => "in a maintenance reservation",
            Self::Unrecognized => "in a state that this version does not know",
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(state: &str) -> Availability {
        let state = state.split('+').map(str::to_owned).collect();
        Availability::of(&NodeInfo { state, ..NodeInfo::default() })
    }

    #[test]
    fn each_state_is_available_or_tells_why_not() {
        use Unavailable::*;
        for (state, why) in [
            ("IDLE", None),
            ("MIXED", None),
            ("ALLOCATED", None),
            ("IDLE+PLANNED", None),
            ("IDLE+COMPLETING", None),
            ("MIXED+RESERVED", None),
            ("IDLE+CLOUD", None),
            ("IDLE+DYNAMIC_NORM", None),
            ("IDLE+DYNAMIC_FUTURE", None),
            ("IDLE+BLOCKED", None),
            ("ALLOCATED+PERFCTRS", None),
            ("MIXED+REBOOT_REQUESTED", None),
            ("MIXED+DRAIN+REBOOT_REQUESTED", Some(Drained)),
            ("IDLE+COMPLETING+DRAIN+REBOOT_REQUESTED", Some(Drained)),
            ("IDLE+DRAIN", Some(Drained)),
            ("IDLE+FAIL", Some(Failing)),
            ("MIXED+DRAIN+FAIL", Some(Failing)),
            ("IDLE+MAINTENANCE+RESERVED", Some(InMaintenance)),
            ("IDLE+NOT_RESPONDING", Some(NotResponding)),
            ("DOWN", Some(Down)),
            ("DOWN+NOT_RESPONDING", Some(Down)),
            ("DOWN+DRAIN", Some(Down)),
            ("ERROR", Some(Down)),
            ("UNKNOWN+NOT_RESPONDING", Some(NeverRegistered)),
            ("DOWN+REBOOT_ISSUED", Some(Rebooting)),
            ("DOWN+DRAIN+REBOOT_ISSUED", Some(Rebooting)),
            ("DOWN+DRAIN+INVALID_REG+REBOOT_ISSUED", Some(InvalidRegistration)),
            ("IDLE+INVALID_REG", Some(InvalidRegistration)),
            ("ALLOCATED+NOT_RESPONDING+POWERING_UP", Some(Booting)),
            ("IDLE+CLOUD+POWER_UP", Some(Booting)),
            ("IDLE+CLOUD+POWERED_DOWN", Some(Asleep)),
            ("IDLE+CLOUD+POWERING_DOWN", Some(Asleep)),
            ("MIXED+CLOUD+POWER_DOWN", Some(Asleep)),
            ("FUTURE", Some(NoNode)),
            ("FUTURE+DYNAMIC_FUTURE", Some(NoNode)),
            ("IDLE+EXTERNAL", Some(NoNode)),
            ("INVALID", Some(Unrecognized)),
            ("IDLE+QUARANTINED", Some(Unrecognized)),
            ("PLANNED", Some(Unrecognized)),
            ("IDLE+IDLE", Some(Unrecognized)),
            ("", Some(Unrecognized)),
        ] {
            let expected = why.map_or(Availability::Available, Availability::Unavailable);
            assert_eq!(of(state), expected, "{state}");
        }
        let silent = Availability::of(&NodeInfo::default());
        assert_eq!(silent, Availability::Unavailable(Unrecognized));
    }

    proptest! {
        #[test]
        fn one_harmful_flag_is_enough(
            base in prop::sample::select(WORKING.to_vec()),
            harmless in prop::collection::vec(prop::sample::select(HARMLESS.to_vec()), 0..4),
            harmful in prop::option::of(prop::sample::select(HARMFUL.to_vec())),
            at in 0..4usize,
        ) {
            let mut words = vec![base];
            words.extend(harmless);
            let expected = harmful.map_or(Availability::Available, |(word, why)| {
                words.insert(1 + at.min(words.len() - 1), word);
                Availability::Unavailable(why)
            });
            prop_assert_eq!(of(&words.join("+")), expected);
        }
    }
}
