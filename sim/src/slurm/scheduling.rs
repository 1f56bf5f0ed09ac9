//! Starts of jobs: in the order of submission, and backfill in the manner of EASY (Lifka, "The ANL/IBM SP scheduling
//! system", 1995): a job may overtake if it does not delay the first one that waits.

use super::job::{Job, State};
use super::{News, Slurm};

/// Number of pending jobs that one round looks at.
const DEPTH: usize = 60;

impl Slurm {
    /// Starts every pending job that can start.
    pub fn schedule(&mut self, now_ms: u64) {
        self.planned.iter_mut().for_each(|planned| *planned = false);
        // For each node the time at which a job that waits longer needs it.
        let mut needed_ms: Vec<u64> = vec![u64::MAX; self.nodes.len()];
        let mut is_first = true;
        for job in self.pending(now_ms) {
            if let Some(nodes) = self.nodes_for(job, &needed_ms, now_ms) {
                self.start(job, nodes, now_ms);
                continue;
            }
            let is_pinned = self.jobs.get(job).is_some_and(|job| job.only_on.is_some());
            if is_pinned || std::mem::take(&mut is_first) {
                for (node, at_ms) in self.plan(job, now_ms) {
                    if let Some(needed_ms) = needed_ms.get_mut(node) {
                        *needed_ms = at_ms.min(*needed_ms);
                    }
                    let is_idle = self.used_cpus(node) == 0;
                    if let Some(planned) = self.planned.get_mut(node).filter(|_| is_idle) {
                        *planned = true;
                    }
                }
            }
        }
    }

    fn pending(&self, now_ms: u64) -> Vec<usize> {
        let is_ready = |index: &usize| {
            self.jobs.get(*index).is_some_and(|job| job.state == State::Pending && job.begin_ms <= now_ms)
        };
        let mut pending: Vec<usize> = self.open.iter().copied().filter(is_ready).collect();
        pending.sort_by_key(|index| self.jobs.get(*index).map(|job| (!job.is_urgent, *index)));
        // Jobs for one node are looked at all, since they are cheap.
        let is_for_one =
            |index: &&usize| self.jobs.get(**index).is_some_and(|job| job.is_urgent && job.only_on.is_some());
        pending.truncate(DEPTH.saturating_add(pending.iter().filter(is_for_one).count()));
        pending
    }

    /// Returns nodes on which a job can start now without delaying one that waits longer.
    fn nodes_for(&self, index: usize, needed_ms: &[u64], now_ms: u64) -> Option<Vec<usize>> {
        let job = self.jobs.get(index)?;
        let end_ms = job.limit_ms.map_or(u64::MAX, |limit_ms| now_ms.saturating_add(limit_ms));
        let is_usable = |node: &usize| {
            needed_ms.get(*node).is_some_and(|needed_ms| end_ms <= *needed_ms)
                && self.is_in_service(*node, now_ms)
                && !self.is_reserved(*node, now_ms, end_ms)
                && self.has_room(*node, job.cpus, job.exclusive)
        };
        let mut nodes: Vec<usize> = self.allowed(job).iter().copied().filter(is_usable).collect();
        // Requested nodes come last, and shared jobs fill used nodes first (`_set_sched_weight` in
        // `src/slurmctld/node_scheduler.c`, and `CR_LLN` unset).
        nodes.sort_by_key(|node| {
            let is_requested = self.nodes.get(*node).is_some_and(|node| node.requested);
            (is_requested, std::cmp::Reverse(self.used_cpus(*node)))
        });
        nodes.truncate(job.wanted);
        (nodes.len() == job.wanted).then_some(nodes)
    }

    /// Returns the nodes on which a job can run.
    fn allowed<'a>(&'a self, job: &'a Job) -> &'a [usize] {
        match &job.only_on {
            Some(only) => std::slice::from_ref(only),
            None => self.partitions.get(job.partition).map_or(&[], |partition| partition.nodes.as_slice()),
        }
    }

    fn has_room(&self, node: usize, cpus: u32, exclusive: bool) -> bool {
        let Some(found) = self.nodes.get(node) else { return false };
        // A node that is completing takes shared jobs only.
        let is_empty = self.jobs_on(node).next().is_none();
        match exclusive {
            true => is_empty,
            false => {
                let has_whole = self.jobs_on(node).any(|job| job.exclusive);
                !has_whole && self.used_cpus(node).saturating_add(cpus) <= found.cpus
            }
        }
    }

    /// Returns whether a reservation has the node before a job would end.
    fn is_reserved(&self, node: usize, now_ms: u64, end_ms: u64) -> bool {
        self.reservations.iter().any(|reservation| {
            let is_ahead = reservation.start_ms < end_ms && reservation.end_ms > now_ms;
            is_ahead && reservation.nodes.contains(&node)
        })
    }

    /// Returns the nodes that a job will get, each with the time at which it gets them.
    fn plan(&self, index: usize, now_ms: u64) -> Vec<(usize, u64)> {
        let Some(job) = self.jobs.get(index) else { return Vec::new() };
        let free = self.allowed(job).iter().filter(|node| self.is_in_service(**node, now_ms)).map(|node| {
            let ends = self.jobs_on(*node).map(|job| job.limit_end_ms().unwrap_or(u64::MAX));
            (ends.max().unwrap_or(now_ms).max(now_ms), *node)
        });
        let mut free: Vec<(u64, usize)> = free.collect();
        free.sort_unstable();
        free.truncate(job.wanted);
        let at_ms = free.last().map_or(u64::MAX, |(at_ms, _)| *at_ms);
        match free.len() == job.wanted && at_ms < u64::MAX {
            true => free.into_iter().map(|(_, node)| (node, at_ms)).collect(),
            false => Vec::new(),
        }
    }

    fn start(&mut self, index: usize, nodes: Vec<usize>, now_ms: u64) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        job.state = State::Running;
        job.start_ms = now_ms;
        job.runs_since_ms = now_ms;
        job.ran_ms = 0;
        job.epoch = job.epoch.wrapping_add(1);
        let (epoch, at_ms) = (job.epoch, now_ms.saturating_add(job.left_ms()));
        self.allocate(index, nodes);
        self.news.push(News::Started { job: index });
        self.news.push(News::EndsAt { job: index, epoch, at_ms });
        self.changed();
    }
}
