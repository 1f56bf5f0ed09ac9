//! Hand-overs to RebootProgram, and what time brings about: ResumeTimeout, SlurmdTimeout, OverTimeLimit.

use super::node::{Base, Power};
use super::{By, News, Slurm};
use rollout_core::slurm::config::Release;

/// From 23.11.6 on, a time-out keeps DRAIN. The model has the old behavior up to 23.11.
const KEEPS_DRAIN_FROM: Release = Release { year: 24, month: 5 };

impl Slurm {
    /// Hands over every requested node that is free (`_queue_reboot_msg` in `src/slurmctld/controller.c`, up to 25.11;
    /// `_do_power_work` in `src/slurmctld/power_save.c`, 26.05).
    pub fn issue(&mut self, now_ms: u64) {
        let is_ready = |index: &usize| {
            let Some(node) = self.nodes.get(*index).filter(|node| node.requested) else { return false };
            let is_idle = node.base == Base::Up && !node.not_responding && node.power == Power::On;
            // A suspended job keeps its node, although the node shows IDLE.
            let is_empty = self.jobs_on(*index).next().is_none();
            is_empty && (is_idle || node.base == Base::Down)
        };
        let ready: Vec<usize> = (0..self.nodes.len()).filter(is_ready).collect();
        for index in &ready {
            let Some(node) = self.nodes.get_mut(*index) else { continue };
            node.base = Base::Down;
            node.requested = false;
            node.issued = true;
            node.boot_wanted_ms = Some(now_ms);
            node.note("reboot issued", now_ms);
        }
        if !ready.is_empty() {
            self.news.push(News::Issued { nodes: ready });
            self.changed();
        }
    }

    /// Looks at time-outs, as slurmctld does every 30 s.
    pub fn look_at_timers(&mut self, now_ms: u64) {
        for index in 0..self.nodes.len() {
            let is_busy = self.jobs_on(index).next().is_some();
            let Some(node) = self.nodes.get_mut(index) else { continue };
            // The Reason of a plain request does not last on a busy node.
            let is_plain = node.requested && node.base == Base::Up && !node.drain && !node.fail;
            if is_plain && is_busy && node.reason.take().is_some() {
                self.shown.take();
            }
            let wanted_ms = node.boot_wanted_ms.filter(|_| node.issued);
            if wanted_ms.is_some_and(|at_ms| at_ms.saturating_add(self.config.resume_timeout_ms) < now_ms) {
                node.issued = false;
                node.boot_wanted_ms = None;
                node.base = Base::Down;
                node.note("reboot timed out", now_ms);
                if self.config.release < KEEPS_DRAIN_FROM {
                    // `DRAIN` is lost here, whoever had set it.
                    node.drain = false;
                    node.our_drain = false;
                }
                self.changed();
                continue;
            }
            let silent_ms = node.silent_since_ms.filter(|_| !node.issued && node.power == Power::On);
            let Some(silent_ms) = silent_ms.map(|since_ms| now_ms.saturating_sub(since_ms)) else { continue };
            if silent_ms > 0 && !node.not_responding {
                node.not_responding = true;
                self.shown.take();
                self.version = self.version.wrapping_add(1);
            }
            if silent_ms > self.config.slurmd_timeout_ms && node.base == Base::Up {
                node.base = Base::Down;
                if !node.drain && !node.fail {
                    node.set_reason(Some("Not responding"), "slurm", now_ms);
                }
                self.kill_jobs_of(index, By::Others, "its node does not respond", now_ms);
            }
        }
    }
}
