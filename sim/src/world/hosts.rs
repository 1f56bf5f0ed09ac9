//! Events on the nodes: boots, slurmd, and the work of their agents.

use super::{Event, MINUTE_MS, World};
use crate::host::{Host, Power};
use crate::invariants;
use crate::slurm::By;
use crate::slurm::commands::Update;
use crate::slurm::registration::Registration;
use rollout_core::agent::Outcome;
use rollout_core::agent::phase::Action;
use rollout_core::agent::registration::{Next, Unit};
use rollout_core::slurm::drains::was_drained_meanwhile;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::{Reason, held, without_notes};
use std::time::Duration;

/// Time for which the agent waits for slurmctld before it gives up.
const AWAY_LIMIT_MS: u64 = 30 * MINUTE_MS;

/// Time for which it makes sure that Slurm takes the node back.
const TAKE_BACK_MS: u64 = 10 * MINUTE_MS;

impl World {
    /// Returns a node as Slurm shows it. `None` if slurmctld does not answer.
    pub(crate) fn info(&self, node: usize) -> Option<NodeInfo> {
        self.slurm.answers(self.now_ms).then(|| self.slurm.show_node(node, self.now_ms))?
    }

    pub(super) fn boots(&mut self, node: usize, epoch: u32) {
        let now_ms = self.now_ms;
        let Some(host) = self.hosts.get_mut(node).filter(|host| host.power_epoch == epoch) else { return };
        host.boot(now_ms);
        let name = host.name.clone();
        self.say(&format!("{name} boots"));
        let agent_ms = self.rng.between(2_000, 15_000);
        self.plan_in(agent_ms, Event::AgentStarts { node, epoch });
        self.plan_in(8_000, Event::SlurmdStarts { node, epoch });
    }

    pub(super) fn agent_starts(&mut self, node: usize, epoch: u32) {
        let now_ms = self.now_ms;
        let is_due =
            |host: &&mut Host| host.power_epoch == epoch && host.power == Power::Up && host.agent.is_none();
        let Some(host) = self.hosts.get_mut(node).filter(is_due) else { return };
        if let Err(error) = host.start_agent(now_ms) {
            self.violate("agent", error);
            return;
        }
        self.plan_work(node);
    }

    /// Has slurmd started as soon as the gate is open, as systemd does at boot.
    pub(super) fn slurmd_starts(&mut self, node: usize, epoch: u32) {
        let now_ms = self.now_ms;
        let is_due = |host: &&mut Host| {
            host.power_epoch == epoch && host.power == Power::Up && host.slurmd_ms.is_none()
        };
        let Some(host) = self.hosts.get_mut(node).filter(is_due) else { return };
        // The gate opens once the agent has looked at the boot, too.
        if host.agent.is_some() && host.is_gate_open() {
            host.slurmd_ms = Some(now_ms);
            self.plan_in(800, Event::Registers { node, epoch });
        } else {
            self.plan_in(5_000, Event::SlurmdStarts { node, epoch });
        }
    }

    pub(super) fn registers(&mut self, node: usize, epoch: u32) {
        let is_due = |host: &&Host| host.power_epoch == epoch && host.power == Power::Up;
        let Some(host) = self.hosts.get(node).filter(is_due) else { return };
        let Some(slurmd_start_ms) = host.slurmd_ms else { return };
        if !self.slurm.answers(self.now_ms) {
            self.plan_in(5_000, Event::Registers { node, epoch });
            return;
        }
        let found =
            Registration { boot_ms: host.booted_ms, slurmd_start_ms, is_valid: !host.is_short_of_memory };
        let name = host.name.clone();
        self.slurm.register(node, found, self.now_ms);
        self.say(&format!("{name} registers"));
    }

    /// Plans the end of the action that the agent of a node has begun.
    pub fn plan_work(&mut self, node: usize) {
        let fast = self.chances.is_fast;
        let Some((action, epoch)) = self.hosts.get(node).and_then(|host| {
            let working = host.working.as_ref().filter(|working| working.since_ms == self.now_ms)?;
            Some((working.action, host.epoch))
        }) else {
            return;
        };
        let (first_ms, last_ms) = match action {
            Action::Apply if fast => (60_000, 60_000),
            Action::Apply => (5_000, 240_000),
            Action::Reboot => (2_000, 8_000),
            Action::Verify | Action::VerifyOld | Action::Undo => (1_000, 20_000),
            Action::Register | Action::Hold | Action::OpenGate => (100, 1_500),
        };
        let delay_ms = self.rng.between(first_ms, last_ms);
        self.plan_in(delay_ms, Event::Works { node, epoch });
    }

    /// Carries out the action to its end, or to its next look.
    pub(super) fn works(&mut self, node: usize, epoch: u32) {
        let Some(host) = self.hosts.get(node).filter(|host| host.epoch == epoch) else { return };
        let Some(working) = &host.working else { return };
        let (action, since_ms) = (working.action, working.since_ms);
        let fails = self.strikes(self.chances.work_fails);
        let failed = |why: &str| Outcome::Failed(why.to_owned());
        let outcome = match action {
            Action::Apply => self.hosts.get_mut(node).map(|host| host.apply(fails)),
            Action::Reboot if fails => Some(failed("it cannot be rebooted")),
            Action::Reboot => {
                self.goes_down_for_reboot(node);
                return;
            }
            Action::Verify | Action::VerifyOld if fails => Some(failed("the proof fails")),
            Action::Verify | Action::VerifyOld => {
                let is_told = self.keep_drain(node) && self.look_before_start(node);
                if !is_told && self.now_ms.saturating_sub(since_ms) < AWAY_LIMIT_MS {
                    self.plan_in(5_000, Event::Works { node, epoch });
                    return;
                }
                let proof = |host: &Host| match action {
                    Action::Verify if !is_told => failed("Slurm cannot be asked"),
                    Action::Verify => host.verify(),
                    _ => host.verify_old(),
                };
                self.hosts.get(node).map(proof)
            }
            Action::Register => {
                self.look_at_registration(node, since_ms);
                return;
            }
            Action::Undo if fails => Some(failed("a change cannot be undone")),
            Action::Undo => self.hosts.get_mut(node).map(Host::undo),
            Action::Hold => self.hold(node).then_some(Outcome::Ended),
            Action::OpenGate => Some(self.open_gate(node)),
        };
        match outcome {
            Some(outcome) => self.finish(node, outcome),
            None => self.plan_in(10_000, Event::Works { node, epoch }),
        }
    }

    fn finish(&mut self, node: usize, outcome: Outcome) {
        let now_ms = self.now_ms;
        let Some(host) = self.hosts.get_mut(node) else { return };
        let text = format!("{}: {outcome:?}", host.name);
        match host.finish(outcome, now_ms) {
            Ok(()) => {}
            Err(error) => self.violate("agent", error),
        }
        self.say(&text);
        self.plan_work(node);
    }

    fn goes_down_for_reboot(&mut self, node: usize) {
        invariants::check_reboot(self, node);
        let Some(host) = self.hosts.get_mut(node) else { return };
        host.go_down(Power::Down);
        let name = host.name.clone();
        self.say(&format!("{name} reboots"));
        self.plan_boot(node);
    }

    /// Plans the boot of a node that is down. It may hang.
    pub fn plan_boot(&mut self, node: usize) {
        if self.strikes(self.chances.hangs) {
            if let Some(host) = self.hosts.get_mut(node) {
                host.power = Power::Hung;
            }
            return;
        }
        let is_slow = self.strikes(self.chances.slow_boot);
        let last_ms = if is_slow { 40 * MINUTE_MS } else { 6 * MINUTE_MS };
        let first_ms = if is_slow { 12 * MINUTE_MS } else { 90_000 };
        let delay_ms = if self.chances.is_fast { 4 * MINUTE_MS } else { self.rng.between(first_ms, last_ms) };
        let epoch = self.hosts.get(node).map_or(0, |host| host.power_epoch);
        self.plan_in(delay_ms, Event::Boots { node, epoch });
    }

    /// Keeps a drain that somebody else set, as the daemon does before it lets slurmd start. Returns whether Slurm
    /// answered, or need not.
    fn keep_drain(&mut self, node: usize) -> bool {
        let Some(host) = self.hosts.get(node) else { return true };
        let known = host.working.as_ref().and_then(|working| working.ledger.drained.clone());
        let Some(info) = self.info(node) else { return known.is_none() && self.rng.chance(100) };
        let meanwhile = was_drained_meanwhile(&info, "slurm").map(|reason| without_notes(reason).to_owned());
        let is_removed = info.is_handed_over() && !info.has("DRAIN");
        let drained = meanwhile.or(known.filter(|_| !is_removed));
        if let Some(host) = self.hosts.get_mut(node) {
            host.settle_drain(drained.as_deref());
        }
        let Some(reason) = drained else { return true };
        if info.is_handed_over() {
            drop(self.slurm.update(&[node], &Update::Resume, By::Agent, self.now_ms));
        }
        let drain = Update::Drain { reason };
        drop(self.slurm.update(&[node], &drain, By::Agent, self.now_ms));
        let name = info.name;
        self.say(&format!("{name}: its agent keeps the drain"));
        true
    }

    /// Looks at Slurm before slurmd may start. Returns whether it answered.
    fn look_before_start(&mut self, node: usize) -> bool {
        let info = self.info(node);
        if let (Some(info), Some(host)) = (&info, self.hosts.get_mut(node)) {
            host.look_before_start(info);
        }
        info.is_some()
    }

    fn look_at_registration(&mut self, node: usize, since_ms: u64) {
        let (now_ms, info) = (self.now_ms, self.info(node));
        let Some(host) = self.hosts.get_mut(node) else { return };
        let (epoch, power_epoch) = (host.epoch, host.power_epoch);
        let is_new = host.working.as_ref().is_some_and(|working| working.registration.is_none());
        if is_new {
            host.begin_registering(now_ms);
            self.plan_in(1_000, Event::Registers { node, epoch: power_epoch });
            self.plan_in(1_500, Event::Works { node, epoch });
            return;
        }
        let answer = info.ok_or_else(|| "no answer".to_owned());
        let elapsed = Duration::from_millis(now_ms.saturating_sub(since_ms));
        let working = host.working.as_mut();
        let Some(registration) = working.and_then(|working| working.registration.as_mut()) else { return };
        match registration.look(elapsed, &Unit::Runs, Some(&answer)) {
            Next::Accepted => self.finish(node, Outcome::Registered),
            Next::Failed(why) => {
                // Jobs may have started just now: Slurm is asked once more when slurmd is stopped.
                let is_accepted = answer.as_ref().is_ok_and(|info| registration.is_accepted(info));
                host.slurmd_ms = None;
                let outcome = if is_accepted { Outcome::Registered } else { Outcome::Failed(why) };
                self.finish(node, outcome);
            }
            Next::Start | Next::Restart => {
                host.slurmd_ms = Some(now_ms);
                self.plan_in(1_000, Event::Registers { node, epoch: power_epoch });
                self.plan_in(2_000, Event::Works { node, epoch });
            }
            Next::Wait(pause) => {
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(10_000).max(500);
                self.plan_in(pause_ms, Event::Works { node, epoch });
            }
        }
    }

    /// Holds a node: Slurm gets the Reason. Returns whether Slurm answered.
    fn hold(&mut self, node: usize) -> bool {
        let Some(info) = self.info(node) else { return false };
        let Some(host) = self.hosts.get_mut(node) else { return true };
        host.slurmd_ms = None;
        let Some(working) = &host.working else { return true };
        if was_drained_meanwhile(&info, "slurm").is_some() {
            return true;
        }
        let text = held(working.ledger.error.as_deref());
        let reason = Reason::ours(working.ledger.subject(), &text).replacing(info.reason.as_deref());
        let reason = reason.to_string();
        let update = match info.has("DOWN") {
            true => Update::Reason { reason },
            false => Update::Drain { reason },
        };
        drop(self.slurm.update(&[node], &update, By::Agent, self.now_ms));
        true
    }

    fn open_gate(&mut self, node: usize) -> Outcome {
        let now_ms = self.now_ms;
        let Some(host) = self.hosts.get_mut(node) else { return Outcome::Ended };
        let (boot_id, epoch) = (host.boot_id(), host.power_epoch);
        let Some(working) = &host.working else { return Outcome::Ended };
        let opening = working.ledger.opening(false, &boot_id, now_ms / 1000);
        let starts = opening.start_slurmd && host.slurmd_ms.is_none();
        if starts {
            host.slurmd_ms = Some(now_ms);
        }
        if opening.resume_if_late {
            host.takes_back_until_ms = now_ms.saturating_add(TAKE_BACK_MS);
            self.plan_in(2_000, Event::TakesBack { node, epoch });
        }
        if starts {
            self.plan_in(800, Event::Registers { node, epoch });
        }
        Outcome::Ended
    }

    /// Resumes a node on which Slurm has given up, or which our agent had drained.
    pub(super) fn takes_back(&mut self, node: usize, epoch: u32) {
        let now_ms = self.now_ms;
        let is_due = |host: &&Host| host.power_epoch == epoch && now_ms < host.takes_back_until_ms;
        if self.hosts.get(node).filter(is_due).is_none() {
            return;
        }
        match self.info(node) {
            Some(info) if info.timed_out_waiting_for_our_reboot() || info.is_drained_by_us() => {
                drop(self.slurm.update(&[node], &Update::Resume, By::Agent, now_ms));
                self.say(&format!("{}: resumed by its agent", info.name));
            }
            Some(info) if !info.is_handed_over() => {}
            _ => self.plan_in(5_000, Event::TakesBack { node, epoch }),
        }
    }
}
