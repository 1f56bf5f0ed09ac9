//! Sending the orders that got lost between Slurm and the nodes.

use crate::agents::ask_all::Limits;
use crate::config::{Config, Deliver};
use crate::hand_over::{Report, hand_over};
use crate::pre_stage::{PreStageError, Told, is_wanted, pre_stage, tell_drains};
use crate::store::{StoreError, StoreWriter};
use crate::survey::survey;
use rollout_core::controller::follow_up::Outcome;
use rollout_core::controller::hand_over::{Request, Skipped};
use rollout_core::controller::lost_orders::{LostOrder, Remedy, lost_orders};
use rollout_core::controller::pre_staging::{changed_drains, missing};
use rollout_core::controller::view::View;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::slurm::hand_over_mode::HandOverMode;
use rollout_core::slurm::node::NodeInfo;
use rollout_host::clock;
use rollout_host::reboot_program::names_us;
use rollout_host::run::RunError;
use std::collections::BTreeMap;
use std::time::Instant;

/// Age up to which a node's boot is reported: two periods of the timer, so that it is seen, and not every time.
const NEWS_MS: u64 = 60_000;

/// The reason for not looking for lost orders.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReconcileError {
    #[error("Slurm cannot be asked: {0}")]
    Slurm(#[from] RunError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    PreStage(#[from] PreStageError),
}

/// The result of looking for lost orders.
#[derive(Debug)]
pub enum Reconciled {
    NothingLost,
    /// These nodes wait for a reboot that is not ours to do: Slurm's RebootProgram is another one.
    NotOurs {
        nodes: NodeSet,
        why: String,
    },
    /// These nodes were ordered now, or it was tried.
    Ordered {
        nodes: NodeSet,
        report: Report,
    },
}

/// Returns Slurm's report about all its nodes. Drains set by others and addresses are recorded.
///
/// # Errors
/// Fails if Slurm cannot be asked, or nothing can be written.
pub fn ask_slurm(config: &Config, store: &StoreWriter) -> Result<Vec<NodeInfo>, ReconcileError> {
    let before = store.drains();
    let infos = config.scontrol().show_all_nodes()?;
    store.learn_drains(&infos, &before, &config.cured_by_reboot())?;
    store.learn_addresses(&infos)?;
    Ok(infos)
}

/// Looks among these nodes, all that Slurm has, for those that it shows as being rebooted and that got no order, and
/// hands them over as RebootProgram does. If no node is being rebooted this does nothing.
///
/// The agents are asked first. One that has the order, although its answer was lost, gets no other one. A node that has
/// booted since the hand-over gets none at all: Slurm takes that boot for its reboot, and jobs may start there any
/// moment. If slurmd runs RebootProgram, all nodes that are being rebooted are asked: only they know whether they were
/// told.
///
/// # Errors
/// Fails if Slurm cannot be asked or the state directory cannot be used.
pub fn reconcile(
    config: &Config,
    store: &StoreWriter,
    by: &str,
    mut infos: Vec<NodeInfo>,
) -> Result<Reconciled, ReconcileError> {
    infos.retain(|info| info.has("REBOOT_ISSUED"));
    if infos.is_empty() {
        return Ok(Reconciled::NothingLost);
    }
    let snapshot = store.snapshot()?;
    let lost = lost_orders(&infos, &snapshot, clock::now_ms());
    if lost.is_empty() {
        return Ok(Reconciled::NothingLost);
    }
    let nodes: NodeSet = lost.iter().map(|lost| lost.node.clone()).collect();
    // With actions of Slurm 26.05 nobody knows which one was lost: the one that changes less is taken.
    let (plain, on_the_node) = match HandOverMode::on_controller(&config.scontrol().show_config()?, names_us)
    {
        HandOverMode::Controller { plain } => (plain, false),
        HandOverMode::Node { plain } => (plain, true),
        // Slurm does not report where an action runs. The configuration does if that is on the node.
        HandOverMode::Action(_) => (false, config.deliver == Deliver::Always),
        HandOverMode::NotOurs(why) => return Ok(Reconciled::NotOurs { nodes, why }),
    };
    let limits = Limits::new(config.agent_timeout.get(), config.deadline.get());
    let view = survey(config, snapshot, &nodes, infos, limits);
    let mut sorted = Sorted::default();
    for lost in lost {
        sorted.add(lost, &view, on_the_node);
    }
    let Sorted { to_order, recorded, mut report } = sorted;
    for ((rollout, order, outcome), names) in recorded {
        if !on_the_node {
            report.skipped.entry(Skipped::Ordered).or_default().extend(names.iter().cloned());
        }
        let entry = outcome.entry(names.into_iter().collect(), Some(order));
        store.record(rollout.as_deref(), entry.into_iter().collect())?;
    }
    let nodes = match on_the_node {
        true if to_order.is_empty() => return Ok(Reconciled::NothingLost),
        true => to_order.keys().cloned().collect(),
        false => nodes,
    };
    if !to_order.is_empty() {
        // Another process may be doing the same: these times tell whether it has.
        let nodes = to_order.keys().cloned().collect();
        let request = Request { nodes, plain, handed_over_ms: to_order, ..Request::default() };
        report.absorb(hand_over(config, by, &request, Instant::now()));
    }
    Ok(Reconciled::Ordered { nodes, report })
}

/// Returns whether a boot at that time is reported: there is nothing to do about it, and Slurm may show the node as
/// being rebooted for long.
fn is_news(booted_ms: u64, now_ms: u64) -> bool {
    booted_ms.saturating_add(NEWS_MS) > now_ms
}

/// Nodes by the remedy for their lost order.
#[derive(Default)]
struct Sorted {
    /// Nodes to order, with the time by which they had been handed over.
    to_order: BTreeMap<String, u64>,
    /// Nodes whose agents have the order, by rollout, order and outcome.
    recorded: BTreeMap<(Option<String>, OrderId, Outcome), Vec<String>>,
    report: Report,
}

impl Sorted {
    fn add(&mut self, lost: LostOrder, view: &View, on_the_node: bool) {
        let node = view.node(&lost.node);
        let remedy = match on_the_node {
            true => lost.remedy_on_the_node(node.agent(), view.now_ms),
            false => Some(lost.remedy(node.agent(), view.now_ms)),
        };
        match (remedy, lost.order) {
            (None, _) => {}
            (Some(Remedy::Record), Some(order)) => {
                let report = node.agent().and_then(|agent| agent.order.as_ref());
                let ended = report.filter(|report| report.phase.has_ended());
                let volatile = node.agent().is_some_and(|agent| agent.volatile);
                let outcome = ended.map_or(Outcome::Accepted { volatile }, Outcome::ended);
                self.recorded.entry((lost.rollout, order, outcome)).or_default().push(lost.node);
            }
            (Some(Remedy::Order | Remedy::Record), _) => {
                self.to_order.insert(lost.node, lost.handed_over_ms);
            }
            (Some(Remedy::Booted), _) => {
                if node.booted_ms().is_some_and(|booted| is_news(booted, view.now_ms)) {
                    self.report.skipped.entry(Skipped::Booted).or_default().push(lost.node);
                }
            }
            (Some(Remedy::Silent), _) => {
                let why = node.answer().and_then(Result::err).unwrap_or("not asked in time");
                let why = format!("no answer from its agent: {why}");
                self.report.silent.entry(why).or_default().push(lost.node);
            }
        }
    }
}

/// A rollout whose orders were given to agents, and the result.
pub type PreStaged = (String, Result<Told, PreStageError>);

/// Gives agents the staged orders that did not reach them yet, and tells them of changed drains, if slurmd runs
/// RebootProgram. A rollout that cannot be read holds up no other one: its error is in the result.
///
/// # Errors
/// Fails if Slurm cannot be asked, the state directory cannot be read, or nothing can be sealed.
pub fn pre_stage_again(config: &Config, store: &StoreWriter) -> Result<Vec<PreStaged>, ReconcileError> {
    let (snapshot, now_ms) = (store.snapshot()?, clock::now_ms());
    let (waiting, drains) = (missing(&snapshot, now_ms), changed_drains(&snapshot, now_ms));
    if waiting.is_empty() && drains.is_empty() || !is_wanted(config, || config.scontrol().show_config())? {
        return Ok(Vec::new());
    }
    if !drains.is_empty() {
        tell_drains(config, store, &drains)?;
    }
    let pre_stage = |(rollout, nodes): (String, NodeSet)| {
        let told = pre_stage(config, store, &rollout, &nodes);
        (rollout, told)
    };
    Ok(waiting.into_iter().map(pre_stage).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::controller::snapshot::Snapshot;
    use rollout_core::protocol::answer::AgentStatus;

    #[test]
    fn a_boot_since_the_hand_over_is_reported_while_it_is_news() {
        let info = NodeInfo {
            name: "n1".to_owned(),
            state: vec!["DOWN".to_owned(), "REBOOT_ISSUED".to_owned()],
            reason: Some("driver : reboot issued".to_owned()),
            reason_s: Some(1000),
            ..NodeInfo::default()
        };
        for (uptime_s, ordered, reported) in [(2000, 1, 0), (10, 0, 1), (59, 0, 1), (61, 0, 0), (900, 0, 0)] {
            let agent = AgentStatus { uptime_s, ..AgentStatus::default() };
            let agents = [("n1".to_owned(), Ok(agent))].into();
            let view = View { agents, now_ms: 2_000_000, ..View::default() };
            let mut sorted = Sorted::default();
            for lost in lost_orders(std::slice::from_ref(&info), &Snapshot::default(), view.now_ms) {
                sorted.add(lost, &view, false);
            }
            let booted = sorted.report.skipped.get(&Skipped::Booted).map_or(0, Vec::len);
            assert_eq!((sorted.to_order.len(), booted), (ordered, reported), "up for {uptime_s} s");
        }
    }
}
