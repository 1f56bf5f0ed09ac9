//! A journal on disk: lines are only ever appended, under the store's lock, and synced after that.

use super::{MODE, StoreError};
use rollout_core::rollout::journal::{JournalState, Line, NodeRecords, lines};
use rollout_host::{durable, regular_file};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// One journal.
#[derive(Debug, Clone)]
pub(super) struct JournalFile {
    pub(super) path: PathBuf,
}

impl JournalFile {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the lines that are whole. A missing file is an empty journal.
    pub(super) fn read(&self) -> Result<Vec<Line>, StoreError> {
        Ok(lines(&String::from_utf8_lossy(&self.text()?.unwrap_or_default())).collect())
    }

    fn text(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let mut text = Vec::new();
        match regular_file::open(&self.path).and_then(|mut file| file.read_to_end(&mut text)) {
            Ok(_) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.error("read", source)),
        }
    }

    /// Returns the first line that is whole. `None` if there is none or it cannot be read.
    pub(super) fn first_line(&self) -> Option<Line> {
        let mut text = Vec::new();
        BufReader::new(regular_file::open(&self.path).ok()?).read_until(b'\n', &mut text).ok()?;
        lines(&String::from_utf8_lossy(&text)).next()
    }

    /// Appends lines. A line that a crash tore is ended first, and stays torn.
    pub(super) fn append(&self, lines: &[Line]) -> Result<Appended, StoreError> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|error| self.error("written", error.into()))?;
            text.push(b'\n');
        }
        let mut write = || -> io::Result<Appended> {
            let is_new = !self.path.exists();
            let mut file = OpenOptions::new()
                .read(true)
                .append(true)
                .create(true)
                .mode(MODE)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&self.path)?;
            if is_new {
                durable::give_to_owner_of_directory(&self.path)?;
                durable::sync_parent(&self.path)?;
            }
            if is_torn(&mut file)? {
                text.insert(0, b'\n');
            }
            let length = file.metadata()?.len();
            if let Err(error) = file.write_all(&text) {
                // On a full disk the first of the lines may be whole: none of them counts.
                let _ = file.set_len(length).and_then(|()| file.sync_data());
                return Err(error);
            }
            Ok(Appended { journal: self.clone(), file })
        };
        write().map_err(|source| self.error("written", source))
    }

    pub(super) fn exists(&self) -> bool {
        self.path.exists()
    }

    pub(super) fn missing(&self) -> StoreError {
        self.error("read", io::ErrorKind::NotFound.into())
    }

    pub(super) fn error(&self, what: &'static str, source: io::Error) -> StoreError {
        StoreError::Io { path: self.path.clone(), what, source }
    }
}

/// Lines that were appended and may not be on disk yet.
#[must_use]
#[derive(Debug)]
pub(super) struct Appended {
    journal: JournalFile,
    file: File,
}

impl Appended {
    /// Makes the lines last. This needs no lock: others need not wait for the disk, and the file system writes the
    /// lines of several processes at once. Others may act on lines that a power cut takes away afterwards; their writer
    /// has not acted on them yet.
    pub(super) fn sync(self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|source| self.journal.error("written", source))
    }
}

/// A journal's text with its state, for reading it again at little cost.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    text: Vec<u8>,
    first: Option<Written>,
    state: JournalState,
}

/// Time and writer of a line.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    pub(super) t_ms: u64,
    pub(super) by: String,
}

impl Written {
    pub(super) fn of(line: &Line) -> Self {
        Self { t_ms: line.t_ms, by: line.by.clone() }
    }
}

impl Replayed {
    /// Reads the journal, again if it was read before. If it only grew, only the new lines are parsed. Returns whether
    /// it exists.
    pub(super) fn catch_up(&mut self, journal: &JournalFile) -> Result<bool, StoreError> {
        let read = journal.text()?;
        let exists = read.is_some();
        let text = read.unwrap_or_default();
        let only_grew = text.starts_with(&self.text) && self.text.last().is_none_or(|last| *last == b'\n');
        if !only_grew {
            *self = Self::default();
        }
        for line in lines(&String::from_utf8_lossy(&text[self.text.len()..])) {
            self.first.get_or_insert_with(|| Written::of(&line));
            self.state.apply(&line);
        }
        self.text = text;
        Ok(exists)
    }

    /// Returns time and writer of the first line that is whole.
    pub(super) fn first(&self) -> Option<Written> {
        self.first.clone()
    }

    pub(super) fn records(&self) -> &NodeRecords {
        &self.state.records
    }

    pub(super) fn into_state(self) -> JournalState {
        self.state
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
