//! The decisions of `start`, `pause`, `resume`, `stop` and `approve`.
//!
//! Each returns the journal lines to append and a report for the admin. A verb whose effect is there already appends
//! nothing, says so and succeeds: scripts may repeat it.

use super::snapshot::{RolloutState, Snapshot};
use crate::hostlist::NodeSet;
use crate::rollout::journal::{Conduct, ConductState, Entry, NodeRecord, Progress};
use serde::{Deserialize, Serialize};

/// The decision of a verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Lines to append to the journal of the rollout.
    pub entries: Vec<Entry>,
    /// Report in words, without the name of the rollout.
    pub report: String,
}

/// The reason for doing nothing, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{id}: its journal cannot be read: {error}")]
    Unreadable { id: String, error: String },
    #[error("{id}: its manifest cannot be read: {error}")]
    Manifest { id: String, error: String },
    #[error(
        "{id}: none of its nodes waits for it; stage its manifest again, or `slurm-rollout retry` failed nodes"
    )]
    NothingPending { id: String },
    #[error("{id}: is over; stage its manifest again, or `slurm-rollout retry` failed nodes")]
    Over { id: String },
    #[error(
        "{id}: is not started; `slurm-rollout start {id}` has it run, `slurm-rollout unstage {id}` calls it off"
    )]
    NotStarted { id: String },
    #[error("{id}: was stopped by {by}; stage its manifest again")]
    Stopped { id: String, by: String },
    #[error("{id}: was paused by {by}{why}; `slurm-rollout resume {id}`")]
    Paused { id: String, by: String, why: String },
    #[error(
        "{id}: halted: {why}; see `slurm-rollout status {id}`, fix the cause, then `slurm-rollout resume {id}`"
    )]
    Halted { id: String, why: String },
    #[error("{id}: waves count from 1")]
    NoSuchWave { id: String },
}

/// State of a rollout that was started, for display and JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConductSummary {
    /// `running`, `paused`, `halted`, `stopped` or `done`.
    pub state: String,
    /// Start of this state, in milliseconds since 1970. That of `running` for `done`.
    pub since_ms: u64,
    /// The writer of the line that led to it.
    pub by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Number of calls of hooks that failed, and the last failure.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub hooks_failed: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_failure: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl ConductSummary {
    /// Returns the state in words. `since` is its start as the reader writes times.
    #[must_use]
    pub fn describe(&self, since: &str) -> String {
        let Self { state, by, why, hooks_failed, hook_failure, .. } = self;
        let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let state = match state.as_str() {
            "done" => state.clone(),
            "halted" => format!("halted since {since}{why}"),
            _ => format!("{state} since {since}, by {by}{why}"),
        };
        match (hooks_failed, hook_failure) {
            (_, None) => state,
            (0 | 1, Some(failure)) => format!("{state}; a hook failed: {failure}"),
            (number, Some(failure)) => format!("{state}; {number} hooks failed, the last one: {failure}"),
        }
    }
}

/// Returns the state of a rollout. `None` if it was not started.
#[must_use]
pub fn summary(rollout: &RolloutState) -> Option<ConductSummary> {
    let Conduct { state, since_ms, by, hooks, .. } = &rollout.conduct;
    let word = state.name()?;
    let (word, why) = match state {
        ConductState::Stopped => (word, None),
        _ if rollout.is_over() => ("done", None),
        ConductState::Paused { why } => (word, why.clone()),
        ConductState::Halted { why } => (word, Some(why.clone())),
        ConductState::NotStarted | ConductState::Running => (word, None),
    };
    let (state, since_ms, by) = (word.to_owned(), *since_ms, by.clone());
    let (hooks_failed, hook_failure) = (hooks.failures, hooks.last_failure.clone());
    Some(ConductSummary { state, since_ms, by, why, hooks_failed, hook_failure })
}

/// Has a rollout run by itself.
///
/// # Errors
/// Returns the reason if it cannot be started.
pub fn start(snapshot: &Snapshot, id: &str) -> Result<Decision, Refusal> {
    let rollout = find(snapshot, id)?;
    let owned = |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    let (id, by) = (id.to_owned(), rollout.conduct.by.clone());
    match &rollout.conduct.state {
        ConductState::Stopped => Err(Refusal::Stopped { id, by }),
        _ if pending(snapshot, rollout).is_empty() && rollout.is_settled() => {
            Err(Refusal::NothingPending { id })
        }
        ConductState::Running => {
            Ok(unchanged(with_freeze(snapshot, &format!("is running already, by {by}"))))
        }
        ConductState::Paused { why } => Err(Refusal::Paused { id, by, why: owned(why) }),
        ConductState::Halted { why } => Err(Refusal::Halted { id, why: why.clone() }),
        ConductState::NotStarted => {
            let pending = pending(snapshot, rollout);
            if pending.is_empty() {
                return Err(Refusal::NothingPending { id });
            }
            if let Err(error) = &rollout.manifest {
                return Err(Refusal::Manifest { id, error: error.clone() });
            }
            let report = format!("started for {}: {pending}", count(&pending));
            Ok(Decision { entries: vec![Entry::Started], report: with_freeze(snapshot, &report) })
        }
    }
}

/// Has a started rollout request no more nodes, and withdraw the requests that Slurm has not issued.
///
/// # Errors
/// Returns the reason if it is not started or was stopped.
pub fn pause(snapshot: &Snapshot, id: &str, why: Option<String>) -> Result<Decision, Refusal> {
    let Some(rollout) = unless_over(snapshot, id)? else {
        return Ok(unchanged("is over: there is nothing to pause".to_owned()));
    };
    let (id, by) = (id.to_owned(), rollout.conduct.by.clone());
    match &rollout.conduct.state {
        ConductState::NotStarted => Err(Refusal::NotStarted { id }),
        ConductState::Stopped => Err(Refusal::Stopped { id, by }),
        ConductState::Running => {
            let report = "paused: no more reboots are requested; nodes that Slurm is rebooting finish";
            Ok(Decision { entries: vec![Entry::Paused { why }], report: report.to_owned() })
        }
        ConductState::Paused { why } => {
            let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
            Ok(unchanged(format!("is paused already, by {by}{why}")))
        }
        ConductState::Halted { why } => Ok(unchanged(format!("is halted already: {why}"))),
    }
}

/// Has a rollout continue after a pause or a halt, or request again the nodes whose reboots somebody cancelled, or led
/// to no order.
///
/// # Errors
/// Returns the reason if it is not started, was stopped, or is over.
pub fn resume(snapshot: &Snapshot, id: &str) -> Result<Decision, Refusal> {
    let rollout = unless_over(snapshot, id)?.ok_or_else(|| Refusal::Over { id: id.to_owned() })?;
    let cancelled = rollout.records.iter().filter(|(_, record)| record.cancelled);
    let cancelled: NodeSet = cancelled.map(|(name, _)| name.clone()).collect();
    let again = match cancelled.is_empty() {
        true => String::new(),
        false => format!(", requests the cancelled reboots of {cancelled} again"),
    };
    let pending = pending(snapshot, rollout);
    let without = |name: &&str| rollout.records.get(*name).is_some_and(may_be_without_order);
    let without: NodeSet = pending.iter().filter(without).map(str::to_owned).collect();
    let failed =
        |name: &&str| rollout.records.get(*name).is_some_and(|record| record.hook_failure().is_some());
    let failed: NodeSet = pending.iter().filter(failed).map(str::to_owned).collect();
    let resumed = |before: &str| {
        let report = with_freeze(snapshot, &format!("resumed{before}{again}"));
        Ok(Decision { entries: vec![Entry::Resumed], report })
    };
    let (id, by) = (id.to_owned(), rollout.conduct.by.clone());
    match &rollout.conduct.state {
        ConductState::NotStarted => Err(Refusal::NotStarted { id }),
        ConductState::Stopped => Err(Refusal::Stopped { id, by }),
        ConductState::Running if !without.is_empty() => resumed(&format!(
            ", failures so far no longer count, requests {without} again if it got no order"
        )),
        ConductState::Running if !failed.is_empty() => {
            resumed(&format!(", failures so far no longer count, calls the hooks of {failed} again"))
        }
        ConductState::Running if cancelled.is_empty() => {
            Ok(unchanged(with_freeze(snapshot, "is running already")))
        }
        ConductState::Running | ConductState::Paused { .. } => resumed(""),
        ConductState::Halted { .. } => resumed(", failures so far no longer count"),
    }
}

/// Ends a started rollout: its requests are withdrawn, and nodes that still wait are unstaged.
///
/// # Errors
/// Returns the reason if it is not started.
pub fn stop(snapshot: &Snapshot, id: &str) -> Result<Decision, Refusal> {
    let Some(rollout) = unless_over(snapshot, id)? else {
        return Ok(unchanged("is over: there is nothing to stop".to_owned()));
    };
    match &rollout.conduct.state {
        ConductState::NotStarted => Err(Refusal::NotStarted { id: id.to_owned() }),
        ConductState::Stopped => Ok(unchanged(format!("is stopped already, by {}", rollout.conduct.by))),
        ConductState::Running | ConductState::Paused { .. } | ConductState::Halted { .. } => {
            let report = "stopped: nodes that Slurm is rebooting finish";
            Ok(Decision { entries: vec![Entry::Stopped], report: report.to_owned() })
        }
    }
}

/// Approves a wave, counted from 1: the next one may begin. This is possible before the wave is through: an admin who
/// watches the first nodes need not wait for the last.
///
/// # Errors
/// Returns the reason if the rollout is not started, was stopped, or is over.
pub fn approve(snapshot: &Snapshot, id: &str, wave: u32) -> Result<Decision, Refusal> {
    let rollout = unless_over(snapshot, id)?.ok_or_else(|| Refusal::Over { id: id.to_owned() })?;
    let conduct = &rollout.conduct;
    let id = id.to_owned();
    let note = match &conduct.state {
        ConductState::NotStarted => return Err(Refusal::NotStarted { id }),
        ConductState::Stopped => return Err(Refusal::Stopped { id, by: conduct.by.clone() }),
        ConductState::Running => String::new(),
        ConductState::Paused { .. } => format!("; it is paused, `slurm-rollout resume {id}`"),
        ConductState::Halted { why } => format!("; it halted: {why}; `slurm-rollout resume {id}`"),
    };
    if wave == 0 {
        return Err(Refusal::NoSuchWave { id });
    }
    if conduct.approved.contains(&wave) {
        return Ok(unchanged(with_freeze(snapshot, &format!("wave {wave} is approved already{note}"))));
    }
    let report = with_freeze(snapshot, &format!("wave {wave} approved{note}"));
    Ok(Decision { entries: vec![Entry::Approved { wave }], report })
}

/// Returns the nodes that wait for a rollout, including those whose order is being sent.
#[must_use]
pub fn pending(snapshot: &Snapshot, rollout: &RolloutState) -> NodeSet {
    let waits = |name: &&String| {
        snapshot.pending(name).is_some_and(|of| of.rollout_id() == Some(rollout.id.as_str()))
    };
    rollout.records.keys().filter(waits).cloned().collect()
}

/// Returns the nodes that a stopped rollout leaves staged, and of which nothing is left in Slurm. Empty if it is not
/// stopped.
#[must_use]
pub fn to_unstage(rollout: &RolloutState) -> NodeSet {
    let waits = |record: &NodeRecord| record.progress.is_pending() && !record.has_traces_in_slurm();
    let stopped = rollout.conduct.state == ConductState::Stopped;
    let waiting = rollout.records.iter().filter(|(_, record)| stopped && waits(record));
    waiting.map(|(name, _)| name.clone()).collect()
}

/// Returns the reason for not undoing a rollout that goes on updating nodes.
#[must_use]
pub fn still_runs(rollout: &RolloutState) -> Option<String> {
    let RolloutState { id, conduct, .. } = rollout;
    let runs = conduct.state == ConductState::Running && !rollout.is_over();
    runs.then(|| format!("{id}: is running, and goes on updating nodes; first `slurm-rollout stop {id}`"))
}

/// Returns how a node that waits for a rollout gets its turn.
#[must_use]
pub fn way_on(rollout: &RolloutState, node: &str) -> String {
    let id = &rollout.id;
    match &rollout.conduct.state {
        ConductState::NotStarted => "`scontrol reboot` it again".to_owned(),
        ConductState::Running if rollout.records.get(node).is_some_and(|record| record.cancelled) => {
            format!("its reboot was cancelled in Slurm; `slurm-rollout resume {id}` requests it again")
        }
        ConductState::Running if rollout.records.get(node).is_some_and(may_be_without_order) => {
            format!("which is running; if it got no order, `slurm-rollout resume {id}` requests it again")
        }
        ConductState::Running
            if rollout.records.get(node).is_some_and(|record| record.hook_failure().is_some()) =>
        {
            format!("a hook failed; `slurm-rollout resume {id}` calls it again")
        }
        ConductState::Running => "which is running and requests its reboot".to_owned(),
        ConductState::Paused { .. } => format!("which is paused; `slurm-rollout resume {id}`"),
        ConductState::Halted { .. } => format!("which halted; `slurm-rollout resume {id}`"),
        ConductState::Stopped => "which was stopped: it is being unstaged".to_owned(),
    }
}

/// Returns whether a pending node may count as failed for want of an order: it was refused or not reachable, or Slurm
/// has taken its request, so that it may have rebooted since.
fn may_be_without_order(record: &NodeRecord) -> bool {
    match &record.request {
        Some(request) => request.taken,
        None => match record.progress {
            Progress::Refused => !record.forgiven,
            progress => progress.is_pending() && progress != Progress::Staged,
        },
    }
}

/// Returns a rollout. One that is not in the snapshot is closed.
fn find<'a>(snapshot: &'a Snapshot, id: &str) -> Result<&'a RolloutState, Refusal> {
    if let Some(unreadable) = snapshot.unreadable.iter().find(|unreadable| unreadable.id == id) {
        return Err(Refusal::Unreadable { id: id.to_owned(), error: unreadable.error.clone() });
    }
    snapshot.rollout(id).ok_or_else(|| Refusal::Over { id: id.to_owned() })
}

/// Returns a rollout, or `None` if it is over. A stopped one is not over: the admin gets to know who stopped it.
fn unless_over<'a>(snapshot: &'a Snapshot, id: &str) -> Result<Option<&'a RolloutState>, Refusal> {
    match find(snapshot, id) {
        Ok(rollout) if rollout.is_over() && rollout.conduct.state != ConductState::Stopped => Ok(None),
        Ok(rollout) => Ok(Some(rollout)),
        Err(Refusal::Over { .. }) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

fn unchanged(report: String) -> Decision {
    Decision { entries: Vec::new(), report }
}

/// Adds that nothing is requested while the site is frozen.
fn with_freeze(snapshot: &Snapshot, report: &str) -> String {
    match &snapshot.frozen {
        Some(freeze) => format!("{report}; but this site is {}", freeze.describe()),
        None => report.to_owned(),
    }
}

fn count(nodes: &NodeSet) -> String {
    match nodes.len() {
        1 => "1 node".to_owned(),
        number => format!("{number} nodes"),
    }
}

#[cfg(test)]
mod tests;
