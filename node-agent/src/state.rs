//! The agent's files, in its state directory.

pub(crate) mod ledger_file;
pub(crate) mod staged_file;

use rollout_core::agent::{Identity, OnDisk};
use rollout_core::protocol::answer::Answer;
use rollout_core::slurm::node_name::NoNodeName;
use std::io;
use std::path::{Path, PathBuf};

/// The state directory. The units, which must find it before any configuration is read, name the same path.
pub(crate) const DIR: &str = "/var/lib/slurm-rollout-agent";

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
    #[error(transparent)]
    NoNodeName(#[from] NoNodeName),
}

impl StateError {
    /// Returns the refusal of an order for this cause. A file system that is read-only, full or not there may be
    /// another one in a moment; a file with the wrong content stays until somebody removes it.
    pub(crate) fn refusal(&self) -> Answer {
        let transient = match self {
            Self::Io { .. } | Self::NoNodeName(NoNodeName::HostName(_)) => true,
            Self::Content { .. } | Self::Foreign { .. } | Self::NoNodeName(_) => false,
        };
        Answer::Refused { why: self.to_string(), order: None, transient }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_core::hostlist::NodeSet;

    #[test]
    fn a_refusal_is_for_now_if_its_cause_may_go_by_itself() {
        let path = || PathBuf::from("/state/order.json");
        let (node, me) = ("n1".to_owned(), "n2".to_owned());
        let nodes = NodeSet::parse("n[1-2]").unwrap();
        for (error, expected) in [
            (StateError::writing(path())(io::ErrorKind::ReadOnlyFilesystem.into()), true),
            (StateError::writing(path())(io::ErrorKind::StorageFull.into()), true),
            (StateError::NoNodeName(NoNodeName::HostName("still localhost".to_owned())), true),
            (StateError::NoNodeName(NoNodeName::Several { host: me.clone(), nodes }), false),
            (StateError::Foreign { path: path(), node, me }, false),
            (
                StateError::Content { path: path(), source: serde_json::from_str::<u8>("{").unwrap_err() },
                false,
            ),
        ] {
            let Answer::Refused { why, order: None, transient } = error.refusal() else { panic!("{error}") };
            assert_eq!((why, transient), (error.to_string(), expected));
        }
    }

    /// Files outside of this crate that name the state directory, with the lines that they must have.
    const PACKAGING: [(&str, &[&str]); 7] = [
        (
            "systemd/slurm-rollout-gate.service",
            &[
                "ConditionPathExists=|DIR/order.json",
                "ConditionPathExists=|!DIR/reserve",
                "RequiresMountsFor=DIR",
            ],
        ),
        (
            "systemd/slurm-rollout-rescue.service",
            &["ConditionPathExists=DIR/order.json", "StateDirectory=NAME"],
        ),
        ("systemd/slurm-rollout-agent.service", &["StateDirectory=NAME", "StateDirectoryMode=0700"]),
        (
            "rpm/slurm-rollout.spec",
            &["%global agentstatedir DIR", "if [ -e %{agentstatedir}/order.json ]; then"],
        ),
        ("deb/slurm-rollout-agent.postinst", &["if [ -e DIR/order.json ]; then"]),
        ("deb/slurm-rollout-agent.prerm", &["if [ -e \"${DPKG_ROOT:-}DIR/order.json\" ]; then"]),
        ("config/agent.toml", &["#state_dir = \"DIR\""]),
    ];

    #[test]
    fn every_unit_and_script_looks_where_the_ledger_is() {
        let name = Path::new(DIR).file_name().unwrap().to_str().unwrap();
        for (file, lines) in PACKAGING {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(file);
            let text = std::fs::read_to_string(&path).unwrap();
            for line in lines {
                let line = line.replace("DIR", DIR).replace("NAME", name);
                assert!(text.lines().any(|found| found.trim() == line), "{file} has no line {line}");
            }
        }
    }
}
