//! `scontrol reboot`, `cancel_reboot` and `update node` (`_slurm_rpc_reboot_nodes` in `src/slurmctld/proc_req.c`,
//! `update_node` in `src/slurmctld/node_mgr.c`, 22.05 to 26.05).

use super::node::{Base, ForeignDrain, Next, Node, Power, Requested};
use super::{By, News, Slurm};
use rollout_core::slurm::config::Release;

/// Up to 24.05.2, ASAP without `nextstate=` means `nextstate=resume`. The model has 24.05.3 and later for 24.05.
const ASAP_MEANS_RESUME_BEFORE: Release = Release { year: 24, month: 5 };

/// The time within which a request of ours may cross a drain of somebody else.
const RACE_MS: u64 = 90_000;

/// A call of `scontrol reboot`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reboot {
    pub asap: bool,
    pub next: Option<Next>,
    pub reason: Option<String>,
    pub by: By,
}

/// A call of `scontrol update node state=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    Drain { reason: String },
    Undrain,
    Resume,
    Down { reason: String },
    Reason { reason: String },
}

impl Slurm {
    /// Requests reboots. Nodes that cannot be requested are passed over.
    pub fn reboot(&mut self, nodes: &[usize], call: &Reboot, now_ms: u64) {
        let resumes = call.asap && self.config.release < ASAP_MEANS_RESUME_BEFORE;
        for index in nodes {
            let Some(node) = self.nodes.get_mut(*index) else { continue };
            if node.requested || node.issued || node.power == Power::Off {
                continue;
            }
            let was_drained = node.drain;
            node.requested = true;
            node.request = Some(Requested { by: call.by, at_ms: now_ms });
            node.next = call.next.or(resumes.then_some(Next::Resume));
            node.undrain = call.asap && !was_drained;
            if let Some(reason) = &call.reason {
                node.set_reason(Some(reason), "root", now_ms);
            }
            if call.asap {
                node.drain = true;
                node.our_drain |= !was_drained && call.by == By::Us;
                if node.reason.is_none() {
                    node.set_reason(Some("Reboot ASAP"), "root", now_ms);
                }
            } else if node.reason.is_none() {
                node.set_reason(Some("reboot requested"), "root", now_ms);
            }
            if let Some(drain) = node.foreign_drain.as_mut().filter(|_| call.by == By::Us) {
                drain.has_raced |= now_ms.saturating_sub(drain.since_ms) < RACE_MS;
            }
        }
        self.changed();
    }

    /// Cancels requests that are not issued. Other nodes are passed over.
    pub fn cancel_reboot(&mut self, nodes: &[usize], by: By) {
        let erases = self.config.erases_reasons();
        for index in nodes {
            let Some(node) = self.nodes.get_mut(*index).filter(|node| node.requested) else { continue };
            // Without nextstate, the bit for UNDRAIN is set in NO_VAL.
            let undrains = node.undrain || node.next.is_none();
            node.forget_request();
            if undrains {
                node.remove_drain(by);
            }
            if undrains && node.base == Base::Up {
                node.reason = None;
            }
            node.tidy(erases);
        }
        self.news.push(News::NodeFreed);
        self.changed();
    }

    /// Updates nodes. Fails for a state that Slurm refuses; the other nodes are still updated.
    pub fn update(&mut self, nodes: &[usize], update: &Update, by: By, now_ms: u64) -> Result<(), String> {
        let (mut result, erases) = (Ok(()), self.config.erases_reasons());
        for index in nodes {
            let user = if by == By::Others { "bob" } else { "root" };
            let Some(node) = self.nodes.get_mut(*index) else { continue };
            match update {
                Update::Drain { reason } => drain(node, reason, user, by, now_ms),
                Update::Undrain => {
                    node.remove_drain(by);
                    if node.base == Base::Up && !node.issued {
                        node.not_responding = true;
                        self.news.push(News::AsksToRegister { node: *index });
                    }
                }
                Update::Resume if node.invalid_reg => result = Err("Invalid node state specified".to_owned()),
                Update::Resume => {
                    node.remove_drain(by);
                    // An issued reboot still happens, and nothing waits for it any more.
                    node.forget_request();
                    node.fail = false;
                    node.base = Base::Up;
                    node.not_responding = true;
                    node.boot_ms = None;
                    self.news.push(News::AsksToRegister { node: *index });
                }
                Update::Down { reason } => {
                    node.set_reason(Some(reason), user, now_ms);
                    node.base = Base::Down;
                    // The Reason makes a drain that it has theirs as well.
                    node.our_drain &= by != By::Others;
                }
                Update::Reason { reason } => node.set_reason(Some(reason), user, now_ms),
            }
            // A new state ends what an earlier reboot that timed out has left (26.11).
            if !matches!(update, Update::Reason { .. }) && !node.requested && !node.issued {
                node.next = None;
                node.undrain = false;
            }
            node.tidy(erases);
            if matches!(update, Update::Down { .. }) {
                self.kill_jobs_of(*index, by, "its node was set down", now_ms);
            }
        }
        self.news.push(News::NodeFreed);
        self.changed();
        result
    }
}

fn drain(node: &mut Node, reason: &str, user: &str, by: By, now_ms: u64) {
    node.drain = true;
    node.set_reason(Some(reason), user, now_ms);
    match by {
        By::Us => node.our_drain = true,
        By::Agent => {}
        By::Others => {
            let has_raced =
                node.request.is_some_and(|request| request.by == By::Us && now_ms < request.at_ms + RACE_MS);
            let (reason, since_ms) = (reason.to_owned(), now_ms);
            node.our_drain = false;
            node.foreign_drain = Some(ForeignDrain { reason, since_ms, has_raced });
        }
    }
}

#[cfg(test)]
mod tests;
