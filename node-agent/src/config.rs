//! The agent's configuration. Every key has a default; a node may have no file at all.

use rollout_core::agent_api;
use rollout_host::config::{self, ConfigError};
use rollout_host::munge;
use rollout_host::scontrol::Scontrol;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is, with drop-ins in `agent.d/`.
pub(crate) const PATH: &str = "/etc/slurm-rollout/agent.toml";

/// How long `scontrol` may take. slurmctld may be busy, and nothing else waits for it.
const SCONTROL_LIMIT: Duration = Duration::from_secs(15);

/// The keys of `agent.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The node's NodeName; by default the host name up to its first dot, as slurmd has it.
    pub(crate) node_name: Option<String>,
    /// Where orders are taken.
    pub(crate) listen: SocketAddr,
    /// SlurmUser: besides root, whose orders are taken.
    pub(crate) slurm_user: String,
    /// slurmd's unit.
    pub(crate) slurmd_unit: String,
    /// `scontrol`.
    pub(crate) scontrol: PathBuf,
    /// `slurm.conf`, where it is not Slurm's default.
    pub(crate) slurm_conf: Option<PathBuf>,
    /// Run as root before a reboot that a job asked for with features; gets them as Slurm lists them, `a,b`.
    pub(crate) features_program: Option<PathBuf>,
    /// munged's socket.
    pub(crate) munge_socket: PathBuf,
    /// Where the ledger is. It must be there again after a boot.
    pub(crate) state_dir: PathBuf,
    /// The Unix socket, for root on this node.
    pub(crate) socket: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: None,
            listen: SocketAddr::from(([0_u16; 8], agent_api::PORT)),
            slurm_user: "slurm".to_owned(),
            slurmd_unit: "slurmd.service".to_owned(),
            scontrol: "/usr/bin/scontrol".into(),
            slurm_conf: None,
            features_program: None,
            munge_socket: munge::SOCKET.into(),
            state_dir: "/var/lib/slurm-rollout-agent".into(),
            socket: agent_api::SOCKET.into(),
        }
    }
}

impl Config {
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        config::load(path)
    }

    pub(crate) fn scontrol(&self) -> Scontrol {
        Scontrol::new(self.scontrol.clone(), self.slurm_conf.clone(), SCONTROL_LIMIT)
    }
}
