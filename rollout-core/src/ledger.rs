//! The agent's record of the order it carries out, and the decisions that follow from it alone.
//!
//! The ledger is the truth about what happened on the node. The agent writes it before it acts; this module only
//! says what is in it and what it means.

use crate::agent_api::OrderStatus;
use crate::hostlist::NodeSet;
use crate::image::Running;
use crate::manifest::{Change, Manager, OnFailure};
use crate::order::{Expect, Order, OrderId, What};
use crate::phase::{Event, Phase};
use crate::undo::Past;
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
    pub earlier: Vec<Past>,
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
        ledger.drained = ledger.order.back().and_then(|back| back.drained.clone());
        let id = ledger.order.id.clone();
        ledger.remember(id);
        ledger
    }

    /// What the ledger would say on a node that kept none over its boot.
    #[must_use]
    pub fn expected(id: OrderId, nodes: NodeSet, expect: Expect, now_s: u64) -> Self {
        let Expect { order, phase, boot_id, ordered_s, running, error } = expect;
        let mut ledger = Self::begin(Order::new(id, nodes, *order), phase, &boot_id, now_s, None);
        ledger.ordered_s = ordered_s;
        if let What::Apply(apply) = &ledger.order.what {
            let unchanged = |changed| Some(After { changed, added: Vec::new(), removed: Vec::new() });
            let record = |change: &Change| match (change, &running) {
                (Change::Image(_), Some(running)) => {
                    let before = Before::Image { running: running.clone(), saved: None };
                    Record { before, after: unchanged(true) }
                }
                _ => Record { before: Before::InImage, after: unchanged(false) },
            };
            ledger.records = apply.aim.changes.iter().map(record).collect();
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
    pub fn pasts(&self) -> Vec<Past> {
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
        let hold = match &self.order.what {
            What::Apply(apply) => apply.aim.verify.on_failure == OnFailure::Hold,
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
        self.order.rollout().unwrap_or("plain reboot")
    }
}

/// Brings a text to one line of at most `max` characters. A longer one keeps its beginning, which says what was tried,
/// and more of its end, which is where tools say what was wrong.
#[must_use]
pub fn one_line(text: &str, max: usize) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line: Vec<char> = words.join(" ").chars().collect();
    if line.len() <= max {
        return line.into_iter().collect();
    }
    let (head, tail) = (max / 3, max - max / 3 - 3);
    let end = line.len().saturating_sub(tail);
    line.iter().take(head).chain(&[' ', '…', ' ']).chain(line.iter().skip(end)).collect()
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
        Phase::Held => closed(&format!("held: {}", ledger.error.as_deref().unwrap_or("no reason is known"))),
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
    match (&order.what, under_way) {
        // The driver turns a hand-over by slurmd into one of the others, and the rest is about no order.
        (
            What::Keep(_) | What::Drained(_) | What::Drop { .. } | What::HandedOver(_) | What::PutBack { .. },
            _,
        ) => Verdict::Refuse("not an order to be carried out".to_owned()),
        (What::Expect(_), None) if last.is_none() => Verdict::Accept(Event::Started { rebooted: true }),
        (What::Expect(_), _) => {
            let at = last.map_or("idle", |ledger| ledger.phase.name());
            Verdict::Refuse(format!("{me} has a ledger and goes by it: it is {at}"))
        }
        (What::Apply(_), None) => Verdict::Accept(Event::OrderedToApply),
        (What::Reboot(_), None) => Verdict::Accept(Event::OrderedToReboot),
        (What::Retry, Some(ledger)) if ledger.phase == Phase::Held => Verdict::Accept(Event::OrderedToRetry),
        (What::Release, Some(ledger)) if ledger.phase == Phase::Held => {
            Verdict::Accept(Event::OrderedToRelease)
        }
        (What::Retry | What::Release, _) => {
            Verdict::Refuse(format!("the node is not held but {}", last.map_or("idle", |l| l.phase.name())))
        }
        (What::Apply(_) | What::Reboot(_), Some(ledger)) if ledger.phase == Phase::Held => {
            Verdict::Refuse(format!(
                "held by {}: {}; first `slurm-rollout retry {me}` or `slurm-rollout release {me}`",
                ledger.subject(),
                ledger.error.as_deref().unwrap_or("no reason is known"),
            ))
        }
        // A plain reboot: the order under way ends in a boot too. The same rollout: it is what was asked for.
        (What::Reboot(_), Some(ledger)) => Verdict::UnderWay(ledger.phase),
        (What::Apply(apply), Some(ledger)) if ledger.order.rollout() == Some(&apply.rollout) => {
            Verdict::UnderWay(ledger.phase)
        }
        (What::Apply(_), Some(ledger)) => {
            Verdict::Refuse(format!("busy: {} is {}", ledger.subject(), ledger.phase.name()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::order::{Apply, Return};

    const BACK: Return = Return { resume_if_late: true, drained: None };

    fn order(number: u128, what: What) -> Order {
        Order::new(OrderId::from_random(number), NodeSet::parse("n[1-3]").unwrap(), what)
    }

    fn apply(rollout: &str) -> What {
        let text = "name='r'\nnodes='n1'\n[[change]]\nkind='symlink'\npath='/a'\ntarget='/b'\n";
        What::Apply(Apply {
            rollout: rollout.to_owned(),
            aim: Manifest::parse(text).unwrap().aim,
            back: BACK,
        })
    }

    fn ledger(phase: Phase) -> Ledger {
        let mut ledger = Ledger::begin(order(1, apply("driver")), phase, "boot-1", 10, None);
        if phase == Phase::Held {
            ledger.fail("nhc said no");
        }
        ledger
    }

    fn record(after: Option<bool>) -> Record {
        let after = after.map(|changed| After { changed, added: Vec::new(), removed: Vec::new() });
        Record { before: Before::Symlink { target: None }, after }
    }

    #[test]
    fn the_gate_opens_for_settled_orders_only() {
        let closed = |why: &str| Gate::Closed(why.to_owned());
        assert_eq!(gate(None, None, "boot-1"), Gate::Open);
        assert_eq!(gate(None, Some(true), "boot-1"), Gate::Open);
        assert_eq!(gate(None, Some(false), "boot-1"), Gate::Wait, "nobody has said yet that it may");
        for (phase, same_boot, rebooted) in [
            (Phase::Applying, closed("driver: applying"), closed("driver: applying")),
            (Phase::Rebooting, closed("driver: rebooting"), Gate::Wait),
            (Phase::Verifying, Gate::Wait, Gate::Wait),
            (Phase::Undoing, closed("driver: undoing"), closed("driver: undoing")),
            (Phase::RebootingBack, closed("driver: rebooting-back"), Gate::Wait),
            (Phase::VerifyingOld, Gate::Wait, Gate::Wait),
            (Phase::Held, closed("driver: held: nhc said no"), closed("driver: held: nhc said no")),
            (Phase::Updated, Gate::Open, Gate::Open),
            (Phase::RolledBack, Gate::Open, Gate::Open),
            (Phase::Released, Gate::Open, Gate::Open),
        ] {
            assert_eq!(gate(Some(&ledger(phase)), Some(false), "boot-1"), same_boot, "{phase:?}");
            assert_eq!(gate(Some(&ledger(phase)), Some(false), "boot-2"), rebooted, "{phase:?} after a boot");
        }
        let plain = Ledger::begin(order(1, What::Reboot(BACK.into())), Phase::Rebooting, "boot-1", 10, None);
        assert_eq!(gate(Some(&plain), None, "boot-1"), closed("plain reboot: rebooting"));
        let mut no_reason = ledger(Phase::Held);
        no_reason.error = None;
        assert_eq!(gate(Some(&no_reason), None, "boot-1"), closed("driver: held: no reason is known"));
    }

    #[test]
    fn orders_are_taken_where_nothing_is_under_way() {
        let taken = |what: What, phase: Option<Phase>| match consider(
            phase.map(ledger).as_ref(),
            &order(2, what),
            "n1",
        ) {
            Verdict::Accept(event) => format!("{event:?}"),
            Verdict::UnderWay(phase) => format!("under way: {}", phase.name()),
            Verdict::Refuse(why) => why,
        };
        let held =
            "held by driver: nhc said no; first `slurm-rollout retry n1` or `slurm-rollout release n1`";
        for settled in [None, Some(Phase::Updated), Some(Phase::RolledBack), Some(Phase::Released)] {
            let idle = settled.map_or("idle", Phase::name);
            assert_eq!(taken(apply("driver"), settled), "OrderedToApply");
            assert_eq!(taken(apply("other"), settled), "OrderedToApply");
            assert_eq!(taken(What::Reboot(BACK.into()), settled), "OrderedToReboot");
            assert_eq!(taken(What::Retry, settled), format!("the node is not held but {idle}"));
            assert_eq!(taken(What::Release, settled), format!("the node is not held but {idle}"));
        }
        for busy in Phase::ALL.into_iter().filter(|phase| !phase.is_settled() && *phase != Phase::Held) {
            let name = busy.name();
            assert_eq!(taken(apply("driver"), Some(busy)), format!("under way: {name}"));
            assert_eq!(taken(apply("other"), Some(busy)), format!("busy: driver is {name}"));
            assert_eq!(taken(What::Reboot(BACK.into()), Some(busy)), format!("under way: {name}"));
            assert_eq!(taken(What::Retry, Some(busy)), format!("the node is not held but {name}"));
            assert_eq!(taken(What::Release, Some(busy)), format!("the node is not held but {name}"));
        }
        assert_eq!(taken(apply("driver"), Some(Phase::Held)), held);
        assert_eq!(taken(apply("other"), Some(Phase::Held)), held);
        assert_eq!(taken(What::Reboot(BACK.into()), Some(Phase::Held)), held);
        assert_eq!(taken(What::Retry, Some(Phase::Held)), "OrderedToRetry");
        assert_eq!(taken(What::Release, Some(Phase::Held)), "OrderedToRelease");
    }

    #[test]
    fn an_order_is_taken_once_and_only_by_the_nodes_that_it_names() {
        let same = order(1, apply("driver"));
        let foreign = consider(None, &same, "n4");
        assert_eq!(foreign, Verdict::Refuse("the order is for n[1-3], this is n4".to_owned()));
        assert_eq!(
            consider(Some(&ledger(Phase::Applying)), &same, "n4"),
            foreign,
            "not even that it is busy with it"
        );
        for phase in Phase::ALL {
            let verdict = consider(Some(&ledger(phase)), &same, "n1");
            if phase.is_settled() || phase == Phase::Held {
                let id = &same.id;
                let why = format!("order {id} was carried out before; the node is {}", phase.name());
                assert_eq!(verdict, Verdict::Refuse(why));
            } else {
                assert_eq!(verdict, Verdict::UnderWay(phase));
            }
        }
        // An order before the last one, whatever is under way now.
        let next = Ledger::begin(
            order(2, apply("next")),
            Phase::Applying,
            "boot-2",
            20,
            Some(&ledger(Phase::Updated)),
        );
        assert!(matches!(consider(Some(&next), &same, "n1"), Verdict::Refuse(why) if why.contains("before")));
        // An admin's word, which is not the order that the ledger names.
        let mut retried = ledger(Phase::Held);
        let retry = order(3, What::Retry);
        retried.begin_again(retry.id.clone(), "boot-1", 9);
        retried.enter(Phase::Applying, "boot-1", 20);
        assert!(matches!(consider(Some(&retried), &retry, "n1"), Verdict::Refuse(_)));
        assert_eq!(consider(Some(&retried), &same, "n1"), Verdict::UnderWay(Phase::Applying));
    }

    #[test]
    fn the_newest_orders_are_remembered() {
        let mut ledger = ledger(Phase::Updated);
        for number in 2..=200_u32 {
            ledger = Ledger::begin(
                order(number.into(), What::Reboot(BACK.into())),
                Phase::Updated,
                "b",
                10,
                Some(&ledger),
            );
        }
        assert_eq!(ledger.seen.len(), MAX_SEEN);
        assert_eq!(ledger.seen.first(), Some(&OrderId::from_random(200 - MAX_SEEN as u128 + 1)));
        assert_eq!(ledger.seen.last(), Some(&OrderId::from_random(200)));
        ledger.remember(OrderId::from_random(201));
        assert_eq!((ledger.seen.len(), ledger.seen.last()), (MAX_SEEN, Some(&OrderId::from_random(201))));
    }

    #[test]
    fn what_is_begun_too_often_is_given_up_with_a_reason() {
        for (phase, gives_up) in [
            (Phase::Applying, Some(Event::ApplyFailed)),
            (Phase::Verifying, Some(Event::VerifyFailed)),
            (Phase::Undoing, Some(Event::UndoFailed)),
            (Phase::VerifyingOld, Some(Event::OldNotProven)),
            (Phase::Rebooting, None),
            (Phase::RebootingBack, None),
            (Phase::Held, None),
            (Phase::Updated, None),
            (Phase::RolledBack, None),
            (Phase::Released, None),
        ] {
            let mut ledger = ledger(phase);
            ledger.error = None;
            for tries in 1..MAX_TRIES {
                assert_eq!(ledger.tries, tries);
                assert_eq!(ledger.started("boot-1"), Event::Started { rebooted: false }, "{phase:?}");
                assert_eq!(ledger.error, None);
                ledger.enter(phase, "boot-1", 20);
            }
            let event = ledger.started("boot-1");
            assert_eq!(event, gives_up.unwrap_or(Event::Started { rebooted: false }), "{phase:?}");
            let error = gives_up.map(|_| format!("interrupted 3 times while {}", phase.name()));
            assert_eq!(ledger.error, error);
        }
        // A boot between does not begin the count anew: a change that crashes the node is given up too.
        let mut crashes = ledger(Phase::Applying);
        for boot in ["boot-2", "boot-3"] {
            assert_eq!(crashes.started(boot), Event::Started { rebooted: true });
            crashes.enter(Phase::Applying, boot, 20);
        }
        assert_eq!(crashes.started("boot-4"), Event::ApplyFailed);
    }

    #[test]
    fn entering_counts_tries_and_keeps_the_time_of_the_first() {
        let mut ledger = ledger(Phase::Applying);
        ledger.enter(Phase::Applying, "boot-2", 20);
        assert_eq!((ledger.tries, ledger.since_s, ledger.boot_id.as_str()), (2, 10, "boot-1"));
        ledger.enter(Phase::Rebooting, "boot-2", 30);
        assert_eq!((ledger.tries, ledger.since_s, ledger.boot_id.as_str()), (1, 30, "boot-2"));
        assert_eq!(ledger.ordered_boot_id, "boot-1");
        assert_eq!(ledger.started("boot-2"), Event::Started { rebooted: false });
        assert_eq!(ledger.started("boot-3"), Event::Started { rebooted: true });
    }

    #[test]
    fn the_first_failure_stays_in_front() {
        let mut ledger = ledger(Phase::Applying);
        ledger.fail("change 1:\n\tno such\u{1b}[31m package\n");
        assert_eq!(ledger.error.as_deref(), Some("change 1: no such [31m package"));
        ledger.fail("no such [31m package");
        assert_eq!(ledger.error.as_deref(), Some("change 1: no such [31m package"), "said already");
        ledger.fail("undo: disk full");
        assert_eq!(ledger.error.as_deref(), Some("change 1: no such [31m package; undo: disk full"));
        for number in 0..50 {
            ledger.fail(&format!("{number}: {}", "long ".repeat(1000)));
        }
        let error = ledger.error.as_deref().unwrap();
        assert!(error.chars().count() <= 2 * MAX_ERROR && error.starts_with("change 1: no such"), "{error}");
    }

    #[test]
    fn texts_are_brought_to_one_line() {
        for (text, max, line) in [
            ("", 10, ""),
            (" \n\t ", 10, ""),
            ("one two", 7, "one two"),
            ("one\r\n  two\0three", 20, "one two three"),
            ("abcdefghijklmnopqrstuvwxyz", 26, "abcdefghijklmnopqrstuvwxyz"),
            ("abcdefghijklmnopqrstuvwxyz", 12, "abcd … vwxyz"),
            ("äöüäöüäöüäöüäöüß", 12, "äöüä … üäöüß"),
        ] {
            assert_eq!(one_line(text, max), line);
            assert!(line.chars().count() <= max);
        }
    }

    #[test]
    fn a_boot_is_due_after_changes_or_while_slurm_waits_for_one() {
        for (records, booted, changed, due) in [
            (vec![], false, false, true),
            (vec![], true, false, false),
            (vec![record(Some(false))], false, false, true),
            (vec![record(Some(false))], true, false, false),
            (vec![record(Some(false)), record(Some(true))], true, true, true),
            (vec![record(Some(true))], false, true, true),
            // Interrupted: it may have done anything.
            (vec![record(None)], true, true, true),
        ] {
            let mut ledger = ledger(Phase::Undoing);
            ledger.records = records;
            let boot_id = if booted { "boot-2" } else { "boot-1" };
            assert_eq!(
                (ledger.changed(), ledger.reboot_due(boot_id, true)),
                (changed, due),
                "{:?} {booted}",
                ledger.records
            );
        }
        // An image: only where another one runs.
        let image = |after| Record {
            before: Before::Image { running: Running::default(), saved: None },
            ..record(after)
        };
        for (records, booted, as_before, due) in [
            (vec![image(Some(true))], true, false, true),
            (vec![image(Some(true))], true, true, false),
            (vec![image(None)], true, true, false),
            (vec![image(Some(true))], false, true, true),
            (vec![image(Some(true)), record(Some(true))], true, true, true),
        ] {
            let mut ledger = ledger(Phase::Undoing);
            ledger.records = records;
            let boot_id = if booted { "boot-2" } else { "boot-1" };
            assert_eq!(ledger.reboot_due(boot_id, as_before), due, "{:?} {booted}", ledger.records);
        }
    }

    #[test]
    fn a_status_says_whether_anything_is_left_on_the_node() {
        let mut ledger = ledger(Phase::Updated);
        assert!(!ledger.status().changed);
        ledger.records = vec![record(Some(true))];
        assert!(ledger.status().changed);
        let status = ledger.status();
        assert_eq!(
            (status.rollout.as_deref(), status.since_s, status.id),
            (Some("driver"), 10, ledger.order.id.clone())
        );
    }

    #[test]
    fn only_an_order_that_ended_by_itself_says_how_long_it_took() {
        let mut ledger = ledger(Phase::Applying);
        assert_eq!(ledger.ordered_s, Some(10));
        for (phase, ended_s, took_s) in [
            (Phase::Rebooting, 20, None),
            (Phase::Updated, 100, Some(90)),
            (Phase::RolledBack, 400, Some(390)),
            (Phase::Held, 400, None),
            (Phase::Released, 9000, None),
            (Phase::Updated, 9, None),
        ] {
            ledger.enter(phase, "boot-2", ended_s);
            assert_eq!(ledger.status().took_s, took_s, "{phase:?} at {ended_s}");
        }
        ledger.begin_again(OrderId::from_random(2), "boot-2", 50);
        ledger.enter(Phase::RolledBack, "boot-3", 60);
        assert_eq!(ledger.status().took_s, Some(10), "a retry counts from itself");
        ledger.ordered_s = None;
        assert_eq!(ledger.status().took_s, None, "a ledger of an older agent");
    }

    #[test]
    fn retrying_forgets_what_was_and_not_which_orders_were_taken() {
        let mut ledger = ledger(Phase::Held);
        ledger.records = vec![record(Some(true))];
        ledger.begin_again(OrderId::from_random(2), "boot-5", 9);
        assert!(ledger.records.is_empty() && ledger.error.is_none());
        assert_eq!(ledger.order.id, OrderId::from_random(1), "it is still the same order");
        assert_eq!(ledger.seen, [1, 2].map(OrderId::from_random));
        assert!(ledger.reboot_due("boot-5", true) && !ledger.reboot_due("boot-6", true));
    }

    #[test]
    fn only_a_manifest_that_says_so_holds_a_node_that_was_undone() {
        assert_eq!(ledger(Phase::VerifyingOld).old_proven(), Event::OldProven { hold: false });
        let mut hold = ledger(Phase::VerifyingOld);
        if let What::Apply(apply) = &mut hold.order.what {
            apply.aim.verify.on_failure = OnFailure::Hold;
        }
        assert_eq!(hold.old_proven(), Event::OldProven { hold: true });
        let mut plain = Ledger::begin(order(1, What::Reboot(BACK.into())), Phase::Rebooting, "b", 1, None);
        assert_eq!(plain.old_proven(), Event::OldProven { hold: false });
        assert_eq!(plain.subject(), "plain reboot");
    }
}
