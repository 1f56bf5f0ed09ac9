//! The strategies of others, as a process that looks at Slurm every few seconds.

use super::{Setting, Strategy};
use crate::slurm::By;
use crate::slurm::commands::{Reboot, Update};
use crate::slurm::job::{State, Submission};
use crate::slurm::node::{Base, Next};
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
    /// The present batch.
    batch: Vec<usize>,
    /// Number of nodes that were taken.
    taken: usize,
    /// Place of the first urgent job, once they are submitted.
    first_job: Option<usize>,
    /// The present batch is being rebooted.
    reboots: bool,
}

impl Rival {
    #[must_use]
    pub fn new(strategy: Strategy, setting: Setting) -> Self {
        let at_once = match strategy {
            Strategy::AllAsap => setting.nodes,
            Strategy::SingleLock => 1,
            _ => setting.at_once,
        };
        Self { strategy, at_once, batch: Vec::new(), taken: 0, first_job: None, reboots: false }
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
        if rival.batch.iter().all(|node| self.is_back(*node)) {
            let end = rival.taken.saturating_add(rival.at_once).min(self.slurm.nodes.len());
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

    /// Submits a job for each node, and has each node rebooted whose job runs.
    fn look_at_reboot_jobs(&mut self, rival: &mut Rival) {
        let now_ms = self.now_ms;
        let nodes = self.slurm.nodes.len();
        let Some(first) = rival.first_job else {
            rival.first_job = Some(self.slurm.jobs.len());
            for node in 0..nodes {
                self.slurm.submit(reboot_job(node, now_ms));
            }
            self.slurm.news.push(crate::slurm::News::NodeFreed);
            return;
        };
        for node in 0..nodes {
            let job = self.slurm.jobs.get(first.saturating_add(node));
            if job.is_some_and(|job| job.state == State::Running) {
                self.slurm.reboot(&[node], &asap(), now_ms);
            }
        }
    }

    fn is_back(&self, node: usize) -> bool {
        let Some(found) = self.slurm.nodes.get(node) else { return true };
        let progress = self.store.rollouts.iter().find_map(|rollout| rollout.state.records.get(&found.name));
        let is_updated = progress.is_some_and(|record| record.progress == Progress::Seen(Phase::Updated));
        is_updated && found.base == Base::Up && found.accepts_jobs()
    }

    /// Returns whether a rival has taken all nodes.
    pub(crate) fn rival_is_done(&self) -> bool {
        (0..self.slurm.nodes.len()).all(|node| self.is_back(node))
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
