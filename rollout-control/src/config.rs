//! The controller's configuration. Every key has a default; a site may have no file at all.

use rollout_core::agent_api;
use rollout_core::time_limit::TimeLimit;
use rollout_host::config::{self, ConfigError};
use rollout_host::munge;
use rollout_host::munge::Munge;
use rollout_host::scontrol::Scontrol;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is, with drop-ins in `controller.d/`.
pub const PATH: &str = "/etc/slurm-rollout/controller.toml";

/// How long `scontrol` may take where a person waits for it.
const SCONTROL_LIMIT: Duration = Duration::from_secs(20);

/// The keys of `controller.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The state directory. Two controllers may share it.
    pub state_dir: PathBuf,
    /// The agents' TCP port.
    pub agent_port: u16,
    /// By when an invocation of RebootProgram has ended. Slurm 26.05 kills it after ResumeTimeout, older versions
    /// book agent threads as long as it runs.
    pub deadline: TimeLimit,
    /// How long one agent may take to answer.
    pub agent_timeout: TimeLimit,
    /// How many agents are spoken to at the same time.
    pub concurrency: usize,
    /// `scontrol`.
    pub scontrol: PathBuf,
    /// `slurm.conf`, where it is neither Slurm's default nor in the environment's `SLURM_CONF`.
    pub slurm_conf: Option<PathBuf>,
    /// munged's socket.
    pub munge_socket: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/slurm-rollout".into(),
            agent_port: agent_api::PORT,
            deadline: TimeLimit::from_secs(10),
            agent_timeout: TimeLimit::from_secs(4),
            concurrency: 512,
            scontrol: "/usr/bin/scontrol".into(),
            slurm_conf: None,
            munge_socket: munge::SOCKET.into(),
        }
    }
}

impl Config {
    /// Reads the configuration at `path`.
    ///
    /// # Errors
    /// The first file that cannot be read or does not fit.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        config::load(path)
    }

    /// scontrol with this configuration; slurmctld hands its `SLURM_CONF` to RebootProgram in the environment.
    #[must_use]
    pub fn scontrol(&self) -> Scontrol {
        let inherited = || std::env::var_os("SLURM_CONF").map(PathBuf::from);
        Scontrol::new(self.scontrol.clone(), self.slurm_conf.clone().or_else(inherited), SCONTROL_LIMIT)
    }

    /// munged with this configuration.
    #[must_use]
    pub fn munge(&self) -> Munge {
        Munge::at(&self.munge_socket)
    }
}
