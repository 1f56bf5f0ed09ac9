//! A journal on disk: lines are only ever appended, under the store's lock, and are on disk when that is done.

use super::lock::Locked;
use super::{MODE, StoreError};
use rollout_core::hostlist::NodeSet;
use rollout_core::rollout::journal::{Line, lines, replay};
use rollout_host::durable;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Size from which the journal of plain reboots is compacted: no rollout ever ends it, and each hand-over reads it.
const MAX_PLAIN: u64 = 256 * 1024;

/// Age from which a plain reboot is no longer needed to tell whether Slurm hands a node over for the second time.
const PLAIN_NEEDED_MS: u64 = 24 * 3600 * 1000;

/// One journal.
pub(super) struct JournalFile {
    path: PathBuf,
}

impl JournalFile {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The lines that are whole. No file is an empty journal.
    pub(super) fn read(&self) -> Result<Vec<Line>, StoreError> {
        let mut bytes = Vec::new();
        match File::open(&self.path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            Ok(_) => Ok(lines(&String::from_utf8_lossy(&bytes)).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(self.error("read", source)),
        }
    }

    /// Appends lines and makes them last. A line that a crash tore is ended first, and stays torn.
    pub(super) fn append(&self, lines: &[Line]) -> Result<(), StoreError> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|error| self.error("written", error.into()))?;
            text.push(b'\n');
        }
        let mut write = || -> io::Result<()> {
            let new = !self.path.exists();
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(MODE)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&self.path)?;
            if new {
                durable::give_to_owner_of_directory(&self.path)?;
            }
            if is_torn(&mut file)? {
                text.insert(0, b'\n');
            }
            let length = file.metadata()?.len();
            if let Err(error) = file.write_all(&text).and_then(|()| file.sync_data()) {
                // On a full disk the first of the lines may be whole: none of them counts.
                let _ = file.set_len(length).and_then(|()| file.sync_data());
                return Err(error);
            }
            if new {
                durable::sync_parent(&self.path)?;
            }
            Ok(())
        };
        write().map_err(|source| self.error("written", source))
    }

    pub(super) fn exists(&self) -> bool {
        self.path.exists()
    }

    fn error(&self, what: &'static str, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), what, source }
    }
}

impl Locked<'_> {
    /// Keeps of a long journal of plain reboots only the lines that may still matter. The journal as it was stays in
    /// `plain-reboots.1`.
    pub(super) fn compact_plain_reboots(&self, now_ms: u64) -> Result<(), StoreError> {
        let journal = self.journal(None);
        if std::fs::metadata(&journal.path).map_or(0, |file| file.len()) < MAX_PLAIN {
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

fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}
