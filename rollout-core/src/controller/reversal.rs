//! The decision of `undo`: the desired state that takes a node back to its state before a rollout.

use super::snapshot::{RolloutState, Snapshot};
use crate::agent::phase::Phase;
use crate::rollout::journal::{NodeRecord, Progress, Restoration};
use crate::rollout::manifest::DesiredState;
use crate::rollout::undo::{ChangeMade, NodeChanges, reverse};

/// Length limit of the name of an undo, as of every rollout's name.
const MAX_NAME: usize = 64;

/// Returns the name of the rollout that undoes `rollout`.
#[must_use]
pub fn undo_name(rollout: &str) -> String {
    format!("undo-{}", rollout.replace('@', "-")).chars().take(MAX_NAME).collect()
}

/// Returns the desired state that undoes `rollout` on a node.
///
/// `changes` is the answer of the node's agent: the changes of the rollouts that the node became, oldest first. Only those stand in
/// the way of an older one: a rollout that was rolled back, refused or not answered left nothing to undo.
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
        Some(Err(why)) => return Err(format!("its agent does not say what was made of it: {why}")),
        None => return Err("its agent was not asked".to_owned()),
    };
    let desired = &rollout.manifest.as_ref().map_err(String::clone)?.desired;
    let lasting = lasting(changes);
    let found = lasting.iter().rposition(|changes| changes.rollout == rollout.id);
    let (changes, since) = match found {
        Some(index) => (lasting[index].clone(), lasting.last().map(|last| last.rollout.clone())),
        None if changes.iter().any(|changes| changes.rollout == rollout.id) => {
            return Err("nothing to undo: it was undone already".to_owned());
        }
        None => {
            let record = rollout.records.get(node);
            let changes = record.and_then(|record| by_journal(&rollout.id, record));
            let missing = "nothing to undo: it is not known to have become what was staged";
            (changes.ok_or(missing)?, updated_since(node, snapshot))
        }
    };
    if let Some(other) = since.filter(|since| *since != rollout.id) {
        return Err(format!("has had {other} since, undo that first"));
    }
    reverse(desired, &changes)?.ok_or_else(|| "nothing to undo: nothing was another than before".to_owned())
}

/// Returns the changes that still stand: an undo cancels the rollout before it. Rollouts that changed nothing are left out.
fn lasting(changes: &[NodeChanges]) -> Vec<&NodeChanges> {
    let mut lasting: Vec<&NodeChanges> = Vec::new();
    for changes in changes.iter().filter(|changes| !changes.made.is_empty()) {
        let name = changes.rollout.split('@').next().unwrap_or_default();
        match lasting.last() {
            Some(last) if undo_name(&last.rollout) == name => drop(lasting.pop()),
            _ => lasting.push(changes),
        }
    }
    lasting
}

/// Returns the changes of a node that keeps no ledger: its image is all that a rollout changes.
fn by_journal(rollout: &str, record: &NodeRecord) -> Option<NodeChanges> {
    let change = record.boot_change.as_ref().filter(|change| change.restoration == Restoration::No)?;
    let running = change.before.running.clone().filter(|_| record.volatile)?;
    Some(NodeChanges { rollout: rollout.to_owned(), made: vec![ChangeMade::Image { running, saved: None }] })
}

/// Returns the rollout that a node became last, by the journals.
fn updated_since(node: &str, snapshot: &Snapshot) -> Option<String> {
    let updated = snapshot.records(node).filter(|of| of.record.progress == Progress::Seen(Phase::Updated));
    updated.max_by_key(|of| of.record.ordering_ms).and_then(|of| of.rollout_id()).map(str::to_owned)
}

#[cfg(test)]
mod tests;
