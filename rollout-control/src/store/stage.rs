//! Staging and unstaging: recording the desired state of nodes. Touches no node.

use super::{MODE, StoreError, StoreWriter};
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::controller::staging::{Verdict, check, free_nodes, new_id, unstageable};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, Line};
use rollout_core::rollout::manifest::Manifest;
use rollout_host::{clock, durable};
use std::io;
use std::path::Path;

/// The result of staging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// The rollout is new and has this id.
    New(String),
    /// The same manifest is staged for all these nodes already, under this id.
    Already(String),
}

/// The reason for not staging a manifest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// Some of its nodes wait for another rollout.
    #[error("{nodes}: already staged for {rollout}; first `slurm-rollout unstage {rollout} {nodes}`")]
    Taken { nodes: NodeSet, rollout: String },
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Staged {
    /// Returns the rollout's id.
    #[must_use]
    pub fn into_id(self) -> String {
        match self {
            Self::New(id) | Self::Already(id) => id,
        }
    }
}

impl StoreWriter {
    /// Stages a manifest, whose checked form is `manifest` and whose text is `text`: all of it or nothing.
    ///
    /// # Errors
    /// Fails if a node waits for another rollout, or nothing can be written.
    pub fn stage(&self, text: &str, manifest: &Manifest) -> Result<Staged, StageError> {
        let (_lock, snapshot) = self.lock_with_snapshot()?;
        let staged = self.staged_now(manifest, &snapshot)?;
        if let Staged::New(id) = &staged {
            self.write_rollout(id, text, manifest.nodes.clone())?;
        }
        Ok(staged)
    }

    /// Returns the nodes of `nodes` for which the rollout was called off (`None`: all of its nodes).
    ///
    /// # Errors
    /// Fails if there is no such rollout, or nothing can be written.
    pub fn unstage(&self, id: &str, nodes: Option<&NodeSet>) -> Result<NodeSet, StoreError> {
        let (lock, snapshot) = self.lock_with_snapshot()?;
        let Some(rollout) = snapshot.rollout(id) else {
            // If it is closed, it is over for all of its nodes.
            return self.rollout(id).map(|_| NodeSet::default());
        };
        let all = rollout.records.keys().cloned().collect();
        let nodes = unstageable(nodes.unwrap_or(&all), &snapshot, id, clock::now_ms());
        if !nodes.is_empty() {
            lock.append(Some(id), vec![Entry::Unstaged { nodes: nodes.clone() }])?;
        }
        Ok(nodes)
    }

    /// Stages a rollout once more for nodes that went back. Returns those for which it did: not those that wait for
    /// another one by now. A closed rollout is open again.
    ///
    /// # Errors
    /// Fails if there is no such rollout, or nothing can be written.
    pub fn stage_again(&self, id: &str, nodes: &NodeSet) -> Result<NodeSet, StoreError> {
        let (lock, snapshot) = self.lock_with_snapshot()?;
        self.manifest_text(id)?;
        let nodes = free_nodes(nodes, &snapshot);
        if !nodes.is_empty() {
            lock.reopen(id)?;
            lock.append(Some(id), vec![Entry::Staged { nodes: nodes.clone() }])?;
        }
        Ok(nodes)
    }

    /// Makes the rollout's directory under another name and renames it when it is complete.
    fn write_rollout(&self, id: &str, text: &str, nodes: NodeSet) -> Result<(), StoreError> {
        let (new, complete) = (self.rollouts_dir().join(format!(".{id}")), self.rollouts_dir().join(id));
        let _ = std::fs::remove_dir_all(&new);
        let renamed = self
            .fill_rollout(&new, text, nodes)
            .and_then(|()| durable::rename(&new, &complete).map_err(StoreError::io(&complete, "written")));
        if let Err(error) = renamed {
            // The rest of it would only take room.
            let _ = std::fs::remove_dir_all(&new);
            return Err(error);
        }
        Ok(())
    }

    fn fill_rollout(&self, new: &Path, text: &str, nodes: NodeSet) -> Result<(), StoreError> {
        self.make_dir(new)?;
        let line = Line { t_ms: clock::now_ms(), by: self.by.clone(), entry: Entry::Staged { nodes } };
        let journal = serde_json::to_string(&line)
            .map_err(|error| StoreError::io(new, "written")(io::Error::from(error)))?;
        for (name, content) in [("manifest.toml", text), ("journal", &(journal + "\n"))] {
            let path = new.join(name);
            durable::replace(&path, content.as_bytes(), MODE).map_err(StoreError::io(&path, "written"))?;
            self.give(&path)?;
        }
        Ok(())
    }
}

impl super::StoreReader {
    /// Returns the answer that staging a manifest would get now.
    ///
    /// # Errors
    /// As for [`StoreWriter::stage`].
    pub fn would_stage(&self, manifest: &Manifest) -> Result<Staged, StageError> {
        self.staged_now(manifest, &self.snapshot()?)
    }

    fn staged_now(&self, manifest: &Manifest, snapshot: &Snapshot) -> Result<Staged, StageError> {
        match check(manifest, snapshot) {
            Verdict::Already(id) => Ok(Staged::Already(id)),
            Verdict::Taken { nodes, rollout } => Err(StageError::Taken { nodes, rollout }),
            Verdict::Free => Ok(Staged::New(new_id(&manifest.name, &self.ids_ever()?))),
        }
    }
}
