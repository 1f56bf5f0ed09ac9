//! Updates of the node's own entry in Slurm, as root and through scontrol: the Reason of a held node, and the return
//! of a node on which Slurm has given up. If slurmctld is down, the update is made later, or by the next admin who
//! looks.

use crate::config::Config;
use crate::log;
use rollout_core::agent::registration::AWAY_LIMIT;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::drains::was_drained_meanwhile;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::{Reason, without_notes};
use rollout_host::scontrol::Scontrol;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Pauses between tries of an update: munge and the network may still be coming up, and slurmctld may be away for
/// hours.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
const RETRY_PAUSE_LATER: Duration = Duration::from_secs(60);
/// Time after which an update is tried less often.
const RETRIED_OFTEN: Duration = Duration::from_secs(300);

/// Time limit for asking Slurm whether somebody has drained the node, if no drain is known. A known one is not given up
/// that early.
const DRAIN_QUERY_LIMIT: Duration = Duration::from_secs(60);

/// Keys of `AuthType=auth/slurm` (`src/plugins/auth/slurm`, 23.11 and later).
const SLURM_KEYS: [&str; 2] = ["/etc/slurm/slurm.key", "/etc/slurm/slurm.jwks"];

/// Time between two log lines about a slurmctld that does not answer.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// Time for slurmd to register after its start, during which we watch whether Slurm takes the node back.
const REGISTER_LIMIT: Duration = Duration::from_secs(120);
/// Pauses in between. Many nodes may be coming up at the same time, and root's questions are never limited.
const POLL_PAUSE: Duration = Duration::from_secs(2);
const POLL_PAUSE_LATER: Duration = Duration::from_secs(30);

/// Time limit for Slurm while slurmd waits for us.
const SHORT_LIMIT: Duration = Duration::from_secs(2);

/// The node's entry in Slurm.
#[derive(Debug, Clone)]
pub(crate) struct SlurmNode {
    config: Config,
    node: NodeSet,
    /// Number of the newest update. An older one is dropped: slurmctld may have been down for minutes, and a node
    /// that is back must not be drained for a past reason.
    newest_update: Arc<AtomicU64>,
}

impl SlurmNode {
    pub(crate) fn new(config: Config, node: NodeSet) -> Self {
        Self { config, node, newest_update: Arc::default() }
    }

    /// Sets the node's Reason, in the background. A node that is DOWN, as one that waits for its reboot is, keeps its
    /// state. Otherwise the node is drained, because Slurm erases the Reason of a node in service.
    pub(crate) fn give_reason(&self, subject: &str, text: &str) {
        let (this, subject, text) = (self.clone(), subject.to_owned(), text.to_owned());
        let update = self.next_update();
        spawn(move || {
            this.retry(update, "the Reason cannot be set", |this| this.set_reason(&subject, &text))
        });
    }

    /// Makes sure, in the background, that Slurm takes the node back now that slurmd may start. A node that is in time
    /// Slurm takes back by itself. If Slurm has given up on the node, we resume it, provided that Slurm's Reason shows
    /// that our reboot is the one that timed out.
    pub(crate) fn ensure_taken_back(&self) {
        let this = self.clone();
        let update = self.next_update();
        spawn(move || {
            let end = Instant::now() + REGISTER_LIMIT;
            let mut pause = POLL_PAUSE;
            while Instant::now() < end {
                match this.info() {
                    Ok(info) if info.timed_out_waiting_for_our_reboot() || info.is_drained_by_us() => {
                        log::info(
                            "putting the node back into service: Slurm had given up on it, or we held it",
                        );
                        return this.retry(update, "the node cannot be resumed", |this| {
                            this.config.scontrol().resume(&this.node).map_err(|error| error.to_string())
                        });
                    }
                    Ok(info) if !info.is_handed_over() => return,
                    Ok(_) | Err(_) => thread::sleep(pause),
                }
                pause = (pause * 2).min(POLL_PAUSE_LATER);
            }
        });
    }

    /// Returns whether Slurm's commands may work only while slurmd runs: with auth/slurm, it seals for them.
    pub(crate) fn commands_need_slurmd() -> bool {
        SLURM_KEYS.iter().any(|key| Path::new(key).exists())
    }

    /// Returns the Reason with which somebody else drained this node: the one that Slurm shows now, else `known` from
    /// before, unless somebody has removed that drain. Asks Slurm for a minute, or once if only slurmd lets it ask. If
    /// a drain is known, asks longer: a node that registers without it would come into service.
    ///
    /// # Errors
    /// If a drain is known and Slurm does not answer within the time limit.
    pub(crate) fn drained_by_others(&self, known: Option<&str>) -> Result<Option<String>, String> {
        let limit = match known {
            Some(_) => AWAY_LIMIT,
            None if Self::commands_need_slurmd() => Duration::ZERO,
            None => DRAIN_QUERY_LIMIT,
        };
        self.drained_by_others_within(known, limit)
    }

    fn drained_by_others_within(
        &self,
        known: Option<&str>,
        limit: Duration,
    ) -> Result<Option<String>, String> {
        let asked = until_answered(limit, "asking Slurm whether the node is drained", || self.info());
        match (asked, known) {
            (Ok(info), known) => Ok(drained(&info, known, &self.config.slurm_user)),
            (Err(error), None) => {
                log::warning(&format!("nobody knows whether the node was drained meanwhile: {error}"));
                Ok(None)
            }
            (Err(error), Some(known)) => Err(format!(
                "the node was drained ({known}), and Slurm cannot be asked whether it still is: {error}"
            )),
        }
    }

    /// Keeps the node drained with this Reason, and returns when Slurm has recorded it. slurmd must not be running:
    /// between the two steps the node is not drained, and Slurm schedules nothing on it only because it does not
    /// answer.
    ///
    /// # Errors
    /// If Slurm does not record it within the time limit.
    pub(crate) fn keep_drained(&self, reason: &str) -> Result<(), String> {
        self.keep_drained_within(reason, AWAY_LIMIT)
    }

    fn keep_drained_within(&self, reason: &str, limit: Duration) -> Result<(), String> {
        let scontrol = self.config.scontrol();
        let theirs = Reason::restored(reason);
        let update = || -> Result<(), String> {
            // Otherwise Slurm removes the DRAIN when the node registers (`validate_node_specs`).
            if self.info()?.is_handed_over() {
                scontrol.resume(&self.node).map_err(|error| error.to_string())?;
            }
            scontrol.drain(&self.node, &theirs).map_err(|error| error.to_string())
        };
        log::info(&format!("the node stays drained: {reason}"));
        until_answered(limit, "telling Slurm that the node stays drained", update)
            .map_err(|error| format!("the node's drain ({reason}) cannot be kept: {error}"))
    }

    fn set_reason(&self, subject: &str, text: &str) -> Result<(), String> {
        let info = self.info()?;
        if let Some(theirs) = was_drained_meanwhile(&info, &self.config.slurm_user) {
            log::info(&format!("Slurm's Reason stays {theirs:?}, and not: {subject}: {text}"));
            return Ok(());
        }
        let reason = Reason::ours(subject, text).replacing(info.reason.as_deref());
        let scontrol = self.config.scontrol();
        let updated = match info.has("DOWN") {
            true => scontrol.set_reason(&self.node, &reason),
            false => scontrol.drain(&self.node, &reason),
        };
        updated.map_err(|error| error.to_string())
    }

    /// Sets the Reason at once and without a retry, for a process that must end soon.
    pub(crate) fn set_reason_once(&self, reason: &Reason) -> Result<(), String> {
        let scontrol = self.config.scontrol().within(SHORT_LIMIT);
        scontrol.set_reason(&self.node, reason).map_err(|error| error.to_string())
    }

    /// Returns Slurm's view of this node, or an error if Slurm does not answer within `limit`.
    pub(crate) fn info_within(&self, limit: Duration) -> Result<NodeInfo, String> {
        self.info_from(&self.config.scontrol().within(limit))
    }

    fn info(&self) -> Result<NodeInfo, String> {
        self.info_from(&self.config.scontrol())
    }

    fn info_from(&self, scontrol: &Scontrol) -> Result<NodeInfo, String> {
        let infos = scontrol.show_nodes(&self.node).map_err(|error| error.to_string())?;
        infos
            .into_iter()
            .next()
            .ok_or_else(|| format!("Slurm has no node {}; is node_name right?", self.node))
    }

    /// Numbers a new update, which supersedes the earlier ones.
    fn next_update(&self) -> u64 {
        self.newest_update.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Retries an update until it succeeds or a newer one supersedes it. A held node must not be without a Reason,
    /// however long slurmctld was away.
    fn retry(&self, update: u64, failed: &str, act: impl Fn(&Self) -> Result<(), String>) {
        let begun = Instant::now();
        let mut logged = None;
        while self.newest_update.load(Ordering::SeqCst) == update {
            let Err(error) = act(self) else { return };
            if is_due(&mut logged) {
                log::error(&format!("{failed}, and is tried again: {error}"));
            }
            thread::sleep(if begun.elapsed() < RETRIED_OFTEN { RETRY_PAUSE } else { RETRY_PAUSE_LATER });
        }
    }
}

/// Repeats a request to Slurm until it succeeds or the time is over. Logs the first failure and one each minute:
/// slurmd is down meanwhile.
fn until_answered<T>(
    limit: Duration,
    attempt: &str,
    ask: impl Fn() -> Result<T, String>,
) -> Result<T, String> {
    let end = Instant::now() + limit;
    let mut logged = None;
    loop {
        let error = match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(format!("no answer within {} s: {error}", limit.as_secs()));
        }
        if is_due(&mut logged) {
            log::warning(&format!(
                "{attempt}, for {} s at most; slurmd is kept down: {error}",
                left.as_secs()
            ));
        }
        thread::sleep(RETRY_PAUSE.min(left));
    }
}

/// Returns whether it is time for a log line, and notes it.
fn is_due(logged: &mut Option<Instant>) -> bool {
    let due = logged.is_none_or(|at| at.elapsed() >= LOG_AGAIN);
    if due {
        *logged = Some(Instant::now());
    }
    due
}

/// Returns the Reason with which somebody else drained the node. Between the steps of [`SlurmNode::keep_drained`] the
/// node has none.
fn drained(info: &NodeInfo, known: Option<&str>, slurm_user: &str) -> Option<String> {
    let meanwhile = was_drained_meanwhile(info, slurm_user).map(|reason| without_notes(reason).to_owned());
    let is_removed = info.is_handed_over() && !info.has("DRAIN");
    meanwhile.or_else(|| known.filter(|_| !is_removed).map(str::to_owned))
}

fn spawn(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name("slurm".to_owned()).spawn(work) {
        log::error(&format!("Slurm is not told: no thread: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_for_slurmctld_has_an_end() {
        let config = Config { scontrol: "/bin/false".into(), ..Config::default() };
        let slurm = SlurmNode::new(config, NodeSet::parse("n1").unwrap());
        let limit = Duration::from_millis(50);
        assert_eq!(slurm.drained_by_others_within(None, limit), Ok(None), "and slurmd starts");
        let error = slurm.drained_by_others_within(Some("bad disk"), limit).unwrap_err();
        assert!(error.contains("(bad disk)") && error.contains("/bin/false"), "{error}");
        let error = slurm.keep_drained_within("bad disk", limit).unwrap_err();
        assert!(error.contains("(bad disk) cannot be kept") && error.contains("/bin/false"), "{error}");
    }

    #[test]
    fn whose_drain_it_is() {
        for (state, reason, known, expected) in [
            ("DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued", None, None),
            ("DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued", Some("bad disk"), Some("bad disk")),
            ("DOWN+DRAIN+REBOOT_ISSUED", "bad DIMM", Some("bad disk"), Some("bad DIMM")),
            ("DOWN+DRAIN", "bad DIMM : reboot timed out", None, Some("bad DIMM")),
            // Somebody removed the drain.
            ("DOWN+REBOOT_ISSUED", "driver : reboot issued", Some("bad disk"), None),
            // We were interrupted between clearing the reboot and the drain.
            ("IDLE", "", Some("bad disk"), Some("bad disk")),
        ] {
            let info = NodeInfo {
                state: state.split('+').map(str::to_owned).collect(),
                reason: (!reason.is_empty()).then(|| reason.to_owned()),
                ..NodeInfo::default()
            };
            assert_eq!(drained(&info, known, "slurm").as_deref(), expected, "{state} {reason} {known:?}");
        }
    }
}
