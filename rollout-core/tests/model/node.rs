//! A node with the real [`Agent`], and the driver and executor of the agent as far as they touch the disk.

use crate::scenario::{ImageNumber, Scenario, running};
use rollout_core::agent::gate::{Gate, gate};
use rollout_core::agent::ledger::{Ledger, Slurmd};
use rollout_core::agent::phase::{Action, Phase};
use rollout_core::agent::record::{After, Before};
use rollout_core::agent::steps::NextChange;
use rollout_core::agent::{Agent, Identity, OnDisk, Outcome, Reaction, Write};
use rollout_core::protocol::answer::{AgentStatus, Answer};
use rollout_core::protocol::order::{Order, OrderId, OrderKind};
use rollout_core::rollout::manifest::Change;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Up,
    /// Between two boots.
    Down,
    /// Hangs in the boot until it is power-cycled.
    Hung,
}

/// Progress of the agent before it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    End,
    /// It crashes at this persistence point.
    Crash(u8),
    /// The node loses power at this persistence point.
    PowerCut(u8),
}

/// Persistence points that are left.
#[derive(Debug)]
pub struct Points {
    left: Option<u8>,
    stopped: bool,
}

/// The agent dies here.
#[derive(Debug)]
pub struct Dies;

impl Points {
    pub fn new(until: Until) -> Self {
        let left = match until {
            Until::End => None,
            Until::Crash(left) | Until::PowerCut(left) => Some(left),
        };
        Self { left, stopped: false }
    }

    pub fn pass(&mut self) -> Result<(), Dies> {
        match &mut self.left {
            None => Ok(()),
            Some(0) => {
                self.stopped = true;
                Err(Dies)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    /// Returns whether the point at which it must die was reached.
    pub fn were_enough(&self) -> bool {
        self.left.is_none() || self.stopped
    }
}

/// An action that the agent is carrying out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    pub action: Action,
    /// The boot source is restored.
    pub notified: bool,
}

/// The state directory of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    pub ledger: Option<Arc<Ledger>>,
    /// Boot in which slurmd was admitted.
    pub admitted: Option<u32>,
}

#[derive(Debug, Clone)]
pub struct Node {
    pub name: String,
    pub volatile: bool,
    pub power: Power,
    pub boot: u32,
    pub booted_ms: u64,
    /// The image that was booted.
    pub image: ImageNumber,
    /// The link on its disk is switched, by this rollout.
    pub link: Option<usize>,
    pub disk: Disk,
    pub agent: Option<Arc<Agent>>,
    pub running: Option<Running>,
    /// The agent makes sure in the background that Slurm takes the node back.
    pub sees_it_taken_back: bool,
    pub facts: Facts,
}

/// Facts for the invariants, of which the product does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Images whose proof succeeded since the boot source was changed to them.
    pub proven_images: u8,
    /// The link was proven since it was switched.
    pub is_link_proven: bool,
    /// Rollouts that were verified on it.
    pub verified: BTreeSet<String>,
    /// Boot in which a rollout was last verified.
    pub checked_boot: u32,
    /// The order that the node accepted, with its rollout, until it ends or is being undone.
    pub live: Option<(OrderId, String)>,
    /// Rollout whose proof it just lost with its ledger.
    pub lost_end: Option<String>,
    /// It was proven, and lost its ledger before the controller saw that.
    pub unseen_end: bool,
    /// Its boot source was restored because its agent was silent when `boot_timeout` was over.
    pub restored_in_silence: bool,
    /// Orders that it accepted since it was handed over.
    pub orders: u8,
}

/// The next thing that happens after an action.
#[derive(Debug)]
pub enum Performed {
    Outcome(Outcome),
    Reboots,
}

impl Node {
    pub fn new(scenario: &Scenario, index: usize) -> Self {
        let setup = &scenario.nodes[index];
        let mut node = Self {
            name: setup.name.clone(),
            volatile: setup.volatile,
            power: Power::Up,
            boot: 1,
            booted_ms: 0,
            image: 0,
            link: None,
            disk: Disk { ledger: None, admitted: Some(1) },
            agent: None,
            running: None,
            sees_it_taken_back: false,
            facts: Facts::default(),
        };
        node.agent = Some(Arc::new(Agent::start(node.identity(), node.on_disk())));
        node
    }

    pub fn boot_id(&self) -> String {
        format!("{}-boot-{}", self.name, self.boot)
    }

    fn identity(&self) -> Identity {
        Identity {
            node: self.name.clone(),
            boot_id: self.boot_id(),
            volatile: self.volatile,
            running: Some(running(self.image)),
        }
    }

    fn on_disk(&self) -> OnDisk {
        OnDisk {
            ledger: self.disk.ledger.as_deref().cloned(),
            admitted: self.disk.admitted == Some(self.boot),
            ..OnDisk::default()
        }
    }

    /// Returns whether slurmd may run, by the files alone as `slurm-rollout-agent gate` decides it.
    pub fn is_gate_open(&self) -> bool {
        let unsettled = self.disk.ledger.as_deref().filter(|ledger| !ledger.phase.is_settled());
        let admitted = self.volatile.then_some(self.disk.admitted == Some(self.boot));
        self.power == Power::Up && gate(unsettled, admitted, &self.boot_id()) == Gate::Open
    }

    /// Returns whether the agent answers.
    pub fn answers(&self) -> bool {
        self.power == Power::Up && self.agent.is_some()
    }

    pub fn status(&self, now_ms: u64) -> Option<AgentStatus> {
        let agent = self.agent.as_ref().filter(|_| self.power == Power::Up)?;
        Some(AgentStatus {
            uptime_s: (now_ms - self.booted_ms) / 1000,
            running: Some(running(self.image)),
            ..agent.status()
        })
    }

    pub fn die(&mut self, until: Until) {
        self.agent = None;
        self.running = None;
        self.sees_it_taken_back = false;
        if let Until::PowerCut(_) = until {
            self.go_down();
        }
    }

    pub fn go_down(&mut self) {
        self.power = Power::Down;
        self.agent = None;
        self.running = None;
        self.sees_it_taken_back = false;
        if self.volatile {
            self.facts.lost_end = self.disk.ledger.take().and_then(|ledger| {
                let is_proven = matches!(ledger.phase, Phase::Registering | Phase::Updated);
                ledger.order.rollout().filter(|_| is_proven).map(str::to_owned)
            });
            self.disk = Disk::default();
        }
    }

    pub fn boot(&mut self, image: ImageNumber, now_ms: u64) {
        self.power = Power::Up;
        self.boot += 1;
        self.booted_ms = now_ms;
        self.image = image;
    }

    pub fn start_agent(&mut self, now_s: u64, points: &mut Points) -> Result<(), Dies> {
        let agent = Agent::start(self.identity(), self.on_disk());
        let reaction = agent.resume(now_s).expect("a started agent can go on");
        self.agent = Some(Arc::new(agent));
        self.follow(reaction, points)
    }

    /// Carries out the writes of a reaction and begins its action.
    pub fn follow(&mut self, reaction: Reaction, points: &mut Points) -> Result<(), Dies> {
        self.persist_all(reaction.writes, points)?;
        self.begin(reaction.action);
        Ok(())
    }

    fn begin(&mut self, action: Option<Action>) {
        let Some(action) = action else { return };
        if self.agent_mut().begin().is_some() {
            self.running = Some(Running { action, notified: false });
        }
    }

    fn agent_mut(&mut self) -> &mut Agent {
        Arc::make_mut(self.agent.as_mut().expect("a running agent"))
    }

    fn persist_all(&mut self, writes: Vec<Write>, points: &mut Points) -> Result<(), Dies> {
        for write in writes {
            points.pass()?;
            self.persist(write);
            points.pass()?;
        }
        Ok(())
    }

    fn persist(&mut self, write: Write) {
        match &write {
            Write::Ledger(ledger) => self.write_ledger(ledger),
            Write::Staged(_) => {}
            Write::Admitted => self.disk.admitted = Some(self.boot),
        }
        self.agent_mut().wrote(write);
    }

    fn write_ledger(&mut self, ledger: &Ledger) {
        let goes_forward = matches!(
            ledger.phase,
            Phase::Applying | Phase::Rebooting | Phase::Verifying | Phase::Registering
        );
        if !goes_forward || self.facts.live.as_ref().is_none_or(|(live, _)| *live != ledger.order.id) {
            self.facts.live = None;
        }
        let is_proven = matches!(ledger.phase, Phase::Registering | Phase::Updated);
        if is_proven && self.facts.checked_boot == self.boot {
            self.facts.proven_images |= 1 << self.image;
            self.facts.is_link_proven |= self.link.is_some();
        }
        if ledger.phase == Phase::Updated && self.facts.checked_boot == self.boot {
            if let Some(id) = ledger.order.rollout() {
                self.facts.verified.insert(id.to_owned());
            }
        }
        self.disk.ledger = Some(Arc::new(ledger.clone()));
    }

    /// Takes an order: writes, answer, action.
    pub fn take(&mut self, order: &Order, now_s: u64, points: &mut Points) -> Result<Option<Answer>, Dies> {
        let reaction = self.agent.as_ref().expect("a running agent").order(order, now_s);
        let is_hand_over = matches!(order.kind, OrderKind::Apply(_) | OrderKind::Reboot(_));
        let mut first = is_hand_over && reaction.action.is_some();
        for write in reaction.writes {
            points.pass()?;
            self.persist(write);
            if std::mem::take(&mut first) {
                self.facts.orders += 1;
                self.facts.live = order.rollout().map(|rollout| (order.id.clone(), rollout.to_owned()));
            }
            points.pass()?;
        }
        if let (true, Some(running)) = (reaction.boot_restored, self.running.as_mut()) {
            running.notified = true;
        }
        self.begin(reaction.action);
        Ok(reaction.answer)
    }

    pub fn admit_without_instructions(&mut self, points: &mut Points) -> Result<(), Dies> {
        let reaction = self.agent.as_ref().expect("a running agent").nothing_expected();
        self.follow(reaction, points)
    }

    /// Returns whether the action can come to its end.
    pub fn can_work(&self) -> bool {
        self.power == Power::Up && self.running.is_some() && !self.waits_for_boot_source()
    }

    /// Returns whether an undo waits until the controller has restored the boot source.
    pub fn waits_for_boot_source(&self) -> bool {
        let Some(Running { action: Action::Undo, notified: false }) = self.running else { return false };
        let ledger = self.agent.as_ref().and_then(|agent| agent.ledger());
        ledger.is_some_and(|ledger| ledger.boot_source_timeout().is_some())
    }

    /// Carries out the action to its end: `Executor::perform` and `Driver::act`. With `fails`, work that can fail does.
    pub fn work(
        &mut self,
        scenario: &Scenario,
        fails: bool,
        now_s: u64,
        points: &mut Points,
    ) -> Result<(), Dies> {
        let Some(Running { action, .. }) = self.running else { return Ok(()) };
        let mut ledger = self.agent.as_ref().and_then(|agent| agent.ledger().cloned()).expect("a ledger");
        match self.perform(scenario, action, &mut ledger, fails, now_s, points)? {
            Performed::Reboots => {
                self.go_down();
                Ok(())
            }
            Performed::Outcome(outcome) => {
                self.running = None;
                points.pass()?;
                let finished = self.agent_mut().finished(ledger, outcome, now_s);
                self.follow(finished.expect("an outcome fits its phase"), points)
            }
        }
    }

    fn perform(
        &mut self,
        scenario: &Scenario,
        action: Action,
        ledger: &mut Ledger,
        fails: bool,
        now_s: u64,
        points: &mut Points,
    ) -> Result<Performed, Dies> {
        let failed = |why: &str| Ok(Performed::Outcome(Outcome::Failed(why.to_owned())));
        let rollout = ledger.order.rollout().map(|id| scenario.rollout(id));
        let outcome = match action {
            Action::Apply => {
                if ledger.desired().is_some() {
                    if fails {
                        return failed("applying failed");
                    }
                    if let Err(why) = ledger.check_applicable(self.volatile, &self.boot_id()) {
                        return failed(&why);
                    }
                    self.apply(ledger, rollout, points)?;
                }
                Outcome::Applied
            }
            Action::Reboot if fails => return failed("it cannot be rebooted"),
            Action::Reboot => return Ok(Performed::Reboots),
            Action::Verify => {
                if fails || !self.is_proven(ledger) {
                    return failed("not proven");
                }
                if rollout.is_some() {
                    self.facts.checked_boot = self.boot;
                }
                let slurmd = Slurmd { active: true, enabled: true };
                ledger.slurmd = scenario.proves_registration.then_some(slurmd);
                Outcome::Verified
            }
            Action::Register if fails => {
                // Slurm refused the node. Neither its image nor its link stays.
                self.facts.proven_images &= !(1 << self.image) | 1;
                self.facts.is_link_proven = false;
                return failed("Slurm does not accept it");
            }
            Action::Register => Outcome::Registered,
            Action::Undo => {
                if fails || self.waits_for_boot_source() {
                    return failed("it cannot be undone");
                }
                for begun in ledger.changes_to_undo() {
                    points.pass()?;
                    if let Change::Symlink(_) = begun.change {
                        self.link = None;
                    }
                }
                points.pass()?;
                let as_before = |before: &Before| match before {
                    Before::Image { running: before, .. } => *before == running(self.image),
                    _ => true,
                };
                let runs_as_before = ledger.begun_changes().all(|begun| as_before(&begun.record.before));
                Outcome::Undone { runs_as_before }
            }
            Action::VerifyOld => {
                let undone = |before: &Before| match before {
                    Before::Image { running: before, .. } => *before == running(self.image),
                    Before::Symlink { .. } => self.link.is_none(),
                    _ => true,
                };
                if fails || !ledger.changes_to_prove_undone().all(|begun| undone(&begun.record.before)) {
                    return failed("the old state is not proven");
                }
                Outcome::OldVerified
            }
            Action::Hold => Outcome::Ended,
            Action::OpenGate => {
                let opening = ledger.opening(self.volatile, &self.boot_id(), now_s);
                points.pass()?;
                if opening.admit {
                    self.disk.admitted = Some(self.boot);
                    points.pass()?;
                }
                self.sees_it_taken_back = opening.resume_if_late;
                Outcome::Ended
            }
        };
        Ok(Performed::Outcome(outcome))
    }

    fn apply(
        &mut self,
        ledger: &mut Ledger,
        rollout: Option<usize>,
        points: &mut Points,
    ) -> Result<(), Dies> {
        while let Some(next) = ledger.next_change(self.volatile) {
            points.pass()?;
            match next {
                NextChange::InImage => ledger.record_in_image(),
                NextChange::Observe { change, .. } => {
                    let (before, already_made) = match change {
                        Change::Image(_) => {
                            (Before::Image { running: running(self.image), saved: None }, false)
                        }
                        _ => (Before::Symlink { target: None }, self.link.is_some()),
                    };
                    ledger.record_before(before, already_made);
                    self.write_ledger(ledger);
                }
                NextChange::Make { change, .. } => {
                    if let Change::Symlink(_) = change {
                        self.link = rollout;
                        self.facts.is_link_proven = false;
                    }
                    points.pass()?;
                    ledger.record_after(After { changed: true, ..After::default() });
                    self.write_ledger(ledger);
                }
            }
        }
        points.pass()
    }

    /// Returns whether the node is in the staged state, as `Executor::verify` finds out.
    fn is_proven(&self, ledger: &Ledger) -> bool {
        use rollout_core::rollout::image::Facts;
        let Ok(changes) = ledger.changes_to_prove() else { return false };
        changes.iter().all(|(begun, _)| match begun.change {
            Change::Image(image) => {
                let facts = Facts { running: running(self.image), ..Facts::default() };
                image.prove(&facts).is_ok()
            }
            _ => self.link.is_some() || begun.record.before == Before::InImage,
        })
    }
}
