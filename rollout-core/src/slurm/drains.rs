//! Drains set by others: an admin, a health check, Slurm itself. They outlive a rollout.
//!
//! Slurm clears a node's DRAIN when the node returns from `scontrol reboot` with `nextstate=`, or with ASAP up to
//! 24.05.2, no matter who had set it. `reason=` replaces the Reason of the drain (`validate_node_specs`, 22.05 to
//! 26.05). So drains are recorded while they are still visible.

use crate::slurm::node::NodeInfo;
use crate::slurm::reason::Classified;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A drain set by others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    pub reason: String,
    /// The user who set it, if Slurm reports one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Drains by NodeName.
pub type Drains = BTreeMap<String, Drain>;

/// Returns the drains known after Slurm has reported all its nodes.
#[must_use]
pub fn observe(known: &Drains, nodes: &[NodeInfo]) -> Drains {
    let seen = nodes.iter().filter(|node| node.has("DRAIN")).filter_map(|node| {
        let reported = || {
            let reason = node.reason.clone()?;
            Some(Drain { reason, by: node.reason_user.clone() })
        };
        // During a reboot the DRAIN may belong to the reboot, and so may the DRAIN left behind by one that timed out.
        let drain = match being_rebooted(node) || is_of_a_reboot(node) {
            true => known.get(&node.name).cloned(),
            false => reported(),
        };
        Some((node.name.clone(), drain?))
    });
    seen.collect()
}

/// Returns the Reason with which somebody drained a node after Slurm had handed it over. Such a Reason is neither the
/// request's, to which Slurm has appended, nor ours.
#[must_use]
pub fn was_drained_meanwhile(node: &NodeInfo) -> Option<&str> {
    let reason = node.reason.as_deref()?;
    (node.has("DRAIN") && !reason.is_empty() && !is_of_a_reboot(node)).then_some(reason)
}

/// Returns the Reason of the known drain of this node, if the node still has DRAIN. Without it, somebody has cleared
/// the drain.
#[must_use]
pub fn still_drained(known: &Drains, node: &NodeInfo) -> Option<String> {
    known.get(&node.name).filter(|_| node.has("DRAIN")).map(|drain| drain.reason.clone())
}

fn being_rebooted(node: &NodeInfo) -> bool {
    node.has("REBOOT_REQUESTED") || node.has("REBOOT_ISSUED")
}

fn is_of_a_reboot(node: &NodeInfo) -> bool {
    node.classified_reason().as_ref().is_some_and(Classified::is_of_a_reboot)
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
            // The drain of a rollout: nobody else drained it.
            ("IDLE+DRAIN+REBOOT_REQUESTED", "Reboot ASAP", None),
            ("DOWN+DRAIN+REBOOT_ISSUED", "Reboot ASAP : reboot issued", None),
            ("DOWN+DRAIN", "Reboot ASAP : reboot issued : reboot timed out", None),
            ("DOWN", "Not responding", None),
        ] {
            known = observe(&known, &[node(state, reason)]);
            assert_eq!(known.get("n1").map(|drain| drain.reason.as_str()), expected, "{state} {reason}");
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
        ] {
            assert_eq!(was_drained_meanwhile(&node(state, reason)), expected, "{state} {reason}");
        }
    }
}
