//! The outcome of an invocation, for the journals, for Slurm and for people.

use crate::agents::dispatch::dispatch;
use crate::config::Config;
use crate::store::{Claim, StoreWriter};
use rollout_core::controller::hand_over::{HandedOver, SkippedNodes};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::Entry;
use rollout_core::slurm::reason::{PLAIN_REBOOT, Reason};
use std::collections::BTreeMap;
use std::time::Instant;

/// Limit of different causes in Reasons, and of scontrols at once. One scontrol sets a Reason on all nodes with the
/// same cause. If there are more causes, the nodes of each rollout share one Reason.
const MAX_REASONS: usize = 16;

/// The outcome of an invocation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Nodes whose agents took the order, or were carrying out one that leads to the same.
    pub ordered: Vec<String>,
    /// Nodes that are not ordered, by their Reason. The journal has the cause too.
    pub failed: BTreeMap<Reason, Vec<String>>,
    /// Nodes whose agents are as silent as before, by the cause. They have their Reason.
    pub silent: BTreeMap<String, Vec<String>>,
    /// Nodes that must not be ordered.
    pub skipped: SkippedNodes,
    /// Other trouble that was worked around.
    pub warnings: Vec<String>,
}

/// An agent's reply to one order.
pub(super) struct Reply {
    pub(super) node: String,
    pub(super) outcome: Outcome,
    order: OrderId,
    rollout: Option<String>,
}

/// The outcome of sending one order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Ordered { volatile: bool },
    UnderWay { under_way: Option<OrderId>, volatile: bool },
    Covered { by: Option<OrderId> },
    Refused(String),
    Unreachable(String),
}

impl Outcome {
    pub(super) fn is_volatile(&self) -> bool {
        matches!(self, Self::Ordered { volatile: true } | Self::UnderWay { volatile: true, .. })
    }

    /// Returns the cause if the node did not get the order.
    fn cause(&self) -> Option<String> {
        match self {
            Self::Ordered { .. } | Self::UnderWay { .. } | Self::Covered { .. } => None,
            Self::Refused(why) => Some(format!("refused: {why}")),
            Self::Unreachable(why) => Some(format!("not ordered: {why}")),
        }
    }

    fn entry(self, nodes: NodeSet, order: OrderId) -> Entry {
        match self {
            Self::Ordered { volatile } => Entry::Ordered { nodes, order, volatile },
            Self::UnderWay { under_way, volatile } => Entry::UnderWay { nodes, order, under_way, volatile },
            Self::Covered { by } => Entry::Covered { nodes, order, by },
            Self::Refused(why) => Entry::Refused { nodes, order, why },
            Self::Unreachable(why) => Entry::Unreachable { nodes, order, why },
        }
    }
}

impl Reply {
    pub(super) fn new(node: String, claim: &Claim, outcome: Outcome) -> Self {
        Self { node, outcome, order: claim.order.id.clone(), rollout: claim.rollout.clone() }
    }
}

impl Report {
    /// Returns the nodes that are not ordered, by the cause, for people.
    #[must_use]
    pub fn not_ordered(&self) -> BTreeMap<&str, NodeSet> {
        let failed = self.failed.iter().map(|(reason, nodes)| (reason.as_str(), nodes));
        let silent = self.silent.iter().map(|(why, nodes)| (why.as_str(), nodes));
        failed.chain(silent).map(|(why, nodes)| (why, nodes.iter().cloned().collect())).collect()
    }

    /// Adds nodes that could not be claimed. No journal tells of them.
    pub(super) fn not_claimed<'a>(&mut self, why: &str, nodes: impl Iterator<Item = &'a HandedOver>) {
        for handed in nodes {
            let reason = Reason::not_ordered(why, handed.only_named_in.as_deref());
            self.failed.entry(reason).or_default().push(handed.node.clone());
        }
    }

    /// Adds the report about other nodes.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.ordered.extend(other.ordered);
        self.warnings.extend(other.warnings);
        for (why, nodes) in other.failed {
            self.failed.entry(why).or_default().extend(nodes);
        }
        for (why, nodes) in other.silent {
            self.silent.entry(why).or_default().extend(nodes);
        }
        for (why, nodes) in other.skipped {
            self.skipped.entry(why).or_default().extend(nodes);
        }
    }

    /// Records replies in the journals, nodes with the same outcome in one line.
    pub(super) fn record(&mut self, store: &StoreWriter, replies: Vec<Reply>) {
        type SameOutcome = BTreeMap<(OrderId, Outcome), Vec<String>>;
        let mut journals: BTreeMap<Option<String>, SameOutcome> = BTreeMap::new();
        for Reply { node, outcome, order, rollout } in replies {
            let subject = rollout.as_deref().unwrap_or(PLAIN_REBOOT);
            match outcome.cause() {
                None => self.ordered.push(node.clone()),
                Some(cause) => {
                    self.failed.entry(Reason::ours(subject, &cause)).or_default().push(node.clone());
                }
            }
            journals.entry(rollout).or_default().entry((order, outcome)).or_default().push(node);
        }
        for (rollout, outcomes) in journals {
            let entry = |((order, outcome), nodes): ((OrderId, Outcome), Vec<String>)| {
                outcome.entry(NodeSet::from_iter(nodes), order)
            };
            if let Err(error) = store.record(rollout.as_deref(), outcomes.into_iter().map(entry).collect()) {
                self.warnings.push(error.to_string());
            }
        }
    }

    /// Gives each node that was not ordered a Reason. Slurm keeps it: the node is DOWN while it waits for the reboot.
    pub(super) fn tell_slurm(&mut self, config: &Config, end: Instant) {
        let reasons = reasons_to_set(&self.failed);
        let left = end.saturating_duration_since(Instant::now());
        let scontrol = config.scontrol().within(left);
        let count = reasons.len();
        let told = dispatch(reasons, MAX_REASONS, end, move |(reason, nodes)| {
            scontrol
                .set_reason(&nodes, &reason)
                .map_err(|error| format!("{nodes}: the Reason cannot be set: {error}"))
        });
        let told = told.all();
        if told.len() < count {
            self.warnings.push("Slurm did not take all Reasons in time".to_owned());
        }
        self.warnings.extend(told.into_iter().filter_map(Result::err));
    }
}

/// Returns the Reasons to set: one for each cause, or one for each rollout that sends the admin to `status` if there
/// are more than [`MAX_REASONS`]. Each names its rollout: it takes the place of the reboot's Reason, which may be
/// needed to send the order again.
fn reasons_to_set(failed: &BTreeMap<Reason, Vec<String>>) -> Vec<(Reason, NodeSet)> {
    let mut reasons: BTreeMap<Reason, Vec<&String>> = BTreeMap::new();
    for (reason, nodes) in failed {
        let reason = if failed.len() > MAX_REASONS { reason.of_many_causes() } else { reason.clone() };
        reasons.entry(reason).or_default().extend(nodes);
    }
    reasons.into_iter().map(|(reason, nodes)| (reason, nodes.into_iter().cloned().collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::slurm::drains::was_drained_meanwhile;
    use rollout_core::slurm::node::NodeInfo;
    use rollout_core::slurm::reason::names_rollout;

    #[test]
    fn nodes_with_many_causes_still_show_which_rollout_is_meant() {
        let failed = (0..=MAX_REASONS).flat_map(|n| {
            ["driver", "kernel"].map(|rollout| {
                let reason = Reason::ours(rollout, &format!("not ordered: n{n}.x has no address"));
                (reason, vec![format!("{rollout}{n}")])
            })
        });
        let reasons = reasons_to_set(&failed.collect());
        assert_eq!(reasons.len(), 2);
        for ((reason, nodes), rollout) in reasons.iter().zip(["driver", "kernel"]) {
            assert!(names_rollout(reason.as_str(), rollout), "{reason}");
            assert_eq!(nodes.to_string(), format!("{rollout}[0-{MAX_REASONS}]"));
        }
    }

    #[test]
    fn every_reason_is_recognized_as_ours_however_many_causes_there_are() {
        for count in [1, MAX_REASONS, MAX_REASONS + 1] {
            let failed = (0..count).map(|n| {
                let why = format!("not ordered: n{n}.x has no address");
                (Reason::ours("driver", &why), vec![format!("n{n}")])
            });
            let reasons = reasons_to_set(&failed.collect());
            assert_eq!(reasons.len(), if count > MAX_REASONS { 1 } else { count });
            assert_eq!(reasons.iter().map(|(_, nodes)| nodes.len()).sum::<usize>(), count);
            for (reason, _) in reasons {
                for appended in ["", " : reboot issued", " : reboot timed out"] {
                    let node = NodeInfo {
                        state: vec!["DOWN".to_owned(), "DRAIN".to_owned()],
                        reason: Some(format!("{reason}{appended}")),
                        ..NodeInfo::default()
                    };
                    assert!(node.shows_our_reason(), "{node:?}");
                    assert_eq!(was_drained_meanwhile(&node, "slurm"), None, "{node:?}");
                }
            }
        }
    }
}
