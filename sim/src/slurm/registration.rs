//! slurmd registers (`validate_node_specs` in `src/slurmctld/node_mgr.c`, 22.05 to 26.05).

use super::node::{Base, Next, Power, SetReason};
use super::{By, News, Slurm};
use rollout_core::slurm::config::Release;

/// From 24.11.2 on, an unexpected boot ends a request. The model has the old behavior up to 24.11.
const BOOT_ENDS_REQUEST_FROM: Release = Release { year: 25, month: 5 };

/// From 23.11 on, a drained node may boot unexpectedly.
const DRAINED_MAY_BOOT_FROM: Release = Release { year: 23, month: 11 };

/// Beginning of the Reason of a node that registers with less memory than is configured.
pub const LOW_MEMORY: &str = "Low RealMemory";

/// Difference between the boot times of two registrations of one boot.
const JITTER_MS: u64 = 2_000;

/// A registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registration {
    pub boot_ms: u64,
    pub slurmd_start_ms: u64,
    /// The node has at least what is configured.
    pub is_valid: bool,
}

impl Slurm {
    /// Takes a registration. slurmctld must answer.
    pub fn register(&mut self, index: usize, found: Registration, now_ms: u64) {
        let release = self.config.release;
        let (return_to_service, erases) = (self.config.return_to_service, self.config.erases_reasons());
        let Some(node) = self.nodes.get_mut(index) else { return };
        let has_booted = node.boot_ms.is_some_and(|before_ms| found.boot_ms > before_ms + JITTER_MS);
        node.boot_ms = Some(found.boot_ms);
        node.slurmd_start_ms = Some(found.slurmd_start_ms);
        node.silent_since_ms = None;
        if !found.is_valid {
            node.invalid_reg = true;
            node.drain |= node.base == Base::Up && !node.fail;
            node.boot_wanted_ms = None;
            let reason = format!("{LOW_MEMORY} (reported:1 < 100.00% of configured:2)");
            node.set_reason(Some(&reason), "slurm", now_ms);
            self.changed();
            return;
        }
        // The drain of the refusal stays until an admin removes it.
        node.invalid_reg = false;
        if node.power == Power::ComingUp {
            node.power = Power::On;
        }
        // Others know what their own request does to a drain.
        let by = node.request.map_or(By::Others, |request| request.by);
        if node.issued {
            if node.boot_wanted_ms.is_some_and(|wanted_ms| found.boot_ms < wanted_ms) {
                self.changed();
                return;
            }
            let next = node.next;
            let clears = next.is_some() || node.undrain;
            node.forget_request();
            node.not_responding = false;
            if clears {
                node.remove_drain(by);
            }
            match next {
                Some(Next::Down) => node.note("reboot complete", now_ms),
                _ => node.base = Base::Up,
            }
        } else if node.base == Base::Down {
            let is_silence = node.reason.as_ref().is_some_and(|reason| reason.text == "Not responding");
            node.not_responding = false;
            if return_to_service == 2 || return_to_service == 1 && is_silence {
                node.base = Base::Up;
                if node.next.is_some() || node.undrain {
                    node.remove_drain(by);
                }
                node.forget_request();
            }
        } else {
            node.not_responding = false;
            let ends_request = release >= BOOT_ENDS_REQUEST_FROM;
            let is_exempt = node.drain && release >= DRAINED_MAY_BOOT_FROM;
            if has_booted && return_to_service != 2 && !is_exempt {
                node.base = Base::Down;
                let may_be_replaced =
                    |reason: &SetReason| reason.text == "Not responding" || node.requested && ends_request;
                if node.reason.as_ref().is_none_or(may_be_replaced) {
                    node.set_reason(Some("Node unexpectedly rebooted"), "slurm", now_ms);
                }
            }
            if has_booted {
                if ends_request && node.requested {
                    node.forget_request();
                }
                self.kill_jobs_of(index, By::Others, "its node has booted", now_ms);
            }
        }
        if let Some(node) = self.nodes.get_mut(index).filter(|node| !node.requested) {
            node.tidy(erases);
        }
        self.news.push(News::NodeFreed);
        self.changed();
    }
}
