//! Previous boot sources of a rollout's nodes, in the notation of their provider. For SlurmUser only: a service may
//! give nodes secrets with them.

use super::journal_file::Replayed;
use super::lock::Locked;
use super::{StoreError, StoreReader, StoreWriter};
use crate::boot::Saved;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::order::OrderId;
use rollout_core::rollout::journal::Entry;
use rollout_host::clock;
use rollout_host::regular_file::{self, NO_LIMIT};
use std::collections::BTreeMap;

const FILE: &str = "boot-sources.json";
const MODE: u32 = 0o600;

impl StoreReader {
    /// Returns the boot sources from before a rollout, by NodeName.
    ///
    /// # Errors
    /// Fails if they exist and cannot be read.
    pub fn boot_sources(&self, id: &str) -> Result<BTreeMap<String, Saved>, StoreError> {
        let path = self.rollout_dir(id).join(FILE);
        match regular_file::read(&path, NO_LIMIT) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|error| StoreError::io(&path, "read")(error.into()))
            }
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(StoreError::io(&path, "read")(error)),
        }
    }
}

impl StoreWriter {
    /// Keeps the present boot sources of nodes, before a rollout changes them. For a node that boots from what the
    /// rollout gave it, the source from before stays.
    ///
    /// # Errors
    /// Fails if they cannot be read or written; then nothing may be changed.
    pub fn save_boot_sources(&self, id: &str, now: BTreeMap<String, Saved>) -> Result<(), StoreError> {
        let (lock, journal) = self.lock_with_journal(id)?;
        let records = journal.records();
        let ours =
            |node: &String| records.get(node).is_some_and(|record| record.unsettled_boot_change().is_some());
        let mut saved = self.boot_sources(id)?;
        for (node, source) in now {
            if !(ours(&node) && saved.contains_key(&node)) {
                saved.insert(node, source);
            }
        }
        lock.replace_json(&self.rollout_dir(id).join(FILE), &saved, MODE)
    }

    /// Claims boot sources for restoring, for `hold_ms` milliseconds: nobody else changes or restores them meanwhile.
    /// Returns the nodes that were claimed. The others belong to another order by now, or another process is at work on
    /// them. The process that changed them itself and has not recorded an outcome is `by_owner`.
    ///
    /// # Errors
    /// Fails if the journal cannot be read or written; then nothing may be restored.
    pub fn claim_restoring(
        &self,
        id: &str,
        nodes: &BTreeMap<String, OrderId>,
        hold_ms: u64,
        by_owner: bool,
    ) -> Result<NodeSet, StoreError> {
        let (lock, journal) = self.lock_with_journal(id)?;
        let (now_ms, records) = (clock::now_ms(), journal.records());
        let mut claimed: BTreeMap<OrderId, Vec<String>> = BTreeMap::new();
        for (node, order) in nodes {
            let Some(record) = records.get(node) else { continue };
            let Some(change) = record.unsettled_boot_change().filter(|change| change.order == *order) else {
                continue;
            };
            let taken = match by_owner {
                true => change.is_being_restored(now_ms),
                false => record.is_claimed(now_ms),
            };
            if !taken {
                claimed.entry(order.clone()).or_default().push(node.clone());
            }
        }
        let all = claimed.values().flatten().cloned().collect();
        let until_ms = now_ms.saturating_add(hold_ms);
        let entry = |(order, names): (OrderId, Vec<String>)| Entry::BootRestoring {
            nodes: names.into_iter().collect(),
            order,
            until_ms,
        };
        let entries: Vec<Entry> = claimed.into_iter().map(entry).collect();
        if !entries.is_empty() {
            let appended = lock.append_at(Some(id), entries, now_ms)?;
            drop(lock);
            appended.sync()?;
        }
        Ok(all)
    }

    /// Takes the lock and reads one journal. Most of it is read and parsed before.
    fn lock_with_journal(&self, id: &str) -> Result<(Locked<'_>, Replayed), StoreError> {
        let (file, mut journal) = (self.journal(Some(id)), Replayed::default());
        journal.catch_up(&file)?;
        let lock = self.lock()?;
        journal.catch_up(&file)?;
        Ok((lock, journal))
    }
}
