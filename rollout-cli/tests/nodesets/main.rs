//! Node sets: against ClusterShell itself, with the files that ClusterShell reads, and on the command line.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic, write files that need not last, and start programs of its own"
)]

mod clustershell;
mod command_line;
mod random;
mod site;

use std::path::Path;

/// Writes files below a directory.
fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}
