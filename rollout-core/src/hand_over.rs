//! What becomes of the nodes that Slurm hands to RebootProgram: which staged rollout is theirs, and which of them
//! another invocation has ordered already.

use crate::hostlist::NodeSet;
use crate::journal::{Fold, NodeRecord, Stand};
use crate::slurm::NodeInfo;
use std::collections::BTreeMap;

/// A node that Slurm hands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// NodeName.
    pub node: String,
    /// When Slurm handed it over, in milliseconds since 1970, where its Reason still says so.
    pub issued_ms: Option<u64>,
    /// Whether Slurm would put it back into service by itself.
    pub returns_by_itself: bool,
}

/// Why a node is not ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skipped {
    /// Slurm has no such node.
    Unknown,
    /// Slurm has not handed it over: somebody called RebootProgram by hand, or Slurm changed its mind.
    NotHandedOver,
    /// Another RebootProgram is sending it an order.
    BeingOrdered,
    /// It was ordered since Slurm handed it over.
    Ordered,
}

impl Skipped {
    /// One line for the log.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Unknown => "not ordered: Slurm does not know this node",
            Self::NotHandedOver => "not ordered: Slurm has not handed the node over, use `scontrol reboot`",
            Self::BeingOrdered => "not ordered again: another RebootProgram is sending the order",
            Self::Ordered => "not ordered again: it was ordered since Slurm handed it over",
        }
    }
}

/// The nodes that are not ordered, by the reason.
pub type SkippedNodes = BTreeMap<Skipped, Vec<String>>;

/// Nodes that get the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group<'a> {
    /// The rollout that is staged for them; none for a plain reboot.
    pub rollout: Option<&'a str>,
    /// Whether they are put back into service if Slurm gave up on them meanwhile.
    pub resume_if_late: bool,
}

/// Takes the nodes that Slurm has really handed over. `slurm` is none where Slurm could not be asked: then slurmctld's
/// word, by which RebootProgram was called, has to do.
#[must_use]
pub fn handed_over(nodes: &NodeSet, slurm: Option<&[NodeInfo]>) -> (Vec<HandedOver>, SkippedNodes) {
    let mut taken = Vec::new();
    let mut skipped = SkippedNodes::new();
    let known: Option<BTreeMap<&str, &NodeInfo>> =
        slurm.map(|infos| infos.iter().map(|info| (info.name.as_str(), info)).collect());
    for name in nodes.iter() {
        let node = name.to_owned();
        match known.as_ref().map(|known| known.get(name)) {
            None => taken.push(HandedOver { node, issued_ms: None, returns_by_itself: false }),
            Some(None) => skipped.entry(Skipped::Unknown).or_default().push(node),
            Some(Some(info)) if !info.is_handed_over() => {
                skipped.entry(Skipped::NotHandedOver).or_default().push(node);
            }
            Some(Some(info)) => taken.push(HandedOver {
                node,
                issued_ms: info.reboot_issued_s().map(|s| s.saturating_mul(1000)),
                returns_by_itself: info.returns_by_itself(),
            }),
        }
    }
    (taken, skipped)
}

/// Sorts handed-over nodes into groups that get one order each.
///
/// `rollouts` are the folds of all journals, oldest rollout first; `plain` is that of the plain reboots.
#[must_use]
pub fn sort<'a>(
    nodes: &[HandedOver],
    rollouts: &'a [(String, Fold)],
    plain: &Fold,
    now_ms: u64,
) -> (BTreeMap<Group<'a>, Vec<String>>, SkippedNodes) {
    let mut groups: BTreeMap<Group<'a>, Vec<String>> = BTreeMap::new();
    let mut skipped = SkippedNodes::new();
    for handed in nodes {
        let records =
            || rollouts.iter().filter_map(|(id, nodes)| Some((id.as_str(), nodes.get(&handed.node)?)));
        let all = || records().map(|(_, record)| record).chain(plain.get(&handed.node));
        let skip = all().find_map(|record| already_ordered(record, handed, now_ms));
        if let Some(why) = skip {
            skipped.entry(why).or_default().push(handed.node.clone());
            continue;
        }
        // The newest one, should there ever be two.
        let rollout = records().rfind(|(_, record)| record.stand.is_armed(now_ms)).map(|(id, _)| id);
        let group = Group { rollout, resume_if_late: handed.returns_by_itself };
        groups.entry(group).or_default().push(handed.node.clone());
    }
    (groups, skipped)
}

fn already_ordered(record: &NodeRecord, handed: &HandedOver, now_ms: u64) -> Option<Skipped> {
    match record.stand {
        Stand::Ordering { until_ms } if until_ms > now_ms => Some(Skipped::BeingOrdered),
        // Slurm's time is cut to whole seconds, so an order that followed the hand-over is never before it.
        Stand::Ordered if handed.issued_ms.is_some_and(|issued| record.since_ms >= issued) => {
            Some(Skipped::Ordered)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stand: Stand, since_ms: u64) -> NodeRecord {
        NodeRecord { stand, since_ms, order: None, why: None }
    }

    fn fold(records: &[(&str, Stand, u64)]) -> Fold {
        records.iter().map(|(node, stand, since)| ((*node).to_owned(), record(*stand, *since))).collect()
    }

    fn info(name: &str, state: &[&str]) -> NodeInfo {
        let state = state.iter().map(|word| (*word).to_owned()).collect();
        NodeInfo { name: name.into(), state, ..NodeInfo::default() }
    }

    #[test]
    fn only_what_slurm_handed_over_is_taken() {
        let nodes = NodeSet::parse("n[1-4]").unwrap();
        let slurm = [
            info("n1", &["DOWN", "REBOOT_ISSUED"]),
            info("n2", &["IDLE"]),
            info("n3", &["ALLOCATED", "POWERING_UP"]),
        ];
        let (taken, skipped) = handed_over(&nodes, Some(&slurm));
        let taken: Vec<_> = taken.iter().map(|handed| handed.node.as_str()).collect();
        assert_eq!(taken, ["n1", "n3"]);
        assert_eq!(skipped[&Skipped::NotHandedOver], ["n2"]);
        assert_eq!(skipped[&Skipped::Unknown], ["n4"]);
        assert_eq!(handed_over(&nodes, None).0.len(), 4, "Slurm cannot be asked");
    }

    #[test]
    fn each_node_gets_what_is_staged_for_it_and_no_node_twice() {
        let now = 100_000;
        let rollouts = [(
            "driver".to_owned(),
            fold(&[
                ("staged", Stand::Staged, 1),
                ("silent", Stand::Unreachable, 1),
                ("busy", Stand::Ordering { until_ms: now + 1 }, 1),
                ("crashed", Stand::Ordering { until_ms: now - 1 }, 1),
                ("just-ordered", Stand::Ordered, 99_000),
                ("ordered-before", Stand::Ordered, 50_000),
                ("done", Stand::Seen(crate::phase::Phase::Updated), 50_000),
            ]),
        )];
        let plain = fold(&[("plain-busy", Stand::Ordering { until_ms: now + 1 }, 1)]);
        let handed = |node: &str| HandedOver {
            node: node.into(),
            issued_ms: Some(99_000),
            returns_by_itself: node != "stays-down",
        };
        let names = "staged silent busy crashed just-ordered ordered-before done plain-busy never stays-down";
        let nodes: Vec<_> = names.split(' ').map(handed).collect();
        let (groups, skipped) = sort(&nodes, &rollouts, &plain, now);
        let group = |rollout, resume_if_late| groups[&Group { rollout, resume_if_late }].join(" ");
        assert_eq!(group(Some("driver"), true), "staged silent crashed");
        assert_eq!(group(None, true), "ordered-before done never");
        assert_eq!(group(None, false), "stays-down");
        assert_eq!(skipped[&Skipped::BeingOrdered].join(" "), "busy plain-busy");
        assert_eq!(skipped[&Skipped::Ordered].join(" "), "just-ordered");
    }
}
