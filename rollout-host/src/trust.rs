//! Files that decide what is run.

use nix::unistd::geteuid;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Checks that only root and this user can change a program, or a file that names programs.
///
/// # Errors
/// The reason why others can, with the remedy.
pub fn may_be_trusted(file: &Path) -> Result<(), String> {
    let file = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if !file.is_file() {
        return Err("is no program".to_owned());
    }
    if file.uid() != 0 && file.uid() != geteuid().as_raw() {
        return Err(format!("belongs to uid {}: chown root it", file.uid()));
    }
    if file.mode() & 0o022 != 0 {
        return Err("is writable for its group or for all: chmod go-w it".to_owned());
    }
    Ok(())
}
