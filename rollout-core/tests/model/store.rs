//! The state directory that both controllers share. Each method is one turn under its lock, as in
//! `rollout-control/src/store`.

use crate::scenario::{ImageNumber, Scenario};
use rollout_core::controller::closing::closable;
use rollout_core::controller::snapshot::{RolloutState, Snapshot};
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::{Conduct, Entry, Line, NodeRecord, NodeRecords, replay};
use std::sync::Arc;

/// Index of a journal: a rollout's, or `None` for that of plain reboots.
pub type Journal = Option<usize>;

#[derive(Debug, Clone)]
pub struct Store {
    /// Journals of the rollouts, then that of plain reboots.
    journals: Vec<Arc<Vec<Line>>>,
    records: Vec<Arc<NodeRecords>>,
    /// Rollouts that were staged and are not closed.
    open: Vec<bool>,
    pub closed: Vec<bool>,
    staged_ms: Vec<u64>,
    /// `boot-sources.json` of each rollout, by node.
    saved: Vec<Vec<Option<ImageNumber>>>,
    snapshot: Arc<Snapshot>,
}

impl Store {
    pub fn new(scenario: &Scenario) -> Self {
        let count = scenario.rollouts.len();
        Self {
            journals: vec![Arc::default(); count + 1],
            records: vec![Arc::default(); count + 1],
            open: vec![false; count],
            closed: vec![false; count],
            staged_ms: vec![0; count],
            saved: vec![vec![None; scenario.nodes.len()]; count],
            snapshot: Arc::default(),
        }
    }

    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub fn records(&self) -> &[Arc<NodeRecords>] {
        &self.records
    }

    pub fn saved(&self) -> &[Vec<Option<ImageNumber>>] {
        &self.saved
    }

    pub fn is_staged(&self, rollout: usize) -> bool {
        self.open[rollout] || self.closed[rollout]
    }

    pub fn stage(&mut self, scenario: &Scenario, rollout: usize, now_ms: u64) {
        self.open[rollout] = true;
        self.staged_ms[rollout] = now_ms;
        let nodes = scenario.rollouts[rollout].manifest.nodes.clone();
        self.append(scenario, Some(rollout), Entry::Staged { nodes }, now_ms);
    }

    pub fn append(&mut self, scenario: &Scenario, journal: Journal, entry: Entry, now_ms: u64) {
        let index = journal.unwrap_or(scenario.rollouts.len());
        let entry = scenario.rules.written(entry, &self.records[index]);
        let lines = Arc::make_mut(&mut self.journals[index]);
        lines.push(Line { t_ms: now_ms, by: String::new(), entry });
        self.records[index] = Arc::new(replay(lines.iter()));
        self.refresh(scenario);
    }

    /// Keeps the present boot source of a node: `StoreWriter::save_boot_sources`.
    pub fn save_boot_source(
        &mut self,
        scenario: &Scenario,
        rollout: usize,
        node: usize,
        source: ImageNumber,
    ) {
        let record = self.records[rollout].get(&scenario.nodes[node].name);
        let ours = record.is_some_and(|record| record.unsettled_boot_change().is_some());
        let saved = &mut self.saved[rollout][node];
        if !(ours && saved.is_some()) {
            *saved = Some(source);
        }
    }

    /// Claims a boot source for restoring: `StoreWriter::claim_restoring`.
    pub fn claim_restoring(
        &mut self,
        scenario: &Scenario,
        (rollout, node): (usize, usize),
        order: &OrderId,
        (now_ms, until_ms): (u64, u64),
    ) -> bool {
        let name = &scenario.nodes[node].name;
        if scenario.rules.restores_without_claim() {
            return true;
        }
        let of_order = |record: &&NodeRecord| {
            record.unsettled_boot_change().is_some_and(|change| change.order == *order)
                && !record.is_claimed(now_ms)
        };
        if self.records[rollout].get(name).filter(of_order).is_none() {
            return false;
        }
        let nodes = NodeSet::from_names([name.as_str()]).expect("a name");
        let entry = Entry::BootRestoring { nodes, order: order.clone(), until_ms };
        self.append(scenario, Some(rollout), entry, now_ms);
        true
    }

    /// Closes the rollouts that are over. Returns whether there was one.
    pub fn close(&mut self, scenario: &Scenario, handed_over: &NodeSet, now_ms: u64) -> bool {
        let over = closable(&self.snapshot, handed_over, now_ms);
        for (id, _) in &over {
            let rollout = scenario.rollout(id);
            self.open[rollout] = false;
            self.closed[rollout] = true;
        }
        self.refresh(scenario);
        !over.is_empty()
    }

    fn refresh(&mut self, scenario: &Scenario) {
        let (plain, rollouts) = self.records.split_last().expect("the journal of plain reboots");
        let states = scenario.rollouts.iter().zip(rollouts).enumerate();
        let states =
            states.filter(|(index, _)| self.open[*index]).map(|(index, (setup, records))| RolloutState {
                id: setup.id.clone(),
                staged_ms: self.staged_ms[index],
                by: String::new(),
                manifest: Ok(setup.manifest.clone()),
                records: (**records).clone(),
                conduct: Conduct::default(),
            });
        let mut rollouts: Vec<RolloutState> = states.collect();
        rollouts.sort_by_key(|rollout| rollout.staged_ms);
        let plain_reboots = (**plain).clone();
        self.snapshot = Arc::new(Snapshot { rollouts, plain_reboots, ..Snapshot::default() });
    }

    /// Prints the journals.
    pub fn print(&self, scenario: &Scenario) {
        for (index, lines) in self.journals.iter().enumerate() {
            let id = scenario.rollouts.get(index).map_or("plain-reboots", |rollout| &rollout.id);
            for line in lines.iter() {
                println!("      {id} {}: {:?}", line.t_ms, line.entry);
            }
        }
    }
}
