//! Following up nodes whose order was sent: recording how it goes, restoring boot sources, and instructing nodes
//! without a ledger. Each call looks once; the caller decides when to look again.

use crate::agents::ask_all::{Limits, send_sealed};
use crate::agents::seal::seal;
use crate::boot::change::{By, Restore, restore};
use crate::config::Config;
use crate::store::{StoreError, StoreWriter};
use crate::survey::survey;
use rollout_core::controller::follow_up::{
    AfterRestoring, FollowUp, Instruction, Outcome, Step, due, is_on_its_way, is_urgent, may_be_expected,
    nodes, returned,
};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind, PlainReboot, RestoreLedger};
use rollout_core::rollout::journal::Entry;
use rollout_core::slurm::drains::still_drained;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::Reason;
use rollout_host::{clock, random};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time limits for the agents' status. Most nodes that are followed up are between two boots, and silent.
const ASKING: Duration = Duration::from_millis(700);
const ASKING_ALL: Duration = Duration::from_secs(5);

/// Time limit for providers to restore boot sources.
const RESTORING: Duration = Duration::from_secs(60);

/// The nodes to follow up.
#[derive(Debug, Clone, Copy)]
pub enum Scope<'a> {
    /// All nodes with an open order. Slurm reported this about all its nodes just now: nodes that may await
    /// instructions without an order are looked at as well.
    All(&'a [NodeInfo]),
    /// Only nodes that wait for a step of the controller.
    Urgent,
    /// Only nodes with an order that are back from their reboot. Slurm reported this about all its nodes just now.
    Returned(&'a [NodeInfo]),
}

/// The result of one look.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FollowedUp {
    /// Nodes on their way: another look in a moment is worth it.
    pub on_their_way: NodeSet,
    /// Steps that were taken, one line each.
    pub done: Vec<String>,
    /// Steps that failed, one line each. The next look tries again.
    pub failed: Vec<String>,
}

/// Looks at all nodes in the scope and takes the steps that are due. If there are none, no agent is asked.
///
/// # Errors
/// Fails if the state directory cannot be used.
pub fn follow_up(config: &Config, store: &StoreWriter, scope: Scope<'_>) -> Result<FollowedUp, StoreError> {
    let snapshot = store.snapshot()?;
    let now_ms = clock::now_ms();
    let (slurm, all) = match scope {
        Scope::All(slurm) => {
            let others = slurm.iter().filter(|info| may_be_expected(info)).map(|info| info.name.clone());
            (slurm, nodes(&snapshot, now_ms, false).union(&others.collect()))
        }
        Scope::Urgent => (&[][..], nodes(&snapshot, now_ms, true)),
        Scope::Returned(slurm) => (slurm, returned(&snapshot, slurm)),
    };
    if all.is_empty() {
        return Ok(FollowedUp::default());
    }
    let of_them = slurm.iter().filter(|info| all.contains(&info.name)).cloned().collect();
    let view = survey(config, snapshot, &all, of_them, Limits::new(ASKING, ASKING_ALL));
    let steps: Vec<(String, FollowUp)> = all
        .iter()
        .flat_map(|name| due(view.node(name)).into_iter().map(|step| (name.to_owned(), step)))
        .collect();
    let mut look =
        Look { config, store, view: &view, result: FollowedUp::default(), orders: BTreeMap::new() };
    look.record_outcomes(&steps)?;
    look.restore_boot_sources(&steps)?;
    look.instruct(steps);
    look.send();
    look.result.on_their_way = on_their_way(&view, &all);
    Ok(look.result)
}

fn on_their_way(view: &View, nodes: &NodeSet) -> NodeSet {
    let on_its_way = |name: &&str| view.node(name).records().any(|of| is_on_its_way(of, view.now_ms));
    nodes.iter().filter(on_its_way).map(str::to_owned).collect()
}

/// Nodes with the same outcome of the same order.
type SameOutcome = BTreeMap<(Option<OrderId>, Outcome), Vec<String>>;

struct Look<'a> {
    config: &'a Config,
    store: &'a StoreWriter,
    view: &'a View,
    result: FollowedUp,
    /// Orders to send, by NodeName.
    orders: BTreeMap<String, Order>,
}

impl Look<'_> {
    /// Records outcomes, nodes with the same one in one line.
    fn record_outcomes(&mut self, steps: &[(String, FollowUp)]) -> Result<(), StoreError> {
        let mut journals: BTreeMap<Option<&str>, SameOutcome> = BTreeMap::new();
        for (node, FollowUp { rollout, order, step }) in steps {
            let Step::Record(outcome) = step else { continue };
            match outcome {
                Outcome::Ended { phase, .. } if self.is_urgent(node, rollout.as_deref()) => {
                    self.result.done.push(format!("{node}: {}", phase.name()));
                }
                Outcome::Lost { why } => self.result.failed.push(format!("{node}: lost: {why}")),
                _ => {}
            }
            let journal = journals.entry(rollout.as_deref()).or_default();
            journal.entry((order.clone(), outcome.clone())).or_default().push(node.clone());
        }
        for (rollout, outcomes) in journals {
            let entry = |((order, outcome), nodes): ((Option<OrderId>, Outcome), Vec<String>)| {
                outcome.entry(NodeSet::from_iter(nodes), order)
            };
            self.store.record(rollout, outcomes.into_iter().filter_map(entry).collect())?;
        }
        Ok(())
    }

    /// Returns whether the node had to be taken through its order. The ends of others, which may be thousands, are in
    /// the journal.
    fn is_urgent(&self, node: &str, rollout: Option<&str>) -> bool {
        let mut records = self.view.node(node).records().filter(|of| of.rollout_id() == rollout);
        records.any(|of| is_urgent(of.record))
    }

    fn restore_boot_sources(&mut self, steps: &[(String, FollowUp)]) -> Result<(), StoreError> {
        let mut rollouts: BTreeMap<&str, BTreeMap<String, (Restore, AfterRestoring)>> = BTreeMap::new();
        for (node, FollowUp { rollout, step, .. }) in steps {
            let (Step::RestoreBoot { why, then }, Some(rollout)) = (step, rollout.as_deref()) else {
                continue;
            };
            let record = self.view.snapshot.rollout(rollout).and_then(|rollout| rollout.records.get(node));
            let Some(change) = record.and_then(|record| record.unsettled_boot_change()) else { continue };
            let restore = Restore { order: change.order.clone(), why: why.clone() };
            rollouts.entry(rollout).or_default().insert(node.clone(), (restore, *then));
        }
        for (rollout, nodes) in rollouts {
            let Some(image) = self.view.snapshot.rollout(rollout).and_then(|rollout| rollout.image()) else {
                let error =
                    self.view.snapshot.rollout(rollout).and_then(|rollout| rollout.manifest.as_ref().err());
                self.result.failed.extend(error.cloned());
                continue;
            };
            let wanted = nodes.iter().map(|(node, (restore, _))| (node.clone(), restore.clone())).collect();
            let (addresses, until) = (&self.view.snapshot.addresses, (By::Other, Instant::now() + RESTORING));
            let restored = restore(self.config, self.store, (rollout, image), wanted, addresses, until)?;
            self.result
                .failed
                .extend(restored.failed.into_iter().map(|(node, why)| format!("{node}: {why}")));
            for (node, (restore, then)) in nodes.into_iter().filter(|(node, _)| restored.done.contains(node))
            {
                self.result.done.push(format!("{node}: boots from what it had: {}", restore.why));
                self.after_restoring(rollout, node, restore, then)?;
            }
        }
        Ok(())
    }

    fn after_restoring(
        &mut self,
        rollout: &str,
        node: String,
        Restore { order, why }: Restore,
        then: AfterRestoring,
    ) -> Result<(), StoreError> {
        let nodes = NodeSet::from_iter([node.clone()]);
        match then {
            AfterRestoring::Nothing => {}
            AfterRestoring::TellAgent => self.tell_boot_restored(node, order),
            AfterRestoring::StageAgain => {
                self.store.record(Some(rollout), vec![Entry::Unreachable { nodes, order, why }])?;
            }
            AfterRestoring::TellSlurm => {
                let text = format!("{why}; it boots its old image now: power-cycle it");
                let scontrol = self.config.scontrol();
                let now = scontrol.show_nodes(&nodes).ok().and_then(|infos| infos.into_iter().next());
                let reason = Reason::ours(rollout, &text)
                    .replacing(now.as_ref().and_then(|node| node.reason.as_deref()));
                if let Err(error) = scontrol.set_reason(&nodes, &reason) {
                    self.result.failed.push(format!("{nodes}: the Reason cannot be set: {error}"));
                }
            }
        }
        Ok(())
    }

    fn tell_boot_restored(&mut self, node: String, undone: OrderId) {
        let nodes = NodeSet::from_iter([node.clone()]);
        let kind = OrderKind::BootRestored { order: undone };
        self.orders.insert(node, Order::new(random::order_id(), nodes, kind));
    }

    /// Prepares the instructions for agents that await them.
    fn instruct(&mut self, steps: Vec<(String, FollowUp)>) {
        let awaiting = steps.iter().filter(|(_, step)| matches!(step.step, Step::Instruct(_)));
        let awaiting: NodeSet = awaiting.map(|(node, _)| node.clone()).collect();
        // The give-back depends on what Slurm shows now.
        let slurm = match awaiting.is_empty() {
            true => Vec::new(),
            false => self.config.scontrol().show_nodes(&awaiting).unwrap_or_default(),
        };
        for (node, FollowUp { rollout, order, step }) in steps {
            match (step, order) {
                (Step::TellBootRestored, Some(undone)) => self.tell_boot_restored(node, undone),
                (Step::Instruct(instruction), order) => {
                    let info = slurm.iter().find(|info| info.name == node);
                    let order = order.unwrap_or_else(random::order_id);
                    match self.instruction(&node, rollout.as_deref(), order, instruction, info) {
                        Ok(order) => drop(self.orders.insert(node, order)),
                        Err(why) => self.result.failed.push(format!("{node}: it cannot be told: {why}")),
                    }
                }
                _ => {}
            }
        }
    }

    fn instruction(
        &self,
        node: &str,
        rollout: Option<&str>,
        order: OrderId,
        instruction: Instruction,
        slurm: Option<&NodeInfo>,
    ) -> Result<Order, String> {
        let give_back = GiveBack {
            resume_if_late: slurm.is_none_or(|info| match info.is_handed_over() {
                true => info.returns_by_itself(),
                false => !info.has("DRAIN"),
            }),
            drained: slurm.and_then(|info| still_drained(&self.view.snapshot.drains, info)),
        };
        let kind = match rollout {
            None => OrderKind::Reboot(PlainReboot { give_back, features: None }),
            Some(id) => {
                let rollout = self.view.snapshot.rollout(id).ok_or("its rollout is gone")?;
                let desired = rollout.manifest.as_ref().map_err(String::clone)?.desired.clone();
                OrderKind::Apply(Apply { rollout: id.to_owned(), desired, give_back })
            }
        };
        let Instruction { phase, error, boot_id, ordered_s, running } = instruction;
        let ledger = RestoreLedger { order: Box::new(kind), phase, boot_id, ordered_s, running, error };
        let nodes = NodeSet::from_iter([node.to_owned()]);
        Ok(Order::new(order, nodes, OrderKind::RestoreLedger(ledger)))
    }

    fn send(&mut self) {
        let mut sealed: BTreeMap<String, String> = BTreeMap::new();
        for (node, order) in std::mem::take(&mut self.orders) {
            match seal(self.config, &order) {
                Ok(text) => drop(sealed.insert(node, text)),
                Err(why) => self.result.failed.push(format!("{node}: it cannot be told: {why}")),
            }
        }
        if sealed.is_empty() {
            return;
        }
        let limits = Limits::new(self.config.agent_timeout.get(), self.config.deadline.get());
        for (node, answer) in send_sealed(self.config, sealed, &self.view.snapshot.addresses, limits) {
            match answer {
                Ok(Answer::Accepted { .. } | Answer::UnderWay { .. }) => {
                    self.result.done.push(format!("{node}: told how to go on"));
                }
                Ok(Answer::Refused { why, .. }) => self.result.failed.push(format!("{node}: {why}")),
                Err(no_answer) => self.result.failed.push(format!("{node}: {no_answer}")),
            }
        }
    }
}
