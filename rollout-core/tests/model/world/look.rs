//! Looks of `reconcile`: the steps that are due for nodes, and lost orders.

use super::World;
use crate::controller::{Restore, Step};
use crate::scenario::Scenario;
use crate::store::Journal;
use rollout_core::controller::follow_up::{self, FollowUp};
use rollout_core::controller::lost_orders::{Remedy, lost_orders};
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::protocol::order::{GiveBack, Order, OrderKind, PlainReboot, RestoreLedger};
use rollout_core::slurm::node::NodeInfo;
use std::sync::Arc;

impl World {
    /// One look of the follow-up: `rollout-control/src/follow_up.rs`.
    pub(super) fn look(
        &mut self,
        scenario: &Scenario,
        process: usize,
        snapshot: &Snapshot,
        slurm: Vec<NodeInfo>,
        silent: Option<usize>,
    ) {
        let view = self.view(snapshot, slurm, silent);
        let steps = scenario.rules.follow_up(view);
        let (mut records, mut restores, mut tells) = (Vec::new(), Vec::new(), Vec::new());
        for (name, FollowUp { rollout, order, step }) in steps {
            let node = scenario.node(&name);
            let journal: Journal = rollout.as_deref().map(|id| scenario.rollout(id));
            match step {
                follow_up::Step::Record(outcome) => {
                    let entry = outcome.entry(self.set(node), order);
                    records.extend(entry.map(|entry| Step::Record { journal, entry }));
                }
                follow_up::Step::RestoreBoot { why, then } => {
                    let Some(rollout) = journal else { continue };
                    let record =
                        snapshot.rollout(&scenario.rollouts[rollout].id).and_then(|of| of.records.get(&name));
                    let Some(change) = record.and_then(|record| record.unsettled_boot_change()) else {
                        continue;
                    };
                    let needed = self.is_needed(scenario, (node, rollout), silent);
                    let order = change.order.clone();
                    let in_silence = self.status(node, silent).is_none();
                    restores.push(Step::ClaimRestoring(Restore {
                        node,
                        rollout,
                        order,
                        why,
                        then,
                        in_silence,
                        needed,
                    }));
                }
                follow_up::Step::TellBootRestored => {
                    let Some(undone) = order else { continue };
                    let order = self.tell_restored(node, undone);
                    tells.push(Step::Tell { node, order });
                }
                follow_up::Step::Instruct(instruction) => {
                    let info = self.slurm[node].info(&name);
                    let resume_if_late = match info.is_handed_over() {
                        true => info.returns_by_itself(),
                        false => !info.has("DRAIN"),
                    };
                    let give_back = GiveBack { resume_if_late, drained: None };
                    let kind = match journal {
                        None => OrderKind::Reboot(PlainReboot { give_back, features: None }),
                        Some(rollout) => self.apply_order(scenario, rollout, give_back),
                    };
                    let follow_up::Instruction { phase, error, boot_id, ordered_s, running } = instruction;
                    let ledger =
                        RestoreLedger { order: Box::new(kind), phase, boot_id, ordered_s, running, error };
                    let id = order.unwrap_or_else(|| self.new_id());
                    let order = Order::new(id, self.set(node), OrderKind::RestoreLedger(ledger));
                    tells.push(Step::Tell { node, order: Arc::new(order) });
                }
            }
        }
        self.next(process, records.into_iter().chain(restores).chain(tells));
    }

    /// Returns the reason why a boot source must not be restored, of which the node's agent could tell.
    pub(super) fn is_needed(
        &self,
        scenario: &Scenario,
        (node, rollout): (usize, usize),
        silent: Option<usize>,
    ) -> Option<&'static str> {
        let (at, image) = (&self.nodes[node], rollout + 1);
        if self.status(node, silent).is_none() || usize::from(self.sources[node]) != image {
            return None;
        }
        let runs_proven = usize::from(at.image) == image && at.facts.proven_images & (1 << image) != 0;
        let live = at.facts.live.as_ref().is_some_and(|(_, of)| *of == scenario.rollouts[rollout].id);
        match (runs_proven && !at.facts.unseen_end, live) {
            (true, _) => Some("although it is proven"),
            (false, true) => Some("under a live order"),
            (false, false) => None,
        }
    }

    /// Looks for lost orders: `rollout-control/src/reconcile.rs`.
    pub(super) fn find_lost(&mut self, scenario: &Scenario, process: usize, silent: Option<usize>) {
        let mut infos = self.slurm_infos();
        infos.retain(|info| info.has("REBOOT_ISSUED"));
        let snapshot = scenario.rules.snapshot(self.store.snapshot());
        let lost = lost_orders(&infos, &snapshot, self.now_ms);
        if lost.is_empty() {
            return;
        }
        let mut to_order = Vec::new();
        for lost in lost {
            let node = scenario.node(&lost.node);
            let status = self.status(node, silent);
            match (lost.remedy(status.as_ref(), self.now_ms), lost.order) {
                (Remedy::Record, Some(order)) => {
                    let journal = lost.rollout.as_deref().map(|id| scenario.rollout(id));
                    let report = status.as_ref().and_then(|agent| agent.order.as_ref());
                    let ended = report.filter(|report| report.phase.has_ended());
                    let volatile = status.as_ref().is_some_and(|agent| agent.volatile);
                    let accepted = follow_up::Outcome::Accepted { volatile };
                    let outcome = ended.map_or(accepted, follow_up::Outcome::ended);
                    let entry = outcome.entry(self.set(node), Some(order));
                    self.processes[process].steps.extend(entry.map(|entry| Step::Record { journal, entry }));
                }
                (Remedy::Order | Remedy::Record, _) => to_order.push((node, Some(lost.handed_over_ms))),
                (Remedy::Booted | Remedy::Silent, _) => {}
            }
        }
        if !to_order.is_empty() {
            self.processes[process].steps.push_back(Step::AskSlurm { nodes: to_order });
        }
    }
}
