//! The journal of a rollout: what was staged, ordered, answered and seen, one JSON line each; and the fold of these
//! lines to where each node stands as far as the controller knows.
//!
//! The fold takes any lines in any order and never fails: lines that are torn, or of a newer format, are passed over.

use crate::agent::phase::Phase;
use crate::hostlist::NodeSet;
use crate::protocol::order::OrderId;
use crate::rollout::image::Running;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub t_ms: u64,
    /// Who wrote it: program, user and host.
    pub by: String,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What happened. Nodes stand as a hostlist; nodes with the same fate share a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Entry {
    /// An admin wants these nodes to become what the manifest says.
    Staged {
        /// The nodes.
        nodes: NodeSet,
    },
    /// An admin no longer wants it.
    Unstaged {
        /// The nodes.
        nodes: NodeSet,
    },
    /// The agents were given it beforehand, for when slurmd has their nodes rebooted.
    Delivered {
        /// The nodes.
        nodes: NodeSet,
        /// The order that will apply it.
        order: OrderId,
        /// The Reason with which somebody else had drained them, which they were told with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drained: Option<String>,
    },
    /// A RebootProgram is about to send these nodes an order. No other one does so until then.
    Ordering {
        /// The nodes.
        nodes: NodeSet,
        /// The order.
        order: OrderId,
        /// Until when the claim holds if nothing more is heard, in milliseconds since 1970.
        until_ms: u64,
    },
    /// What these nodes boot from is about to be changed, and what it was.
    BootSource {
        /// The nodes.
        nodes: NodeSet,
        /// The order that is sent after it.
        order: OrderId,
        /// What they booted from, and were running, by NodeName.
        before: BTreeMap<String, Booted>,
    },
    /// They boot again from what they booted from before.
    PutBack {
        /// The nodes.
        nodes: NodeSet,
        /// The order that it was changed for.
        order: OrderId,
        /// Why.
        why: String,
    },
    /// The agents have it in their ledgers.
    Ordered {
        /// The nodes.
        nodes: NodeSet,
        /// The order.
        order: OrderId,
        /// Whether these ledgers are gone after the boot.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        volatile: bool,
    },
    /// The agents refused it.
    Refused {
        /// The nodes.
        nodes: NodeSet,
        /// The order.
        order: OrderId,
        /// In the agent's words.
        why: String,
    },
    /// No agent answered.
    Unreachable {
        /// The nodes.
        nodes: NodeSet,
        /// The order.
        order: OrderId,
        /// In the system's words.
        why: String,
    },
    /// An admin had held nodes carry out their order once more.
    Retried {
        /// The nodes.
        nodes: NodeSet,
        /// The order that had ended in the hold.
        order: OrderId,
    },
    /// An admin had held nodes given back as they were.
    Released {
        /// The nodes.
        nodes: NodeSet,
        /// The order that had ended in the hold.
        order: OrderId,
    },
    /// An agent was seen to be done, or to hold the node.
    Seen {
        /// The nodes.
        nodes: NodeSet,
        /// The order.
        order: OrderId,
        /// Where it stood.
        phase: Phase,
        /// What had failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// What a node was running before a rollout changed what it boots from. What it takes to put that back is not for everybody to read,
/// and is kept apart from the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Booted {
    /// What the node was running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// The kernel's boot id.
    #[serde(default)]
    pub boot_id: String,
}

/// What a rollout has done to what a node boots from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootSource {
    /// When it was changed, in milliseconds since 1970.
    pub since_ms: u64,
    /// What was there before.
    pub before: Booted,
    /// When it was put back, in milliseconds since 1970, and why; none where it was not.
    pub put_back: Option<(u64, String)>,
}

/// What a journal folds to: where each node stands, by NodeName.
pub type NodeRecords = BTreeMap<String, NodeRecord>;

/// Where a node stands in a rollout, as far as the journal knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Where it stands.
    pub progress: Progress,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// The last order that was sent to it.
    pub order: Option<OrderId>,
    /// When a RebootProgram last began to order it, in milliseconds since 1970; also where it was staged anew since.
    pub ordering_ms: Option<u64>,
    /// Whether its agent was given it beforehand.
    pub delivered: bool,
    /// Whether its agent's ledger is gone after the boot.
    pub volatile: bool,
    /// What was done to what it boots from.
    pub boot_source: Option<BootSource>,
    /// The Reason of another one's drain that its agent was given with it.
    pub drained: Option<String>,
    /// The reason of a refusal, of silence or of a failure.
    pub why: Option<String>,
}

impl NodeRecord {
    /// A node that nothing else is known of.
    #[must_use]
    pub fn new(progress: Progress, since_ms: u64) -> Self {
        Self {
            progress,
            since_ms,
            order: None,
            ordering_ms: None,
            delivered: false,
            volatile: false,
            boot_source: None,
            drained: None,
            why: None,
        }
    }

    /// Whether it boots what this rollout gave it, and nobody has put back what it had.
    #[must_use]
    pub fn boots_ours(&self) -> Option<&BootSource> {
        self.boot_source.as_ref().filter(|source| source.put_back.is_none())
    }
}

/// Where a node stands in a rollout, as far as the journal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// To be ordered when Slurm hands it over.
    Staged,
    /// An order is being sent, until this time in milliseconds since 1970.
    Ordering {
        /// The end of the claim.
        until_ms: u64,
    },
    /// Its agent has the order.
    Ordered,
    /// Its agent refused the order.
    Refused,
    /// Its agent did not answer.
    Unreachable,
    /// Its agent said so.
    Seen(Phase),
}

impl Progress {
    /// Whether the rollout is still to be applied when Slurm hands the node over. A refusal or silence does not use up
    /// what was staged, and neither does a RebootProgram that died while it was sending.
    #[must_use]
    pub fn is_armed(self, now_ms: u64) -> bool {
        match self {
            Self::Staged | Self::Refused | Self::Unreachable => true,
            Self::Ordering { until_ms } => until_ms <= now_ms,
            Self::Ordered | Self::Seen(_) => false,
        }
    }
}

impl Entry {
    /// The nodes it speaks of.
    #[must_use]
    pub fn nodes(&self) -> &NodeSet {
        match self {
            Self::Staged { nodes }
            | Self::Unstaged { nodes }
            | Self::Delivered { nodes, .. }
            | Self::Ordering { nodes, .. }
            | Self::BootSource { nodes, .. }
            | Self::PutBack { nodes, .. }
            | Self::Ordered { nodes, .. }
            | Self::Refused { nodes, .. }
            | Self::Unreachable { nodes, .. }
            | Self::Retried { nodes, .. }
            | Self::Released { nodes, .. }
            | Self::Seen { nodes, .. } => nodes,
        }
    }

    /// One line for `show` and `history`.
    #[must_use]
    pub fn describe(&self) -> String {
        let nodes = self.nodes();
        match self {
            Self::Staged { .. } => format!("{nodes} staged"),
            Self::Unstaged { .. } => format!("{nodes} unstaged"),
            Self::Delivered { .. } => format!("{nodes} given it beforehand"),
            Self::Ordering { .. } => format!("{nodes} handed over by Slurm, order being sent"),
            Self::BootSource { .. } => format!("{nodes} given the image to boot from"),
            Self::PutBack { why, .. } => format!("{nodes} given back what they booted from before: {why}"),
            Self::Ordered { .. } => format!("{nodes} ordered"),
            Self::Refused { why, .. } => format!("{nodes} refused the order: {why}"),
            Self::Unreachable { why, .. } => format!("{nodes} unreachable: {why}"),
            Self::Retried { .. } => format!("{nodes} held, told to retry"),
            Self::Released { .. } => format!("{nodes} held, released"),
            Self::Seen { phase, error: None, .. } => format!("{nodes} {}", phase.name()),
            Self::Seen { phase, error: Some(error), .. } => format!("{nodes} {}: {error}", phase.name()),
        }
    }
}

/// The lines of a journal's text. Lines that this version cannot read are left out: a line torn by a crash, or one
/// that a newer version wrote.
pub fn lines(text: &str) -> impl Iterator<Item = Line> + '_ {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

/// Where each node stands after these lines.
#[must_use]
pub fn fold<'a>(lines: impl IntoIterator<Item = &'a Line>) -> NodeRecords {
    let mut nodes = BTreeMap::new();
    for line in lines {
        for name in line.entry.nodes().iter() {
            apply(&mut nodes, name, line);
        }
    }
    nodes
}

fn apply(nodes: &mut NodeRecords, name: &str, line: &Line) {
    let known = nodes.get(name);
    let (progress, order, why) = match &line.entry {
        Entry::Staged { .. } => (Progress::Staged, None, None),
        Entry::Unstaged { .. } => {
            // Only what is still to come can be called off.
            if known.is_some_and(|node| node.progress.is_armed(line.t_ms)) {
                nodes.remove(name);
            }
            return;
        }
        Entry::Delivered { order, drained, .. } => {
            // It changes nothing but who knows: what is not staged any more is no longer to be applied.
            if let Some(node) = nodes.get_mut(name).filter(|node| node.progress.is_armed(line.t_ms)) {
                node.order = Some(order.clone());
                node.delivered = true;
                node.drained.clone_from(drained);
            }
            return;
        }
        Entry::BootSource { before, .. } => {
            if let (Some(node), Some(before)) = (nodes.get_mut(name), before.get(name)) {
                // Where it was not put back, what is there now is ours, and is not what it was before.
                let ours = node.boot_source.take().filter(|source| source.put_back.is_none());
                let before = ours.map_or_else(|| before.clone(), |source| source.before);
                node.boot_source = Some(BootSource { since_ms: line.t_ms, before, put_back: None });
            }
            return;
        }
        Entry::PutBack { why, .. } => {
            if let Some(node) = nodes.get_mut(name) {
                node.why.get_or_insert_with(|| why.clone());
                if let Some(source) = &mut node.boot_source {
                    source.put_back = Some((line.t_ms, why.clone()));
                }
            }
            return;
        }
        Entry::Ordering { order, until_ms, .. } => {
            (Progress::Ordering { until_ms: *until_ms }, Some(order), None)
        }
        Entry::Ordered { order, .. } => (Progress::Ordered, Some(order), None),
        Entry::Refused { order, why, .. } => (Progress::Refused, Some(order), Some(why)),
        Entry::Unreachable { order, why, .. } => (Progress::Unreachable, Some(order), Some(why)),
        Entry::Retried { order, .. } => (Progress::Ordered, Some(order), None),
        Entry::Released { order, .. } => (Progress::Seen(Phase::Released), Some(order), None),
        Entry::Seen { order, phase, error, .. } => (Progress::Seen(*phase), Some(order), error.as_ref()),
    };
    // What is said of an order, once another one was begun or the node was staged anew, is late news of the old one.
    let begins = matches!(line.entry, Entry::Staged { .. } | Entry::Ordering { .. });
    let late = known.is_some_and(|node| node.order.as_ref() != order);
    // And what an agent was seen to have done is not undone by an answer that was written late.
    let answer =
        matches!(line.entry, Entry::Ordered { .. } | Entry::Refused { .. } | Entry::Unreachable { .. });
    let done = answer && known.is_some_and(|node| matches!(node.progress, Progress::Seen(_)));
    // Nor does late news of a refusal or of silence arm a node again that was called off meanwhile.
    let called_off =
        known.is_none() && matches!(line.entry, Entry::Refused { .. } | Entry::Unreachable { .. });
    if !begins && (late || done || called_off) {
        return;
    }
    let before = known.and_then(|node| node.ordering_ms);
    let ordering_ms = match &line.entry {
        Entry::Ordering { .. } => Some(line.t_ms),
        // Where the line before it is lost: a journal of plain reboots begins anywhere.
        Entry::Ordered { .. } | Entry::Refused { .. } | Entry::Unreachable { .. } => {
            before.or(Some(line.t_ms))
        }
        Entry::Staged { .. }
        | Entry::Unstaged { .. }
        | Entry::Delivered { .. }
        | Entry::BootSource { .. }
        | Entry::PutBack { .. }
        | Entry::Retried { .. }
        | Entry::Released { .. }
        | Entry::Seen { .. } => before,
    };
    let (order, why) = (order.cloned(), why.cloned());
    // Under another order it is not what was given beforehand.
    let given = known.filter(|node| !late && node.delivered);
    let (delivered, drained) = (given.is_some(), given.and_then(|node| node.drained.clone()));
    let volatile = match line.entry {
        Entry::Ordered { volatile, .. } => volatile,
        _ => known.is_some_and(|node| node.volatile),
    };
    let boot_source = known.and_then(|node| node.boot_source.clone());
    let since_ms = line.t_ms;
    let record =
        NodeRecord { progress, since_ms, order, ordering_ms, delivered, volatile, boot_source, drained, why };
    nodes.insert(name.to_owned(), record);
}

#[cfg(test)]
mod tests;
