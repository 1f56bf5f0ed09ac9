//! The file of a RebootProgram, which is never run to find out what it is.

use crate::regular_file;
use std::path::Path;

/// Text in our RebootProgram, and in a script that calls it.
const OUR_NAME: &[u8] = b"slurm-rollout";
/// Size limit of a file that is searched. Our RebootProgram is much smaller.
const MAX_PROGRAM: u64 = 64 * 1024 * 1024;

/// Returns whether this file is slurm-rollout's or names it, as a wrapper script does outside its comments. `None` if
/// it cannot be read.
#[must_use]
pub fn names_us(path: &Path) -> Option<bool> {
    if std::fs::metadata(path).ok()?.len() > MAX_PROGRAM {
        return Some(false);
    }
    let bytes = regular_file::read(path, MAX_PROGRAM).ok()?;
    let has_name = |text: &[u8]| text.windows(OUR_NAME.len()).any(|part| part == OUR_NAME);
    if !bytes.starts_with(b"#!") {
        return Some(has_name(&bytes));
    }
    let mut code =
        bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii_start().starts_with(b"#"));
    Some(code.any(has_name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable;

    #[test]
    fn a_script_is_ours_if_it_calls_us() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        for (content, ours) in [
            ("#!/bin/sh\nexec /usr/libexec/slurm-rollout/reboot-program \"$@\"\n", true),
            ("#!/bin/sh\n# not slurm-rollout any more\nexec /usr/sbin/reboot\n", false),
            ("\x7fELF slurm-rollout", true),
            ("\x7fELF", false),
        ] {
            durable::replace(&path, content.as_bytes(), 0o755).unwrap();
            assert_eq!(names_us(&path), Some(ours), "{content}");
        }
        assert_eq!(names_us(&dir.path().join("missing")), None);
    }
}
