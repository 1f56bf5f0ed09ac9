//! Decisions about started rollouts, made and recorded under one lock.

use super::{StoreError, StoreWriter};
use rollout_core::controller::conduct::{Decision, Refusal};
use rollout_core::controller::snapshot::Snapshot;

/// The reason for not recording a decision.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConductError {
    /// The verb does not apply to the rollout as it is.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StoreWriter {
    /// Has a decision about a rollout made with everything that is known under the lock, and records it. The lines are
    /// on disk when this returns.
    ///
    /// # Errors
    /// Fails if the decision is a refusal, or nothing can be written.
    pub fn decide(
        &self,
        id: &str,
        decide: impl FnOnce(&Snapshot) -> Result<Decision, Refusal>,
    ) -> Result<Decision, ConductError> {
        let (lock, snapshot) = self.lock_with_snapshot()?;
        let decision = decide(&snapshot)?;
        if !decision.entries.is_empty() {
            lock.append(Some(id), decision.entries.clone())?;
        }
        Ok(decision)
    }
}
