//! Decisions about started rollouts, made and recorded under one lock.

use super::journal_file::Appended;
use super::{StoreError, StoreWriter};
use rollout_core::controller::conduct::{Decision, Refusal};
use rollout_core::controller::lease::Holder;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::rollout::journal::Entry;
use rollout_host::clock;

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

/// A line for the journal of a rollout, by its id.
pub type RolloutLine = (String, Entry);

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

    /// Has the holder of the lease plan with everything that is known under the lock, and records the lines of the
    /// plan. They are on disk when this returns, and nothing else was written since the snapshot. `None` if `me` does
    /// not have the lease any more: nothing is planned then.
    ///
    /// # Errors
    /// Fails if anything cannot be read or written. Lines of other rollouts may have been written then.
    pub fn plan<T>(
        &self,
        me: &Holder,
        plan: impl FnOnce(Snapshot) -> (T, Vec<RolloutLine>),
    ) -> Result<Option<T>, StoreError> {
        let (lock, snapshot) = self.lock_with_snapshot()?;
        let now_ms = clock::now_ms();
        if !self.lease()?.is_some_and(|lease| lease.holder == *me && lease.until_ms > now_ms) {
            return Ok(None);
        }
        let (plan, lines) = plan(snapshot);
        let append = |(id, entry): RolloutLine| lock.append_at(Some(&id), vec![entry], clock::now_ms());
        let appended: Vec<Appended> = lines.into_iter().map(append).collect::<Result<_, _>>()?;
        // The disk holds up no other writer.
        drop(lock);
        appended.into_iter().try_for_each(Appended::sync)?;
        Ok(Some(plan))
    }
}
