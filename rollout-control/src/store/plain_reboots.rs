//! The journal of plain reboots, which has no end: it is cut from time to time.

use super::MODE;
use super::StoreError;
use super::lock::Locked;
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Line, replay};

/// Size from which the journal of plain reboots is compacted: no rollout ever ends it, and each hand-over reads it.
const MAX_PLAIN: u64 = 256 * 1024;

/// Age from which a plain reboot is no longer needed to tell whether Slurm hands a node over for the second time.
const PLAIN_NEEDED_MS: u64 = 24 * 3600 * 1000;

/// Age of the oldest line from which the journal of plain reboots is compacted. A journal that is long because a whole
/// cluster was rebooted today would otherwise be rewritten by each claim, and stay as long as it is.
const PLAIN_OLD_MS: u64 = 2 * PLAIN_NEEDED_MS;

impl Locked<'_> {
    /// Keeps of a long journal of plain reboots only the lines that may still matter. The journal as it was stays in
    /// `plain-reboots.1`.
    pub(super) fn compact_plain_reboots(&self, now_ms: u64) -> Result<(), StoreError> {
        let journal = self.journal(None);
        if std::fs::metadata(&journal.path).map_or(0, |file| file.len()) < MAX_PLAIN {
            return Ok(());
        }
        let is_old = |line: Line| line.t_ms.saturating_add(PLAIN_OLD_MS) <= now_ms;
        if !journal.first_line().is_none_or(is_old) {
            return Ok(());
        }
        let lines = journal.read()?;
        let recent = |t_ms: u64| t_ms.saturating_add(PLAIN_NEEDED_MS) > now_ms;
        let records = replay(&lines);
        let needed = records.iter().filter(|(_, record)| recent(record.since_ms));
        let needed: NodeSet = needed.map(|(name, _)| name.clone()).collect();
        let of_needed =
            |line: &&Line| recent(line.t_ms) && !line.entry.nodes().intersection(&needed).is_empty();
        let mut text = Vec::new();
        for line in lines.iter().filter(of_needed) {
            serde_json::to_writer(&mut text, line).map_err(|error| journal.error("written", error.into()))?;
            text.push(b'\n');
        }
        let aside = journal.path.with_extension("1");
        let _ = std::fs::remove_file(&aside);
        std::fs::hard_link(&journal.path, &aside).map_err(|error| journal.error("put aside", error))?;
        self.replace(&journal.path, &text, MODE)
    }
}
