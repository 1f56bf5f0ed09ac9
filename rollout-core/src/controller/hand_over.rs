//! The nodes that Slurm hands to RebootProgram: the order for each, or the reason for sending none.

use crate::controller::snapshot::{RecordOf, Snapshot};
use crate::hostlist::NodeSet;
use crate::protocol::order::OrderId;
use crate::rollout::journal::{NodeRecord, Progress};
use crate::slurm::drains::{Drains, still_drained};
use crate::slurm::node::NodeInfo;
use crate::slurm::reason::names_rollout;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The reboots that apply what is staged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApplyBy {
    /// Every `scontrol reboot`.
    #[default]
    Any,
    /// Only one whose Reason names the rollout, or that the rollout requested itself.
    /// Any other is a plain reboot, and so is one whose Reason is not known.
    Named,
}

/// The command line of an invocation of RebootProgram.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub nodes: NodeSet,
    /// The features that a job wants them to boot with.
    pub features: Option<String>,
    /// Reboot them and apply nothing, even if something is staged.
    pub plain: bool,
    pub apply: ApplyBy,
    /// Times by which nodes had been handed over, in milliseconds since 1970: the Reason may no longer tell.
    pub handed_over_ms: BTreeMap<String, u64>,
}

/// A node that Slurm hands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOver {
    /// NodeName.
    pub node: String,
    /// Time of the hand-over, or a time by which it had happened, in milliseconds since 1970, if known.
    pub issued_ms: Option<u64>,
    /// Slurm would put it back into service by itself.
    pub returns_by_itself: bool,
    /// Reason of the drain that somebody else had set before.
    pub drained: Option<String>,
    /// It only reboots, even if something is staged: a job waits for it, or the caller demands it.
    pub plain: bool,
    /// The Reason of the reboot, if only the rollout that it names is applied, or one that requested it itself.
    pub only_named_in: Option<String>,
}

impl HandedOver {
    /// Returns whether this reboot applies a rollout that is staged for the node. The Reason does not name a rollout
    /// that requested a node drained by somebody else, or reserved by us: its journal does.
    fn applies(&self, of: RecordOf<'_>) -> bool {
        let is_named =
            |reason: &String| of.rollout_id().is_some_and(|rollout| names_rollout(reason, rollout));
        let is_requested = of.record.request.is_some();
        !self.plain && (is_requested || self.only_named_in.as_ref().is_none_or(is_named))
    }
}

/// The reason for not ordering a node.
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
    /// It has booted since Slurm handed it over, without an order.
    Booted,
    /// Its boot source belongs to an order that is not settled.
    BootSource,
}

impl Skipped {
    /// Returns one line for the log.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Unknown => "not ordered: Slurm does not know this node",
            Self::NotHandedOver => "not ordered: Slurm has not handed the node over, use `scontrol reboot`",
            Self::BeingOrdered => "not ordered again: another RebootProgram is sending the order",
            Self::Ordered => "not ordered again: it was ordered since Slurm handed it over",
            Self::Booted => {
                "not ordered: it has booted since Slurm handed it over, which is all that Slurm waits for"
            }
            Self::BootSource => {
                "not ordered: its boot source still belongs to an earlier order; `slurm-rollout reconcile` settles that first"
            }
        }
    }
}

/// The nodes that are not ordered, by the reason.
pub type SkippedNodes = BTreeMap<Skipped, Vec<String>>;

/// Nodes that get the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OrderGroup<'a> {
    /// The rollout that is staged for them. `None` for a plain reboot.
    pub rollout: Option<&'a str>,
    /// They return to service even if Slurm gave up on them meanwhile.
    pub resume_if_late: bool,
    /// Reason of the drain that somebody else had set before.
    pub drained: Option<&'a str>,
    /// The order under which their agents have it already, if it was pre-staged.
    pub pre_staged: Option<&'a OrderId>,
}

/// Selects the nodes that Slurm has really handed over. `slurm` is `None` if Slurm could not be asked: the call of
/// RebootProgram is the only evidence then. Only jobs ask for features.
#[must_use]
pub fn handed_over(
    request: &Request,
    slurm: Option<&[NodeInfo]>,
    drains: &Drains,
) -> (Vec<HandedOver>, SkippedNodes) {
    let plain = request.plain || request.features.is_some();
    let only_named_in = |reason: Option<&str>| match request.apply {
        ApplyBy::Any => None,
        ApplyBy::Named => Some(reason.unwrap_or_default().to_owned()),
    };
    let mut taken = Vec::new();
    let mut skipped = SkippedNodes::new();
    let known: Option<BTreeMap<&str, &NodeInfo>> =
        slurm.map(|infos| infos.iter().map(|info| (info.name.as_str(), info)).collect());
    for name in request.nodes.iter() {
        let node = name.to_owned();
        let by_ms = request.handed_over_ms.get(name).copied();
        match known.as_ref().map(|known| known.get(name)) {
            None => {
                let drained = drains.get(name).map(|drain| drain.reason.clone());
                taken.push(HandedOver {
                    node,
                    issued_ms: by_ms,
                    returns_by_itself: false,
                    drained,
                    plain,
                    only_named_in: only_named_in(None),
                });
            }
            Some(None) => skipped.entry(Skipped::Unknown).or_default().push(node),
            Some(Some(info)) if !info.is_handed_over() => {
                skipped.entry(Skipped::NotHandedOver).or_default().push(node);
            }
            Some(Some(info)) => taken.push(HandedOver {
                node,
                issued_ms: info.handed_over_s().map(|s| s.saturating_mul(1000)).or(by_ms),
                returns_by_itself: info.returns_by_itself(),
                drained: still_drained(drains, info),
                plain: plain || info.is_rebooted_for_a_job(),
                only_named_in: only_named_in(info.reason.as_deref()),
            }),
        }
    }
    (taken, skipped)
}

/// Sorts handed-over nodes into groups that get one order each.
#[must_use]
pub fn group<'a>(
    nodes: &'a [HandedOver],
    snapshot: &'a Snapshot,
    now_ms: u64,
) -> (BTreeMap<OrderGroup<'a>, Vec<String>>, SkippedNodes) {
    let mut groups: BTreeMap<OrderGroup<'a>, Vec<String>> = BTreeMap::new();
    let mut skipped = SkippedNodes::new();
    for handed in nodes {
        match order_for(handed, snapshot, now_ms) {
            Ok(group) => groups.entry(group).or_default().push(handed.node.clone()),
            Err(why) => skipped.entry(why).or_default().push(handed.node.clone()),
        }
    }
    (groups, skipped)
}

fn order_for<'a>(
    handed: &'a HandedOver,
    snapshot: &'a Snapshot,
    now_ms: u64,
) -> Result<OrderGroup<'a>, Skipped> {
    let mut records = snapshot.all_records(&handed.node);
    if let Some(why) = records.find_map(|of| already_ordered(of.record, handed, now_ms)) {
        return Err(why);
    }
    let armed = snapshot.armed(&handed.node, now_ms).filter(|of| handed.applies(*of));
    // The boot source has one owner. Any other order would boot what was given to the node for that one, unproven.
    let owned_by_armed =
        |owner: &RecordOf<'_>| armed.is_some_and(|armed| armed.rollout_id() == owner.rollout_id());
    let mut owners = snapshot.boot_owners(&handed.node);
    if owners.any(|owner| owner.record.is_claimed(now_ms) || !owned_by_armed(&owner)) {
        return Err(Skipped::BootSource);
    }
    Ok(OrderGroup {
        rollout: armed.and_then(|of| of.rollout_id()),
        resume_if_late: handed.returns_by_itself,
        drained: handed.drained.as_deref(),
        pre_staged: armed.filter(|of| of.record.pre_staged).and_then(|of| of.record.order.as_ref()),
    })
}

fn already_ordered(record: &NodeRecord, handed: &HandedOver, now_ms: u64) -> Option<Skipped> {
    match record.progress {
        Progress::Ordering { until_ms } if until_ms > now_ms => Some(Skipped::BeingOrdered),
        Progress::Ordered | Progress::Covered | Progress::Seen(_) | Progress::Lost
            if is_of(record, handed.issued_ms?) =>
        {
            Some(Skipped::Ordered)
        }
        _ => None,
    }
}

/// Returns whether the last order of a record belongs to the hand-over at that time. Slurm's time is cut to whole
/// seconds, so an order that followed a hand-over is never before it.
pub(crate) fn is_of(record: &NodeRecord, issued_ms: u64) -> bool {
    record.ordering_ms.is_some_and(|ordering| ordering >= issued_ms)
}

#[cfg(test)]
mod tests;
