//! What the agent tells Slurm of its own node, as root and through scontrol: why it is held, and that it is back after
//! Slurm gave up on it. slurmctld may be away; then it is told later, or by the next admin who looks.

use crate::config::Config;
use crate::log;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::drains::was_drained_meanwhile;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::reason::{Reason, without_time_out};
use rollout_host::scontrol::Scontrol;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long slurmctld is tried. munge and the network may still be coming up.
const TRIES_FOR: Duration = Duration::from_secs(300);
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// How long Slurm is asked whether somebody has drained the node.
const LOOKS_FOR: Duration = Duration::from_secs(60);

/// How long after its start slurmd may take to register before we stop looking whether Slurm took the node back.
const REGISTERS_WITHIN: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How long Slurm may take where slurmd waits for us.
const AT_ONCE: Duration = Duration::from_secs(2);

/// This node, as Slurm knows it.
#[derive(Debug, Clone)]
pub(crate) struct SlurmNode {
    config: Config,
    node: NodeSet,
    /// Counts what was to be told. What is older than the newest is told no more: slurmctld may have been away for
    /// minutes, and a node that is back must not be drained for what was.
    news: Arc<AtomicU64>,
}

impl SlurmNode {
    pub(crate) fn new(config: Config, node: NodeSet) -> Self {
        Self { config, node, news: Arc::default() }
    }

    /// Gives the node a Reason, in the background. It keeps its state where it is DOWN, as a node is that waits for
    /// its reboot, and is drained where it is not: the Reason of a node in service is erased by Slurm.
    pub(crate) fn give_reason(&self, subject: &str, what: &str) {
        let (this, subject, what) = (self.clone(), subject.to_owned(), what.to_owned());
        let mine = self.next();
        spawn(move || {
            this.try_for(mine, "the Reason cannot be set", |this| this.set_reason(&subject, &what))
        });
    }

    /// Sees in the background that Slurm takes the node back now that slurmd may start. In time, Slurm does so by
    /// itself. If it has given up on the node meanwhile, we put it back, if Slurm's Reason shows that it was our reboot
    /// that it was waiting for.
    pub(crate) fn see_that_it_is_taken_back(&self) {
        let this = self.clone();
        let mine = self.next();
        spawn(move || {
            let end = Instant::now() + REGISTERS_WITHIN;
            while Instant::now() < end {
                match this.info() {
                    Ok(info) if info.timed_out_waiting_for_our_reboot() || info.is_drained_by_us() => {
                        log::info(
                            "putting the node back into service: Slurm had given up on it, or we held it",
                        );
                        return this.try_for(mine, "the node cannot be resumed", |this| {
                            this.config.scontrol().resume(&this.node).map_err(|error| error.to_string())
                        });
                    }
                    Ok(info) if !info.is_handed_over() => return,
                    Ok(_) | Err(_) => thread::sleep(LOOK_AGAIN),
                }
            }
        });
    }

    /// The Reason with which somebody else drained this node: what Slurm shows now, else `known` from before, unless
    /// somebody has taken that drain away. Slurm is asked for as long as a drain is known, and else for a minute: a node
    /// cannot come into service without slurmctld either.
    pub(crate) fn drained_by_others(&self, known: Option<&str>) -> Option<String> {
        let end = Instant::now() + LOOKS_FOR;
        loop {
            match self.info() {
                Ok(info) => return drained(&info, known),
                Err(error) if known.is_none() && Instant::now() >= end => {
                    log::warning(&format!("nobody knows whether the node was drained meanwhile: {error}"));
                    return None;
                }
                Err(_) => thread::sleep(TRY_AGAIN),
            }
        }
    }

    /// Keeps the node drained with this Reason, and returns when Slurm has it so. slurmd must not be running: between
    /// the two steps the node is not drained, and only not scheduled because it does not answer.
    pub(crate) fn keep_drained(&self, reason: &str) {
        let scontrol = self.config.scontrol();
        let theirs = Reason::restored(reason);
        let tell = || -> Result<(), String> {
            // Else Slurm takes the DRAIN away when the node registers (`validate_node_specs`).
            if self.info()?.is_handed_over() {
                scontrol.resume(&self.node).map_err(|error| error.to_string())?;
            }
            scontrol.drain(&self.node, &theirs).map_err(|error| error.to_string())
        };
        log::info(&format!("the node stays drained: {reason}"));
        while let Err(error) = tell() {
            log::warning(&format!(
                "slurmd is kept down until Slurm knows that the node stays drained: {error}"
            ));
            thread::sleep(TRY_AGAIN);
        }
    }

    fn set_reason(&self, subject: &str, what: &str) -> Result<(), String> {
        let info = self.info()?;
        if let Some(theirs) = was_drained_meanwhile(&info) {
            log::info(&format!("Slurm's Reason stays {theirs:?}, and not: {subject}: {what}"));
            return Ok(());
        }
        let reason = Reason::ours(subject, what).replacing_that_of(Some(&info));
        let scontrol = self.config.scontrol();
        let told = match info.has("DOWN") {
            true => scontrol.set_reason(&self.node, &reason),
            false => scontrol.drain(&self.node, &reason),
        };
        told.map_err(|error| error.to_string())
    }

    /// Sets the Reason now and once, for a process that has no time.
    pub(crate) fn say_once(&self, reason: &Reason) -> Result<(), String> {
        let scontrol = self.config.scontrol().within(AT_ONCE);
        scontrol.set_reason(&self.node, reason).map_err(|error| error.to_string())
    }

    /// What Slurm says of this node, if it says so soon.
    pub(crate) fn look(&self, limit: Duration) -> Result<NodeInfo, String> {
        self.info_by(&self.config.scontrol().within(limit))
    }

    fn info(&self) -> Result<NodeInfo, String> {
        self.info_by(&self.config.scontrol())
    }

    fn info_by(&self, scontrol: &Scontrol) -> Result<NodeInfo, String> {
        let infos = scontrol.show_nodes(&self.node).map_err(|error| error.to_string())?;
        infos
            .into_iter()
            .next()
            .ok_or_else(|| format!("Slurm has no node {}; is node_name right?", self.node))
    }

    /// The number of what is to be told now.
    fn next(&self) -> u64 {
        self.news.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Tries for a while, unless there are newer news.
    fn try_for(&self, mine: u64, failed: &str, act: impl Fn(&Self) -> Result<(), String>) {
        let end = Instant::now() + TRIES_FOR;
        while self.news.load(Ordering::SeqCst) == mine {
            let Err(error) = act(self) else { return };
            if Instant::now() + TRY_AGAIN > end {
                return log::error(&format!("{failed}: {error}"));
            }
            thread::sleep(TRY_AGAIN);
        }
    }
}

/// The Reason with which somebody else drained the node. Between the steps of [`SlurmNode::keep_drained`] it has none.
fn drained(info: &NodeInfo, known: Option<&str>) -> Option<String> {
    let meanwhile = was_drained_meanwhile(info).map(|reason| without_time_out(reason).to_owned());
    let taken_away = info.is_handed_over() && !info.has("DRAIN");
    meanwhile.or_else(|| known.filter(|_| !taken_away).map(str::to_owned))
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
    fn whose_drain_it_is() {
        for (state, reason, known, expected) in [
            ("DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued", None, None),
            ("DOWN+DRAIN+REBOOT_ISSUED", "driver : reboot issued", Some("bad disk"), Some("bad disk")),
            ("DOWN+DRAIN+REBOOT_ISSUED", "bad DIMM", Some("bad disk"), Some("bad DIMM")),
            ("DOWN+DRAIN", "bad DIMM : reboot timed out", None, Some("bad DIMM")),
            // Undrained by somebody.
            ("DOWN+REBOOT_ISSUED", "driver : reboot issued", Some("bad disk"), None),
            // We were interrupted between taking the reboot away and the drain.
            ("IDLE", "", Some("bad disk"), Some("bad disk")),
        ] {
            let info = NodeInfo {
                state: state.split('+').map(str::to_owned).collect(),
                reason: (!reason.is_empty()).then(|| reason.to_owned()),
                ..NodeInfo::default()
            };
            assert_eq!(drained(&info, known).as_deref(), expected, "{state} {reason} {known:?}");
        }
    }
}
