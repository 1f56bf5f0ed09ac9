//! The agent of one node, as far as it decides.
//!
//! [`Agent`] makes every decision and does no I/O. The daemon persists, answers and executes. It calls [`Agent::start`]
//! with the content of the disk and then [`Agent::resume`], [`Agent::order`] for each genuine order, and
//! [`Agent::finished`] at the end of each action. Each of these returns a [`Reaction`], of which nothing has happened
//! yet:
//!
//! 1. Its writes are made durable in their order, and each is confirmed with [`Agent::wrote`]. The agent changes by
//!    that alone, so its state is never ahead of the disk. If the first write fails, the reaction is dropped: the agent
//!    is as before, and an order is refused.
//! 2. Its answer is sent.
//! 3. Its action is carried out on the ledger that [`Agent::begin`] returns. Until the end, that ledger belongs to the
//!    action, which writes it as well; orders are answered from the ledger at its beginning.
//!
//! While nothing else is to do, [`Agent::unfinished`] tells which action to begin again after a pause.
//!
//! | module | holds |
//! |---|---|
//! | [`phase`] | `step(phase, event)`: the life of an order on its node |
//! | [`ledger`], [`record`] | the agent's record of the order that it carries out |
//! | [`steps`] | the steps of each action, by the ledger |
//! | [`registration`] | whether Slurm accepts the node |
//! | [`accept`] | which orders are accepted |
//! | [`mod@gate`] | whether slurmd may start |
//! | [`pre_staged`] | the order that is kept until slurmd hands the node over |
//! | [`changes_made`] | changes of past rollouts, for a later undo |

pub mod accept;
pub mod changes_made;
pub mod gate;
pub mod ledger;
pub mod phase;
pub mod pre_staged;
pub mod record;
pub mod registration;
pub mod steps;
#[cfg(test)]
mod test_orders;

use crate::protocol::answer::{AgentStatus, Answer};
use crate::protocol::order::{Order, OrderId, OrderKind};
use crate::rollout::image::Running;
use accept::{Verdict, consider};
use changes_made::NodeChanges;
use gate::{Gate, counts_in_boot, gate};
use ledger::Ledger;
use phase::{Action, Event, Phase, Refused, step};
use pre_staged::PreStaged;
use serde::Serialize;

/// The node that an agent runs on, and this boot of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// NodeName.
    pub node: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// The ledger does not survive a boot (`ledger = "volatile"`).
    pub volatile: bool,
    /// The system that is running. `None` if it cannot be read.
    pub running: Option<Running>,
}

/// Content of an agent's state directory at its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OnDisk {
    /// The unsettled ledger, else the last one.
    pub ledger: Option<Ledger>,
    pub staged: PreStaged,
    /// slurmd was admitted in this boot.
    pub admitted: bool,
}

/// One durable write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    Ledger(Box<Ledger>),
    Staged(Box<PreStaged>),
    /// slurmd may run in this boot.
    Admitted,
}

/// Consequences of an input, in the order in which they must happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reaction {
    pub writes: Vec<Write>,
    /// The answer to an order. `None` for other inputs.
    pub answer: Option<Answer>,
    /// The boot source of the order under way is restored: its undo, which waits for that, may go on.
    pub boot_restored: bool,
    /// The order is to be rehearsed, unless another rehearsal is under way. Its answer follows from that.
    pub rehearse: bool,
    pub action: Option<Action>,
}

/// End of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    Verified,
    /// A change must be made once more, and the node must boot once more.
    AnotherBootDue,
    /// Slurm has accepted the node.
    Registered,
    Undone {
        /// The node runs the system that it ran before the order.
        runs_as_before: bool,
    },
    OldVerified,
    /// The node is held or given back. No step follows.
    Ended,
    /// The action failed, for this reason.
    Failed(String),
}

/// The agent of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Agent {
    identity: Identity,
    ledger: Option<Ledger>,
    staged: PreStaged,
    admitted: bool,
    working: bool,
}

impl Agent {
    /// Creates an agent with the state that it finds on disk.
    #[must_use]
    pub fn start(identity: Identity, found: OnDisk) -> Self {
        let counts = |ledger: &Ledger| counts_in_boot(ledger, identity.volatile, &identity.boot_id);
        let ledger = found.ledger.filter(counts);
        Self { identity, ledger, staged: found.staged, admitted: found.admitted, working: false }
    }

    /// Continues the order that was under way before the agent started.
    ///
    /// # Errors
    /// Returns the event that has no place in the ledger's phase. That is a bug.
    pub fn resume(&self, now_s: u64) -> Result<Reaction, Refused> {
        let Some(mut ledger) = self.ledger.clone() else { return Ok(Reaction::default()) };
        let event = ledger.started(&self.identity.boot_id);
        self.advance(ledger, event, now_s)
    }

    /// Decides about a genuine order. Must wait while [`Agent::takes_orders`] is false.
    #[must_use]
    pub fn order(&self, order: &Order, now_s: u64) -> Reaction {
        match &order.kind {
            OrderKind::PreStage(_) | OrderKind::UpdateDrain(_) | OrderKind::DropPreStaged { .. } => {
                self.keep(order)
            }
            OrderKind::BootRestored { order: undone } => self.boot_restored(order, undone),
            OrderKind::Probe => self.probe(order),
            OrderKind::Rehearse(_) => self.rehearse(order),
            OrderKind::RestoreLedger(_) if !self.waits_for_instructions() => self.needs_no_ledger(order),
            OrderKind::LocalHandOver(handed) => {
                let carried_out = self.ledger.as_ref().map(|ledger| ledger.accepted_orders.as_slice());
                let id = order.id.clone();
                let ours = self.staged.order_for(handed, id, &order.nodes, carried_out.unwrap_or_default());
                self.take(ours, now_s)
            }
            OrderKind::Apply(_)
            | OrderKind::Reboot(_)
            | OrderKind::Retry
            | OrderKind::Release
            | OrderKind::RestoreLedger(_) => self.take(order.clone(), now_s),
        }
    }

    /// Admits slurmd without instructions: none will come.
    #[must_use]
    pub fn nothing_expected(&self) -> Reaction {
        let writes = if self.waits_for_instructions() { vec![Write::Admitted] } else { Vec::new() };
        Reaction { writes, ..Reaction::default() }
    }

    /// Adopts a write that is on disk.
    pub fn wrote(&mut self, write: Write) {
        match write {
            Write::Ledger(ledger) => self.ledger = Some(*ledger),
            Write::Staged(staged) => self.staged = *staged,
            Write::Admitted => self.admitted = true,
        }
    }

    /// Begins an action: returns the ledger for it. `None` without a ledger, which no action lacks.
    pub fn begin(&mut self) -> Option<Ledger> {
        self.working = self.ledger.is_some();
        self.ledger.clone()
    }

    /// Ends an action, which returns the ledger and reports its outcome.
    ///
    /// # Errors
    /// Returns the event that has no place in the ledger's phase. That is a bug.
    pub fn finished(
        &mut self,
        mut ledger: Ledger,
        outcome: Outcome,
        now_s: u64,
    ) -> Result<Reaction, Refused> {
        self.working = false;
        let given_back = outcome == Outcome::Ended;
        let event = match outcome {
            Outcome::Applied => Some(Event::Applied),
            Outcome::Verified => Some(Event::Verified { register: ledger.must_register() }),
            Outcome::AnotherBootDue => Some(Event::AnotherBootDue),
            Outcome::Registered => Some(Event::Registered),
            Outcome::Undone { runs_as_before } => {
                let reboot_due = ledger.reboot_due(&self.identity.boot_id, runs_as_before);
                Some(Event::Undone { reboot_due })
            }
            Outcome::OldVerified => Some(ledger.old_proven()),
            Outcome::Ended => None,
            Outcome::Failed(why) => {
                let failure = ledger.phase.failure();
                if failure.is_some() {
                    ledger.fail(&why);
                }
                failure
            }
        };
        self.ledger = Some(ledger.clone());
        // Giving the node back has admitted slurmd.
        self.admitted |= self.identity.volatile && ledger.phase.is_settled() && given_back;
        event.map_or_else(|| Ok(Reaction::default()), |event| self.advance(ledger, event, now_s))
    }

    /// Returns the action to begin again after a pause: a released node is not given back while its drain cannot be
    /// kept.
    #[must_use]
    pub fn unfinished(&self) -> Option<Action> {
        let ledger = self.ledger.as_ref().filter(|_| !self.working)?;
        (ledger.phase.is_settled() && !ledger.is_settled()).then_some(Action::OpenGate)
    }

    /// Returns whether orders are answered now. At the end of an order the next one may follow at once, so it waits the
    /// moment that holding the node or giving it back takes.
    #[must_use]
    pub fn takes_orders(&self) -> bool {
        !(self.working && self.ledger.as_ref().is_some_and(|ledger| ledger.phase.has_ended()))
    }

    /// Returns whether orders should wait a moment: Slurm may have accepted the node and handed it over again before
    /// the agent has seen the first.
    #[must_use]
    pub fn is_about_to_end(&self) -> bool {
        self.working && self.ledger.as_ref().is_some_and(|ledger| ledger.phase == Phase::Registering)
    }

    /// Returns whether the node has booted, kept no ledger, and waits until the controller restores it.
    #[must_use]
    pub fn waits_for_instructions(&self) -> bool {
        self.identity.volatile && self.ledger.is_none() && !self.admitted
    }

    /// Returns whether slurmd may start.
    #[must_use]
    pub fn gate(&self) -> Gate {
        let unsettled = self.ledger.as_ref().filter(|ledger| !ledger.is_settled());
        gate(unsettled, self.identity.volatile.then_some(self.admitted), &self.identity.boot_id)
    }

    /// Returns the node and the boot that it decides for.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the newest ledger.
    #[must_use]
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Returns the changes of the latest rollouts on this node, oldest first.
    #[must_use]
    pub fn changes_made(&self) -> Vec<NodeChanges> {
        self.ledger.as_ref().map(Ledger::all_changes_made).unwrap_or_default()
    }

    /// Returns its status, except for facts about the machine and the program.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        AgentStatus {
            node: self.identity.node.clone(),
            boot_id: self.identity.boot_id.clone(),
            volatile: self.identity.volatile,
            order: self.ledger.as_ref().map(Ledger::status),
            staged: self.staged.rollout().map(str::to_owned),
            awaits: self.waits_for_instructions(),
            ..AgentStatus::default()
        }
    }

    fn advance(&self, mut ledger: Ledger, event: Event, now_s: u64) -> Result<Reaction, Refused> {
        let (phase, action) = step(Some(ledger.phase), event)?;
        ledger.enter(phase, &self.identity.boot_id, now_s);
        let writes = vec![Write::Ledger(Box::new(ledger))];
        Ok(Reaction { writes, action: Some(action), ..Reaction::default() })
    }

    /// Pre-stages a rollout, updates its drain or drops it.
    fn keep(&self, order: &Order) -> Reaction {
        let me = &self.identity.node;
        if !order.nodes.contains(me) {
            return refused(format!("this is for {}, and here is {me}", order.nodes), None);
        }
        if let OrderKind::DropPreStaged { rollout } = &order.kind {
            let begun = self.ledger.as_ref().filter(|ledger| ledger.order.rollout() == Some(rollout));
            if let Some(ledger) = begun.filter(|_| self.staged.rollout() != Some(rollout)) {
                let why = format!("it is {} already", ledger.phase.name());
                return refused(why, Some(ledger.order.id.clone()));
            }
        }
        match self.staged.after(order) {
            Ok(staged) => {
                Reaction { writes: vec![Write::Staged(Box::new(staged))], ..self.accepted(order.id.clone()) }
            }
            Err(why) => refused(why, Some(order.id.clone())),
        }
    }

    /// Answers a trial order, whose sealer was accepted.
    fn probe(&self, order: &Order) -> Reaction {
        let me = &self.identity.node;
        match order.nodes.contains(me) {
            true => self.accepted(order.id.clone()),
            false => refused(format!("the order is for {}, this is {me}", order.nodes), None),
        }
    }

    /// Accepts a rehearsal if no order is under way and none is waited for: the node would not be seen as it is.
    fn rehearse(&self, order: &Order) -> Reaction {
        let probed = self.probe(order);
        if !matches!(probed.answer, Some(Answer::Accepted { .. })) {
            return probed;
        }
        if let Some(ledger) = self.ledger.as_ref().filter(|ledger| self.working || !ledger.is_settled()) {
            let why = format!("no rehearsal now: {} is {}", ledger.subject(), ledger.phase.name());
            return refused(why, Some(ledger.order.id.clone()));
        }
        if self.waits_for_instructions() {
            return refused("no rehearsal now: it waits to be told what it should be".to_owned(), None);
        }
        Reaction { rehearse: true, ..self.accepted(order.id.clone()) }
    }

    fn boot_restored(&self, order: &Order, undone: &OrderId) -> Reaction {
        let undoing = self.ledger.as_ref().filter(|ledger| ledger.phase == Phase::Undoing);
        match undoing {
            Some(ledger) if ledger.order.id == *undone && order.nodes.contains(&self.identity.node) => {
                Reaction { boot_restored: true, ..self.accepted(undone.clone()) }
            }
            _ => {
                let in_the_way = self.under_way().map(|ledger| ledger.order.id.clone());
                refused("it is not undoing that order".to_owned(), in_the_way)
            }
        }
    }

    /// Answers a repeated order to restore a ledger that was restored before, and refuses others.
    fn needs_no_ledger(&self, order: &Order) -> Reaction {
        match self.under_way().filter(|ledger| ledger.order.id == order.id) {
            Some(_) => self.answer_under_way(),
            None => refused(
                "it does not wait to be told what it should be".to_owned(),
                self.ledger.as_ref().map(|ledger| ledger.order.id.clone()),
            ),
        }
    }

    /// Accepts an order if nothing is in its way.
    fn take(&self, order: Order, now_s: u64) -> Reaction {
        let event = match consider(self.ledger.as_ref(), &order, &self.identity.node) {
            Verdict::Accept(event) if !self.working => event,
            Verdict::Accept(event) => {
                let in_the_way = self.ledger.as_ref().map(|ledger| ledger.order.id.clone());
                return refused(format!("{event:?} cannot be taken now"), in_the_way);
            }
            Verdict::UnderWay(_) => return self.answer_under_way(),
            Verdict::Refuse { why, order, transient } => {
                return answer(Answer::Refused { why, order, transient });
            }
        };
        let from = match &order.kind {
            OrderKind::RestoreLedger(restore) => Some(restore.phase),
            _ => self.ledger.as_ref().map(|ledger| ledger.phase),
        };
        match step(from, event) {
            Ok((phase, action)) => self.accept(self.ledger_for(order, phase, now_s), action),
            Err(error) => refused(error.to_string(), None),
        }
    }

    /// Accepts the order that this ledger is for. A pre-staged order of its rollout is used up by it. If that cannot be
    /// written, the order's id still keeps it from being applied twice.
    fn accept(&self, ledger: Ledger, action: Action) -> Reaction {
        let accepted = self.accepted(ledger.order.id.clone());
        let used_up = ledger.order.rollout().and_then(|rollout| self.staged.without(rollout));
        let mut writes = vec![Write::Ledger(Box::new(ledger))];
        writes.extend(used_up.map(|staged| Write::Staged(Box::new(staged))));
        Reaction { writes, action: Some(action), ..accepted }
    }

    fn ledger_for(&self, order: Order, phase: Phase, now_s: u64) -> Ledger {
        let Identity { node, boot_id, running, .. } = &self.identity;
        match (order.kind, self.ledger.clone()) {
            (OrderKind::RestoreLedger(restore), _) => {
                let mut restored = Ledger::restored(order.id, order.nodes, restore, now_s);
                restored.enter(phase, boot_id, now_s);
                Ledger { node: Some(node.clone()), ..restored }
            }
            (OrderKind::Retry, Some(mut held)) => {
                held.begin_again(order.id, boot_id, now_s);
                held.expect_to_return_to(running.as_ref());
                held.enter(phase, boot_id, now_s);
                held
            }
            (OrderKind::Release, Some(mut held)) => {
                held.remember(order.id);
                held.enter(phase, boot_id, now_s);
                held
            }
            (kind, last) => {
                let order = Order { kind, ..order };
                let mut begun = Ledger::begin(order, phase, boot_id, now_s, last.as_ref());
                begun.expect_to_return_to(running.as_ref());
                Ledger { node: Some(node.clone()), ..begun }
            }
        }
    }

    fn under_way(&self) -> Option<&Ledger> {
        self.ledger.as_ref().filter(|ledger| !ledger.phase.is_settled())
    }

    fn accepted(&self, order: OrderId) -> Reaction {
        answer(Answer::Accepted { volatile: self.identity.volatile, order: Some(order) })
    }

    fn answer_under_way(&self) -> Reaction {
        match self.under_way() {
            Some(ledger) => answer(Answer::UnderWay {
                phase: ledger.phase,
                order: Some(ledger.order.id.clone()),
                rollout: ledger.order.rollout().map(str::to_owned),
                volatile: self.identity.volatile,
            }),
            None => refused("no order is under way".to_owned(), None),
        }
    }
}

fn answer(answer: Answer) -> Reaction {
    Reaction { answer: Some(answer), ..Reaction::default() }
}

fn refused(why: String, order: Option<OrderId>) -> Reaction {
    answer(Answer::Refused { why, order, transient: false })
}

#[cfg(test)]
mod tests;
