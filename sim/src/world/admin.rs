//! Faults as they strike, and what admins do by hand.

use super::{Event, HOUR_MS, MINUTE_MS, World};
use crate::faults::Fault;
use crate::host::Power;
use crate::slurm::commands::{Reboot, Update};
use crate::slurm::node::{Base, Next, Power as Saving};
use crate::slurm::registration::LOW_MEMORY;
use crate::slurm::{By, News, Reservation};
use crate::store::Rollout;
use rollout_core::agent::phase::Phase;
use rollout_core::controller::conduct::{self, Decision, Refusal};
use rollout_core::controller::freeze::Freeze;
use rollout_core::controller::held;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::staging::unstageable;
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Order, OrderId, OrderKind};
use rollout_core::rollout::journal::{Entry, Progress};
use rollout_plan::standing::Standing;
use rollout_plan::why::Why;

/// Reason of an admin who sets a node down.
const BROKEN: &str = "broken fan";

impl World {
    pub(super) fn strike(&mut self, fault: Fault) {
        self.say(&format!("{fault:?}"));
        match fault {
            Fault::Start(id) => self.conduct(&id, conduct::start),
            Fault::Pause(id) => self.conduct(&id, |snapshot, id| conduct::pause(snapshot, id, None)),
            Fault::Resume(id) => self.conduct(&id, conduct::resume),
            Fault::Stop(id) => self.conduct(&id, conduct::stop),
            Fault::Approve(id, wave) => {
                self.conduct(&id, |snapshot, id| conduct::approve(snapshot, id, wave));
            }
            Fault::Freeze => {
                let (by, since_ms) = ("ann".to_owned(), self.now_ms);
                self.store.freeze(Some(Freeze { by, why: None, since_ms }));
            }
            Fault::Thaw => self.store.freeze(None),
            Fault::ExecutorDies(executor) => self.kill_executor(executor),
            Fault::ExecutorStalls { executor, ms } => {
                let until_ms = self.now_ms.saturating_add(ms);
                if let Some(executor) = self.executors.get_mut(executor) {
                    executor.stalled_until_ms = until_ms;
                }
            }
            Fault::SlurmctldAway { ms } => self.slurm.away_until_ms = self.now_ms.saturating_add(ms),
            Fault::SlurmctldRestarts { ms } => {
                self.slurm.away_until_ms = self.now_ms.saturating_add(ms);
                self.kill_programs();
            }
            Fault::AgentDies(node) => self.agent_dies(node),
            Fault::PowerCut(node) => self.loses_power(node, Power::Down),
            Fault::Hangs(node) => self.loses_power(node, Power::Hung),
            Fault::PowerCycle(node) => self.power_cycle(node),
            Fault::LosesMemory(node) => self.set_memory(node, true),
            Fault::HasMemory(node) => self.set_memory(node, false),
            // Everything else goes through slurmctld.
            fault => {
                if self.slurm.answers(self.now_ms) {
                    self.command(fault);
                }
            }
        }
    }

    fn conduct(&mut self, id: &str, decide: impl Fn(&Snapshot, &str) -> Result<Decision, Refusal>) {
        let decision = decide(&self.store.snapshot(), id);
        let Ok(Decision { entries, .. }) = decision else { return };
        for entry in entries {
            self.record(Some(id), entry, "ann");
        }
    }

    fn agent_dies(&mut self, node: usize) {
        let Some(host) = self.hosts.get_mut(node).filter(|host| host.power == Power::Up) else { return };
        host.kill_agent();
        let epoch = host.power_epoch;
        let delay_ms = self.rng.between(1_000, 60_000);
        self.plan_in(delay_ms, Event::AgentStarts { node, epoch });
    }

    fn loses_power(&mut self, node: usize, power: Power) {
        let Some(host) = self.hosts.get_mut(node).filter(|host| host.power == Power::Up) else { return };
        host.go_down(power);
        if power == Power::Down {
            self.plan_boot(node);
        }
    }

    fn power_cycle(&mut self, node: usize) {
        let Some(host) = self.hosts.get_mut(node).filter(|host| host.power == Power::Hung) else { return };
        host.go_down(Power::Down);
        let epoch = host.power_epoch;
        self.plan_in(3 * MINUTE_MS, Event::Boots { node, epoch });
    }

    fn set_memory(&mut self, node: usize, is_short: bool) {
        let Some(host) = self.hosts.get_mut(node) else { return };
        host.is_short_of_memory = is_short;
        let epoch = host.power_epoch;
        if !is_short {
            self.plan_in(1_000, Event::Registers { node, epoch });
        }
    }

    fn command(&mut self, fault: Fault) {
        let now_ms = self.now_ms;
        match fault {
            Fault::Drain(node) => self.drain(node),
            Fault::Undrain(node) => {
                let is_foreign = self.slurm.nodes.get(node).is_some_and(|node| {
                    let reason = node.reason.as_ref();
                    let repaired = [LOW_MEMORY, BROKEN];
                    node.foreign_drain.is_some()
                        || reason
                            .is_some_and(|reason| repaired.iter().any(|text| reason.text.starts_with(text)))
                });
                let is_under_way = self.slurm.nodes.get(node).is_some_and(|node| node.issued);
                if is_foreign && !is_under_way && !self.is_ordered(node) {
                    drop(self.slurm.update(&[node], &Update::Undrain, By::Others, now_ms));
                }
            }
            Fault::SetDown(node) => {
                let is_busy = self.slurm.nodes.get(node).is_some_and(|node| node.issued || node.requested);
                if !is_busy {
                    let down = Update::Down { reason: BROKEN.to_owned() };
                    drop(self.slurm.update(&[node], &down, By::Others, now_ms));
                }
            }
            Fault::SetResume(node) => {
                let is_broken = self
                    .slurm
                    .nodes
                    .get(node)
                    .is_some_and(|node| node.base == Base::Down && !node.issued && !node.requested);
                if is_broken && !self.is_held(node) {
                    drop(self.slurm.update(&[node], &Update::Resume, By::Others, now_ms));
                }
            }
            Fault::Reserve { node, after_ms, ms, is_maintenance } => {
                let start_ms = now_ms.saturating_add(after_ms);
                let name = format!("r{}", now_ms / 1000);
                let end_ms = start_ms.saturating_add(ms);
                let nodes = vec![node];
                let reservation = Reservation { name, nodes, start_ms, end_ms, is_maintenance };
                self.slurm.reserve(|reservations| reservations.push(reservation));
                self.slurm.changed();
            }
            Fault::SuspendJob => {
                if let Some(job) = self.running_job() {
                    self.slurm.suspend(job, now_ms);
                }
            }
            Fault::ResumeJobs => self.resume_jobs(),
            Fault::HangEpilog { ms } => {
                if let Some(job) = self.running_job().and_then(|job| self.slurm.jobs.get_mut(job)) {
                    job.submission.epilog_ms = ms;
                }
            }
            Fault::RequeueJob => {
                if let Some(job) = self.running_job() {
                    drop(self.slurm.end_early(job, true, By::Others, now_ms));
                }
            }
            Fault::CancelJob => {
                if let Some(job) = self.running_job() {
                    drop(self.slurm.end_early(job, false, By::Others, now_ms));
                }
            }
            Fault::Reboot { node, asap, resume } => {
                let next = resume.then_some(Next::Resume);
                let call = Reboot { asap, next, reason: None, by: By::Others };
                self.slurm.reboot(&[node], &call, now_ms);
            }
            Fault::CancelReboot(node) => self.slurm.cancel_reboot(&[node], By::Others),
            Fault::PowerDown(node) => {
                let is_idle = self.slurm.jobs_on(node).next().is_none();
                let is_quiet = !self.is_ordered(node);
                let found = self
                    .slurm
                    .nodes
                    .get_mut(node)
                    .filter(|node| node.accepts_jobs() && !node.requested && is_idle && is_quiet);
                if let Some(node) = found {
                    node.power = Saving::Off;
                    self.slurm.changed();
                }
            }
            Fault::PowerUp(node) => {
                let found = self.slurm.nodes.get_mut(node).filter(|node| node.power == Saving::Off);
                if let Some(node) = found {
                    node.power = Saving::On;
                    self.slurm.news.push(News::NodeFreed);
                    self.slurm.changed();
                }
            }
            _ => {}
        }
    }

    /// Drains a node, unless that is the one moment at which nobody can know of it: after the node's agent has looked
    /// at Slurm for the last time, and before slurmd registers.
    fn drain(&mut self, node: usize) {
        let phase = self.hosts.get(node).and_then(crate::host::Host::phase);
        let is_unseen = self.slurm.nodes.get(node).is_some_and(|node| node.issued)
            && !matches!(phase, Some(Phase::Applying | Phase::Rebooting));
        if !is_unseen {
            let reason = format!("bad disk {}", self.now_ms % 100);
            drop(self.slurm.update(&[node], &Update::Drain { reason }, By::Others, self.now_ms));
        }
    }

    /// Returns whether an order is under way on a node.
    fn is_ordered(&self, node: usize) -> bool {
        let phase = self.hosts.get(node).and_then(crate::host::Host::phase);
        phase.is_some_and(|phase| !phase.is_settled())
    }

    fn is_held(&self, node: usize) -> bool {
        self.hosts.get(node).and_then(crate::host::Host::phase) == Some(Phase::Held)
    }

    fn running_job(&mut self) -> Option<usize> {
        let is_running = |job: &usize| self.slurm.jobs.get(*job).is_some_and(|job| job.is_running());
        let running: Vec<usize> = self.slurm.open.iter().copied().filter(is_running).collect();
        self.rng.pick(&running).copied()
    }

    fn resume_jobs(&mut self) {
        for job in self.slurm.open.clone() {
            self.slurm.resume_job(job, self.now_ms);
        }
    }

    /// Releases held nodes, and gives up lost ones.
    fn decide_about_failures(&mut self) {
        let snapshot = (*self.store.snapshot()).clone();
        let view = View { snapshot, now_ms: self.now_ms, ..View::default() };
        for rollout in &view.snapshot.rollouts {
            for (name, record) in &rollout.records {
                let nodes = NodeSet::from_iter([name.clone()]);
                if record.progress == Progress::Lost && self.now_ms > self.faults_until_ms + HOUR_MS {
                    let nodes = unstageable(&nodes, &view.snapshot, &rollout.id, self.now_ms);
                    if !nodes.is_empty() {
                        self.record(Some(&rollout.id), Entry::Unstaged { nodes }, "ann");
                    }
                    continue;
                }
                self.release(&view, name);
            }
        }
    }

    /// Releases a node that its agent holds.
    fn release(&mut self, view: &View, name: &str) {
        let Some(node) = self.slurm.index(name).filter(|node| self.is_held(*node)) else { return };
        let Some(hold) = held::hold(view.node(name)) else { return };
        self.orders = self.orders.wrapping_add(1);
        let nodes = NodeSet::from_iter([name.to_owned()]);
        let order = Order::new(OrderId::from_random(self.orders), nodes.clone(), OrderKind::Release);
        let now_ms = self.now_ms;
        let answer = self.hosts.get_mut(node).and_then(|host| host.take(&order, now_ms));
        self.plan_work(node);
        if let Some(Answer::Accepted { .. }) = answer {
            let entry = Entry::Released { nodes, order: hold.order };
            self.record(hold.rollout.as_deref(), entry, "ann");
        }
    }

    /// Stops rollouts in which a group waits for a node that failed.
    fn stop_stuck(&mut self) {
        let waits_for_failure = |why: &Why| matches!(why, Why::BringUp { standing: Standing::Failed(_), .. });
        let waiting = self.last_plan.1.waiting.iter();
        let stuck = waiting.filter(|(_, whys)| whys.iter().any(waits_for_failure)).map(|(node, _)| node);
        let stuck: Vec<&String> = stuck.collect();
        let rollouts = self.store.rollouts.iter();
        let has_one = |rollout: &&Rollout| stuck.iter().any(|node| rollout.state.records.contains_key(*node));
        let ids: Vec<String> = rollouts.filter(has_one).map(|rollout| rollout.id.clone()).collect();
        for id in ids {
            self.strike(Fault::Stop(id));
        }
    }

    /// Admins repair everything, and have all rollouts go on. Nothing fails afterwards.
    pub(super) fn clean_up(&mut self) {
        self.say("admins clean up");
        self.strike(Fault::Thaw);
        self.slurm.away_until_ms = 0;
        for executor in &mut self.executors {
            executor.stalled_until_ms = 0;
        }
        for node in 0..self.hosts.len() {
            for fault in [
                Fault::HasMemory(node),
                Fault::PowerCycle(node),
                Fault::PowerUp(node),
                Fault::Undrain(node),
                Fault::SetResume(node),
            ] {
                self.strike(fault);
            }
        }
        self.slurm.reserve(|reservations| reservations.retain(Reservation::is_ours));
        self.resume_jobs();
        self.decide_about_failures();
        let rollouts: Vec<String> = self.store.rollouts.iter().map(|rollout| rollout.id.clone()).collect();
        for id in rollouts {
            self.strike(Fault::Start(id.clone()));
            self.strike(Fault::Resume(id.clone()));
            for wave in 1..=4 {
                self.strike(Fault::Approve(id.clone(), wave));
            }
        }
        if self.now_ms > self.faults_until_ms {
            self.stop_stuck();
        }
        self.plan_in(HOUR_MS, Event::CleanUp);
    }
}
