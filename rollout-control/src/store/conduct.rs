//! Decisions about started rollouts, made and recorded under one lock.

use super::journal_file::Appended;
use super::{StoreError, StoreWriter};
use rollout_core::controller::conduct::{Decision, Refusal};
use rollout_core::controller::lease::Holder;
use rollout_core::controller::snapshot::Snapshot;
use rollout_core::rollout::journal::Entry;
use rollout_host::clock;
use std::collections::BTreeMap;

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

/// Rollouts whose lines could not be written, by their ids.
pub type Unwritten = BTreeMap<String, StoreError>;

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
    /// plan. They are on disk when this returns, except those of the rollouts returned with the plan, and nothing else
    /// was written since the snapshot. `None` if `me` does not have the lease any more: nothing is planned then.
    ///
    /// # Errors
    /// Fails if the state directory cannot be locked or read. A journal that cannot be written keeps no other rollout
    /// from its lines.
    pub fn plan<T>(
        &self,
        me: &Holder,
        plan: impl FnOnce(Snapshot) -> (T, Vec<RolloutLine>),
    ) -> Result<Option<(T, Unwritten)>, StoreError> {
        let (lock, snapshot) = self.lock_with_snapshot()?;
        let now_ms = clock::now_ms();
        if !self.lease()?.is_some_and(|lease| lease.holder == *me && lease.until_ms > now_ms) {
            return Ok(None);
        }
        let (plan, lines) = plan(snapshot);
        let mut by_rollout: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        lines.into_iter().for_each(|(id, entry)| by_rollout.entry(id).or_default().push(entry));
        let append = |(id, entries): (String, _)| {
            let appended = lock.append_at(Some(&id), entries, clock::now_ms());
            (id, appended)
        };
        let appended: Vec<_> = by_rollout.into_iter().map(append).collect();
        // The disk holds up no other writer.
        drop(lock);
        let synced = appended.into_iter().map(|(id, appended)| (id, appended.and_then(Appended::sync)));
        let unwritten = synced.filter_map(|(id, synced)| Some((id, synced.err()?))).collect();
        Ok(Some((plan, unwritten)))
    }
}
