//! The decision of `undo`: the desired state that takes a node back to its state before a rollout.

use super::snapshot::{RecordOf, RolloutState, Snapshot};
use crate::agent::changes_made::{ChangeMade, NodeChanges};
use crate::agent::phase::Phase;
use crate::rollout::journal::{NodeRecord, Progress, Restoration};
use crate::rollout::manifest::DesiredState;
use crate::rollout::undo::reverse;

/// Length limit of the name of an undo, as of every rollout's name.
const MAX_NAME: usize = 64;

/// Returns the name of the rollout that undoes `rollout`.
#[must_use]
pub fn undo_name(rollout: &str) -> String {
    format!("undo-{}", rollout.replace('@', "-")).chars().take(MAX_NAME).collect()
}

/// Returns the desired state that undoes `rollout` on a node.
///
/// `changes` is the answer of the node's agent: the changes of the rollouts that the node became, oldest first. Only
/// those stand in the way of an older one: a rollout that was rolled back, refused or not answered left nothing to
/// undo.
///
/// # Errors
/// Returns the reason if it cannot be undone.
pub fn way_back(
    rollout: &RolloutState,
    node: &str,
    snapshot: &Snapshot,
    changes: Option<&Result<Vec<NodeChanges>, String>>,
) -> Result<DesiredState, String> {
    let changes = match changes {
        Some(Ok(changes)) => changes,
        Some(Err(why)) => return Err(format!("its agent did not report its changes: {why}")),
        None => return Err("its agent was not asked".to_owned()),
    };
    let desired = &rollout.manifest.as_ref().map_err(String::clone)?.desired;
    const NOTHING: &str = "nothing to undo: nothing was another than before";
    let reported = changes.iter().rfind(|changes| changes.rollout == rollout.id);
    let (changes, became) = match reported {
        Some(changes) if changes.made.is_empty() => return Err(NOTHING.to_owned()),
        Some(reported) => {
            let made = changes.iter().filter(|changes| !changes.made.is_empty());
            (reported.clone(), made.map(|changes| changes.rollout.as_str()).collect())
        }
        None => {
            let record = rollout.records.get(node);
            let changes = record.and_then(|record| by_journal(&rollout.id, record));
            let missing = "nothing to undo: it is not known to have become what was staged";
            (changes.ok_or(missing)?, became_by_journal(node, snapshot))
        }
    };
    let lasting = lasting(became);
    if !lasting.contains(&rollout.id.as_str()) {
        return Err("nothing to undo: it was undone already".to_owned());
    }
    if let Some(other) = lasting.last().filter(|last| **last != rollout.id) {
        return Err(format!("has had {other} since, undo that first"));
    }
    reverse(desired, &changes)?.ok_or_else(|| NOTHING.to_owned())
}

/// Returns those of the rollouts that a node became that still stand, oldest first: an undo cancels the rollout before
/// it.
fn lasting(became: Vec<&str>) -> Vec<&str> {
    let mut lasting: Vec<&str> = Vec::new();
    for rollout in became {
        let name = rollout.split('@').next().unwrap_or_default();
        match lasting.last() {
            Some(last) if undo_name(last) == name => drop(lasting.pop()),
            _ => lasting.push(rollout),
        }
    }
    lasting
}

/// Returns the changes of a node that keeps no ledger: its image is all that a rollout changes.
fn by_journal(rollout: &str, record: &NodeRecord) -> Option<NodeChanges> {
    let proven = record.progress == Progress::Seen(Phase::Updated);
    let change =
        record.boot_change.as_ref().filter(|change| change.restoration == Restoration::No && proven)?;
    let running = change.before.running.clone().filter(|_| record.volatile)?;
    Some(NodeChanges { rollout: rollout.to_owned(), made: vec![ChangeMade::Image { running, saved: None }] })
}

/// Returns the rollouts that a node became, oldest order first, by the journals.
fn became_by_journal<'a>(node: &'a str, snapshot: &'a Snapshot) -> Vec<&'a str> {
    let mut became: Vec<RecordOf<'_>> =
        snapshot.records(node).filter(|of| of.record.progress == Progress::Seen(Phase::Updated)).collect();
    became.sort_by_key(|of| of.record.ordering_ms);
    became.iter().filter_map(RecordOf::rollout_id).collect()
}

#[cfg(test)]
mod tests;
