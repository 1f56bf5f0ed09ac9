//! Rules that must hold after each write and each answer.

use crate::world::{Node, target, version};
use rollout_core::agent::gate::Gate;
use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::phase::Phase;
use rollout_core::agent::{Agent, Reaction, Write};
use rollout_core::protocol::answer::Answer;
use rollout_core::protocol::order::{Order, OrderId, OrderKind};
use rollout_core::rollout::manifest::Change;
use std::collections::BTreeSet;

impl Node {
    /// Checks a ledger that replaces the one on disk.
    pub fn check_ledger(&self, ledger: &Ledger) {
        let last = self.disk.ledger.as_ref();
        if let Some(last) = last {
            if last.phase == Phase::Held && ledger.phase != Phase::Held {
                assert!(self.admin, "a hold was ended by {:?}", ledger.order);
            }
            if !last.phase.is_settled() {
                assert_eq!(last.order, ledger.order, "two orders under way");
            }
        }
        // It may have jobs.
        let registered =
            last.filter(|last| last.phase == Phase::Registering && last.boot_id == self.boot_id());
        if registered.is_some() && ledger.phase == Phase::Undoing {
            assert_eq!(self.refused_in, Some(self.boot), "undone without an answer of Slurm's");
        }
        // slurmd may start with either, so what is staged must be there.
        let opens = ledger.phase.is_settled() || ledger.phase == Phase::Registering;
        let settles = last.is_none_or(|last| last.phase != ledger.phase) && opens;
        if settles && self.honest {
            self.check_settled(ledger);
        }
        if self.honest && !self.volatile {
            let remembered: BTreeSet<_> = ledger.accepted_orders.iter().collect();
            assert_eq!(remembered.len(), ledger.accepted_orders.len(), "an order counts twice");
            assert_eq!(remembered, self.accepted.iter().collect());
        }
        if ledger.phase == Phase::Held {
            assert!(ledger.error.is_some(), "held without a reason");
        }
    }

    fn check_settled(&self, ledger: &Ledger) {
        match ledger.phase {
            Phase::Registering | Phase::Updated => {
                for (index, change) in ledger.changes().iter().enumerate() {
                    let (is, wanted) = match change {
                        Change::Command(command) => {
                            let wanted = version(&command.version);
                            assert_eq!(self.firmware.active, wanted, "updated, and not what was staged");
                            continue;
                        }
                        Change::Image(image) => (&self.running, image.image.as_str()),
                        _ => (&self.links[index], target(change)),
                    };
                    assert_eq!(is, wanted, "updated, and not what was staged");
                }
            }
            Phase::RolledBack => {
                let sent = self.controller.as_ref().filter(|sent| sent.order.id == ledger.order.id);
                let restored = sent.and_then(|sent| sent.booted.as_ref());
                let (links, firmware) = &self.before;
                assert_eq!(self.links, *links, "rolled back, and not what it was");
                // A node may have been released before a boot that makes its firmware active.
                let active = self.firmware.active;
                assert!(
                    active == firmware.active || active == firmware.flashed,
                    "{active} is not {firmware:?}"
                );
                // A node that was released on an unproven image went on running that, while its boot source was
                // restored.
                let runs_as_before = sent.is_some_and(|sent| self.running == sent.running);
                assert!(runs_as_before || self.running == self.boots, "it does not run what it boots");
                assert!(restored.is_none_or(|restored| self.boots == *restored), "it boots what failed");
                assert!(ledger.error.is_some(), "rolled back without a reason");
                assert!(!ledger.status().changed, "nothing counts as changed after it was undone");
            }
            _ => return,
        }
        let boot_id = self.boot_id();
        assert_ne!(
            ledger.ordered_boot_id, boot_id,
            "{:?} without the boot that Slurm waits for",
            ledger.phase
        );
        assert_ne!(
            self.switched_in,
            Some(self.boot),
            "{:?} without a boot since the last change",
            ledger.phase
        );
    }

    pub fn check_gate(&self, agent: &Agent) {
        let ledger = self.disk.ledger.as_ref();
        let settled = match ledger.filter(|ledger| !self.volatile || ledger.boot_id == self.boot_id()) {
            Some(ledger) => ledger.is_settled(),
            None => ledger.is_none_or(|ledger| ledger.is_settled()),
        };
        let admitted = !self.volatile || self.disk.admitted_boot == Some(self.boot_id());
        let registering = ledger
            .is_some_and(|ledger| ledger.phase == Phase::Registering && ledger.boot_id == self.boot_id());
        let open = (settled && admitted) || registering;
        assert_eq!(agent.gate() == Gate::Open, open, "{:?}", self.disk.ledger);
    }

    /// Checks that the agent's state is the one that it would find on disk.
    pub fn check_agent(&self, agent: &Agent) {
        assert_eq!(*agent, self.start_agent(), "the agent is ahead of its disk");
    }

    /// slurmd registers. Slurm removes the drain of a node that returns from a reboot.
    pub fn slurmd_registers(&mut self) {
        let slurm = &mut self.slurm;
        if slurm.reboot_issued {
            (slurm.reboot_issued, slurm.drained, slurm.reason) = (false, false, None);
        }
        slurm.looked_at = false;
        if self.honest {
            assert_eq!(slurm.reason, slurm.expected, "a drain that an admin set is kept");
            assert_eq!(slurm.drained, slurm.expected.is_some());
        }
    }

    /// Checks that an answer names the order that it refers to.
    pub fn check_answer(&self, agent: &Agent, order: &Order, reaction: &Reaction, answer: &Answer) {
        let accepts = reaction.action.is_some();
        let under_way = agent.ledger().filter(|ledger| !ledger.phase.is_settled());
        assert_eq!(accepts, matches!(reaction.writes.first(), Some(Write::Ledger(_))));
        match answer {
            Answer::Accepted { order: id, volatile } => {
                assert_eq!(*volatile, self.volatile);
                let expected = match (reaction.writes.first(), &order.kind) {
                    (Some(Write::Ledger(ledger)), _) => &ledger.order.id,
                    (_, OrderKind::BootRestored { order }) => order,
                    _ => &order.id,
                };
                assert_eq!(id.as_ref(), Some(expected));
            }
            Answer::UnderWay { phase, order: id, rollout, volatile } => {
                let ledger = under_way.expect("an order is under way");
                assert_eq!((*phase, id.as_ref()), (ledger.phase, Some(&ledger.order.id)));
                assert_eq!((rollout.as_deref(), *volatile), (ledger.order.rollout(), self.volatile));
            }
            Answer::Refused { why, order: id, .. } => {
                assert!(!why.is_empty() && reaction.writes.is_empty());
                let known = |id: &OrderId| {
                    *id == order.id || agent.ledger().is_some_and(|ledger| *id == ledger.order.id)
                };
                assert!(id.as_ref().is_none_or(known), "{why}: {id:?}");
            }
        }
    }
}
