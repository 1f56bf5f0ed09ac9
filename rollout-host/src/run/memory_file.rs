//! Files in memory as standard input and output of programs.

use super::MAX_OUTPUT;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;
use std::process::Stdio;

/// Returns a file in memory as standard input. It is no pipe, so that we need not wait for a program that does not
/// read it.
pub(super) fn stdin_file(text: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create("stdin", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text)?;
    file.rewind()?;
    Ok(Stdio::from(file))
}

/// A file in memory to which a program writes its output.
pub(super) struct Capture(File);

impl Capture {
    pub(super) fn new() -> io::Result<Self> {
        let file = memfd_create("output", MFdFlags::MFD_CLOEXEC)?;
        // For programs that open /dev/stderr again, which would start at offset 0.
        fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
        Ok(Self(File::from(file)))
    }

    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        self.0.try_clone().map(Stdio::from)
    }

    pub(super) fn len(&self) -> u64 {
        self.0.metadata().map_or(0, |file| file.len())
    }

    /// Returns the output so far, from the beginning.
    pub(super) fn text(&self) -> String {
        let mut bytes = vec![0; usize::try_from(self.len()).unwrap_or(usize::MAX).min(MAX_OUTPUT)];
        // Cannot fail: the file only grows and is in memory.
        let _ = self.0.read_exact_at(&mut bytes, 0);
        String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}
