//! The life of an agent on a [`Node`]: the inputs that the daemon gives it, and the actions as that node carries them
//! out.

use crate::world::{Died, Fault, ME, Node, Op, Sent, Wanted, image_of, target, version};
use rollout_core::agent::gate::Gate;
use rollout_core::agent::ledger::{Ledger, Slurmd};
use rollout_core::agent::phase::{Action, Phase};
use rollout_core::agent::record::{After, Before};
use rollout_core::agent::steps::NextChange;
use rollout_core::agent::{Agent, Outcome, Reaction, Write};
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Order, OrderKind};
use rollout_core::rollout::manifest::Change;

/// The result of one attempt on the node: a failure, or the agent's death in the middle of it.
type Attempt = Result<Result<Outcome, String>, Died>;

impl Node {
    /// Lives through the script, and then on, undisturbed, until nothing is left to do.
    pub fn live(&mut self) {
        while let Err(Died) = self.run_agent() {
            self.check_gate(&self.start_agent());
        }
        let phase = self.disk.ledger.as_ref().map(|ledger| ledger.phase);
        assert!(phase.is_none_or(Phase::has_ended), "ends {phase:?}");
        let is_back = self.disk.ledger.as_ref().is_none_or(Ledger::is_settled);
        assert!(is_back || phase == Some(Phase::Held), "{phase:?}, and not given back");
    }

    /// Runs the agent from its start until it dies or nothing more comes.
    fn run_agent(&mut self) -> Result<(), Died> {
        let mut agent = self.start_agent();
        self.check_gate(&agent);
        let resumed = agent.resume(self.now_s()).expect("every event of the agent has a place");
        let mut action = self.follow(&mut agent, resumed)?;
        loop {
            action = match action {
                Some(action) => {
                    let mut ledger = agent.begin().expect("an action has its ledger");
                    let outcome = self.perform(&mut agent, action, &mut ledger)?;
                    let finished = agent.finished(ledger, outcome, self.now_s());
                    self.follow(&mut agent, finished.expect("every outcome has a place"))?
                }
                None => match agent.unfinished() {
                    Some(action) => Some(action),
                    None => match self.idle(&mut agent)? {
                        Some(action) => Some(action),
                        None => return Ok(()),
                    },
                },
            };
        }
    }

    /// Waits for an order that is accepted.
    fn idle(&mut self, agent: &mut Agent) -> Result<Option<Action>, Died> {
        loop {
            self.controller_looks(agent);
            let op = self.next_op();
            let action = match op {
                None | Some(Op::Proceed) if agent.waits_for_instructions() => self.instruct(agent)?,
                None => return Ok(None),
                Some(Op::Order(wanted)) => self.deliver_wanted(agent, &wanted)?,
                Some(Op::Proceed | Op::Fail) => None,
                Some(Op::Drain(reason)) => {
                    self.drain(reason);
                    None
                }
                Some(Op::DiskFull) => {
                    self.disk_full = true;
                    None
                }
                Some(death) => return Err(self.die(&death)),
            };
            if action.is_some() {
                return Ok(action);
            }
        }
    }

    /// Restores the ledger, or admits slurmd if Slurm expects nothing of this node.
    fn instruct(&mut self, agent: &mut Agent) -> Result<Option<Action>, Died> {
        match self.restoring() {
            Some(order) => self.deliver(agent, &order),
            None => {
                let admitted = agent.nothing_expected();
                assert_eq!(admitted.writes, [Write::Admitted]);
                self.follow(agent, admitted)
            }
        }
    }

    /// The controller notices how its order ended.
    fn controller_looks(&mut self, agent: &Agent) {
        let Some((sent, order)) = self.controller.as_mut().zip(agent.status().order) else { return };
        if order.id == sent.order.id && order.phase == Phase::Held {
            sent.held = order.error;
        } else if order.id == sent.order.id && order.phase.is_settled() {
            self.controller = None;
        }
    }

    fn deliver_wanted(&mut self, agent: &mut Agent, wanted: &Wanted) -> Result<Option<Action>, Died> {
        let Some(order) = self.order(wanted) else { return Ok(None) };
        let source = self.boots.clone();
        // The controller changes the boot source before it sends the order, and restores it if that is refused.
        let image = match (wanted, self.controller.as_ref()) {
            (Wanted::Image { .. }, _) => image_of(&order),
            (Wanted::Retry, Some(sent)) => image_of(&sent.order),
            _ => None,
        };
        if let Some(image) = image {
            self.boots = image;
        }
        let action = self.deliver(agent, &order)?;
        match (action, &order.kind, &mut self.controller) {
            (None, ..) => self.boots = source,
            (Some(_), OrderKind::RestoreLedger(_), _) => {}
            (Some(_), OrderKind::Release, sent) => {
                // A boot source that was changed is proven or restored in the end.
                if let Some(old) = sent.as_mut().and_then(|sent| sent.booted.take()) {
                    self.boots = old;
                }
            }
            (Some(_), OrderKind::Retry, Some(sent)) => {
                // The source from before is kept until it is restored: then it is the one from before the retry.
                if sent.restored.take().is_some() {
                    sent.booted = Some(source);
                }
                (sent.held, sent.boot_id) = (None, format!("boot-{}", self.boot));
            }
            (Some(_), ..) => {
                let booted = matches!(wanted, Wanted::Image { .. }).then_some(source);
                self.remember_sent(agent, booted);
            }
        }
        Ok(action)
    }

    fn remember_sent(&mut self, agent: &Agent, booted: Option<String>) {
        if self.volatile || booted.is_some() {
            self.controller = agent.ledger().map(|ledger| Sent {
                order: ledger.order.clone(),
                boot_id: self.boot_id(),
                running: self.running.clone(),
                booted,
                restored: None,
                held: None,
            });
        }
    }

    /// Delivers an order: writes, then the answer. Returns the action.
    fn deliver(&mut self, agent: &mut Agent, order: &Order) -> Result<Option<Action>, Died> {
        let unchanged = agent.clone();
        let reaction = agent.order(order, self.now_s());
        let answer = reaction.answer.clone().expect("an order has an answer");
        self.check_answer(agent, order, &reaction, &answer);
        let writes = reaction.writes.len();
        for (index, write) in reaction.writes.into_iter().enumerate() {
            if std::mem::take(&mut self.disk_full) {
                if index > 0 {
                    continue;
                }
                assert_eq!(*agent, unchanged, "an order that cannot be written changes nothing");
                return Ok(None);
            }
            self.admin = matches!(order.kind, OrderKind::Retry | OrderKind::Release);
            if index == 0 && reaction.action.is_some() {
                self.accepts(order, &write);
            }
            self.write(agent, write);
            self.admin = false;
            if index + 1 < writes {
                self.may_die()?;
            }
        }
        self.notes_told(order, &answer);
        Ok(reaction.action)
    }

    /// Follows a reaction to anything but an order.
    fn follow(&mut self, agent: &mut Agent, reaction: Reaction) -> Result<Option<Action>, Died> {
        assert_eq!(reaction.answer, None);
        for write in reaction.writes {
            if std::mem::take(&mut self.disk_full) {
                return Err(Died);
            }
            self.write(agent, write);
            self.may_die()?;
        }
        self.check_agent(agent);
        Ok(reaction.action)
    }

    fn perform(&mut self, agent: &mut Agent, action: Action, ledger: &mut Ledger) -> Result<Outcome, Died> {
        let done = match action {
            Action::Apply => self.apply(agent, ledger)?,
            Action::Reboot => {
                if self.goes_well(agent)? {
                    self.reboot();
                    return Err(Died);
                }
                Err("it does not reboot".to_owned())
            }
            Action::Verify => self.verify(agent, ledger)?,
            Action::Register => self.register(agent)?,
            Action::Undo => self.undo(agent, ledger)?,
            Action::VerifyOld => self.verify_old(agent, ledger)?,
            Action::Hold => Ok(Outcome::Ended),
            Action::OpenGate => self.open_gate(ledger)?,
        };
        Ok(done.unwrap_or_else(Outcome::Failed))
    }

    fn apply(&mut self, agent: &mut Agent, ledger: &mut Ledger) -> Attempt {
        if ledger.desired().is_some() && !self.goes_well(agent)? {
            return Ok(Err("slurmd cannot be stopped".to_owned()));
        }
        if let Err(why) = ledger.check_applicable(self.volatile, &self.boot_id()) {
            return Ok(Err(why));
        }
        while let Some(next) = ledger.next_change(self.volatile) {
            match next {
                NextChange::InImage => ledger.record_in_image(),
                NextChange::Observe { number, change } => {
                    let (before, made) = match change {
                        Change::Symlink(_) => {
                            let link = &self.links[number - 1];
                            (Before::Symlink { target: Some(link.clone()) }, link == target(change))
                        }
                        Change::Command(command) => {
                            let active = self.firmware.active;
                            let before = Before::Command { version: active.to_string() };
                            (before, active == version(&command.version))
                        }
                        _ => (Before::Image { running: self.running_image(), saved: None }, false),
                    };
                    ledger.record_before(before, made);
                    self.write_ledger(ledger)?;
                    self.may_die()?;
                }
                NextChange::Make { number, change, .. } => {
                    let change = change.clone();
                    let fails = number == 2 && self.fault == Some(Fault::SecondChange);
                    let goes_well = self.goes_well(agent)? && !fails;
                    // A second link that fails is half done.
                    if matches!(change, Change::Symlink(_)) && (goes_well || number == 2) {
                        self.switch(number - 1, target(&change));
                    }
                    if let (Change::Command(command), true) = (&change, goes_well || number == 2) {
                        self.flash_towards(version(&command.version));
                    }
                    if !goes_well {
                        return Ok(Err(format!("change {number} failed")));
                    }
                    self.may_die()?;
                    ledger.record_after(After { changed: true, ..After::default() });
                    self.write_ledger(ledger)?;
                }
            }
        }
        Ok(Ok(Outcome::Applied))
    }

    fn verify(&mut self, agent: &mut Agent, ledger: &mut Ledger) -> Attempt {
        let goes_well = self.goes_well(agent)? && self.fault != Some(Fault::Verify);
        let due = |change: &Change| matches!(change, Change::Command(it) if self.firmware.active != version(&it.version));
        let due: Vec<usize> = ledger
            .changes_with_boots_left()
            .filter(|begun| due(begun.change))
            .map(|begun| begun.number)
            .collect();
        if !due.is_empty() {
            ledger.make_again(&due);
            return Ok(Ok(Outcome::AnotherBootDue));
        }
        let proven = ledger.changes_to_prove().map(|changes| {
            changes.iter().all(|(begun, _)| match begun.change {
                Change::Symlink(_) => self.links[begun.number - 1] == target(begun.change),
                Change::Image(image) => self.running == image.image,
                Change::Command(command) => self.firmware.active == version(&command.version),
                Change::Packages(_) | Change::KernelArgs(_) => false,
            })
        });
        match proven {
            Ok(true) if goes_well => {}
            Ok(_) => return Ok(Err("not what was staged".to_owned())),
            Err(why) => return Ok(Err(why)),
        }
        self.keep_drain(ledger)?;
        ledger.slurmd.get_or_insert(Slurmd { active: true, enabled: false });
        Ok(Ok(Outcome::Verified))
    }

    /// Starts slurmd, which registers if all goes well. It may have registered when the agent dies.
    fn register(&mut self, agent: &mut Agent) -> Attempt {
        assert_eq!(agent.gate(), Gate::Open, "slurmd must be able to start");
        self.may_die()?;
        if !self.goes_well(agent)? {
            self.refused_in = Some(self.boot);
            return Ok(Err("Slurm does not accept it".to_owned()));
        }
        self.slurmd_registers();
        self.may_die()?;
        Ok(Ok(Outcome::Registered))
    }

    fn undo(&mut self, agent: &mut Agent, ledger: &Ledger) -> Attempt {
        if !self.goes_well(agent)? {
            return Ok(Err("slurmd cannot be stopped".to_owned()));
        }
        let begun: Vec<_> = ledger.changes_to_undo().collect();
        for begun in begun {
            if !self.goes_well(agent)? {
                return Ok(Err(format!("change {} cannot be undone", begun.number)));
            }
            if let Before::Symlink { target } = &begun.record.before {
                self.switch(begun.number - 1, target.as_deref().unwrap_or_default());
            }
            if let Before::Command { version: before } = &begun.record.before {
                self.flash(version(before));
            }
        }
        if ledger.boot_source_timeout().is_some() && !self.boot_source_is_restored(agent, ledger)? {
            return Ok(Err("what the node boots from was not put back".to_owned()));
        }
        self.may_die()?;
        let running = self.running_image();
        let runs_as_before = ledger.begun_changes().all(|begun| match &begun.record.before {
            Before::Image { running: before, .. } => *before == running,
            _ => true,
        });
        Ok(Ok(Outcome::Undone { runs_as_before }))
    }

    /// The controller restores the boot source of its order, and sends the notice. The undo waits for that.
    fn boot_source_is_restored(&mut self, agent: &mut Agent, ledger: &Ledger) -> Result<bool, Died> {
        if !self.goes_well(agent)? {
            return Ok(false);
        }
        let id = ledger.order.id.clone();
        let Some(sent) = self.controller.as_mut().filter(|sent| sent.order.id == id) else {
            return Ok(false);
        };
        let Some(source) = sent.booted.clone() else { return Ok(false) };
        sent.restored = ledger.error.clone();
        self.boots = source;
        self.may_die()?;
        let notice = self.send("n[1-2]", OrderKind::BootRestored { order: id });
        let reaction = agent.order(&notice, self.now_s());
        assert!(reaction.boot_restored && reaction.writes.is_empty(), "{reaction:?}");
        Ok(true)
    }

    fn verify_old(&mut self, agent: &mut Agent, ledger: &mut Ledger) -> Attempt {
        let goes_well = self.goes_well(agent)?;
        let running = self.running_image();
        let old = ledger.changes_to_prove_undone().all(|begun| match &begun.record.before {
            Before::Symlink { target } => target.as_ref() == Some(&self.links[begun.number - 1]),
            Before::Image { running: before, .. } => *before == running,
            Before::Command { version: before } => self.firmware.active == version(before),
            Before::Packages { .. } | Before::KernelArgs { .. } | Before::InImage => false,
        });
        if !goes_well || !old {
            return Ok(Err("not what it was".to_owned()));
        }
        self.keep_drain(ledger)?;
        Ok(Ok(Outcome::OldVerified))
    }

    fn open_gate(&mut self, ledger: &mut Ledger) -> Attempt {
        if ledger.keeps_drain_last() {
            if ledger.drained.is_some() && matches!(self.script.front(), Some(Op::Fail)) {
                self.next_op();
                return Ok(Err("Slurm does not answer".to_owned()));
            }
            self.keep_drain(ledger)?;
            ledger.drain_kept = true;
            self.write_ledger(ledger)?;
        }
        if ledger.opening(self.volatile, &self.boot_id(), self.now_s()).admit {
            self.disk.admitted_boot = Some(self.boot_id());
        }
        self.slurmd_registers();
        Ok(Ok(Outcome::Ended))
    }

    fn keep_drain(&mut self, ledger: &mut Ledger) -> Result<(), Died> {
        let slurm = &mut self.slurm;
        slurm.looked_at = true;
        let taken_away = slurm.reboot_issued && !slurm.drained;
        let known = ledger.drained.clone().filter(|_| !taken_away);
        let drained = slurm.reason.clone().or(known);
        if ledger.settle_drain(drained.as_deref()) {
            self.write_ledger(ledger)?;
            self.may_die()?;
        }
        if let Some(reason) = drained {
            let slurm = &mut self.slurm;
            (slurm.reboot_issued, slurm.drained, slurm.reason) = (false, true, Some(reason));
            self.may_die()?;
        }
        Ok(())
    }

    /// A point at which orders come, attempts fail and agents die while an action is carried out.
    fn goes_well(&mut self, agent: &mut Agent) -> Result<bool, Died> {
        loop {
            match self.next_op() {
                None | Some(Op::Proceed) => return Ok(true),
                Some(Op::Fail) => return Ok(false),
                Some(Op::Drain(reason)) => self.drain(reason),
                Some(Op::DiskFull) => self.disk_full = true,
                Some(Op::Order(wanted)) => {
                    assert!(agent.takes_orders());
                    let action = self.deliver_wanted(agent, &wanted)?;
                    assert_eq!(action, None, "{wanted:?} was accepted beside another order");
                }
                Some(death) => return Err(self.die(&death)),
            }
        }
    }

    /// A point at which the agent may die. Everything else waits for the next point.
    pub fn may_die(&mut self) -> Result<(), Died> {
        match self.script.front() {
            Some(Op::Crash | Op::PowerCut | Op::DiskFromBackup(_)) => {
                let death = self.next_op().expect("it is in front");
                Err(self.die(&death))
            }
            Some(Op::Proceed) => {
                self.next_op();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn write_ledger(&mut self, ledger: &Ledger) -> Result<(), Died> {
        if std::mem::take(&mut self.disk_full) {
            return Err(Died);
        }
        self.put_ledger(ledger);
        Ok(())
    }

    fn write(&mut self, agent: &mut Agent, write: Write) {
        match &write {
            Write::Ledger(ledger) => self.put_ledger(ledger),
            Write::Staged(staged) => {
                self.disk.staged = serde_json::from_slice(&serde_json::to_vec(staged).unwrap()).unwrap();
            }
            Write::Admitted => self.disk.admitted_boot = Some(self.boot_id()),
        }
        agent.wrote(write);
        self.written.push(self.disk.clone());
        self.check_gate(agent);
    }

    fn put_ledger(&mut self, ledger: &Ledger) {
        // As it is on disk.
        let ledger: Ledger = serde_json::from_slice(&serde_json::to_vec(ledger).unwrap()).unwrap();
        self.check_ledger(&ledger);
        self.phases.insert(ledger.phase);
        self.disk.ledger = Some(ledger);
        self.written.push(self.disk.clone());
    }

    /// Notes what an accepted order means for the node: its state is the one to come back to, and Slurm has handed it
    /// over.
    fn accepts(&mut self, order: &Order, write: &Write) {
        let Write::Ledger(ledger) = write else { panic!("{write:?} comes first") };
        assert!(order.nodes.contains(ME), "an order for another node was accepted");
        let id = ledger.accepted_orders.last().expect("it was remembered").clone();
        let new = self.accepted.insert(id.clone());
        assert!(!self.honest || self.volatile || new, "{id} was accepted twice");
        let hands_over = match &order.kind {
            OrderKind::Retry => false,
            OrderKind::Release | OrderKind::RestoreLedger(_) => return,
            _ => true,
        };
        self.before = (self.links.clone(), self.firmware);
        if hands_over {
            let known = match &order.kind {
                OrderKind::LocalHandOver(_) => self.told_drain(),
                _ => order.give_back().and_then(|back| back.drained.clone()),
            };
            self.slurm.expected.clone_from(&known);
            (self.slurm.reboot_issued, self.slurm.reason) = (true, None);
            self.slurm.drained = known.is_some();
        }
        self.slurm.looked_at = false;
    }

    fn told_drain(&self) -> Option<String> {
        let carried_out = |id| self.disk.ledger.as_ref().is_some_and(|l| l.accepted_orders.contains(id));
        self.told.as_ref().filter(|(id, _)| !carried_out(id)).and_then(|(_, drain)| drain.clone())
    }

    fn notes_told(&mut self, order: &Order, answer: &Answer) {
        if !matches!(answer, Answer::Accepted { .. }) {
            return;
        }
        match &order.kind {
            OrderKind::PreStage(pre_stage) => self.told = Some((order.id.clone(), pre_stage.drained.clone())),
            OrderKind::UpdateDrain(update) => {
                if let Some((_, drain)) = self.told.as_mut().filter(|(id, _)| *id == update.order) {
                    drain.clone_from(&update.reason);
                }
            }
            _ => {}
        }
        if self.disk.staged.rollout().is_none() {
            self.told = None;
        }
    }
}
