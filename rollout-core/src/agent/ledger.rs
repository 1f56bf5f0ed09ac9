//! The agent's record of the order that it carries out.
//!
//! The ledger is the truth about an order on its node. The agent writes it before it acts. This module holds its
//! content and the bookkeeping; [`steps`](super::steps) reads the next step of an action from it.

use crate::agent::changes_made::NodeChanges;
use crate::agent::phase::{Event, Phase, keys};
use crate::agent::record::{After, Before, BootDefault, Record};
use crate::agent::registration::BeforeStart;
use crate::hostlist::NodeSet;
use crate::protocol::answer::{MAX_NOTES, OrderStatus};
use crate::protocol::order::{Order, OrderId, OrderKind, RestoreLedger};
use crate::rollout::image::Running;
use crate::rollout::manifest::{Change, OnFailure};
use crate::slurm::reason::{self, PLAIN_REBOOT};
use crate::text::one_line;
use serde::{Deserialize, Serialize};

/// Ledger format that this version writes. Higher ones are read as far as their keys are known, because a rollback may
/// put an older agent on a newer ledger.
pub const VERSION: u32 = 1;

/// Number of interrupted attempts after which the same work counts as failed.
const MAX_TRIES: u32 = 3;

/// Number of order ids to remember. MUNGE credentials live at most an hour; a node does not get 64 orders in one.
const MAX_ACCEPTED_ORDERS: usize = 64;

/// Number of rollouts that can be undone later.
const MAX_ROLLOUTS: usize = 8;

/// Length limit of an error, in characters.
const MAX_ERROR: usize = 700;

/// The agent's record of one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The format, [`VERSION`].
    pub version: u32,
    /// The node that accepted the order. `None` in ledgers of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The order as it was accepted: to apply changes or to reboot.
    pub order: Order,
    #[serde(flatten, with = "keys")]
    pub phase: Phase,
    /// Start of the phase, in seconds since 1970.
    pub since_s: u64,
    /// The kernel's boot id at the start of the phase.
    pub boot_id: String,
    /// The kernel's boot id when the order was accepted.
    pub ordered_boot_id: String,
    /// Time of acceptance, in seconds since 1970. `None` in ledgers of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_s: Option<u64>,
    /// The system that the node was running when it accepted an order for which the controller changes its boot source.
    /// Any later boot may lead to the new image, which must not pass for the old one. `None` in ledgers of older
    /// agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_running: Option<Running>,
    /// Number of times that this phase was begun.
    #[serde(default)]
    pub tries: u32,
    /// slurmd before the order. `None` until the first change is begun, and in ledgers of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slurmd: Option<Slurmd>,
    /// Slurm's view of the node before slurmd was started for the last proof. `None` until then, if Slurm need not
    /// accept the node or only slurmd lets anybody ask, and in ledgers of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_start: Option<BeforeStart>,
    /// The boot loader before the first change. `None` until that is begun, without a loader whose default can be set,
    /// and in ledgers of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_default: Option<BootDefault>,
    /// One record for each change that was begun, in the order of the changes.
    #[serde(default)]
    pub records: Vec<Record>,
    /// Number of boots that followed the first one because a change needed them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub further_boots: u32,
    /// Reason of the drain that somebody else set. The node stays drained when it is given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
    /// The drain of a released node was kept while its gate opened. It is the admin's from then on: a later start of
    /// the agent must not set it again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain_kept: bool,
    /// The failure, in one line, its first cause in front.
    #[serde(default)]
    pub error: Option<String>,
    /// Facts that an admin should see and that are no failure, each in one line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Ids of the accepted orders, oldest first.
    #[serde(default, rename = "seen")]
    pub accepted_orders: Vec<OrderId>,
    /// Changes of rollouts before this order, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<NodeChanges>,
}

/// slurmd's unit before an order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slurmd {
    /// It ran or was being started.
    #[serde(default)]
    pub active: bool,
    /// It is started at boot, as far as systemd knows. On other nodes a script of the site starts it.
    #[serde(default)]
    pub enabled: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Slurmd {
    /// Returns whether slurmd has to run on this node in service.
    #[must_use]
    pub fn belongs_here(self) -> bool {
        self.active || self.enabled
    }
}

impl Ledger {
    /// Creates the ledger of an order that was just accepted. `last` is the ledger before it.
    #[must_use]
    pub fn begin(order: Order, phase: Phase, boot_id: &str, now_s: u64, last: Option<&Self>) -> Self {
        let drained = order.give_back().and_then(|back| back.drained.clone());
        let id = order.id.clone();
        let mut ledger = Self {
            version: VERSION,
            node: None,
            order,
            phase,
            since_s: now_s,
            boot_id: boot_id.to_owned(),
            ordered_boot_id: boot_id.to_owned(),
            ordered_s: Some(now_s),
            ordered_running: None,
            tries: 1,
            slurmd: None,
            before_start: None,
            boot_default: None,
            records: Vec::new(),
            further_boots: 0,
            drained,
            drain_kept: false,
            error: None,
            notes: Vec::new(),
            accepted_orders: last.map(|last| last.accepted_orders.clone()).unwrap_or_default(),
            earlier: last.map(Self::all_changes_made).unwrap_or_default(),
        };
        ledger.remember(id);
        ledger
    }

    /// Restores the ledger of a node that lost it in a boot, from the controller's knowledge.
    #[must_use]
    pub fn restored(id: OrderId, nodes: NodeSet, restore: RestoreLedger, now_s: u64) -> Self {
        let RestoreLedger { order, phase, boot_id, ordered_s, running, error } = restore;
        let mut ledger = Self::begin(Order::new(id, nodes, *order), phase, &boot_id, now_s, None);
        ledger.ordered_s = ordered_s;
        let record = |change: &Change| match (change, &running) {
            (Change::Image(_), Some(running)) => {
                let before = Before::Image { running: running.clone(), saved: None };
                Record { before, after: Some(After { changed: true, ..After::default() }) }
            }
            _ => Record::unchanged(Before::InImage),
        };
        ledger.records = ledger.changes().iter().map(record).collect();
        ledger.expect_to_return_to(running.as_ref());
        if let Some(error) = error {
            ledger.fail(&error);
        }
        ledger
    }

    /// Returns whether the ledger is another node's: this disk, or its image, was copied in the middle of that node's
    /// order.
    #[must_use]
    pub fn is_of_another_node(&self, me: &str) -> bool {
        self.node.as_deref().is_some_and(|node| node != me)
    }

    /// Returns the changes that its order made. `None` unless the order has ended and the node is in the staged state.
    #[must_use]
    pub fn changes_made(&self) -> Option<NodeChanges> {
        match &self.order.kind {
            OrderKind::Apply(apply) if self.phase == Phase::Updated => {
                Some(NodeChanges::of(apply, &self.records))
            }
            _ => None,
        }
    }

    /// Returns the changes of the latest rollouts, including this order's, oldest first.
    #[must_use]
    pub fn all_changes_made(&self) -> Vec<NodeChanges> {
        let mut all = self.earlier.clone();
        all.extend(self.changes_made());
        let extra = all.len().saturating_sub(MAX_ROLLOUTS);
        all.split_off(extra)
    }

    /// Records that an order was accepted.
    pub fn remember(&mut self, id: OrderId) {
        self.accepted_orders.push(id);
        let extra = self.accepted_orders.len().saturating_sub(MAX_ACCEPTED_ORDERS);
        self.accepted_orders.drain(..extra);
    }

    /// Records the running system as the one to return to, unless one is recorded or the controller leaves the boot
    /// source alone.
    pub fn expect_to_return_to(&mut self, running: Option<&Running>) {
        if self.ordered_running.is_none() && self.boot_source_timeout().is_some() {
            self.ordered_running = running.cloned();
        }
    }

    /// Enters a phase, or begins the same phase once more. A node that dies of slurmd's start, boots and is proven
    /// again would go on for ever, so verifying and registering count their tries together. An agent that is restarted
    /// while it registers counts for nothing: it only looks.
    pub fn enter(&mut self, phase: Phase, boot_id: &str, now_s: u64) {
        let again = |tries: u32| tries.saturating_add(1);
        self.tries = match (self.phase, phase) {
            (Phase::Verifying | Phase::Registering, Phase::Registering) => self.tries,
            (Phase::Registering, Phase::Verifying) => again(self.tries),
            (at, to) if at == to => again(self.tries),
            _ => 1,
        };
        if phase != self.phase {
            self.phase = phase;
            self.since_s = now_s;
            boot_id.clone_into(&mut self.boot_id);
        }
    }

    /// Records an error, in one line, behind earlier ones: the first one is the cause.
    pub fn fail(&mut self, error: &str) {
        let error = one_line(error, MAX_ERROR);
        self.error = Some(match self.error.take() {
            Some(first) if first.contains(&error) => first,
            Some(first) => one_line(&format!("{first}; {error}"), 2 * MAX_ERROR),
            None => error,
        });
    }

    /// Adds facts that an admin should see and that are no failure, up to [`MAX_NOTES`].
    pub fn note(&mut self, notes: &[String]) {
        for note in notes.iter().map(|note| one_line(note, MAX_ERROR)) {
            if self.notes.len() < MAX_NOTES && !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
    }

    /// Forgets the work of a held order before it is carried out once more. Either nothing of it is left on the node,
    /// or an admin has dealt with it: `retry` means that. The system to return to stays, unless it was proven since.
    pub fn begin_again(&mut self, id: OrderId, boot_id: &str, now_s: u64) {
        let recorded = self.records.iter().find_map(|record| match &record.before {
            Before::Image { running, .. } => Some(running.clone()),
            _ => None,
        });
        self.expect_to_return_to(recorded.as_ref());
        self.records.clear();
        self.further_boots = 0;
        self.boot_default = None;
        self.before_start = None;
        self.error = None;
        self.notes.clear();
        self.ordered_s = Some(now_s);
        boot_id.clone_into(&mut self.ordered_boot_id);
        self.remember(id);
    }

    /// Returns the event with which an agent that just started continues. Work that was interrupted too often has
    /// failed.
    pub fn started(&mut self, boot_id: &str) -> Event {
        let rebooted = boot_id != self.boot_id;
        let continues = Event::Started { rebooted };
        let gives_up = match self.phase {
            // A reboot is no work that could be interrupted: it is the interruption.
            Phase::Rebooting | Phase::RebootingBack => false,
            // slurmd may run in this boot, with jobs. Only an answer of Slurm's leads back from there.
            Phase::Registering => rebooted && self.tries >= MAX_TRIES,
            _ => self.tries >= MAX_TRIES,
        };
        match self.phase.failure() {
            Some(failure) if gives_up => {
                self.fail(&format!("interrupted {} times while {}", self.tries, self.phase.name()));
                failure
            }
            _ => continues,
        }
    }

    /// Returns whether Slurm must accept the node before its order ends well. A plain reboot needs no acceptance,
    /// because there is nothing to go back to; nor does a node on which slurmd did not run and is not enabled.
    #[must_use]
    pub fn must_register(&self) -> bool {
        self.desired().is_some() && self.slurmd.is_some_and(Slurmd::belongs_here)
    }

    /// Returns whether nothing is left to do that must come before slurmd starts. It is for an ended order, except for
    /// a drain that must be kept before a released node is given back.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.phase.is_settled() && !(self.keeps_drain_last() && self.drained.is_some())
    }

    /// Returns whether the node differs, or may differ, from before the order.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.records.iter().any(Record::may_have_changed)
    }

    /// Returns whether the node must boot once more after an undo, because Slurm still waits for a boot or something
    /// was changed. A changed image, or changed arguments of the kernel, alone need no boot if the node
    /// `runs_as_before`: it never left the old system, or came back to it by itself. Without a record of the old image,
    /// only a boot from the restored source leads back to it.
    #[must_use]
    pub fn reboot_due(&self, boot_id: &str, runs_as_before: bool) -> bool {
        let needs_no_boot = |record: &Record| {
            runs_as_before && matches!(record.before, Before::Image { .. } | Before::KernelArgs { .. })
        };
        boot_id == self.ordered_boot_id
            || self.has_unrecorded_image()
            || self.records.iter().any(|record| record.may_have_changed() && !needs_no_boot(record))
    }

    /// Records that the node is proven to be in its old state: nothing of the order is left to undo.
    pub fn old_proven(&mut self) -> Event {
        self.records.clear();
        self.ordered_running = None;
        let hold = match &self.order.kind {
            OrderKind::Apply(apply) => apply.desired.verify.on_failure == OnFailure::Hold,
            _ => false,
        };
        Event::OldProven { hold }
    }

    /// Records the drain with which the node is to be given back. Returns whether that is news, which must be on disk
    /// before Slurm's own record of the drain is overwritten.
    pub fn settle_drain(&mut self, drained: Option<&str>) -> bool {
        let news = self.drained.as_deref() != drained;
        self.drained = drained.map(str::to_owned);
        news
    }

    /// Returns the order's part of a status answer.
    #[must_use]
    pub fn status(&self) -> OrderStatus {
        OrderStatus {
            id: self.order.id.clone(),
            rollout: self.order.rollout().map(str::to_owned),
            phase: self.phase,
            since_s: self.since_s,
            error: self.error.clone(),
            notes: self.notes.clone(),
            changed: self.changed(),
            took_s: self.took_s(),
        }
    }

    /// Returns the time from acceptance to the end. A released order was waiting for the admin, and a clock that was
    /// set back makes the difference meaningless: `None`.
    fn took_s(&self) -> Option<u64> {
        match self.phase {
            Phase::Updated | Phase::RolledBack => self.since_s.checked_sub(self.ordered_s?),
            _ => None,
        }
    }

    /// Returns the name of the order in Reasons and messages: its rollout, or `plain reboot`.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.order.rollout().unwrap_or(PLAIN_REBOOT)
    }

    /// Returns the failure, in one line.
    #[must_use]
    pub fn reason(&self) -> &str {
        reason::cause(self.error.as_deref())
    }
}

#[cfg(test)]
mod tests;
