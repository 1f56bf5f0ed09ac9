//! Keys of states. States that differ only in the names of orders and boots, or in times that lead to the same
//! decisions, have the same key.

use crate::controller::{Outcome, Restore, Step};
use crate::node::Node;
use crate::world::World;
use rollout_core::agent::ledger::Ledger;
use rollout_core::agent::phase::Action;
use rollout_core::agent::record::Before;
use rollout_core::controller::follow_up::AfterRestoring;
use rollout_core::protocol::order::{Order, OrderId, OrderKind};
use rollout_core::rollout::image::Running;
use rollout_core::rollout::journal::{BootChange, Entry, NodeRecord, NodeRecords, Progress, Restoration};
use rollout_core::slurm::node::NodeInfo;
use std::hash::{DefaultHasher, Hasher};

/// Ages at which decisions change, in milliseconds: an order on its way, claims, `boot_timeout`, an order that was just
/// settled.
const AGES: [u64; 5] = [15_000, 60_000, 600_000, 3_600_000, 7_300_000];

/// A key.
pub type Key = u128;

#[derive(Default)]
struct Encoder {
    bytes: Vec<u8>,
    orders: Vec<OrderId>,
    boots: Vec<String>,
    /// Places in `bytes` of times.
    times: Vec<(usize, u64)>,
    now_ms: u64,
}

/// Returns the key of a state, without what its budget still allows.
pub fn key(world: &World) -> Key {
    let mut encoder = Encoder { now_ms: world.now_ms, ..Encoder::default() };
    encoder.world(world);
    encoder.finish()
}

impl Encoder {
    fn finish(mut self) -> Key {
        let mut sorted: Vec<u64> = self.times.iter().map(|(_, time)| *time).collect();
        sorted.sort_unstable();
        sorted.dedup();
        for (place, time) in &self.times {
            let rank = sorted.binary_search(time).unwrap_or_default();
            let age = self.now_ms.saturating_sub(*time);
            let bucket = AGES.iter().filter(|limit| age >= **limit).count();
            self.bytes[*place] = small(rank);
            self.bytes[*place + 1] = small(bucket);
        }
        let hash = |seed: u64| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(seed);
            hasher.write(&self.bytes);
            u128::from(hasher.finish())
        };
        hash(1) << 64 | hash(2)
    }

    fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    fn flag(&mut self, flag: bool) {
        self.byte(u8::from(flag));
    }

    fn count(&mut self, count: usize) {
        self.byte(small(count));
    }

    fn index(&mut self, index: Option<usize>) {
        self.byte(index.map_or(0, |index| small(index + 1)));
    }

    fn time(&mut self, time: u64) {
        self.times.push((self.bytes.len(), time));
        self.bytes.extend([0, 0]);
    }

    fn optional_time(&mut self, time: Option<u64>) {
        self.flag(time.is_some());
        if let Some(time) = time {
            self.time(time);
        }
    }

    /// A deadline: once it is over it no longer matters when.
    fn deadline(&mut self, time: u64) {
        self.flag(time > self.now_ms);
        if time > self.now_ms {
            self.time(time);
        }
    }

    fn order_id(&mut self, order: &OrderId) {
        let known = self.orders.iter().position(|known| known == order);
        let index = known.unwrap_or_else(|| {
            self.orders.push(order.clone());
            self.orders.len() - 1
        });
        self.count(index + 1);
    }

    fn optional_order(&mut self, order: Option<&OrderId>) {
        match order {
            Some(order) => self.order_id(order),
            None => self.byte(0),
        }
    }

    fn boot(&mut self, boot: &str) {
        if boot.is_empty() {
            return self.byte(0);
        }
        let known = self.boots.iter().position(|known| known == boot);
        let index = known.unwrap_or_else(|| {
            self.boots.push(boot.to_owned());
            self.boots.len() - 1
        });
        self.count(index + 1);
    }

    fn running(&mut self, running: Option<&Running>) {
        let version = running.and_then(|running| running.version.as_ref());
        let number = version.and_then(|version| version.parse::<u8>().ok());
        self.byte(number.map_or(0, |number| number + 1));
    }

    fn world(&mut self, world: &World) {
        for (index, node) in world.nodes.iter().enumerate() {
            self.node(node);
            self.byte(world.sources[index]);
            let slurm = &world.slurm[index];
            self.byte(slurm.state as u8);
            self.byte(slurm.reason as u8);
            self.flag(slurm.program_due);
            self.time(slurm.issued_ms);
            self.time(slurm.reason_ms);
        }
        for records in world.store.records() {
            self.records(records);
        }
        for (rollout, saved) in world.store.saved().iter().enumerate() {
            saved.iter().for_each(|saved| self.index(saved.map(usize::from)));
            self.flag(world.store.closed[rollout]);
            self.flag(world.store.is_staged(rollout));
        }
        for flight in &world.flights {
            self.count(flight.node);
            self.order(&flight.order);
            self.flag(flight.issued_ms < world.slurm[flight.node].issued_ms);
        }
        self.byte(255);
        // Controllers are interchangeable.
        let mut processes: Vec<_> = world.processes.iter().collect();
        processes.sort_by_key(|process| {
            (process.steps.len(), process.steps.iter().map(Step::number).collect::<Vec<u8>>())
        });
        for process in processes {
            self.count(process.steps.len());
            process.steps.iter().for_each(|step| self.step(step));
        }
        // Ids that nothing else refers to are never met again.
        for node in &world.nodes {
            for ledger in [ledger_of(node), node.disk.ledger.as_deref()].into_iter().flatten() {
                let met =
                    ledger.accepted_orders.iter().filter_map(|id| self.orders.iter().position(|o| o == id));
                let mut met: Vec<usize> = met.collect();
                met.sort_unstable();
                self.count(met.len());
                met.into_iter().for_each(|index| self.count(index));
            }
        }
    }

    fn node(&mut self, node: &Node) {
        self.boot(&node.boot_id());
        self.byte(node.power as u8);
        self.time(node.booted_ms);
        self.byte(node.image);
        self.index(node.link);
        self.flag(node.sees_it_taken_back);
        self.flag(node.disk.admitted == Some(node.boot));
        self.optional_ledger(node.disk.ledger.as_deref());
        self.flag(node.agent.is_some());
        if let Some(agent) = &node.agent {
            let on_disk = agent.ledger() == node.disk.ledger.as_deref();
            self.flag(on_disk);
            if !on_disk {
                self.optional_ledger(agent.ledger());
            }
            self.flag(agent.waits_for_instructions());
            self.flag(agent.takes_orders());
            self.flag(agent.is_about_to_end());
        }
        match node.running {
            None => self.byte(0),
            Some(running) => {
                self.byte(action(running.action));
                self.flag(running.notified);
            }
        }
        let facts = &node.facts;
        self.byte(facts.proven_images);
        self.flag(facts.is_link_proven);
        self.flag(facts.unseen_end);
        self.flag(facts.restored_in_silence);
        self.count(facts.verified.len());
        for id in &facts.verified {
            self.bytes.extend(id.as_bytes());
        }
        self.flag(facts.checked_boot == node.boot);
        self.optional_order(facts.live.as_ref().map(|(order, _)| order));
        self.byte(facts.orders);
    }

    fn optional_ledger(&mut self, ledger: Option<&Ledger>) {
        self.flag(ledger.is_some());
        let Some(ledger) = ledger else { return };
        self.order(&ledger.order);
        self.byte(ledger.phase as u8);
        self.time(ledger.since_s * 1000);
        self.boot(&ledger.boot_id);
        self.boot(&ledger.ordered_boot_id);
        self.count(ledger.tries as usize);
        self.count(ledger.further_boots as usize);
        self.count(ledger.records.len());
        for record in &ledger.records {
            match &record.before {
                Before::Image { running, .. } => self.running(Some(running)),
                Before::Symlink { .. } => self.byte(200),
                Before::InImage => self.byte(201),
                Before::Packages { .. } => self.byte(202),
                Before::KernelArgs { .. } => self.byte(203),
                Before::Command { .. } => self.byte(204),
            }
            self.byte(record.after.as_ref().map_or(0, |after| 1 + u8::from(after.changed)));
        }
        self.flag(ledger.error.is_some());
    }

    fn order(&mut self, order: &Order) {
        self.order_id(&order.id);
        self.count(order.nodes.len());
        self.order_kind(&order.kind);
    }

    fn order_kind(&mut self, kind: &OrderKind) {
        match kind {
            OrderKind::Apply(apply) => {
                self.byte(1);
                self.bytes.extend(apply.rollout.as_bytes());
                self.flag(apply.give_back.resume_if_late);
            }
            OrderKind::Reboot(plain) => {
                self.byte(2);
                self.flag(plain.give_back.resume_if_late);
            }
            OrderKind::RestoreLedger(restore) => {
                self.byte(3);
                self.order_kind(&restore.order);
                self.byte(restore.phase as u8);
                self.boot(&restore.boot_id);
                self.running(restore.running.as_ref());
                self.flag(restore.error.is_some());
            }
            OrderKind::BootRestored { order } => {
                self.byte(4);
                self.order_id(order);
            }
            other => unreachable!("{other:?} is not part of this world"),
        }
    }

    fn records(&mut self, records: &NodeRecords) {
        self.count(records.len());
        for (name, record) in records {
            self.bytes.extend(name.as_bytes());
            self.record(record);
        }
    }

    fn record(&mut self, record: &NodeRecord) {
        match record.progress {
            Progress::Staged => self.byte(0),
            Progress::Ordering { until_ms } => {
                self.byte(1);
                self.deadline(until_ms);
            }
            Progress::Ordered => self.byte(2),
            Progress::Covered => self.byte(3),
            Progress::Refused => self.byte(4),
            Progress::Unreachable => self.byte(5),
            Progress::Seen(phase) => {
                self.byte(6);
                self.byte(phase as u8);
            }
            Progress::Lost => self.byte(7),
            Progress::Superseded => self.byte(8),
        }
        self.time(record.since_ms);
        self.optional_time(record.staged_ms);
        self.optional_time(record.ordering_ms);
        self.optional_order(record.order.as_ref());
        self.count(record.earlier_orders.len());
        record.earlier_orders.iter().for_each(|order| self.order_id(order));
        self.flag(record.volatile);
        self.flag(record.boot_change.is_some());
        if let Some(change) = &record.boot_change {
            self.boot_change(change);
        }
    }

    fn boot_change(&mut self, change: &BootChange) {
        self.order_id(&change.order);
        self.time(change.since_ms);
        self.deadline(change.until_ms);
        self.running(change.before.running.as_ref());
        self.boot(&change.before.boot_id);
        self.boot(&change.boot_id);
        match &change.restoration {
            Restoration::No => self.byte(0),
            Restoration::Claimed { until_ms } => {
                self.byte(1);
                self.deadline(*until_ms);
            }
            Restoration::Done { .. } => self.byte(2),
        }
    }

    fn step(&mut self, step: &Step) {
        self.byte(step.number());
        match step {
            Step::AskSlurm { nodes } => {
                for (node, by_ms) in nodes {
                    self.count(*node);
                    self.optional_time(*by_ms);
                }
            }
            Step::Claim { handed, sent_by_ms } => {
                for handed in handed {
                    self.bytes.extend(handed.node.as_bytes());
                    self.optional_time(handed.issued_ms);
                    self.flag(handed.returns_by_itself);
                }
                self.deadline(*sent_by_ms);
            }
            Step::AskAgent { claim }
            | Step::ReadSource { claim, .. }
            | Step::SaveSource { claim, .. }
            | Step::RecordChange { claim, .. }
            | Step::SetSource { claim }
            | Step::Send { claim }
            | Step::RecordAnswer { claim, .. } => {
                self.count(claim.node);
                self.index(claim.journal);
                self.order(&claim.order);
                self.deadline(claim.sent_by_ms);
                self.time(claim.issued_ms);
                match step {
                    Step::ReadSource { before, .. } | Step::RecordChange { before, .. } => {
                        self.running(before.running.as_ref());
                        self.boot(&before.boot_id);
                    }
                    Step::SaveSource { before, source, .. } => {
                        self.running(before.running.as_ref());
                        self.boot(&before.boot_id);
                        self.byte(*source);
                    }
                    Step::RecordAnswer { outcome, .. } => self.outcome(outcome),
                    _ => {}
                }
            }
            Step::TellSlurm { node } => self.count(*node),
            Step::Survey { snapshot, slurm, silent } => {
                for rollout in &snapshot.rollouts {
                    self.bytes.extend(rollout.id.as_bytes());
                    self.records(&rollout.records);
                }
                self.records(&snapshot.plain_reboots);
                slurm.iter().for_each(|info| self.info(info));
                self.index(*silent);
            }
            Step::Record { journal, entry } => {
                self.index(*journal);
                self.entry(entry);
            }
            Step::ClaimRestoring(restore) | Step::RecordRestored(restore) | Step::AfterRestoring(restore) => {
                self.restore(restore);
            }
            Step::PutBack { restore, until_ms } => {
                self.restore(restore);
                self.deadline(*until_ms);
            }
            Step::Tell { node, order } => {
                self.count(*node);
                self.order(order);
            }
        }
    }

    fn restore(&mut self, restore: &Restore) {
        self.count(restore.node);
        self.count(restore.rollout);
        self.flag(restore.in_silence);
        self.flag(restore.needed.is_some());
        self.order_id(&restore.order);
        self.byte(match restore.then {
            AfterRestoring::Nothing => 0,
            AfterRestoring::TellAgent => 1,
            AfterRestoring::TellSlurm => 2,
            AfterRestoring::StageAgain => 3,
        });
    }

    fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Ordered { volatile } => {
                self.byte(0);
                self.flag(*volatile);
            }
            Outcome::UnderWay { under_way, volatile } => {
                self.byte(1);
                self.optional_order(under_way.as_ref());
                self.flag(*volatile);
            }
            Outcome::Covered { .. } => self.byte(2),
            Outcome::Refused(_) => self.byte(3),
            Outcome::Unreachable(_) => self.byte(4),
        }
    }

    fn entry(&mut self, entry: &Entry) {
        entry.nodes().iter().for_each(|name| self.bytes.extend(name.as_bytes()));
        match entry {
            Entry::Ordered { order, volatile, .. } => {
                self.byte(0);
                self.order_id(order);
                self.flag(*volatile);
            }
            Entry::UnderWay { order, under_way, volatile, .. } => {
                self.byte(1);
                self.order_id(order);
                self.optional_order(under_way.as_ref());
                self.flag(*volatile);
            }
            Entry::Retried { order, .. } => {
                self.byte(2);
                self.order_id(order);
            }
            Entry::Seen { order, phase, .. } => {
                self.byte(3);
                self.order_id(order);
                self.byte(*phase as u8);
            }
            Entry::Lost { order, .. } => {
                self.byte(4);
                self.order_id(order);
            }
            Entry::Superseded { order, .. } => {
                self.byte(5);
                self.optional_order(order.as_ref());
            }
            other => unreachable!("{other:?} is written where it is decided"),
        }
    }

    fn info(&mut self, info: &NodeInfo) {
        info.state.iter().for_each(|word| self.bytes.extend(word.as_bytes()));
        let reason = info.reason.as_deref().unwrap_or_default();
        self.bytes.extend(reason.as_bytes());
        self.optional_time(info.reason_s.map(|s| s * 1000));
    }
}

fn ledger_of(node: &Node) -> Option<&Ledger> {
    node.agent.as_deref().and_then(|agent| agent.ledger())
}

fn action(action: Action) -> u8 {
    match action {
        Action::Apply => 1,
        Action::Reboot => 2,
        Action::Verify => 3,
        Action::Undo => 4,
        Action::VerifyOld => 5,
        Action::Hold => 6,
        Action::OpenGate => 7,
        Action::Register => 8,
    }
}

fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
