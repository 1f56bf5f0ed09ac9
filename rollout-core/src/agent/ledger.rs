//! The agent's record of the order it carries out, and the decisions that follow from it alone.
//!
//! The ledger is the truth about what happened on the node. The agent writes it before it acts; this module only
//! says what is in it and what it means.

use crate::agent::phase::{Event, Phase};
use crate::hostlist::NodeSet;
use crate::protocol::answer::OrderStatus;
use crate::protocol::order::{Order, OrderId, OrderKind, RestoreLedger};
use crate::rollout::image::Running;
use crate::rollout::manifest::{Change, Manager, OnFailure};
use crate::rollout::undo::NodeChanges;
use crate::slurm::reason;
use crate::slurm::reason::PLAIN_REBOOT;
use crate::text::one_line;
use serde::{Deserialize, Serialize};

/// The format that this version writes. It reads higher ones too, as far as it knows their keys: a rollback may put
/// an older agent on a newer ledger.
pub const VERSION: u32 = 1;

/// How often an agent begins the same work anew after crashes before it counts as failed.
const MAX_TRIES: u32 = 3;

/// How many order ids are remembered. MUNGE credentials live at most an hour; a node is not ordered 64 times in one.
const MAX_SEEN: usize = 64;

/// How many rollouts can be undone later.
const MAX_PASTS: usize = 8;

/// Length limit of an error, in characters.
const MAX_ERROR: usize = 700;

/// The agent's record of one order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The format.
    pub version: u32,
    /// The node that accepted it. None in ledgers of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The order as it was accepted: to apply changes or to reboot.
    pub order: Order,
    /// Where the node stands.
    pub phase: Phase,
    /// When it came to this phase, in seconds since 1970.
    pub since_s: u64,
    /// The kernel's boot id when it came to this phase.
    pub boot_id: String,
    /// The kernel's boot id when the order was accepted.
    pub ordered_boot_id: String,
    /// When the order was accepted, in seconds since 1970. None in ledgers of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_s: Option<u64>,
    /// How often this phase has been begun.
    #[serde(default)]
    pub tries: u32,
    /// What undo needs, one record a change that was begun, in the order of the changes.
    #[serde(default)]
    pub records: Vec<Record>,
    /// The Reason with which somebody else drained the node: it stays drained when it is given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
    /// What failed first, in one line.
    #[serde(default)]
    pub error: Option<String>,
    /// The ids of the orders that were accepted, oldest first.
    #[serde(default)]
    pub seen: Vec<OrderId>,
    /// What rollouts before this order made of the node, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<NodeChanges>,
}

/// What undo needs to know of a change. Written before the change is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was there before.
    pub before: Before,
    /// What is there since the change was made; none while it is being made.
    #[serde(default)]
    pub after: Option<After>,
}

impl Record {
    /// A record without its end is a change that was interrupted: it may have done anything.
    fn may_have_changed(&self) -> bool {
        self.after.as_ref().is_none_or(|after| after.changed)
    }
}

/// What was there before a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Before {
    /// The link's target, none if there was no link.
    Symlink {
        /// Where it pointed.
        target: Option<String>,
    },
    /// Every installed package: dnf `name-epoch:version-release.arch`, apt `name:arch=version`.
    Packages {
        /// The package manager that the node has.
        manager: Manager,
        /// The packages.
        installed: Vec<String>,
    },
    /// Nothing that could be restored: it comes with the image, and a node without a disk is only looked at.
    InImage,
    /// What was booted.
    Image {
        /// What the system said it was.
        running: Running,
        /// What the provider on the node needs to put it back, in its own notation.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saved: Option<String>,
    },
}

/// What a change left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// Whether anything is another than before.
    pub changed: bool,
    /// Packages that the change brought, in the notation of [`Before::Packages`]. Empty for other changes.
    #[serde(default)]
    pub added: Vec<String>,
    /// Packages that it took away.
    #[serde(default)]
    pub removed: Vec<String>,
}

/// Whether slurmd may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// It may not, and waiting does not help: an order is being carried out that ends in a reboot, or the node is held.
    Closed(String),
    /// Not yet: the node has booted and is being proven.
    Wait,
}

/// What an agent does with an order that is genuine and for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Take it: this event.
    Accept(Event),
    /// An order that leads to the same is being carried out.
    UnderWay(Phase),
    /// Say no, with this reason.
    Refuse(String),
}

impl Ledger {
    /// The ledger of an order that was just accepted, `last` being the ledger before it.
    #[must_use]
    pub fn begin(order: Order, phase: Phase, boot_id: &str, now_s: u64, last: Option<&Self>) -> Self {
        let mut ledger = Self {
            version: VERSION,
            node: None,
            order,
            phase,
            since_s: now_s,
            boot_id: boot_id.to_owned(),
            ordered_boot_id: boot_id.to_owned(),
            ordered_s: Some(now_s),
            tries: 1,
            records: Vec::new(),
            drained: None,
            error: None,
            seen: last.map(|l| l.seen.clone()).unwrap_or_default(),
            earlier: last.map(Self::pasts).unwrap_or_default(),
        };
        ledger.drained = ledger.order.give_back().and_then(|back| back.drained.clone());
        let id = ledger.order.id.clone();
        ledger.remember(id);
        ledger
    }

    /// What the ledger would say on a node that kept none over its boot.
    #[must_use]
    pub fn expected(id: OrderId, nodes: NodeSet, expect: RestoreLedger, now_s: u64) -> Self {
        let RestoreLedger { order, phase, boot_id, ordered_s, running, error } = expect;
        let mut ledger = Self::begin(Order::new(id, nodes, *order), phase, &boot_id, now_s, None);
        ledger.ordered_s = ordered_s;
        if let OrderKind::Apply(apply) = &ledger.order.kind {
            let unchanged = |changed| Some(After { changed, added: Vec::new(), removed: Vec::new() });
            let record = |change: &Change| match (change, &running) {
                (Change::Image(_), Some(running)) => {
                    let before = Before::Image { running: running.clone(), saved: None };
                    Record { before, after: unchanged(true) }
                }
                _ => Record { before: Before::InImage, after: unchanged(false) },
            };
            ledger.records = apply.desired.changes.iter().map(record).collect();
        }
        if let Some(error) = error {
            ledger.fail(&error);
        }
        ledger
    }

    /// Whether it is another node's: this disk, or its image, was copied in the middle of that node's order.
    #[must_use]
    pub fn is_of_another_node(&self, me: &str) -> bool {
        self.node.as_deref().is_some_and(|node| node != me)
    }

    /// What rollouts made of the node, this order's included, oldest first.
    #[must_use]
    pub fn pasts(&self) -> Vec<NodeChanges> {
        let mut pasts = self.earlier.clone();
        pasts.extend(self.past());
        let extra = pasts.len().saturating_sub(MAX_PASTS);
        pasts.split_off(extra)
    }

    /// Remembers that an order was accepted.
    pub fn remember(&mut self, id: OrderId) {
        self.seen.push(id);
        let extra = self.seen.len().saturating_sub(MAX_SEEN);
        self.seen.drain(..extra);
    }

    /// Comes to another phase, or begins the same one once more.
    pub fn enter(&mut self, phase: Phase, boot_id: &str, now_s: u64) {
        if phase == self.phase {
            self.tries = self.tries.saturating_add(1);
        } else {
            self.tries = 1;
            self.phase = phase;
            self.since_s = now_s;
            boot_id.clone_into(&mut self.boot_id);
        }
    }

    /// Keeps an error, in one line, behind those that came before: the first one is the cause.
    pub fn fail(&mut self, error: &str) {
        let error = one_line(error, MAX_ERROR);
        self.error = Some(match self.error.take() {
            Some(first) if first.contains(&error) => first,
            Some(first) => one_line(&format!("{first}; {error}"), 2 * MAX_ERROR),
            None => error,
        });
    }

    /// Forgets what a held order did, to carry it out once more. Nothing of it is left on the node, or an admin has
    /// seen to it: that is what `retry` says.
    pub fn begin_again(&mut self, id: OrderId, boot_id: &str, now_s: u64) {
        self.records.clear();
        self.error = None;
        self.ordered_s = Some(now_s);
        boot_id.clone_into(&mut self.ordered_boot_id);
        self.remember(id);
    }

    /// The event with which an agent that just started goes on. What was begun too often is given up.
    pub fn started(&mut self, boot_id: &str) -> Event {
        let goes_on = Event::Started { rebooted: boot_id != self.boot_id };
        if self.tries < MAX_TRIES {
            return goes_on;
        }
        let gives_up = match self.phase {
            Phase::Applying => Event::ApplyFailed,
            Phase::Verifying => Event::VerifyFailed,
            Phase::Undoing => Event::UndoFailed,
            Phase::VerifyingOld => Event::OldNotProven,
            Phase::Rebooting
            | Phase::RebootingBack
            | Phase::Held
            | Phase::Updated
            | Phase::RolledBack
            | Phase::Released => return goes_on,
        };
        self.fail(&format!("interrupted {} times while {}", self.tries, self.phase.name()));
        gives_up
    }

    /// Whether anything on the node is, or may be, another than before the order.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.records.iter().any(Record::may_have_changed)
    }

    /// Whether the node has to boot once more after an undo: Slurm still waits for a boot, or something was changed. An
    /// image alone takes none where what runs is `as_before`: the node never left it, or came back to it by itself.
    #[must_use]
    pub fn reboot_due(&self, boot_id: &str, as_before: bool) -> bool {
        let only_booted = |record: &Record| as_before && matches!(record.before, Before::Image { .. });
        boot_id == self.ordered_boot_id
            || self.records.iter().any(|record| record.may_have_changed() && !only_booted(record))
    }

    /// The node is proven to be what it was: nothing of the order is left there to be undone.
    pub fn old_proven(&mut self) -> Event {
        self.records.clear();
        let hold = match &self.order.kind {
            OrderKind::Apply(apply) => apply.desired.verify.on_failure == OnFailure::Hold,
            _ => false,
        };
        Event::OldProven { hold }
    }

    /// What a status request is told.
    #[must_use]
    pub fn status(&self) -> OrderStatus {
        OrderStatus {
            id: self.order.id.clone(),
            rollout: self.order.rollout().map(str::to_owned),
            phase: self.phase,
            since_s: self.since_s,
            error: self.error.clone(),
            changed: self.changed(),
            took_s: self.took_s(),
        }
    }

    /// From acceptance to the end. What an admin released waited for the admin; a clock that was set back tells nothing.
    fn took_s(&self) -> Option<u64> {
        match self.phase {
            Phase::Updated | Phase::RolledBack => self.since_s.checked_sub(self.ordered_s?),
            _ => None,
        }
    }

    /// How Reasons and messages name the order: the rollout, or the plain reboot.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.order.rollout().unwrap_or(PLAIN_REBOOT)
    }
}

/// Whether slurmd may start, by the ledger of the order that is not settled (none: no such order). `admitted` says whether
/// the agent has found that it may in this boot; none where the ledger outlives boots, and that need not be asked.
#[must_use]
pub fn gate(unsettled: Option<&Ledger>, admitted: Option<bool>, boot_id: &str) -> Gate {
    let Some(ledger) = unsettled else {
        return if admitted == Some(false) { Gate::Wait } else { Gate::Open };
    };
    let closed = |what: &str| Gate::Closed(format!("{}: {what}", ledger.subject()));
    match ledger.phase {
        Phase::Updated | Phase::RolledBack | Phase::Released => Gate::Open,
        Phase::Verifying | Phase::VerifyingOld => Gate::Wait,
        // Booted, and the agent has not come to it yet.
        Phase::Rebooting | Phase::RebootingBack if ledger.boot_id != boot_id => Gate::Wait,
        Phase::Applying | Phase::Undoing | Phase::Rebooting | Phase::RebootingBack => {
            closed(ledger.phase.name())
        }
        Phase::Held => closed(&reason::held(ledger.error.as_deref())),
    }
}

/// What to do with a genuine order, on node `me`, whose newest ledger is `last`.
#[must_use]
pub fn consider(last: Option<&Ledger>, order: &Order, me: &str) -> Verdict {
    if !order.nodes.contains(me) {
        return Verdict::Refuse(format!("the order is for {}, this is {me}", order.nodes));
    }
    let under_way = last.filter(|ledger| !ledger.phase.is_settled());
    if let Some(ledger) = last.filter(|ledger| ledger.seen.contains(&order.id)) {
        return match under_way {
            Some(ledger) if ledger.phase != Phase::Held && ledger.order.id == order.id => {
                Verdict::UnderWay(ledger.phase)
            }
            _ => Verdict::Refuse(format!(
                "order {} was carried out before; the node is {}",
                order.id,
                ledger.phase.name()
            )),
        };
    }
    match (&order.kind, under_way) {
        // The driver turns a hand-over by slurmd into one of the others, and the rest is about no order.
        (
            OrderKind::PreStage(_)
            | OrderKind::UpdateDrain(_)
            | OrderKind::DropPreStaged { .. }
            | OrderKind::LocalHandOver(_)
            | OrderKind::BootRestored { .. },
            _,
        ) => Verdict::Refuse("not an order to be carried out".to_owned()),
        (OrderKind::RestoreLedger(_), None) if last.is_none() => {
            Verdict::Accept(Event::Started { rebooted: true })
        }
        (OrderKind::RestoreLedger(_), _) => {
            let at = last.map_or("idle", |ledger| ledger.phase.name());
            Verdict::Refuse(format!("{me} has a ledger and goes by it: it is {at}"))
        }
        (OrderKind::Apply(_), None) => Verdict::Accept(Event::OrderedToApply),
        (OrderKind::Reboot(_), None) => Verdict::Accept(Event::OrderedToReboot),
        (OrderKind::Retry, Some(ledger)) if ledger.phase == Phase::Held => {
            Verdict::Accept(Event::OrderedToRetry)
        }
        (OrderKind::Release, Some(ledger)) if ledger.phase == Phase::Held => {
            Verdict::Accept(Event::OrderedToRelease)
        }
        (OrderKind::Retry | OrderKind::Release, _) => {
            Verdict::Refuse(format!("the node is not held but {}", last.map_or("idle", |l| l.phase.name())))
        }
        (OrderKind::Apply(_) | OrderKind::Reboot(_), Some(ledger)) if ledger.phase == Phase::Held => {
            Verdict::Refuse(format!(
                "held by {}: {}; first `slurm-rollout retry {me}` or `slurm-rollout release {me}`",
                ledger.subject(),
                reason::cause(ledger.error.as_deref()),
            ))
        }
        // A plain reboot: the order under way ends in a boot too. The same rollout: it is what was asked for.
        (OrderKind::Reboot(_), Some(ledger)) => Verdict::UnderWay(ledger.phase),
        (OrderKind::Apply(apply), Some(ledger)) if ledger.order.rollout() == Some(&apply.rollout) => {
            Verdict::UnderWay(ledger.phase)
        }
        (OrderKind::Apply(_), Some(ledger)) => {
            Verdict::Refuse(format!("busy: {} is {}", ledger.subject(), ledger.phase.name()))
        }
    }
}

#[cfg(test)]
mod tests;
