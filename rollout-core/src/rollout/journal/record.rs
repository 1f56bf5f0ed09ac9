//! Replay of a journal to a record for each node.

use super::entry::{Booted, Entry, Line};
use super::hook::{self, HookCalls};
use super::progress::Progress;
use super::qualification::{self, Qualification};
use super::request::{self, KeptOut, Request};
use crate::agent::phase::Phase;
use crate::protocol::order::OrderId;
use crate::text::with_notes;
use std::collections::BTreeMap;

/// Records of a journal's nodes, by NodeName.
pub type NodeRecords = BTreeMap<String, NodeRecord>;

/// Limit of [`NodeRecord::earlier_orders`]. A node is ordered again only if Slurm hands it over again.
const MAX_EARLIER_ORDERS: usize = 16;

/// A node in a rollout, as far as the journal records it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    pub progress: Progress,
    /// Start of this progress, in milliseconds since 1970.
    pub since_ms: u64,
    /// Time at which the node was last staged, in milliseconds since 1970. `None` for plain reboots.
    pub staged_ms: Option<u64>,
    /// The node's last order. `None` before the first one.
    pub order: Option<OrderId>,
    /// Orders before it, since the node was last staged, of which no outcome is known. The agent may have any of them.
    pub earlier_orders: Vec<OrderId>,
    /// Time at which a RebootProgram last began to order the node, in milliseconds since 1970. Survives staging it
    /// anew.
    pub ordering_ms: Option<u64>,
    /// The agent holds the order in advance.
    pub pre_staged: bool,
    /// The agent's ledger does not survive the boot.
    pub volatile: bool,
    pub boot_change: Option<BootChange>,
    /// Reason of another one's drain, as told to the agent with the pre-staged order.
    pub drained: Option<String>,
    /// Reason of a refusal, of silence or of a failure.
    pub why: Option<String>,
    /// Facts about the end of the order that are no failure.
    pub notes: Vec<String>,
    /// The reboot that a started rollout requested from Slurm. `None` once it led to an order or was withdrawn.
    pub request: Option<Request>,
    /// Somebody else cancelled the last request in Slurm. It is not repeated before the rollout is resumed.
    pub cancelled: bool,
    /// The drain that keeps jobs off the node until it is updated.
    pub kept_out: Option<KeptOut>,
    /// There may be a reservation of ours for the node.
    pub reserved: bool,
    /// The rollout was started or resumed since the node failed or was requested. Such a failure counts for no halt, in
    /// whichever order the clocks of two controllers have both.
    pub forgiven: bool,
    /// Its outcome, if it has one, is from before the start of its rollout, by the order of the lines as for
    /// [`Self::forgiven`]. No hook runs for it.
    pub before_start: bool,
    /// It was chosen to qualify a wave together with others.
    pub qualification: Option<Qualification>,
    /// Hooks that were called for it since it was staged, requested or ordered last.
    pub hooks: HookCalls,
}

/// A change of a node's boot source. It has an owner, its order, until that is proven or the boot source is restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootChange {
    /// The order that owns the boot source.
    pub order: OrderId,
    /// Time of the change, in milliseconds since 1970.
    pub since_ms: u64,
    /// End of the owner's claim, in milliseconds since 1970: until then the change may be in progress.
    pub until_ms: u64,
    /// State before the first change that was not restored.
    pub before: Booted,
    /// The kernel's boot id when the boot source was last changed. Empty if unknown.
    pub boot_id: String,
    pub restoration: Restoration,
}

/// Restoration of a boot source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Restoration {
    /// Not restored: the node boots from what the rollout gave it.
    No,
    /// Being restored by a process, whose claim ends at this time in milliseconds since 1970.
    Claimed { until_ms: u64 },
    /// Restored at this time, in milliseconds since 1970.
    Done { at_ms: u64, why: String },
}

impl NodeRecord {
    /// Creates a record of which nothing else is known.
    #[must_use]
    pub fn new(progress: Progress, since_ms: u64) -> Self {
        Self {
            progress,
            since_ms,
            staged_ms: None,
            order: None,
            earlier_orders: Vec::new(),
            ordering_ms: None,
            pre_staged: false,
            volatile: false,
            boot_change: None,
            drained: None,
            why: None,
            notes: Vec::new(),
            request: None,
            cancelled: false,
            kept_out: None,
            reserved: false,
            forgiven: false,
            before_start: false,
            qualification: None,
            hooks: HookCalls::new(),
        }
    }

    /// Returns the failure and the notes, in one line for people.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        with_notes(self.why.as_deref(), &self.notes)
    }

    /// Returns whether a started rollout has left something in Slurm that it must take back: a request, a drain, or a
    /// reservation.
    #[must_use]
    pub fn has_traces_in_slurm(&self) -> bool {
        self.request.is_some() || self.kept_out.is_some() || self.reserved
    }

    /// Returns the change of the boot source that is neither proven nor restored.
    #[must_use]
    pub fn unsettled_boot_change(&self) -> Option<&BootChange> {
        self.boot_change
            .as_ref()
            .filter(|change| !matches!(change.restoration, Restoration::Done { .. }))
            .filter(|_| self.progress != Progress::Seen(Phase::Updated))
    }

    /// Returns whether this is an order of the record: the last one, one of an unknown outcome before it, or the owner
    /// of the boot source.
    #[must_use]
    pub fn has_order(&self, order: &OrderId) -> bool {
        self.order.as_ref() == Some(order)
            || self.earlier_orders.contains(order)
            || self.unsettled_boot_change().is_some_and(|change| change.order == *order)
    }

    /// Returns whether the agent reported an end of the last order after which nothing more happens to it.
    #[must_use]
    pub fn has_settled_order(&self) -> bool {
        matches!(self.progress, Progress::Seen(phase) if phase.is_settled())
    }

    /// Returns whether a process may be sending the order, or changing or restoring the boot source, right now.
    #[must_use]
    pub fn is_claimed(&self, now_ms: u64) -> bool {
        matches!(self.progress, Progress::Ordering { until_ms } if until_ms > now_ms)
            || self.unsettled_boot_change().is_some_and(|change| change.is_claimed(now_ms))
    }

    /// Returns whether nothing is left to do for the node in this rollout.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let ended = match self.progress {
            Progress::Seen(phase) => phase.is_settled(),
            Progress::Superseded | Progress::Covered => true,
            Progress::Staged
            | Progress::Ordering { .. }
            | Progress::Ordered
            | Progress::Refused
            | Progress::Unreachable
            | Progress::Lost => false,
        };
        ended && self.unsettled_boot_change().is_none()
    }
}

impl BootChange {
    /// Returns whether the owner may still be changing the boot source, or a process restoring it.
    #[must_use]
    pub fn is_claimed(&self, now_ms: u64) -> bool {
        self.is_being_restored(now_ms) || self.until_ms > now_ms
    }

    /// Returns whether a process may be restoring the boot source.
    #[must_use]
    pub fn is_being_restored(&self, now_ms: u64) -> bool {
        matches!(self.restoration, Restoration::Claimed { until_ms } if until_ms > now_ms)
    }

    /// Returns whether the node has booted since its boot source was changed. An unknown boot id counts as a boot: such
    /// a node may run anything.
    #[must_use]
    pub fn has_booted_since(&self, boot_id: &str) -> bool {
        self.boot_id.is_empty() || self.boot_id != boot_id
    }

    /// Returns whether the node may be running what the rollout gave it: it has booted since the first change that was
    /// not restored, which another change may have followed.
    #[must_use]
    pub fn may_be_running(&self, boot_id: &str) -> bool {
        self.has_booted_since(boot_id) || self.before.boot_id != boot_id
    }
}

/// Reduces the lines of a journal to a record for each node.
#[must_use]
pub fn replay<'a>(lines: impl IntoIterator<Item = &'a Line>) -> NodeRecords {
    let mut records = NodeRecords::new();
    for line in lines {
        replay_line(&mut records, line);
    }
    records
}

/// Continues a replay with the next line.
pub fn replay_line(records: &mut NodeRecords, line: &Line) {
    match line.entry {
        Entry::Started => {
            records.values_mut().for_each(|record| (record.forgiven, record.before_start) = (true, true));
        }
        Entry::Resumed => {
            records.values_mut().for_each(|record| {
                (record.forgiven, record.cancelled) = (true, false);
                hook::forget_before_request(record);
            });
        }
        _ => {}
    }
    for name in line.entry.nodes().iter() {
        // In its place: large journals are read by each hand-over.
        let known = records.get_mut(name);
        let place =
            known.map(|record| (std::mem::replace(record, NodeRecord::new(Progress::Staged, 0)), record));
        match place {
            Some((record, place)) => match apply(Some(record), name, line) {
                Some(record) => *place = record,
                None => drop(records.remove(name)),
            },
            None => {
                if let Some(record) = apply(None, name, line) {
                    records.insert(name.to_owned(), record);
                }
            }
        }
    }
}

/// Applies one line to the record of one node.
fn apply(record: Option<NodeRecord>, name: &str, line: &Line) -> Option<NodeRecord> {
    match &line.entry {
        Entry::Staged { .. } => Some(stage(record, line.t_ms)),
        Entry::Ordering { order, until_ms, .. } => Some(begin(record, order, *until_ms, line.t_ms)),
        Entry::Unstaged { .. } => record.filter(|record| !can_be_called_off(record, line.t_ms)),
        Entry::PreStaged { order, drained, .. } => {
            record.map(|record| match record.progress.may_be_ordered(line.t_ms) {
                // Late news of an order that was replaced.
                true if record.earlier_orders.contains(order) => record,
                // It changes nothing but who holds the order: a rollout that is no longer staged is no longer applied.
                true => NodeRecord {
                    pre_staged: true,
                    drained: drained.clone(),
                    ..replace_order(record, order, line.t_ms)
                },
                false => record,
            })
        }
        Entry::BootChange { order, before, until_ms, .. } => record.map(|record| match before.get(name) {
            Some(before) => change_boot(record, order, before, (*until_ms, line.t_ms)),
            None => record,
        }),
        Entry::BootRestoring { order, until_ms, .. } => {
            record.map(|record| restore(record, order, Restoration::Claimed { until_ms: *until_ms }))
        }
        Entry::BootRestored { order, why, .. } => record.map(|mut record| {
            if record.boot_change.as_ref().is_some_and(|change| change.order == *order) {
                record.why.get_or_insert_with(|| why.clone());
            }
            restore(record, order, Restoration::Done { at_ms: line.t_ms, why: why.clone() })
        }),
        Entry::Ordered { order, .. }
        | Entry::UnderWay { order, .. }
        | Entry::Covered { order, .. }
        | Entry::Refused { order, .. }
        | Entry::Unreachable { order, .. } => answered(record, order, line),
        Entry::Retried { order, .. }
        | Entry::Released { order, .. }
        | Entry::Seen { order, .. }
        | Entry::Lost { order, .. } => ended(record, order, line),
        Entry::Superseded { order, why, .. } => record.map(|record| match record.order == *order {
            // Its end was seen after all.
            true if record.has_settled_order() => record,
            true => NodeRecord {
                progress: Progress::Superseded,
                since_ms: line.t_ms,
                why: Some(why.clone()),
                ..record
            },
            false => record,
        }),
        Entry::Requested { .. }
        | Entry::RequestTaken { .. }
        | Entry::Withdrawing { .. }
        | Entry::Withdrawn { .. }
        | Entry::KeptOut { .. }
        | Entry::LetIn { .. }
        | Entry::Unreserved { .. } => record.map(|record| request::apply(record, line)),
        Entry::ToQualify { .. }
        | Entry::Qualifying { .. }
        | Entry::QualificationJob { .. }
        | Entry::Qualified { .. }
        | Entry::NotQualified { .. } => record.map(|record| qualification::apply(record, line)),
        Entry::HookStarted { .. } | Entry::HookEnded { .. } => {
            record.map(|record| hook::apply_to_record(record, line))
        }
        Entry::JobWarned { .. }
        | Entry::JobEnded { .. }
        | Entry::HooksAwaited
        | Entry::HooksOver
        | Entry::Started
        | Entry::Paused { .. }
        | Entry::Resumed
        | Entry::Stopped
        | Entry::Approved { .. }
        | Entry::Halted { .. } => record,
    }
}

/// An order that was taken cannot be called off, but a node that never came back can be given up.
fn can_be_called_off(record: &NodeRecord, t_ms: u64) -> bool {
    record.progress.may_be_ordered(t_ms) || record.progress == Progress::Lost
}

fn stage(record: Option<NodeRecord>, t_ms: u64) -> NodeRecord {
    let new = NodeRecord { staged_ms: Some(t_ms), ..NodeRecord::new(Progress::Staged, t_ms) };
    let Some(record) = record else { return new };
    // A boot source that was proven or restored before stays settled. A drain or reservation of ours is still there.
    let boot_change = record.unsettled_boot_change().cloned();
    let NodeRecord { ordering_ms, volatile, kept_out, reserved, .. } = record;
    NodeRecord { ordering_ms, volatile, boot_change, kept_out, reserved, ..new }
}

fn begin(record: Option<NodeRecord>, order: &OrderId, until_ms: u64, t_ms: u64) -> NodeRecord {
    let mut record = record.unwrap_or_else(|| NodeRecord::new(Progress::Staged, t_ms));
    if record.order.as_ref() != Some(order) {
        // Under another order it is not the one that was pre-staged.
        (record.pre_staged, record.drained) = (false, None);
        record = replace_order(record, order, t_ms);
    }
    NodeRecord {
        progress: Progress::Ordering { until_ms },
        since_ms: t_ms,
        ordering_ms: Some(t_ms),
        why: None,
        notes: Vec::new(),
        request: None,
        cancelled: false,
        forgiven: false,
        before_start: false,
        hooks: HookCalls::new(),
        ..record
    }
}

/// Makes `order` the last order. The agent may have the one before it, if its outcome is unknown.
fn replace_order(mut record: NodeRecord, order: &OrderId, t_ms: u64) -> NodeRecord {
    let replaced = record.order.replace(order.clone()).filter(|replaced| replaced != order);
    if record.progress.is_outcome_unknown(t_ms) {
        record.earlier_orders.extend(replaced);
        let extra = record.earlier_orders.len().saturating_sub(MAX_EARLIER_ORDERS);
        record.earlier_orders.drain(..extra);
    }
    record
}

fn change_boot(
    record: NodeRecord,
    order: &OrderId,
    before: &Booted,
    (until_ms, t_ms): (u64, u64),
) -> NodeRecord {
    // A change for an earlier order that is recorded late leaves the boot source to its present owner.
    let owner = record.unsettled_boot_change().map(|change| &change.order);
    if owner.is_some() && owner == record.order.as_ref() && owner != Some(order) {
        return record;
    }
    let boot_id = before.boot_id.clone();
    // If it was not restored, the present boot source is ours, and not the one to go back to.
    let first = record.unsettled_boot_change().map_or_else(|| before.clone(), |change| change.before.clone());
    let (order, restoration) = (order.clone(), Restoration::No);
    let change = BootChange { order, since_ms: t_ms, until_ms, before: first, boot_id, restoration };
    NodeRecord { boot_change: Some(change), ..record }
}

/// Only the owner's order counts: a restoration that comes late is of an earlier change.
fn restore(mut record: NodeRecord, order: &OrderId, restoration: Restoration) -> NodeRecord {
    if let Some(change) = record.boot_change.as_mut().filter(|change| change.order == *order) {
        change.restoration = restoration;
        change.until_ms = 0;
    }
    record
}

/// Applies the outcome of sending an order.
fn answered(record: Option<NodeRecord>, order: &OrderId, line: &Line) -> Option<NodeRecord> {
    let (progress, why) = match &line.entry {
        Entry::Refused { why, .. } => (Progress::Refused, Some(why)),
        Entry::Unreachable { why, .. } => (Progress::Unreachable, Some(why)),
        Entry::Covered { .. } => (Progress::Covered, None),
        _ => (Progress::Ordered, None),
    };
    let Some(mut record) = record else {
        // Late news of a refusal or of silence arms no node that was called off meanwhile. An accepted order is
        // recorded: the journal of plain reboots may begin anywhere.
        let accepted = progress == Progress::Ordered;
        let ordering_ms = Some(line.t_ms);
        let new = NodeRecord { ordering_ms, ..NodeRecord::new(progress, line.t_ms) };
        return accepted.then(|| accept(NodeRecord { order: Some(order.clone()), ..new }, line));
    };
    // The end that an agent reported is not undone by an answer that was written late. An order that was taken all the
    // same is not superseded.
    let over = match record.progress {
        Progress::Seen(_) => true,
        Progress::Superseded => progress != Progress::Ordered,
        _ => false,
    };
    if record.order.as_ref() != Some(order) || over {
        return Some(record);
    }
    record.ordering_ms.get_or_insert(line.t_ms);
    end_boot_claim(&mut record, order);
    if matches!(progress, Progress::Ordered | Progress::Covered) {
        request::end(&mut record);
    }
    let (since_ms, why) = (line.t_ms, why.cloned());
    let record = NodeRecord { progress, since_ms, why, forgiven: false, before_start: false, ..record };
    Some(accept(record, line))
}

/// The sender is done: the boot source is no longer being changed.
fn end_boot_claim(record: &mut NodeRecord, order: &OrderId) {
    if let Some(change) = record.boot_change.as_mut().filter(|change| change.order == *order) {
        change.until_ms = 0;
    }
}

/// Adopts the order that the agent really has, and its report about its ledger. No report leaves it as it was.
fn accept(record: NodeRecord, line: &Line) -> NodeRecord {
    match &line.entry {
        Entry::Ordered { volatile, .. } => NodeRecord { volatile: *volatile, ..record },
        Entry::UnderWay { order, under_way, volatile, .. } => {
            let mut record = NodeRecord { volatile: record.volatile || *volatile, ..record };
            let Some(under_way) = under_way else { return record };
            if let Some(change) = record.boot_change.as_mut().filter(|change| change.order == *order) {
                change.order.clone_from(under_way);
            }
            NodeRecord { order: Some(under_way.clone()), ..record }
        }
        _ => record,
    }
}

/// Applies an end of the order, or its new beginning after a hold.
fn ended(record: Option<NodeRecord>, order: &OrderId, line: &Line) -> Option<NodeRecord> {
    let (progress, why, notes) = match &line.entry {
        Entry::Retried { .. } => (Progress::Ordered, None, Vec::new()),
        Entry::Released { .. } => (Progress::Seen(Phase::Released), None, Vec::new()),
        Entry::Seen { phase, error, notes, .. } => (Progress::Seen(*phase), error.clone(), notes.clone()),
        Entry::Lost { why, .. } => (Progress::Lost, Some(why.clone()), Vec::new()),
        _ => return record,
    };
    let mut record = match record {
        // A node that was given up and called off stays so.
        None if progress == Progress::Lost => return None,
        None => NodeRecord { order: Some(order.clone()), ..NodeRecord::new(progress, line.t_ms) },
        Some(record) if record.order.as_ref() != Some(order) => return Some(record),
        // An order is over with its end. A node that is held, or has moved on, is not lost.
        Some(record) if record.has_settled_order() => return Some(record),
        Some(record) => match (progress, record.progress) {
            (Progress::Lost, Progress::Seen(_) | Progress::Superseded) => return Some(record),
            _ => record,
        },
    };
    end_boot_claim(&mut record, order);
    request::end(&mut record);
    let is_same = record.progress == progress;
    let (forgiven, before_start) = (record.forgiven && is_same, record.before_start && is_same);
    if matches!(line.entry, Entry::Retried { .. }) {
        record.hooks.clear();
    }
    Some(NodeRecord { progress, since_ms: line.t_ms, why, notes, forgiven, before_start, ..record })
}
