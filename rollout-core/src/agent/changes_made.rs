//! Changes that rollouts made on a node, as its ledger keeps them for a later undo.

use crate::agent::record::{Before, Record};
use crate::protocol::order::Apply;
use crate::rollout::image::Running;
use crate::rollout::manifest::{Change, Manager};
use serde::{Deserialize, Serialize};

/// Changes that one rollout made on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChanges {
    pub rollout: String,
    /// One for each change of the manifest that altered the node, in the same order.
    pub made: Vec<ChangeMade>,
}

/// One change that was made, with everything needed to reverse it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ChangeMade {
    Symlink {
        path: String,
        /// The former target. `None` if there was no link.
        before: Option<String>,
    },
    /// The notation of packages is that of [`Before::Packages`].
    Packages { manager: Manager, added: Vec<String>, removed: Vec<String> },
    Image {
        /// The system that was running before.
        running: Running,
        /// As in [`Before::Image`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saved: Option<String>,
    },
}

impl NodeChanges {
    /// Returns the changes of a finished order, by its records.
    #[must_use]
    pub fn of(apply: &Apply, records: &[Record]) -> Self {
        let made = apply.desired.changes.iter().zip(records).filter_map(|(change, record)| {
            let after = record.after.as_ref().filter(|after| after.changed)?;
            Some(match (change, &record.before) {
                (Change::Symlink(link), Before::Symlink { target }) => {
                    ChangeMade::Symlink { path: link.path.clone(), before: target.clone() }
                }
                // Nothing to name in an undo: only a module stream was enabled.
                (Change::Packages(_), _) if after.added.is_empty() && after.removed.is_empty() => {
                    return None;
                }
                (Change::Packages(_), Before::Packages { manager, .. }) => ChangeMade::Packages {
                    manager: *manager,
                    added: after.added.clone(),
                    removed: after.removed.clone(),
                },
                (Change::Image(_), Before::Image { running, saved }) => {
                    ChangeMade::Image { running: running.clone(), saved: saved.clone() }
                }
                _ => return None,
            })
        });
        Self { rollout: apply.rollout.clone(), made: made.collect() }
    }
}
