//! RebootProgram and `reconcile`, as thin as those of the controller: the decisions are those of rollout-core.

use super::{Event, World};
use crate::slurm::By;
use crate::slurm::commands::Update;
use crate::store::{CURED, Rollout};
use rollout_core::controller::follow_up::{self, Step};
use rollout_core::controller::hand_over::{HandedOver, Request, group, handed_over};
use rollout_core::controller::lost_orders::{Remedy, lost_orders};
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::view::{AgentAnswers, View};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};
use rollout_core::rollout::journal::{ConductState, Entry, Progress};
use rollout_core::slurm::config::Release;
use rollout_core::slurm::drains::{Before, found_at_hand_over};
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::{REBOOT_PROGRAM_SUBJECT, Reason};
use std::collections::BTreeMap;

/// Time for which RebootProgram claims nodes.
const CLAIM_MS: u64 = 15_000;

/// The first release whose scontrol shows in JSON whether a node was drained at the request.
const SHOWS_UNDRAIN_FROM: Release = Release { year: 23, month: 2 };

/// An order that is about to be sent.
#[derive(Debug, Clone)]
pub struct Claim {
    pub rollout: Option<String>,
    pub order: Order,
}

impl World {
    /// Running RebootPrograms die, and those that Slurm has not started are lost.
    pub fn kill_programs(&mut self) {
        self.program_epoch = self.program_epoch.wrapping_add(1);
    }

    pub(super) fn program_starts(&mut self, nodes: &[usize], epoch: u32) {
        if epoch != self.program_epoch {
            self.say("RebootProgram was killed before it began");
            return;
        }
        let request = Request { nodes: self.slurm.names(nodes), ..Request::default() };
        self.hand_over(&request);
    }

    /// Claims nodes, whose orders are sent in a moment.
    fn hand_over(&mut self, request: &Request) {
        let infos = self.ask_slurm();
        let mut drains = self.store.drains.clone();
        if let Some(infos) = &infos {
            let at_request = self.drained_at_request(infos);
            let left_by_reboots = self.store.left_by_reboots.clone();
            let before =
                Before { known: &drains, left_by_reboots: &left_by_reboots, at_request: &at_request };
            let found = found_at_hand_over(infos, before, &CURED);
            self.store.add_drains(found.clone());
            drains.extend(found);
        }
        let (taken, skipped) = handed_over(request, infos.as_deref().map(Vec::as_slice), &drains);
        let snapshot = self.store.snapshot();
        let claims = self.claim(&taken, &snapshot);
        if !skipped.is_empty() {
            self.say(&format!("RebootProgram skips {skipped:?}"));
        }
        if claims.is_empty() || self.strikes(self.chances.program_killed) {
            return;
        }
        let delay_ms = self.rng.between(100, 2_000);
        let epoch = self.program_epoch;
        self.plan_in(delay_ms, Event::ProgramSends { claims, epoch });
    }

    fn drained_at_request(&self, infos: &[NodeInfo]) -> BTreeMap<String, bool> {
        if self.slurm.config.release < SHOWS_UNDRAIN_FROM {
            return BTreeMap::new();
        }
        let handed = infos.iter().filter(|info| info.has("REBOOT_REQUESTED") || info.has("REBOOT_ISSUED"));
        let undrain = |name: &str| {
            self.slurm
                .index(name)
                .and_then(|node| self.slurm.nodes.get(node))
                .is_some_and(|node| node.undrain)
        };
        handed.map(|info| (info.name.clone(), !undrain(&info.name))).collect()
    }

    fn claim(&mut self, taken: &[HandedOver], snapshot: &Snapshot) -> Vec<Claim> {
        let (groups, skipped) = group(taken, snapshot, self.now_ms);
        if !skipped.is_empty() {
            self.say(&format!("RebootProgram skips {skipped:?}"));
        }
        let mut claims = Vec::new();
        for (group, names) in groups {
            let give_back =
                GiveBack { resume_if_late: group.resume_if_late, drained: group.drained.map(str::to_owned) };
            let rollout = group.rollout.and_then(|id| self.store.rollout(id));
            let kind = match rollout {
                Some(rollout) => OrderKind::Apply(Apply {
                    rollout: rollout.id.clone(),
                    desired: rollout.manifest.desired.clone(),
                    give_back,
                }),
                None => OrderKind::Reboot(give_back.into()),
            };
            self.orders = self.orders.wrapping_add(1);
            let order = Order::new(OrderId::from_random(self.orders), NodeSet::from_iter(names), kind);
            let rollout = group.rollout.map(str::to_owned);
            let until_ms = self.now_ms.saturating_add(CLAIM_MS);
            let entry = Entry::Ordering { nodes: order.nodes.clone(), order: order.id.clone(), until_ms };
            self.record(rollout.as_deref(), entry, "RebootProgram");
            claims.push(Claim { rollout, order });
        }
        claims
    }

    /// Appends a line to a journal.
    pub fn record(&mut self, rollout: Option<&str>, entry: Entry, by: &str) {
        self.say(&format!("{by}: {}: {}", rollout.unwrap_or("plain reboots"), entry.describe()));
        if let Err(error) = self.store.append(rollout, entry, by, self.now_ms) {
            self.violate("journal", error);
        }
    }

    pub(super) fn program_sends(&mut self, claims: Vec<Claim>, epoch: u32) {
        if epoch != self.program_epoch {
            self.say("RebootProgram was killed before it sent the orders");
            return;
        }
        for Claim { rollout, order } in claims {
            for name in order.nodes.iter() {
                let Some(node) = self.slurm.index(name) else { continue };
                let nodes = NodeSet::from_iter([name.to_owned()]);
                let entry = self.send(node, &order, nodes);
                if self.strikes(self.chances.program_killed) {
                    self.say("RebootProgram is killed before it records the answers");
                    return;
                }
                let failed = match &entry {
                    Entry::Unreachable { .. } => Some("no answer from its agent"),
                    Entry::Refused { .. } => Some("refused"),
                    _ => None,
                };
                self.record(rollout.as_deref(), entry, "RebootProgram");
                if let Some(why) = failed.filter(|_| self.slurm.answers(self.now_ms)) {
                    let subject = rollout.as_deref().unwrap_or(REBOOT_PROGRAM_SUBJECT);
                    let reason = Reason::ours(subject, &format!("not ordered: {why}")).to_string();
                    let is_handed = self.slurm.nodes.get(node).is_some_and(|node| node.issued);
                    if is_handed {
                        let update = Update::Reason { reason };
                        drop(self.slurm.update(&[node], &update, By::Us, self.now_ms));
                    }
                }
            }
        }
    }

    /// Sends an order to one node. Returns the line about the answer.
    fn send(&mut self, node: usize, order: &Order, nodes: NodeSet) -> Entry {
        let order_id = order.id.clone();
        let unreachable = |nodes| Entry::Unreachable {
            nodes,
            order: order.id.clone(),
            why: "no answer in time".to_owned(),
        };
        if self.strikes(self.chances.message_lost) {
            return unreachable(nodes);
        }
        let now_ms = self.now_ms;
        let answer = self.hosts.get_mut(node).and_then(|host| host.take(order, now_ms));
        self.plan_work(node);
        let Some(answer) = answer.filter(|_| !self.strikes(self.chances.message_lost)) else {
            return unreachable(nodes);
        };
        match answer {
            Answer::Accepted { volatile, .. } => Entry::Ordered { nodes, order: order_id, volatile },
            Answer::UnderWay { order: under_way, rollout, volatile, .. } => {
                match rollout.as_deref() == order.rollout() {
                    true => Entry::UnderWay { nodes, order: order_id, under_way, volatile },
                    false if order.rollout().is_none() => {
                        Entry::Covered { nodes, order: order_id, by: under_way }
                    }
                    false => Entry::Refused {
                        nodes,
                        order: order_id,
                        why: "another order is under way".to_owned(),
                    },
                }
            }
            Answer::Refused { why, .. } => Entry::Refused { nodes, order: order_id, why },
        }
    }

    /// Sends lost orders and follows up those under way. In comparisons no order is lost.
    pub(super) fn reconcile(&mut self) {
        let runs = |rollout: &Rollout| rollout.state.conduct.state == ConductState::Running;
        let is_fast = self.chances.is_fast;
        let pause_ms = if is_fast || self.store.rollouts.iter().any(runs) { 10_000 } else { 30_000 };
        self.plan_in(pause_ms, Event::Reconcile);
        if !is_fast {
            let Some(infos) = self.ask_slurm() else { return };
            self.store.learn_drains(&infos);
            let snapshot = self.store.snapshot();
            self.find_lost_orders(&infos, &snapshot);
        }
        let asked = match is_fast {
            true => self.returned(),
            false => follow_up::nodes(&self.store.snapshot(), self.now_ms, false),
        };
        if asked.is_empty() {
            return;
        }
        let infos = self.slurm.indices(&asked).into_iter().filter_map(|node| self.info(node));
        let slurm = infos.map(|info| (info.name.clone(), info)).collect();
        let (snapshot, agents) = ((*self.store.snapshot()).clone(), self.ask_agents(&asked));
        let view = View { snapshot, slurm, agents, now_ms: self.now_ms };
        for name in asked.iter() {
            for due in follow_up::due(view.node(name)) {
                match due.step {
                    Step::Record(outcome) => {
                        let nodes = NodeSet::from_iter([name.to_owned()]);
                        if let Some(entry) = outcome.entry(nodes, due.order) {
                            self.record(due.rollout.as_deref(), entry, "reconcile");
                        }
                    }
                    Step::RestoreBoot { .. } | Step::TellBootRestored | Step::Instruct(_) => {
                        self.violate("follow-up", format!("{name} has no image: {:?}", due.step));
                    }
                }
            }
        }
    }

    /// Returns the nodes that have an order and are back from their reboot.
    fn returned(&self) -> NodeSet {
        let records = self.store.rollouts.iter().flat_map(|rollout| &rollout.state.records);
        let ordered = records.filter(|(_, record)| record.progress == Progress::Ordered);
        let node = |name: &str| self.slurm.nodes.get(self.slurm.index(name)?);
        let is_back = |name: &&String| node(name).is_some_and(|node| !node.issued);
        ordered.map(|(name, _)| name).filter(is_back).cloned().collect()
    }

    fn find_lost_orders(&mut self, infos: &[NodeInfo], snapshot: &Snapshot) {
        let mut handed_over_ms = BTreeMap::new();
        for lost in lost_orders(infos, snapshot, self.now_ms) {
            let status = self.slurm.index(&lost.node).and_then(|node| self.hosts.get(node));
            let status = status.and_then(|host| host.status(self.now_ms));
            match (lost.remedy(status.as_ref(), self.now_ms), lost.order) {
                (Remedy::Record, Some(order)) => {
                    let report = status.as_ref().and_then(|status| status.order.as_ref());
                    let ended = report.filter(|report| report.phase.has_ended());
                    let outcome = ended
                        .map_or(follow_up::Outcome::Accepted { volatile: false }, follow_up::Outcome::ended);
                    let nodes = NodeSet::from_iter([lost.node.clone()]);
                    if let Some(entry) = outcome.entry(nodes, Some(order)) {
                        self.record(lost.rollout.as_deref(), entry, "reconcile");
                    }
                }
                (Remedy::Order | Remedy::Record, _) => {
                    handed_over_ms.insert(lost.node, lost.handed_over_ms);
                }
                (Remedy::Booted | Remedy::Silent, _) => {}
            }
        }
        if !handed_over_ms.is_empty() {
            let nodes = handed_over_ms.keys().cloned().collect();
            self.hand_over(&Request { nodes, handed_over_ms, ..Request::default() });
        }
    }

    /// Asks agents for their status.
    pub fn ask_agents(&mut self, nodes: &NodeSet) -> AgentAnswers {
        let mut answers = AgentAnswers::new();
        for name in nodes.iter() {
            let host = self.slurm.index(name).and_then(|node| self.hosts.get(node));
            let status = host.and_then(|host| host.status(self.now_ms));
            let is_lost = self.strikes(self.chances.message_lost);
            let answer = status.filter(|_| !is_lost).ok_or_else(|| "no answer".to_owned());
            answers.insert(name.to_owned(), answer);
        }
        answers
    }
}
