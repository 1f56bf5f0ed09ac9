//! The steps of the controllers' processes, one read or write of something shared at a time.

use super::{Flight, Net, World};
use crate::controller::{
    CLAIM_MS, Claim, Outcome, RESTORING_CLAIM_MS, RESTORING_MS, Restore, SENT_BY_MS, Step,
};
use crate::node::Until;
use crate::scenario::{ImageNumber, Scenario};
use rollout_core::controller::follow_up::AfterRestoring;
use rollout_core::controller::hand_over::{Request, group, handed_over};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind, PlainReboot};
use rollout_core::rollout::journal::{Booted, Entry};
use rollout_core::slurm::drains::Drains;
use std::sync::Arc;

impl World {
    pub(super) fn step_if_any(&mut self, scenario: &Scenario, process: usize) -> Option<()> {
        if self.processes[process].steps.is_empty() {
            return Some(());
        }
        self.step(scenario, process, Net::Fine)
    }

    pub(super) fn next(&mut self, process: usize, steps: impl IntoIterator<Item = Step>) {
        let queue = &mut self.processes[process].steps;
        let steps: Vec<Step> = steps.into_iter().collect();
        for step in steps.into_iter().rev() {
            queue.push_front(step);
        }
    }

    pub(super) fn step(&mut self, scenario: &Scenario, process: usize, net: Net) -> Option<()> {
        let step = self.processes[process].steps.pop_front()?;
        let is_message = matches!(step, Step::Send { .. } | Step::Tell { .. });
        (is_message || net == Net::Fine).then_some(())?;
        match step {
            Step::AskSlurm { nodes } => {
                let names = nodes.iter().map(|(node, _)| self.nodes[*node].name.as_str());
                let by_ms =
                    nodes.iter().filter_map(|(node, by)| Some((self.nodes[*node].name.clone(), (*by)?)));
                let request = Request {
                    nodes: NodeSet::from_names(names).expect("names"),
                    handed_over_ms: by_ms.collect(),
                    ..Request::default()
                };
                let (handed, _) = handed_over(&request, Some(&self.slurm_infos()), &Drains::new());
                if !handed.is_empty() {
                    let sent_by_ms = self.now_ms + SENT_BY_MS;
                    self.next(process, [Step::Claim { handed, sent_by_ms }]);
                }
            }
            Step::Claim { handed, sent_by_ms } => {
                let snapshot = scenario.rules.snapshot(self.store.snapshot());
                let (groups, _) = group(&handed, &snapshot, self.now_ms);
                let (mut changes, mut sends) = (Vec::new(), Vec::new());
                for (group, names) in groups {
                    let journal = group.rollout.map(|id| scenario.rollout(id));
                    let give_back = GiveBack { resume_if_late: group.resume_if_late, drained: None };
                    let kind = match journal {
                        None => OrderKind::Reboot(PlainReboot { give_back, features: None }),
                        Some(rollout) => self.apply_order(scenario, rollout, give_back),
                    };
                    let nodes = NodeSet::from_names(names.iter().map(String::as_str)).expect("names");
                    let id = self.new_id();
                    let until_ms = self.now_ms + CLAIM_MS;
                    let entry = Entry::Ordering { nodes: nodes.clone(), order: id.clone(), until_ms };
                    self.store.append(scenario, journal, entry, self.now_ms);
                    let order = Arc::new(Order::new(id, nodes, kind));
                    for name in names {
                        let (node, order) = (scenario.node(&name), Arc::clone(&order));
                        let issued_ms = self.slurm[node].issued_ms;
                        let claim = Claim { node, journal, order, sent_by_ms, issued_ms };
                        match journal.and_then(|rollout| scenario.rollouts[rollout].image()) {
                            Some(_) => changes.push(Step::AskAgent { claim }),
                            None => sends.push(Step::Send { claim }),
                        }
                    }
                }
                self.next(process, changes.into_iter().chain(sends));
            }
            Step::AskAgent { claim } => match self.status(claim.node, None) {
                None => self.record_answer(process, claim, Outcome::Unreachable("silent".to_owned())),
                Some(status) if status.awaits && !scenario.rules.changes_while_awaiting() => {
                    self.record_answer(process, claim, Outcome::Unreachable("it awaits".to_owned()));
                }
                Some(status) => {
                    let before = Booted { running: status.running, boot_id: status.boot_id };
                    self.next(process, [Step::ReadSource { claim, before }]);
                    if !scenario.fine {
                        self.step(scenario, process, Net::Fine)?;
                    }
                }
            },
            Step::ReadSource { claim, before } => {
                let source = self.sources[claim.node];
                self.next(process, [Step::SaveSource { claim, before, source }]);
            }
            Step::SaveSource { claim, before, source } => {
                let rollout = claim.journal.expect("a rollout changes boot sources");
                self.store.save_boot_source(scenario, rollout, claim.node, source);
                self.next(process, [Step::RecordChange { claim, before }]);
            }
            Step::RecordChange { claim, before } => {
                let name = self.nodes[claim.node].name.clone();
                let entry = Entry::BootChange {
                    nodes: self.set(claim.node),
                    order: claim.order.id.clone(),
                    before: [(name, before)].into(),
                    until_ms: claim.sent_by_ms + 5_000,
                };
                self.store.append(scenario, claim.journal, entry, self.now_ms);
                self.next(process, [Step::SetSource { claim }]);
            }
            Step::SetSource { claim } => {
                if self.now_ms > claim.sent_by_ms {
                    self.record_answer(process, claim, Outcome::Unreachable("the time is over".to_owned()));
                } else {
                    let image =
                        ImageNumber::try_from(claim.journal.expect("a rollout") + 1).expect("few rollouts");
                    if self.sources[claim.node] != image {
                        self.sources[claim.node] = image;
                    }
                    if self.nodes[claim.node].image != image {
                        self.nodes[claim.node].facts.proven_images &= !(1 << image);
                    }
                    self.next(process, [Step::Send { claim }]);
                }
            }
            Step::Send { claim } => {
                let order = Arc::clone(&claim.order);
                let outcome = if self.now_ms > claim.sent_by_ms {
                    (net == Net::Fine).then_some(())?;
                    Outcome::Unreachable("the time is over".to_owned())
                } else {
                    match self.send(
                        Flight { node: claim.node, order: Arc::clone(&order), issued_ms: claim.issued_ms },
                        net,
                    )? {
                        None => Outcome::Unreachable("no answer".to_owned()),
                        Some(answer) => scenario.rules.outcome(answer, &order.id, claim.journal.is_some()),
                    }
                };
                self.record_answer(process, claim, outcome);
            }
            Step::RecordAnswer { claim, outcome } => {
                let failed = outcome.is_failure();
                let entry = outcome.entry(self.set(claim.node), claim.order.id.clone());
                self.store.append(scenario, claim.journal, entry, self.now_ms);
                if failed {
                    self.processes[process].steps.push_back(Step::TellSlurm { node: claim.node });
                }
            }
            Step::TellSlurm { node } => self.slurm[node].give_reason(self.now_ms),
            Step::Survey { snapshot, slurm, silent } => {
                self.look(scenario, process, &snapshot, slurm, silent)
            }
            Step::Record { journal, entry } => self.store.append(scenario, journal, entry, self.now_ms),
            Step::ClaimRestoring(restore) => {
                let (now_ms, rollout) = (self.now_ms, restore.rollout);
                let claimed = self.store.claim_restoring(
                    scenario,
                    (rollout, restore.node),
                    &restore.order,
                    (now_ms, now_ms + RESTORING_CLAIM_MS),
                );
                if claimed {
                    let name = &self.nodes[restore.node].name;
                    let wrong = |why| format!("5: the boot source of {name} is restored {why}");
                    self.violation = restore.needed.map(wrong);
                    self.next(process, [Step::PutBack { restore, until_ms: now_ms + RESTORING_MS }]);
                }
            }
            Step::PutBack { restore, until_ms } => {
                let saved = self.store.saved()[restore.rollout][restore.node];
                if let Some(source) = saved.filter(|_| self.now_ms <= until_ms) {
                    self.sources[restore.node] = source;
                    let facts = &mut self.nodes[restore.node].facts;
                    facts.restored_in_silence |= restore.in_silence;
                    self.next(process, [Step::RecordRestored(restore)]);
                }
            }
            Step::RecordRestored(restore) => {
                let (nodes, order) = (self.set(restore.node), restore.order.clone());
                let entry = Entry::BootRestored { nodes, order, why: restore.why.clone() };
                self.store.append(scenario, Some(restore.rollout), entry, self.now_ms);
                if restore.then != AfterRestoring::Nothing {
                    self.next(process, [Step::AfterRestoring(restore)]);
                }
            }
            Step::AfterRestoring(restore) => {
                let Restore { node, rollout, order, why, then, .. } = restore;
                match then {
                    AfterRestoring::Nothing => {}
                    AfterRestoring::TellAgent => {
                        let order = self.tell_restored(node, order);
                        self.processes[process].steps.push_back(Step::Tell { node, order });
                    }
                    AfterRestoring::TellSlurm => self.slurm[node].give_reason(self.now_ms),
                    AfterRestoring::StageAgain => {
                        let entry = Entry::Unreachable { nodes: self.set(node), order, why };
                        self.store.append(scenario, Some(rollout), entry, self.now_ms);
                    }
                }
            }
            Step::Tell { node, order } => drop(self.send(Flight { node, order, issued_ms: 0 }, net)?),
        }
        Some(())
    }

    pub(super) fn record_answer(&mut self, process: usize, claim: Claim, outcome: Outcome) {
        self.next(process, [Step::RecordAnswer { claim, outcome }]);
    }

    /// Sends an order. Returns the answer if one comes back.
    pub(super) fn send(&mut self, flight: Flight, net: Net) -> Option<Option<Answer>> {
        let node = flight.node;
        if !self.nodes[node].answers() {
            return (net == Net::Fine).then_some(None);
        }
        if net == Net::Late {
            self.flights.push(flight);
            return Some(None);
        }
        self.takes_orders(node).then_some(())?;
        let until = match net {
            Net::Dies(until) => until,
            _ => Until::End,
        };
        let answer = self.deliver(&flight, until)?;
        if net == Net::Duplicated {
            self.flights.push(flight);
        }
        Some(answer.filter(|_| net != Net::AnswerLost))
    }

    pub(super) fn apply_order(&self, scenario: &Scenario, rollout: usize, give_back: GiveBack) -> OrderKind {
        let setup = &scenario.rollouts[rollout];
        let desired = setup.manifest.desired.clone();
        OrderKind::Apply(Apply { rollout: setup.id.clone(), desired, give_back })
    }

    pub(super) fn tell_restored(&mut self, node: usize, undone: OrderId) -> Arc<Order> {
        let id = self.new_id();
        Arc::new(Order::new(id, self.set(node), OrderKind::BootRestored { order: undone }))
    }
}
