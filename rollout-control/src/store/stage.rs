//! Staging and unstaging: recording what nodes shall become. Touches no node.

use super::{MODE, Store, StoreError};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Entry, Line, NodeRecords, fold};
use rollout_core::rollout::manifest::Manifest;
use rollout_host::{clock, durable};
use std::path::Path;

/// What staging did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Staged {
    /// The rollout is new and has this id.
    New(String),
    /// The same manifest is staged for all these nodes already, under this id.
    Already(String),
}

/// Why a manifest is not staged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// Some of its nodes have something staged already.
    #[error("{nodes}: already staged for {rollout}; first `slurm-rollout unstage {rollout} {nodes}`")]
    Taken {
        /// The nodes.
        nodes: NodeSet,
        /// What is staged for them.
        rollout: String,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Staged {
    /// The rollout's id.
    #[must_use]
    pub fn into_id(self) -> String {
        match self {
            Self::New(id) | Self::Already(id) => id,
        }
    }
}

impl Store {
    /// Stages a manifest, whose checked form is `manifest` and whose text is `text`. All of it or nothing; with
    /// `dry_run` nothing, but the same answer.
    ///
    /// # Errors
    /// If a node has something staged already, or nothing can be written.
    pub fn stage(&self, text: &str, manifest: &Manifest, dry_run: bool) -> Result<Staged, StageError> {
        let _lock = if dry_run { None } else { Some(self.lock()?) };
        let folds = self.folds()?;
        let now_ms = clock::now_ms();
        for (id, nodes) in &folds {
            let taken = Self::armed(nodes, &manifest.nodes, now_ms);
            if taken.is_empty() {
                continue;
            }
            let whole = taken == manifest.nodes && nodes.len() == taken.len();
            if whole && self.manifest(id).is_ok_and(|staged| staged == *manifest) {
                return Ok(Staged::Already(id.clone()));
            }
            return Err(StageError::Taken { nodes: taken, rollout: id.clone() });
        }
        let id = new_id(&manifest.name, &folds);
        if !dry_run {
            self.write_rollout(&id, text, manifest.nodes.clone())?;
        }
        Ok(Staged::New(id))
    }

    /// Calls off what is still to come for these nodes (none: for all of the rollout's). Says for which it did: not for nodes
    /// that boot what the rollout gave them, until that is put back. Nobody would know of it any more.
    ///
    /// # Errors
    /// If there is no such rollout, or nothing can be written.
    pub fn unstage(&self, id: &str, nodes: Option<&NodeSet>) -> Result<NodeSet, StoreError> {
        let _lock = self.lock()?;
        self.manifest_text(id)?;
        let fold = fold(&self.lines(id)?);
        let all: NodeSet = fold.keys().cloned().collect();
        let nodes = Self::armed(&fold, nodes.unwrap_or(&all), clock::now_ms());
        let ours = fold.iter().filter(|(_, node)| node.boots_ours().is_some());
        let nodes = nodes.difference(&ours.map(|(name, _)| name.clone()).collect());
        if !nodes.is_empty() {
            self.append(Some(id), vec![Entry::Unstaged { nodes: nodes.clone() }])?;
        }
        Ok(nodes)
    }

    /// Stages nodes anew that a rollout was applied to and that went back. Says for which it did: not for those that
    /// have something else staged by now.
    ///
    /// # Errors
    /// If there is no such rollout, or nothing can be written.
    pub fn stage_again(&self, id: &str, nodes: &NodeSet) -> Result<NodeSet, StoreError> {
        let _lock = self.lock()?;
        self.manifest_text(id)?;
        let now_ms = clock::now_ms();
        let taken = self
            .folds()?
            .iter()
            .fold(NodeSet::default(), |taken, (_, fold)| taken.union(&Self::armed(fold, nodes, now_ms)));
        let nodes = nodes.difference(&taken);
        if !nodes.is_empty() {
            self.append(Some(id), vec![Entry::Staged { nodes: nodes.clone() }])?;
        }
        Ok(nodes)
    }

    /// Makes the rollout's directory under another name and renames it when it is whole.
    fn write_rollout(&self, id: &str, text: &str, nodes: NodeSet) -> Result<(), StoreError> {
        let (new, whole) = (self.rollout_dir(&format!(".{id}")), self.rollout_dir(id));
        let _ = std::fs::remove_dir_all(&new);
        let written = self.fill_rollout(&new, text, nodes);
        if let Err(error) =
            written.and_then(|()| durable::rename(&new, &whole).map_err(|e| io_error(&whole, e)))
        {
            // What is left of it would only take room.
            let _ = std::fs::remove_dir_all(&new);
            return Err(error);
        }
        Ok(())
    }

    fn fill_rollout(&self, new: &Path, text: &str, nodes: NodeSet) -> Result<(), StoreError> {
        self.make_dir(new)?;
        let line = Line { t_ms: clock::now_ms(), by: self.by.clone(), entry: Entry::Staged { nodes } };
        let journal = serde_json::to_string(&line).unwrap_or_default() + "\n";
        for (name, content) in [("manifest.toml", text), ("journal", &journal)] {
            let path = new.join(name);
            durable::replace(&path, content.as_bytes(), MODE).map_err(|e| io_error(&path, e))?;
            self.give(&path)?;
        }
        Ok(())
    }
}

fn io_error(path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), what: "written", source }
}

/// The name, or the name with the first number behind it that is free: `driver`, `driver@2`.
fn new_id(name: &str, folds: &[(String, NodeRecords)]) -> String {
    let free = |id: &String| folds.iter().all(|(known, _)| known != id);
    let numbered = (2..).map(|number| format!("{name}@{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(free).unwrap_or_default()
}
