//! A compute node: its power, its disk, slurmd, and the real [`Agent`] with a driver that is as thin as the daemon's.
//!
//! Work of the agent takes time and may fail; the [`World`](crate::world::World) decides both. A death between two
//! durable writes of one action is left to the models of rollout-core, which try every one of them.

use rollout_core::agent::gate::{Gate, gate};
use rollout_core::agent::ledger::{Ledger, Slurmd};
use rollout_core::agent::phase::{Action, Phase};
use rollout_core::agent::pre_staged::PreStaged;
use rollout_core::agent::record::{After, Before};
use rollout_core::agent::registration::{BeforeStart, Registration};
use rollout_core::agent::steps::NextChange;
use rollout_core::agent::{Agent, Identity, OnDisk, Outcome, Reaction, Write};
use rollout_core::protocol::answer::{AgentStatus, Answer};
use rollout_core::protocol::order::Order;
use rollout_core::rollout::manifest::Change;
use rollout_core::slurm::node::NodeInfo;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    Up,
    /// Between two boots.
    Down,
    /// It hangs until it is power-cycled.
    Hung,
}

/// An action under way, with the ledger that belongs to it.
#[derive(Debug, Clone)]
pub struct Working {
    pub action: Action,
    pub ledger: Ledger,
    pub since_ms: u64,
    pub registration: Option<Registration>,
}

#[derive(Debug, Clone)]
pub struct Host {
    pub name: String,
    pub power: Power,
    pub boot: u32,
    pub booted_ms: u64,
    /// Start of slurmd, while it runs.
    pub slurmd_ms: Option<u64>,
    /// Target of the link that rollouts change.
    pub link: Option<String>,
    ledger: Option<Ledger>,
    staged: PreStaged,
    pub agent: Option<Agent>,
    pub working: Option<Working>,
    /// Grows when the agent begins an action or dies, so that earlier events about it are void.
    pub epoch: u32,
    /// Grows with every loss of power.
    pub power_epoch: u32,
    /// The agent makes sure until this time that Slurm takes the node back.
    pub takes_back_until_ms: u64,
    /// The next registration lacks memory.
    pub is_short_of_memory: bool,
}

impl Host {
    #[must_use]
    pub fn new(name: String, now_ms: u64) -> Self {
        let mut host = Self {
            name,
            power: Power::Up,
            boot: 1,
            booted_ms: now_ms,
            slurmd_ms: Some(now_ms),
            link: None,
            ledger: None,
            staged: PreStaged::default(),
            agent: None,
            working: None,
            epoch: 0,
            power_epoch: 0,
            takes_back_until_ms: 0,
            is_short_of_memory: false,
        };
        host.agent = Some(Agent::start(host.identity(), OnDisk::default()));
        host
    }

    #[must_use]
    pub fn boot_id(&self) -> String {
        format!("{}-boot-{}", self.name, self.boot)
    }

    fn identity(&self) -> Identity {
        Identity { node: self.name.clone(), boot_id: self.boot_id(), volatile: false, running: None }
    }

    /// Returns whether slurmd may start, by the files alone.
    #[must_use]
    pub fn is_gate_open(&self) -> bool {
        let unsettled = self.ledger.as_ref().filter(|ledger| !ledger.is_settled());
        self.power == Power::Up && gate(unsettled, None, &self.boot_id()) == Gate::Open
    }

    /// Returns whether jobs may run: no order is under way, or the node is proven and only Slurm has to accept it.
    #[must_use]
    pub fn may_run_jobs(&self) -> bool {
        self.ledger
            .as_ref()
            .is_none_or(|ledger| ledger.phase.is_settled() || ledger.phase == Phase::Registering)
    }

    /// Returns the phase of its last order.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        Some(self.ledger.as_ref()?.phase)
    }

    /// Returns the rollout of its last order.
    #[must_use]
    pub fn rollout(&self) -> Option<&str> {
        self.ledger.as_ref()?.order.rollout()
    }

    /// Returns the agent's status. `None` if it does not answer.
    #[must_use]
    pub fn status(&self, now_ms: u64) -> Option<AgentStatus> {
        let agent = self.agent.as_ref().filter(|_| self.power == Power::Up)?;
        Some(AgentStatus { uptime_s: now_ms.saturating_sub(self.booted_ms) / 1000, ..agent.status() })
    }

    /// The agent's process dies.
    pub fn kill_agent(&mut self) {
        self.agent = None;
        self.working = None;
        self.takes_back_until_ms = 0;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The node loses power, or reboots.
    pub fn go_down(&mut self, power: Power) {
        self.kill_agent();
        self.power = power;
        self.slurmd_ms = None;
        self.power_epoch = self.power_epoch.wrapping_add(1);
    }

    pub fn boot(&mut self, now_ms: u64) {
        self.power = Power::Up;
        self.boot = self.boot.wrapping_add(1);
        self.booted_ms = now_ms;
    }

    /// Starts the agent. Fails if it cannot go on, which is a bug.
    pub fn start_agent(&mut self, now_ms: u64) -> Result<(), String> {
        let found = OnDisk { ledger: self.ledger.clone(), staged: self.staged.clone(), admitted: false };
        let agent = Agent::start(self.identity(), found);
        let reaction = agent.resume(now_ms / 1000).map_err(|refused| format!("{}: {refused}", self.name))?;
        self.agent = Some(agent);
        self.follow(reaction, now_ms);
        Ok(())
    }

    /// Takes an order. `None` if nobody answers.
    pub fn take(&mut self, order: &Order, now_ms: u64) -> Option<Answer> {
        let agent = self.agent.as_ref().filter(|agent| self.power == Power::Up && agent.takes_orders())?;
        let reaction = agent.order(order, now_ms / 1000);
        let answer = reaction.answer.clone();
        self.follow(reaction, now_ms);
        answer
    }

    fn follow(&mut self, reaction: Reaction, now_ms: u64) {
        for write in reaction.writes {
            match &write {
                Write::Ledger(ledger) => self.ledger = Some((**ledger).clone()),
                Write::Staged(staged) => self.staged = (**staged).clone(),
                Write::Admitted => {}
            }
            if let Some(agent) = self.agent.as_mut() {
                agent.wrote(write);
            }
        }
        let Some(action) = reaction.action else { return };
        let Some(mut ledger) = self.agent.as_mut().and_then(Agent::begin) else { return };
        if action == Action::Apply {
            let active = self.slurmd_ms.is_some();
            ledger.slurmd.get_or_insert(Slurmd { active, enabled: true });
            self.slurmd_ms = None;
        }
        self.epoch = self.epoch.wrapping_add(1);
        self.working = Some(Working { action, ledger, since_ms: now_ms, registration: None });
    }

    /// Ends the action with this outcome.
    pub fn finish(&mut self, outcome: Outcome, now_ms: u64) -> Result<(), String> {
        let (Some(working), Some(agent)) = (self.working.take(), self.agent.as_mut()) else { return Ok(()) };
        self.ledger = Some(working.ledger.clone());
        let reaction = agent.finished(working.ledger, outcome, now_ms / 1000);
        let reaction = reaction.map_err(|refused| format!("{}: {refused}", self.name))?;
        self.follow(reaction, now_ms);
        Ok(())
    }

    /// Makes the changes that are not made yet. With `fails`, the last one fails.
    pub fn apply(&mut self, fails: bool) -> Outcome {
        let Some(Working { ledger, .. }) = self.working.as_mut() else { return Outcome::Ended };
        while let Some(next) = ledger.next_change(false) {
            match next {
                NextChange::InImage => ledger.record_in_image(),
                NextChange::Observe { change, .. } => {
                    let already_made = matches!(change, Change::Symlink(link) if link.target == self.link);
                    ledger.record_before(Before::Symlink { target: self.link.clone() }, already_made);
                }
                NextChange::Make { change, .. } => {
                    if fails {
                        return Outcome::Failed("the change cannot be made".to_owned());
                    }
                    if let Change::Symlink(link) = change {
                        self.link.clone_from(&link.target);
                    }
                    ledger.record_after(After { changed: true, ..After::default() });
                }
            }
            self.ledger = Some(ledger.clone());
        }
        Outcome::Applied
    }

    /// Returns the outcome of a proof that nothing disturbs.
    #[must_use]
    pub fn verify(&self) -> Outcome {
        let Some(Working { ledger, .. }) = &self.working else { return Outcome::Ended };
        let is_proven = ledger.changes_to_prove().is_ok_and(|changes| {
            changes.iter().all(|(begun, _)| match begun.change {
                Change::Symlink(link) => link.target == self.link,
                _ => false,
            })
        });
        match is_proven {
            true => Outcome::Verified,
            false => Outcome::Failed("not proven".to_owned()),
        }
    }

    pub fn undo(&mut self) -> Outcome {
        let Some(Working { ledger, .. }) = &self.working else { return Outcome::Ended };
        for begun in ledger.changes_to_undo() {
            if let Before::Symlink { target } = &begun.record.before {
                self.link.clone_from(target);
            }
        }
        Outcome::Undone { runs_as_before: true }
    }

    #[must_use]
    pub fn verify_old(&self) -> Outcome {
        let Some(Working { ledger, .. }) = &self.working else { return Outcome::Ended };
        let is_old = |before: &Before| matches!(before, Before::Symlink { target } if *target == self.link);
        match ledger.changes_to_prove_undone().all(|begun| is_old(&begun.record.before)) {
            true => Outcome::OldVerified,
            false => Outcome::Failed("the old state is not proven".to_owned()),
        }
    }

    /// Records Slurm's view of the node from before slurmd may start.
    pub fn look_before_start(&mut self, info: &NodeInfo) {
        if let Some(working) = self.working.as_mut() {
            working.ledger.before_start = Some(BeforeStart::from(info));
            self.ledger = Some(working.ledger.clone());
        }
    }

    /// Begins the proof that Slurm accepts the node.
    pub fn begin_registering(&mut self, now_ms: u64) {
        let Some(working) = self.working.as_mut() else { return };
        working.registration = Some(Registration::of(&working.ledger));
        self.slurmd_ms.get_or_insert(now_ms);
    }

    /// Records the drain that the node is to keep.
    pub fn settle_drain(&mut self, drained: Option<&str>) {
        let Some(working) = self.working.as_mut() else { return };
        if working.ledger.settle_drain(drained) {
            self.ledger = Some(working.ledger.clone());
        }
    }
}
