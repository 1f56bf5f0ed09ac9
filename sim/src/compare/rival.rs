//! The strategies of others, as a process that looks at Slurm every few seconds.

use super::{Setting, Strategy};
use crate::slurm::By;
use crate::slurm::commands::{Reboot, Update};
use crate::slurm::job::{State, Submission};
use crate::slurm::node::Next;
use crate::world::{Event, World};
use rollout_core::agent::phase::Phase;
use rollout_core::rollout::journal::Progress;

/// Interval between two looks.
const TICK_MS: u64 = 3_000;

#[derive(Debug, Clone)]
pub struct Rival {
    strategy: Strategy,
    /// Nodes that it takes at a time.
    at_once: usize,
    /// The present batch, or the nodes with a reboot job.
    batch: Vec<usize>,
    /// The jobs of these nodes.
    jobs: Vec<usize>,
    /// Number of nodes that were taken.
    taken: usize,
    /// The present batch is being rebooted.
    reboots: bool,
    /// All nodes are back.
    pub is_done: bool,
}

impl Rival {
    #[must_use]
    pub fn new(strategy: Strategy, setting: Setting) -> Self {
        let at_once = match strategy {
            Strategy::AllAsap => setting.nodes,
            Strategy::SingleLock => 1,
            _ => setting.at_once,
        };
        let (batch, jobs) = (Vec::new(), Vec::new());
        Self { strategy, at_once, batch, jobs, taken: 0, reboots: false, is_done: false }
    }
}

fn asap() -> Reboot {
    Reboot { asap: true, next: Some(Next::Resume), reason: Some("r1".to_owned()), by: By::Others }
}

impl World {
    /// Has somebody else take the nodes, from this time on.
    pub fn set_rival(&mut self, rival: Rival, from_ms: u64) {
        self.rival = Some(rival);
        self.plan_at(from_ms, Event::Rival);
    }

    pub(crate) fn rival_looks(&mut self) {
        self.plan_in(TICK_MS, Event::Rival);
        let Some(mut rival) = self.rival.take() else { return };
        match rival.strategy {
            Strategy::JobPerNode => self.look_at_reboot_jobs(&mut rival),
            _ => self.look_at_batch(&mut rival),
        }
        self.rival = Some(rival);
    }

    fn look_at_batch(&mut self, rival: &mut Rival) {
        let now_ms = self.now_ms;
        let nodes = self.slurm.nodes.len();
        // The drain of a batch is its own.
        let keeps_drain = |node: &usize| {
            let found = self.slurm.nodes.get(*node);
            found.is_some_and(|found| found.drain && !found.issued) && self.is_updated(*node)
        };
        let drained: Vec<usize> = rival.batch.iter().copied().filter(keeps_drain).collect();
        if !drained.is_empty() {
            drop(self.slurm.update(&drained, &Update::Undrain, By::Us, now_ms));
        }
        if rival.batch.iter().all(|node| self.is_back(*node)) {
            let end = rival.taken.saturating_add(rival.at_once).min(nodes);
            rival.is_done = rival.taken == nodes;
            rival.batch = (rival.taken..end).collect();
            rival.taken = end;
            rival.reboots = false;
            if rival.strategy == Strategy::Serial {
                let drain = Update::Drain { reason: "r1".to_owned() };
                drop(self.slurm.update(&rival.batch, &drain, By::Us, now_ms));
            } else {
                self.slurm.reboot(&rival.batch, &asap(), now_ms);
            }
        }
        let is_drained = |node: &usize| self.slurm.jobs_on(*node).next().is_none();
        if rival.strategy == Strategy::Serial && !rival.reboots && rival.batch.iter().all(is_drained) {
            rival.reboots = true;
            self.slurm.reboot(&rival.batch, &asap(), now_ms);
        }
    }

    /// Submits a job for each of some nodes, and has each node rebooted whose job runs.
    fn look_at_reboot_jobs(&mut self, rival: &mut Rival) {
        let (now_ms, nodes) = (self.now_ms, self.slurm.nodes.len());
        let taken = std::mem::take(&mut rival.batch).into_iter().zip(std::mem::take(&mut rival.jobs));
        let (mut left, mut due): (Vec<(usize, usize)>, Vec<usize>) = (Vec::new(), Vec::new());
        for (node, job) in taken.filter(|(node, _)| !self.is_back(*node)) {
            left.push((node, job));
            if self.slurm.jobs.get(job).is_some_and(|job| job.state == State::Running) {
                due.push(node);
            }
        }
        if !due.is_empty() {
            self.slurm.reboot(&due, &asap(), now_ms);
        }
        while left.len() < rival.at_once && rival.taken < nodes {
            left.push((rival.taken, self.slurm.jobs.len()));
            self.slurm.submit(reboot_job(rival.taken, now_ms));
            self.slurm.news.push(crate::slurm::News::NodeFreed);
            rival.taken = rival.taken.saturating_add(1);
        }
        rival.is_done = left.is_empty();
        (rival.batch, rival.jobs) = left.into_iter().unzip();
    }

    fn is_updated(&self, node: usize) -> bool {
        let Some(found) = self.slurm.nodes.get(node) else { return true };
        let record = self.store.rollouts.iter().find_map(|rollout| rollout.state.records.get(&found.name));
        record.is_some_and(|record| record.progress == Progress::Seen(Phase::Updated))
    }

    fn is_back(&self, node: usize) -> bool {
        let accepts = self.slurm.nodes.get(node).is_none_or(crate::slurm::node::Node::accepts_jobs);
        accepts && self.is_updated(node)
    }
}

fn reboot_job(node: usize, now_ms: u64) -> Submission {
    Submission {
        at_ms: now_ms,
        task: None,
        uid: 0,
        partition: 0,
        nodes: 1,
        cpus: 1,
        exclusive: true,
        limit_ms: Some(60_000),
        // It runs until the next look at least, so that the node is requested while it runs.
        needs_ms: 2 * TICK_MS,
        epilog_ms: 200,
        requeueable: false,
        only_on: Some(node),
        is_urgent: true,
    }
}
