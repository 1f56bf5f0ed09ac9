//! A journal on disk: lines are only ever appended, under the store's lock, and are on disk when that is done.

use super::{MODE, StoreError};
use rollout_core::rollout::journal::{Line, lines};
use rollout_host::durable;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// When the journal of plain reboots, which nobody ends, is put aside as `plain-reboots.1`.
const MAX_PLAIN: u64 = 4 * 1024 * 1024;

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

    /// Puts the file aside once it is long. Only for a journal that no rollout ends.
    pub(super) fn rotate(&self) -> Result<(), StoreError> {
        let length = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if length < MAX_PLAIN {
            return Ok(());
        }
        durable::rename(&self.path, &self.path.with_extension("1"))
            .map_err(|source| self.error("put aside", source))
    }

    fn error(&self, what: &'static str, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), what, source }
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
