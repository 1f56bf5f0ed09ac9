//! Starts of jobs: in the order of submission, and backfill in the manner of EASY (Lifka, "The ANL/IBM SP scheduling
//! system", 1995): a job may overtake if it does not delay the first one that waits.

use super::job::{State, Submission};
use super::node::Next;
use super::{News, Slurm};

/// Number of pending jobs that one round looks at.
const DEPTH: usize = 60;

/// Facts about the nodes in one round.
struct Round {
    now_ms: u64,
    in_service: Vec<bool>,
    /// Processors that shared jobs can have. 0 if no job can start.
    free_cpus: Vec<u32>,
    /// Nodes that exclusive jobs can have.
    is_empty: Vec<bool>,
    /// The time at which a reservation or a job that waits longer needs the node.
    needed_ms: Vec<u64>,
    /// A job that waits longer could not start.
    is_backfill: bool,
}

impl Slurm {
    /// Starts every pending job that can start.
    pub fn schedule(&mut self, now_ms: u64) {
        self.planned.iter_mut().for_each(|planned| *planned = false);
        self.shown.take();
        let mut round = self.round(now_ms);
        for job in self.pending(now_ms) {
            if let Some(nodes) = self.nodes_for(job, &round) {
                for node in &nodes {
                    self.count_start(&mut round, *node, job);
                }
                self.start(job, nodes, now_ms);
                continue;
            }
            let is_pinned = self.jobs.get(job).is_some_and(|job| job.submission.only_on.is_some());
            if !is_pinned && std::mem::replace(&mut round.is_backfill, true) {
                continue;
            }
            for (node, at_ms) in self.plan(job, &round) {
                if let Some(needed_ms) = round.needed_ms.get_mut(node) {
                    *needed_ms = at_ms.min(*needed_ms);
                }
                let is_idle = self.used_cpus(node) == 0;
                if let Some(planned) = self.planned.get_mut(node).filter(|_| is_idle) {
                    *planned = true;
                }
            }
        }
    }

    fn round(&self, now_ms: u64) -> Round {
        let in_service = self.in_service(now_ms);
        let (mut free_cpus, mut is_empty) = (Vec::new(), Vec::new());
        for ((index, node), in_service) in self.nodes.iter().enumerate().zip(in_service.iter().copied()) {
            let first = self.jobs_on(index).next();
            is_empty.push(in_service && first.is_none());
            // A node that is completing takes shared jobs only.
            let is_shared = first.is_none_or(|job| !job.submission.exclusive);
            let free = node.cpus.saturating_sub(self.used_cpus(index));
            free_cpus.push(if in_service && is_shared { free } else { 0 });
        }
        let mut needed_ms = vec![u64::MAX; self.nodes.len()];
        for reservation in self.reservations.iter().filter(|reservation| reservation.end_ms > now_ms) {
            for node in &reservation.nodes {
                if let Some(needed_ms) = needed_ms.get_mut(*node) {
                    *needed_ms = reservation.start_ms.min(*needed_ms);
                }
            }
        }
        Round { now_ms, in_service, free_cpus, is_empty, needed_ms, is_backfill: false }
    }

    /// Counts the start of a job on a node.
    fn count_start(&self, round: &mut Round, node: usize, job: usize) {
        let Some(job) = self.jobs.get(job) else { return };
        if let Some(is_empty) = round.is_empty.get_mut(node) {
            *is_empty = false;
        }
        if let Some(free) = round.free_cpus.get_mut(node) {
            *free = if job.submission.exclusive { 0 } else { free.saturating_sub(job.submission.cpus) };
        }
    }

    fn pending(&self, now_ms: u64) -> Vec<usize> {
        let is_ready = |index: &usize| {
            self.jobs.get(*index).is_some_and(|job| job.state == State::Pending && job.begin_ms <= now_ms)
        };
        let is_urgent = |index: &usize| self.jobs.get(*index).is_some_and(|job| job.submission.is_urgent);
        let ready = self.open.iter().copied().filter(is_ready);
        let (urgent, rest): (Vec<usize>, Vec<usize>) = ready.partition(is_urgent);
        // Those that go before all others are few, or for one node each and cheap.
        urgent.into_iter().chain(rest.into_iter().take(DEPTH)).collect()
    }

    /// Returns nodes on which a job can start now without delaying one that waits longer.
    fn nodes_for(&self, index: usize, round: &Round) -> Option<Vec<usize>> {
        let job = &self.jobs.get(index)?.submission;
        let end_ms = job.limit_ms.map_or(u64::MAX, |limit_ms| round.now_ms.saturating_add(limit_ms));
        let is_usable = |node: &usize| {
            let has_room = match job.exclusive {
                true => round.is_empty.get(*node) == Some(&true),
                false => round.free_cpus.get(*node).is_some_and(|free| job.cpus <= *free),
            };
            has_room
                && round.needed_ms.get(*node).is_some_and(|needed_ms| end_ms <= *needed_ms)
                && !(round.is_backfill && self.is_passed_over_by_backfill(*node))
        };
        let mut nodes: Vec<usize> = self.allowed(job).iter().copied().filter(is_usable).collect();
        if nodes.len() < job.nodes {
            return None;
        }
        // Requested nodes come last, and shared jobs fill used nodes first (`_set_sched_weight` in
        // `src/slurmctld/node_scheduler.c`, and `CR_LLN` unset).
        let rank = |node: &usize| {
            let is_requested = self.nodes.get(*node).is_some_and(|node| node.requested);
            (is_requested, std::cmp::Reverse(self.used_cpus(*node)), *node)
        };
        if job.nodes < nodes.len() {
            nodes.select_nth_unstable_by_key(job.nodes, rank);
            nodes.truncate(job.nodes);
        }
        Some(nodes)
    }

    /// Returns whether only the main scheduler starts jobs on a node: its reboot is requested with `nextstate=resume`
    /// (`src/plugins/sched/backfill/backfill.c`, 22.05 to 26.05).
    fn is_passed_over_by_backfill(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.requested && node.next == Some(Next::Resume))
    }

    /// Returns the nodes on which a job can run.
    fn allowed<'a>(&'a self, job: &'a Submission) -> &'a [usize] {
        match &job.only_on {
            Some(only) => std::slice::from_ref(only),
            None => self.partitions.get(job.partition).map_or(&[], |partition| partition.nodes.as_slice()),
        }
    }

    /// Returns the nodes that a job will get, each with the time at which it gets them.
    fn plan(&self, index: usize, round: &Round) -> Vec<(usize, u64)> {
        let Some(job) = self.jobs.get(index).map(|job| &job.submission) else { return Vec::new() };
        let in_service = |node: &&usize| round.in_service.get(**node) == Some(&true);
        let free = self.allowed(job).iter().filter(in_service).map(|node| {
            let ends = self.jobs_on(*node).map(|job| job.limit_end_ms().unwrap_or(u64::MAX));
            (ends.max().unwrap_or(round.now_ms).max(round.now_ms), *node)
        });
        let mut free: Vec<(u64, usize)> = free.collect();
        free.sort_unstable();
        free.truncate(job.nodes);
        let at_ms = free.last().map_or(u64::MAX, |(at_ms, _)| *at_ms);
        match free.len() == job.nodes && at_ms < u64::MAX {
            true => free.into_iter().map(|(_, node)| (node, at_ms)).collect(),
            false => Vec::new(),
        }
    }

    fn start(&mut self, index: usize, nodes: Vec<usize>, now_ms: u64) {
        let Some(job) = self.jobs.get_mut(index) else { return };
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
