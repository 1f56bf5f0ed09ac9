//! Drains set by others: an admin, a health check, Slurm itself. They outlive a rollout.
//!
//! Slurm clears a node's DRAIN when the node returns from `scontrol reboot` with `nextstate=`, or with ASAP up to
//! 24.05.2, no matter who had set it. `reason=` replaces the Reason of the drain (`validate_node_specs`, 22.05 to
//! 26.05). So drains are recorded while they are still visible.

use crate::slurm::node::NodeInfo;
use crate::slurm::reason::{Classified, Reason, without_notes};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A drain set by others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub reason: String,
    /// The user who set it, if Slurm reports one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Slurm set it itself for a fault that a reboot cures: `nextstate=resume` clears it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cleared_by_reboot: bool,
}

/// Drains by NodeName.
pub type Drains = BTreeMap<String, Drain>;

/// Drains that Slurm sets itself for faults that a reboot cures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CuredByReboot<'a> {
    /// Beginnings of their Reasons.
    pub reasons: &'a [String],
    /// The users as whom Slurm's daemons set them.
    pub by: &'a [String],
}

/// Facts about drains from before `scontrol reboot`.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// Drains of others that were known.
    pub known: &'a Drains,
    /// Nodes whose DRAIN was that of an earlier reboot, or ours.
    pub left_by_reboots: &'a BTreeSet<String>,
    /// Nodes for which Slurm shows whether they were drained at the moment of the request.
    pub at_request: &'a BTreeMap<String, bool>,
}

impl CuredByReboot<'_> {
    /// Returns whether a drain is one of them. If nobody knows who set it, its Reason decides.
    #[must_use]
    pub fn has(&self, reason: &str, by: Option<&str>) -> bool {
        let is_by_slurm = by.is_none_or(|by| self.by.iter().any(|user| user == by));
        is_by_slurm && self.reasons.iter().any(|beginning| reason.starts_with(beginning.as_str()))
    }

    fn drain(&self, reason: &str, by: Option<&str>) -> Drain {
        let cleared_by_reboot = self.has(reason, by);
        Drain { reason: reason.to_owned(), by: by.map(str::to_owned), cleared_by_reboot }
    }
}

impl Drain {
    /// Returns the Reason to keep, for a node whose NextState is not known yet: a drain that a reboot may clear is left
    /// to Slurm, which clears it with `nextstate=resume` alone.
    #[must_use]
    pub fn kept_by_every_reboot(&self) -> Option<&str> {
        (!self.cleared_by_reboot).then_some(self.reason.as_str())
    }
}

/// Ids of rollouts that have requested a node, by NodeName. An id is the Reason of the request.
pub type Requested = BTreeMap<String, BTreeSet<String>>;

/// Returns the drains known after Slurm has reported all its nodes.
#[must_use]
pub fn observe(
    known: &Drains,
    nodes: &[NodeInfo],
    requested: &Requested,
    cured: &CuredByReboot<'_>,
) -> Drains {
    let seen = nodes.iter().filter(|node| node.has("DRAIN")).filter_map(|node| {
        let reported = || Some(cured.drain(node.reason.as_deref()?, node.reason_user.as_deref()));
        // During a reboot the DRAIN may belong to the reboot, and so may the DRAIN left behind by one that timed out.
        let drain = match being_rebooted(node) || is_of_a_reboot(node) || is_of_a_request(node, requested) {
            true => known.get(&node.name).cloned(),
            false => reported(),
        };
        Some((node.name.clone(), drain?))
    });
    seen.collect()
}

/// Returns the nodes whose DRAIN an earlier reboot or slurm-rollout has left, after Slurm has reported all its nodes.
/// During a reboot nothing is learned: its own DRAIN looks the same.
#[must_use]
pub fn observe_left_by_reboots(
    known: &BTreeSet<String>,
    nodes: &[NodeInfo],
    requested: &Requested,
) -> BTreeSet<String> {
    let drained = nodes.iter().filter(|node| node.has("DRAIN"));
    let is_left = |node: &&NodeInfo| match being_rebooted(node) {
        true => known.contains(&node.name),
        false => is_of_a_reboot(node) || is_of_a_request(node, requested),
    };
    drained.filter(is_left).map(|node| node.name.clone()).collect()
}

/// Returns the nodes that are handed over and whose DRAIN may be from before `scontrol reboot`, although nobody has
/// seen it: Slurm clears it when they return. [`crate::slurm::next_state`] tells.
#[must_use]
pub fn in_doubt<'a>(nodes: &'a [NodeInfo], known: &Drains) -> Vec<&'a str> {
    let clears = |node: &NodeInfo| node.next_state.as_deref().is_some_and(|next| next != "UNDRAIN");
    let doubtful = |node: &&NodeInfo| {
        node.has("DRAIN") && being_rebooted(node) && clears(node) && !known.contains_key(&node.name)
    };
    nodes.iter().filter(doubtful).map(|node| node.name.as_str()).collect()
}

/// Returns the drains that others had set just before `scontrol reboot`, so that no look has seen them. If the request
/// had a `reason=`, that of the drain is lost, and the request's stands for it.
#[must_use]
pub fn found_at_hand_over(nodes: &[NodeInfo], before: Before<'_>, cured: &CuredByReboot<'_>) -> Drains {
    let found = in_doubt(nodes, before.known).into_iter().filter(|name| {
        before.at_request.get(*name) == Some(&true) && !before.left_by_reboots.contains(*name)
    });
    let names: BTreeSet<&str> = found.collect();
    let drained = nodes.iter().filter(|node| names.contains(node.name.as_str()));
    let drain = |node: &NodeInfo| {
        let reason = without_notes(node.reason.as_deref().unwrap_or_default());
        let is_theirs = !reason.is_empty() && !Reason::classify(reason).is_of_a_reboot();
        let reason = if is_theirs { reason } else { "drained before scontrol reboot" };
        (node.name.clone(), cured.drain(reason, None))
    };
    drained.map(drain).collect()
}

/// Returns the Reason with which somebody drained a node after Slurm had handed it over. Such a Reason is neither the
/// request's, to which Slurm has appended, nor ours, nor that of a registration that Slurm refuses: it drains the node
/// as SlurmUser then (`validate_node_specs`), and does not let anybody resume it.
#[must_use]
pub fn was_drained_meanwhile<'a>(node: &'a NodeInfo, slurm_user: &str) -> Option<&'a str> {
    let reason = node.reason.as_deref().filter(|reason| !reason.is_empty())?;
    let by_slurm = node.reason_user.as_deref().is_none_or(|user| user == slurm_user);
    let is_refused = node.has("INVALID_REG") && by_slurm;
    (node.has("DRAIN") && !is_refused && !is_of_a_reboot(node)).then_some(reason)
}

/// Returns the Reason of the known drain of this node, if the drain outlives the reboot: the node still has DRAIN, or
/// somebody has cleared the drain; and `nextstate=resume` was not said for a drain that it clears. Up to 24.05.2, ASAP
/// alone means the same to Slurm.
#[must_use]
pub fn still_drained(known: &Drains, node: &NodeInfo) -> Option<String> {
    let resumes = node.next_state.as_deref() == Some("RESUME");
    let drain = known.get(&node.name).filter(|drain| !(drain.cleared_by_reboot && resumes))?;
    node.has("DRAIN").then(|| drain.reason.clone())
}

fn being_rebooted(node: &NodeInfo) -> bool {
    node.has("REBOOT_REQUESTED") || node.has("REBOOT_ISSUED")
}

fn is_of_a_reboot(node: &NodeInfo) -> bool {
    node.classified_reason().as_ref().is_some_and(Classified::is_of_a_reboot)
}

/// Returns whether the Reason of a node is that of its request. It stays, with a DRAIN from before, if somebody cancels
/// the request (`update_node` in `src/slurmctld/node_mgr.c`, 26.11). Without a request, somebody drained the node with
/// the same Reason.
fn is_of_a_request(node: &NodeInfo, requested: &Requested) -> bool {
    let of_node = requested.get(&node.name);
    node.reason.as_deref().is_some_and(|reason| of_node.is_some_and(|ids| ids.contains(reason)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(state: &str, reason: &str) -> NodeInfo {
        NodeInfo {
            name: "n1".to_owned(),
            state: state.split('+').map(str::to_owned).collect(),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
            reason_user: Some("root".to_owned()),
            ..NodeInfo::default()
        }
    }

    fn requested() -> Requested {
        [("n1".to_owned(), ["driver-580".to_owned()].into())].into()
    }

    const CURED: CuredByReboot<'_> = CuredByReboot { reasons: &[], by: &[] };

    fn kill_task_failed() -> [Vec<String>; 2] {
        [vec!["Kill task failed".to_owned()], vec!["root".to_owned(), "slurm".to_owned()]]
    }

    #[test]
    fn only_an_explicit_resume_clears_what_slurm_drained_itself() {
        let [reasons, by] = kill_task_failed();
        let cured = CuredByReboot { reasons: &reasons, by: &by };
        for (reason, user, next_state, kept) in [
            ("Kill task failed", "root", Some("RESUME"), false),
            ("Kill task failed (JobId=7 StepId=batch)", "root", Some("RESUME"), false),
            ("Kill task failed", "slurm", Some("RESUME"), false),
            // A person who means it.
            ("Kill task failed", "alice", Some("RESUME"), true),
            ("bad disk", "root", Some("RESUME"), true),
            ("see ticket: Kill task failed", "root", Some("RESUME"), true),
            // Slurm keeps the DRAIN.
            ("Kill task failed", "root", None, true),
            ("Kill task failed", "root", Some("UNDRAIN"), true),
            ("Kill task failed", "root", Some("DOWN"), true),
        ] {
            let before = NodeInfo { reason_user: Some(user.to_owned()), ..node("IDLE+DRAIN", reason) };
            let known = observe(&Drains::new(), &[before], &requested(), &cured);
            let mut issued = node("DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued");
            issued.next_state = next_state.map(str::to_owned);
            let known = observe(&known, std::slice::from_ref(&issued), &requested(), &cured);
            assert_eq!(still_drained(&known, &issued).is_some(), kept, "{reason} {user} {next_state:?}");
        }
    }

    #[test]
    fn a_drain_that_no_look_has_seen_is_found_at_the_hand_over() {
        let [reasons, by] = kill_task_failed();
        let cured = CuredByReboot { reasons: &reasons, by: &by };
        let some = |name: &str| [name.to_owned()].into();
        for (state, reason, next_state, at_request, left, found) in [
            // `scontrol reboot ASAP nextstate=resume`, without and with `reason=`.
            ("DOWN+DRAIN", "bad DIMM : reboot issued", Some("RESUME"), Some(true), false, Some("bad DIMM")),
            ("DOWN+DRAIN", "driver : reboot issued", Some("RESUME"), Some(true), false, Some("driver")),
            ("DOWN+DRAIN", "driver : reboot issued", Some("DOWN"), Some(true), false, Some("driver")),
            (
                "DOWN+DRAIN",
                "slurm-rollout driver: not ordered: no answer",
                Some("RESUME"),
                Some(true),
                false,
                Some("drained before scontrol reboot"),
            ),
            // The reboot's own DRAIN.
            ("DOWN+DRAIN", "driver : reboot issued", Some("RESUME"), Some(false), false, None),
            // Slurm did not tell.
            ("DOWN+DRAIN", "driver : reboot issued", Some("RESUME"), None, false, None),
            // Left by a reboot that timed out, or set by our agent for a held node.
            ("DOWN+DRAIN", "driver : reboot issued", Some("RESUME"), Some(true), true, None),
            // Slurm keeps the DRAIN itself.
            ("DOWN+DRAIN", "bad DIMM : reboot issued", None, Some(true), false, None),
            ("DOWN+DRAIN", "Reboot ASAP : reboot issued", Some("UNDRAIN"), Some(true), false, None),
            ("DOWN", "driver : reboot issued", Some("RESUME"), Some(true), false, None),
        ] {
            let mut info = node(&format!("{state}+REBOOT_ISSUED"), reason);
            info.next_state = next_state.map(str::to_owned);
            let before = Before {
                known: &Drains::new(),
                left_by_reboots: &if left { some("n1") } else { BTreeSet::new() },
                at_request: &at_request.map(|drained| ("n1".to_owned(), drained)).into_iter().collect(),
            };
            let found_now = found_at_hand_over(std::slice::from_ref(&info), before, &cured);
            let kept = still_drained(&found_now, &info);
            assert_eq!(kept.as_deref(), found, "{state} {reason} {next_state:?} {at_request:?} {left}");
        }
        let mut info = node("DOWN+DRAIN+REBOOT_ISSUED", "Kill task failed : reboot issued");
        info.next_state = Some("RESUME".to_owned());
        let at_request = [("n1".to_owned(), true)].into();
        let before =
            Before { known: &Drains::new(), left_by_reboots: &BTreeSet::new(), at_request: &at_request };
        let found = found_at_hand_over(std::slice::from_ref(&info), before, &cured);
        assert_eq!((found.len(), still_drained(&found, &info)), (1, None), "a reboot cures that");
    }

    #[test]
    fn a_drain_that_a_reboot_has_left_is_nobodys() {
        let mut left = BTreeSet::new();
        for (state, reason, expected) in [
            ("IDLE", "", false),
            ("IDLE+DRAIN+REBOOT_REQUESTED", "driver", false),
            ("DOWN+DRAIN", "driver : reboot issued : reboot timed out", true),
            ("DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued", true),
            ("IDLE+DRAIN", "slurm-rollout driver: held: nhc", true),
            ("IDLE+DRAIN", "bad DIMM", false),
            // The drain of a started rollout, for a node that was down, with and without its request.
            ("DOWN+DRAIN", "slurm-rollout driver-580: kept out of service until its update", true),
            ("DOWN+DRAIN+REBOOT_REQUESTED", "driver-580", true),
            ("DOWN+DRAIN", "driver-580", true),
            ("IDLE", "driver-580", false),
            ("IDLE+DRAIN+REBOOT_REQUESTED", "driver", false),
        ] {
            left = observe_left_by_reboots(&left, &[node(state, reason)], &requested());
            assert_eq!(!left.is_empty(), expected, "{state} {reason}");
        }
    }

    #[test]
    fn a_drain_is_known_until_somebody_takes_it_away() {
        // From state to state, and the drain that is known afterwards.
        let mut known = Drains::new();
        for (state, reason, expected) in [
            ("IDLE", "", None),
            ("IDLE+DRAIN", "bad disk", Some("bad disk")),
            ("IDLE+DRAIN", "bad disk, ticket 7", Some("bad disk, ticket 7")),
            ("IDLE+DRAIN+REBOOT_REQUESTED", "driver", Some("bad disk, ticket 7")),
            ("DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued", Some("bad disk, ticket 7")),
            ("DOWN+DRAIN", "driver : reboot issued : reboot timed out", Some("bad disk, ticket 7")),
            ("DOWN+DRAIN", "slurm-rollout driver: held: nhc", Some("bad disk, ticket 7")),
            ("IDLE+DRAIN", "bad disk, ticket 7", Some("bad disk, ticket 7")),
            ("IDLE", "", None),
            // Requested by a started rollout, and cancelled by somebody: the DRAIN from before is still theirs.
            ("IDLE+DRAIN", "bad disk", Some("bad disk")),
            ("IDLE+DRAIN+REBOOT_REQUESTED", "driver-580", Some("bad disk")),
            ("IDLE+DRAIN", "driver-580", Some("bad disk")),
            ("IDLE", "", None),
            // The drains of a started rollout.
            ("DOWN+DRAIN", "slurm-rollout driver-580: kept out of service until its update", None),
            ("IDLE+DRAIN+REBOOT_REQUESTED", "driver-580", None),
            ("IDLE+DRAIN", "driver-580", None),
            ("IDLE", "", None),
            // The drain of a rollout: nobody else drained it.
            ("IDLE+DRAIN+REBOOT_REQUESTED", "Reboot ASAP", None),
            ("DOWN+DRAIN+REBOOT_ISSUED", "Reboot ASAP : reboot issued", None),
            ("DOWN+DRAIN", "Reboot ASAP : reboot issued : reboot timed out", None),
            ("DOWN", "Not responding", None),
        ] {
            known = observe(&known, &[node(state, reason)], &requested(), &CURED);
            assert_eq!(known.get("n1").map(|drain| drain.reason.as_str()), expected, "{state} {reason}");
        }
    }

    #[test]
    fn a_reason_that_equals_the_name_of_a_rollout_is_ours_only_with_a_request() {
        let drained = node("IDLE+DRAIN", "driver-580");
        let [other, none] = [[("n2".to_owned(), ["driver-580".to_owned()].into())].into(), Requested::new()];
        for (requested, is_theirs) in [(&requested(), false), (&other, true), (&none, true)] {
            let nodes = std::slice::from_ref(&drained);
            let known = observe(&Drains::new(), nodes, requested, &CURED);
            assert_eq!(known.contains_key("n1"), is_theirs, "{requested:?}");
            let left = observe_left_by_reboots(&BTreeSet::new(), nodes, requested);
            assert_eq!(left.is_empty(), is_theirs, "{requested:?}");
        }
    }

    #[test]
    fn a_drain_in_the_window_is_seen_by_its_reason() {
        for (state, reason, expected) in [
            ("DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued", None),
            ("DOWN+DRAIN+REBOOT_ISSUED", "slurm-rollout driver: going back: dnf", None),
            ("DOWN+DRAIN+REBOOT_ISSUED", "bad DIMM", Some("bad DIMM")),
            ("DOWN+DRAIN", "bad DIMM : reboot timed out", Some("bad DIMM : reboot timed out")),
            ("DOWN+REBOOT_ISSUED", "bad DIMM", None),
            ("DOWN+DRAIN+REBOOT_ISSUED", "", None),
            ("DOWN+DRAIN+INVALID_REG+REBOOT_ISSUED", "bad DIMM", Some("bad DIMM")),
        ] {
            assert_eq!(was_drained_meanwhile(&node(state, reason), "slurm"), expected, "{state} {reason}");
        }
        let refused = node(
            "DOWN+DRAIN+INVALID_REG+REBOOT_ISSUED",
            "Low RealMemory (reported:500 < 100.00% of configured:1000)",
        );
        let refused = NodeInfo { reason_user: Some("slurm".to_owned()), ..refused };
        assert_eq!(was_drained_meanwhile(&refused, "slurm"), None);
    }
}
