//! Output of hooks, beside the journal of their rollout. Only SlurmUser reads it: programs print secrets by mistake.

use super::{StoreError, StoreReader, StoreWriter};
use rollout_host::{durable, regular_file};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;

/// Size limit of an output, in bytes. Of a longer one, the end is kept.
const MAX_OUTPUT: usize = 16 * 1024;

/// Number of outputs that are kept for a rollout. The oldest ones are deleted.
const MAX_KEPT: usize = 100;

const MODE: u32 = 0o600;

impl StoreWriter {
    /// Keeps the output of a call of a hook.
    ///
    /// # Errors
    /// Fails if it cannot be written. Old outputs that cannot be deleted stay.
    pub fn keep_hook_output(&self, rollout: &str, run: u32, output: &str) -> Result<(), StoreError> {
        if output.trim().is_empty() {
            return Ok(());
        }
        let dir = self.hooks_dir(rollout);
        self.make_dir(&dir)?;
        let mut from = output.len().saturating_sub(MAX_OUTPUT);
        while !output.is_char_boundary(from) {
            from += 1;
        }
        let path = dir.join(run.to_string());
        let kept = output.get(from..).unwrap_or_default();
        durable::replace(&path, kept.as_bytes(), MODE).map_err(StoreError::io(&path, "written"))?;
        self.give(&path)?;
        let runs = self.hook_runs(rollout);
        for old in runs.iter().take(runs.len().saturating_sub(MAX_KEPT)) {
            let _ = std::fs::remove_file(dir.join(old.to_string()));
        }
        Ok(())
    }
}

impl StoreReader {
    /// Returns the outputs of hooks that this user may read, by the number of the call.
    #[must_use]
    pub fn hook_outputs(&self, rollout: &str) -> BTreeMap<u32, String> {
        let dir = self.hooks_dir(rollout);
        let read = |run: u32| -> io::Result<(u32, String)> {
            let mut bytes = Vec::new();
            let limit = u64::try_from(MAX_OUTPUT).unwrap_or(u64::MAX);
            regular_file::open(&dir.join(run.to_string()))?.take(limit).read_to_end(&mut bytes)?;
            Ok((run, String::from_utf8_lossy(&bytes).into_owned()))
        };
        self.hook_runs(rollout).into_iter().filter_map(|run| read(run).ok()).collect()
    }

    /// Returns the numbers of the calls with an output, in their order.
    fn hook_runs(&self, rollout: &str) -> Vec<u32> {
        let entries = std::fs::read_dir(self.hooks_dir(rollout)).into_iter().flatten().flatten();
        let runs = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut runs: Vec<u32> = runs.collect();
        runs.sort_unstable();
        runs
    }

    fn hooks_dir(&self, rollout: &str) -> PathBuf {
        self.rollout_dir(rollout).join("hooks")
    }
}
