//! The agent's files, in its state directory.

pub(crate) mod ledger_file;
pub(crate) mod staged_file;

use rollout_core::agent::{Identity, OnDisk};
use std::io;
use std::path::{Path, PathBuf};

/// Mode of the files: for root only, because an order may name which packages are installed.
const MODE: u32 = 0o600;

/// Failure to read or write a file of the agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    #[error("{path}: cannot be {what}: {source}", path = .path.display())]
    Io { path: PathBuf, what: &'static str, source: io::Error },
    #[error(
        "{path}: cannot be understood: {source}. See that the node is as it should be, then remove the file and \
         `systemctl restart slurm-rollout-agent slurmd`",
        path = .path.display()
    )]
    Content { path: PathBuf, source: serde_json::Error },
    #[error(
        "{path}: is of {node}, and this is {me}: was the disk copied? See that the node is as it should be, then remove \
         the file and `systemctl restart slurm-rollout-agent slurmd`",
        path = .path.display()
    )]
    Foreign { path: PathBuf, node: String, me: String },
}

impl StateError {
    fn writing(path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io { path, what: "written", source }
    }
}

/// Reads the state directory for a starting agent.
///
/// # Errors
/// Returns the reason if the unsettled ledger cannot be read or is another node's: its state is then unknown.
pub(crate) fn read(dir: &Path, identity: &Identity) -> Result<OnDisk, StateError> {
    let file = ledger_file::LedgerFile::in_dir(dir);
    Ok(OnDisk {
        ledger: file.newest(&identity.node)?,
        staged: staged_file::StagedFile::in_dir(dir).read(),
        admitted: file.is_admitted(&identity.boot_id),
    })
}
