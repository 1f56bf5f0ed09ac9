//! Reads of regular files. A FIFO without a writer, a terminal or `/dev/zero` in the place of a file is an error here:
//! opening or reading it would never end.

use nix::libc::{O_CLOEXEC, O_NOCTTY, O_NONBLOCK};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Size limit of files that people write: configuration, templates, manifests.
pub const MAX_WRITTEN_BY_HAND: u64 = 4 * 1024 * 1024;

/// Limit for files that only our own programs write.
pub const NO_LIMIT: u64 = u64::MAX;

/// Opens a regular file for reading. A link is followed.
///
/// # Errors
/// Returns `InvalidInput` for anything else, and the error of `open` otherwise.
pub fn open(path: &Path) -> io::Result<File> {
    // O_NONBLOCK does not change how a regular file is read. It lets `open` return for a FIFO.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY | O_CLOEXEC).open(path)?;
    let kind = file.metadata()?;
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// Returns `FileTooLarge` for a longer file; otherwise like [`open`].
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("longer than {limit} bytes")));
    }
    Ok(bytes)
}

/// Like [`read`], for UTF-8 text.
///
/// # Errors
/// Returns `InvalidData` for anything else; otherwise like [`read`].
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;

    #[test]
    fn a_fifo_a_device_and_a_directory_are_errors_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        assert_eq!(open(&fifo).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(open(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(open(dir.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
        assert_eq!(open(&dir.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the files of a test need not survive a power cut")]
    fn the_limit_is_inclusive_and_text_is_utf_8() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        assert_eq!(read(&path, 3).unwrap_err().kind(), ErrorKind::FileTooLarge);
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path, 4).unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(!read_text(Path::new("/proc/self/stat"), 4096).unwrap().is_empty());
    }
}
