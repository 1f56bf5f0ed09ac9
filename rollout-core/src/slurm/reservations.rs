//! Parses `SLURM_TIME_FORMAT=%s scontrol show res -o` (`slurm_sprint_reservation_info` in
//! `src/api/reservation_info.c`, 22.05 to 26.05). Operators and administrators write names, and Comments, which come
//! last.

use super::fields::{Fields, listed, set_value};
use super::parsed::Parsed;
use crate::hostlist::NodeSet;

/// First key of each record.
const FIRST: &str = "ReservationName=";

/// Beginning of the names of our reservations.
const OURS: &str = "slurm-rollout-";

/// A reservation, limited to the values that slurm-rollout needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    pub name: String,
    /// Empty for a reservation of licenses only.
    pub nodes: NodeSet,
    /// Start in seconds since 1970. A reservation that repeats shows its present or next time.
    pub start_s: u64,
    /// End in seconds since 1970.
    pub end_s: u64,
    /// Such as `MAINT`, `IGNORE_JOBS`, `MAGNETIC`, `SPEC_NODES`.
    pub flags: Vec<String>,
    /// Users as Slurm prints them. A `-` before a name excludes that user.
    pub users: Vec<String>,
}

/// Returns the name of the reservation of a node for a rollout. No other node of any rollout has the same: a NodeName
/// contains no `@`.
#[must_use]
pub fn name_of(rollout: &str, node: &str) -> String {
    format!("{OURS}{rollout}@{node}")
}

/// Returns the name of the reservation of the nodes that qualify a wave of a rollout, counted from 1. It is no name of a
/// node's reservation, since a NodeName contains no `@`.
#[must_use]
pub fn name_of_wave(rollout: &str, wave: u32) -> String {
    format!("{OURS}{rollout}@@{wave}")
}

/// Returns the name of a job that qualifies a wave in that reservation. `run` tells it from other ones.
#[must_use]
pub fn name_of_job(rollout: &str, wave: u32, run: u64) -> String {
    format!("{}.{run}", name_of_wave(rollout, wave))
}

/// Returns the wave of a rollout for which a reservation has this name.
#[must_use]
pub fn wave_of(name: &str, rollout: &str) -> Option<u32> {
    name.strip_prefix(OURS)?.strip_prefix(rollout)?.strip_prefix("@@")?.parse().ok()
}

impl Reservation {
    /// Returns whether its name is one that [`name_of`] or [`name_of_wave`] makes.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.name.starts_with(OURS) && self.name.contains('@')
    }

    /// Returns whether the reservation has this flag, such as `MAINT`.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|other| other == flag)
    }

    /// Returns whether the reservation holds its nodes at this time.
    #[must_use]
    pub fn is_active(&self, now_s: u64) -> bool {
        self.start_s <= now_s && now_s < self.end_s
    }
}

/// Parses the output of `SLURM_TIME_FORMAT=%s scontrol show res -o`. Lines between records belong to a Comment with
/// newlines.
#[must_use]
pub fn parse_reservations(text: &str) -> Parsed<Reservation> {
    let mut is_in_record = false;
    let lines = text.lines().filter(|line| {
        let is_record = line.starts_with(FIRST);
        let is_of_a_comment = is_in_record && !is_record;
        is_in_record |= is_record;
        !is_of_a_comment && !line.is_empty() && !line.starts_with("No reservations ")
    });
    Parsed::of(lines, parse_reservation)
}

fn parse_reservation(line: &str) -> Result<Reservation, String> {
    let (mut name, mut nodes, mut start_s, mut end_s) = (None, None, None, None);
    let (mut flags, mut users) = (Vec::new(), Vec::new());
    // `Comment=` is free text.
    for (key, value) in Fields::of(line).take_while(|(key, _)| *key != "Comment") {
        match key {
            "ReservationName" => name = set_value(value),
            "StartTime" => start_s = value.parse().ok(),
            "EndTime" => end_s = value.parse().ok(),
            "Nodes" => nodes = Some(value),
            "Flags" => flags = listed(value),
            "Users" => users = listed(value),
            _ => {}
        }
    }
    let (Some(name), Some(nodes)) = (name, nodes) else {
        return Err("this is no reservation: it lacks ReservationName or Nodes".to_owned());
    };
    let (Some(start_s), Some(end_s)) = (start_s, end_s) else {
        return Err("StartTime or EndTime is no number of seconds".to_owned());
    };
    let nodes = match set_value(nodes) {
        Some(list) => NodeSet::parse(list).map_err(|error| format!("Nodes={error}"))?,
        None => NodeSet::default(),
    };
    Ok(Reservation { name: name.to_owned(), nodes, start_s, end_s, flags, users })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As 22.05 prints it.
    const OLD: &str = "ReservationName=old StartTime=1793527500 EndTime=2114380800 Duration=3713-14:15:00 Nodes=cn[01-02] \
NodeCnt=2 CoreCnt=8 Features=(null) PartitionName=(null) Flags=IGNORE_JOBS,SPEC_NODES,MAGNETIC TRES=cpu=8 Users=-root \
Groups=(null) Accounts=(null) Licenses=(null) State=ACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)";

    /// As 26.05 prints it, with cores and a Comment.
    const NEW: &str = "ReservationName=maint StartTime=1793527500 EndTime=1793531100 Duration=01:00:00 Nodes=cn03 NodeCnt=1 \
CoreCnt=1 Features=(null) PartitionName=(null) Flags=MAINT,PURGE_COMP=00:05:00   NodeName=cn03 CoreIDs=0 TRES=cpu=1 \
AllowedPartitions=(null) QOS=(null) Users=root,alice Groups=(null) Accounts=(null) Licenses=(null) State=INACTIVE \
BurstBuffer=(null) MaxStartDelay=(null) Comment=for Users=nobody Nodes=cn09";

    #[test]
    fn reservations_are_read_as_each_release_prints_them() {
        let parsed = parse_reservations(&format!("{OLD}\n{NEW}\nsecond line of the Comment\n{OLD}\n"));
        assert!(parsed.is_complete(), "{parsed:?}");
        let [old, new, again] = &parsed.items[..] else { panic!("{parsed:?}") };
        assert_eq!(old, again);
        assert_eq!((old.name.as_str(), old.nodes.to_string().as_str()), ("old", "cn[01-02]"));
        assert_eq!((old.start_s, old.end_s), (1_793_527_500, 2_114_380_800));
        assert!(old.has("MAGNETIC") && old.has("IGNORE_JOBS") && !old.has("MAINT"));
        assert_eq!(old.users, ["-root"]);
        assert_eq!((new.nodes.to_string().as_str(), new.has("MAINT")), ("cn03", true));
        assert_eq!(new.users, ["root", "alice"]);
    }

    #[test]
    fn a_reservation_is_active_from_its_start_to_its_end() {
        let new = parse_reservations(NEW).items.remove(0);
        for (now_s, active) in
            [(1_793_527_499, false), (1_793_527_500, true), (1_793_531_099, true), (1_793_531_100, false)]
        {
            assert_eq!(new.is_active(now_s), active, "{now_s}");
        }
    }

    #[test]
    fn names_tell_rollouts_and_nodes_apart() {
        let names =
            [("a", "n1"), ("a@2", "n1"), ("a", "n11"), ("a-n1", "n1")].map(|(id, node)| name_of(id, node));
        assert_eq!(names[1], "slurm-rollout-a@2@n1");
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len());
        for name in names {
            let reservation = parse_reservations(&OLD.replace("=old ", &format!("={name} "))).items.remove(0);
            assert!(reservation.is_ours(), "{name}");
        }
        assert!(!parse_reservations(OLD).items[0].is_ours());
    }

    #[test]
    fn the_reservation_of_a_wave_is_that_of_no_node_and_no_other_wave() {
        let name = name_of_wave("a@2", 11);
        assert_eq!((name.as_str(), wave_of(&name, "a@2")), ("slurm-rollout-a@2@@11", Some(11)));
        for other in ["a", "a@", "a@2@", "b@2", ""] {
            assert_eq!(wave_of(&name, other), None, "{other}");
        }
        assert_eq!(wave_of(&name_of("a", "n1"), "a"), None);
        assert_eq!(name_of_job("a@2", 11, 5), "slurm-rollout-a@2@@11.5");
        let reservation = parse_reservations(&OLD.replace("=old ", &format!("={name} "))).items.remove(0);
        assert!(reservation.is_ours());
    }

    #[test]
    fn a_cluster_may_have_no_reservations_or_some_without_nodes() {
        let none = parse_reservations("No reservations in the system\n");
        assert!(none.items.is_empty() && none.is_complete());
        let licenses = parse_reservations(&OLD.replace("cn[01-02]", "(null)"));
        assert!(licenses.items[0].nodes.is_empty());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_reported() {
        for (line, why) in [
            ("slurm_load_reservations error", "no reservation"),
            ("ReservationName=old", "no reservation"),
            (&OLD.replace("1793527500", "2026-11-01T10:05:00"), "StartTime"),
            (&OLD.replace("cn[01-02]", "cn[02-01]"), "02-01"),
        ] {
            let parsed = parse_reservations(line);
            assert!(parsed.items.is_empty(), "{line}");
            assert!(parsed.unread.len() == 1 && parsed.unread[0].why.contains(why), "{line}: {parsed:?}");
        }
    }
}
