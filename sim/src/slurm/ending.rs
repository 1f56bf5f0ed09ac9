//! Submissions, suspensions and ends of jobs.

use super::job::{Job, State, Submission};
use super::{By, News, Slurm};
use rollout_core::slurm::jobs::JobId;

/// Time for which a requeued job waits: the lifetime of a credential and a second.
const REQUEUE_DELAY_MS: u64 = 121_000;

impl Slurm {
    /// Adds a job.
    pub fn submit(&mut self, submission: Submission) {
        let index = self.jobs.len();
        let record = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
        let id = match submission.task {
            Some((array, task)) => JobId::Task { array: array.saturating_add(1), task },
            None => JobId::Single(record),
        };
        self.jobs.push(Job::new(record, id, submission));
        self.open.push(index);
        self.changed();
    }

    /// Ends a job: it leaves its nodes after its epilog.
    pub fn end(&mut self, index: usize, requeued: bool, extra_ms: u64, now_ms: u64) {
        let Some(job) = self.jobs.get_mut(index).filter(|job| job.is_running()) else { return };
        job.ended_ms = now_ms;
        job.epoch = job.epoch.wrapping_add(1);
        let at_ms = now_ms.saturating_add(job.submission.epilog_ms).saturating_add(extra_ms);
        self.news.push(News::LeavesAt { job: index, epoch: job.epoch, at_ms });
        self.set_state(index, State::Completing { requeued });
        self.changed();
    }

    /// Takes a completing job off its nodes.
    pub fn leave(&mut self, index: usize, now_ms: u64) {
        let Some(job) = self.jobs.get_mut(index) else { return };
        let State::Completing { requeued } = job.state else { return };
        job.epoch = job.epoch.wrapping_add(1);
        match requeued {
            true => {
                job.state = State::Pending;
                job.begin_ms = now_ms.saturating_add(REQUEUE_DELAY_MS);
                self.release(index);
            }
            false => self.close(index),
        }
        self.news.push(News::NodeFreed);
        self.changed();
    }

    fn close(&mut self, index: usize) {
        self.release(index);
        if let Some(job) = self.jobs.get_mut(index) {
            job.state = State::Over;
        }
        self.open.retain(|open| *open != index);
    }

    /// Kills the jobs of a node that failed. Those that can be requeued wait again.
    pub fn kill_jobs_of(&mut self, node: usize, by: By, why: &str, now_ms: u64) {
        let here = self.on.get(node).cloned().unwrap_or_default();
        for index in here {
            let Some(job) = self.jobs.get_mut(index) else { continue };
            let was_over = matches!(job.state, State::Completing { requeued: false });
            job.epoch = job.epoch.wrapping_add(1);
            let is_killed = job.is_running() || job.state == State::Suspended;
            match !was_over && job.submission.requeueable {
                true => {
                    job.state = State::Pending;
                    job.begin_ms = now_ms.saturating_add(REQUEUE_DELAY_MS);
                    self.release(index);
                }
                false => self.close(index),
            }
            if is_killed {
                self.news.push(News::Killed { job: index, by, why: why.to_owned() });
            }
            self.news.push(News::NodeFreed);
        }
        self.changed();
    }

    /// `scontrol requeue` and `scancel`. Both end the job within KillWait. Fails if the job cannot be requeued.
    pub fn end_early(&mut self, index: usize, requeue: bool, by: By, now_ms: u64) -> Result<(), String> {
        let kill_wait_ms = self.config.kill_wait_ms;
        let Some(job) = self.jobs.get_mut(index) else { return Err("Invalid job id specified".to_owned()) };
        if requeue && !job.submission.requeueable {
            return Err("Requested operation is presently disabled".to_owned());
        }
        match job.state {
            State::Running => {}
            State::Suspended => job.state = State::Running,
            State::Pending if !requeue => {
                self.close(index);
                return Ok(());
            }
            _ => return Ok(()),
        }
        let why = if requeue { "requeued" } else { "cancelled" };
        self.news.push(News::Killed { job: index, by, why: why.to_owned() });
        self.end(index, requeue, kill_wait_ms / 2, now_ms);
        Ok(())
    }

    pub fn suspend(&mut self, index: usize, now_ms: u64) {
        let Some(job) = self.jobs.get_mut(index).filter(|job| job.is_running()) else { return };
        job.ran_ms = job.ran_ms.saturating_add(now_ms.saturating_sub(job.runs_since_ms));
        job.epoch = job.epoch.wrapping_add(1);
        self.set_state(index, State::Suspended);
        self.news.push(News::NodeFreed);
        self.changed();
    }

    pub fn resume_job(&mut self, index: usize, now_ms: u64) {
        let Some(job) = self.jobs.get_mut(index).filter(|job| job.state == State::Suspended) else { return };
        job.runs_since_ms = now_ms;
        job.epoch = job.epoch.wrapping_add(1);
        let (epoch, at_ms) = (job.epoch, now_ms.saturating_add(job.left_ms()));
        self.set_state(index, State::Running);
        self.news.push(News::EndsAt { job: index, epoch, at_ms });
        self.changed();
    }
}
