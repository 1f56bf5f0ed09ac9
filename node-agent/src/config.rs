//! The agent's configuration. Every key has a default, so a node may have no file at all.

use crate::node;
use crate::slurm::conf_server::is_conf_server;
use crate::slurm::slurmd_options::{CONF_SERVER, SlurmdOptions};
use crate::state;
use rollout_core::hostlist::NodeSet;
use rollout_core::protocol::answer;
use rollout_core::text::one_line;
use rollout_core::time_limit::TimeLimit;
use rollout_host::config::{self, ConfigError, InvalidValue, Validate, is_absolute};
use rollout_host::munge;
use rollout_host::order_key::SlurmUser;
use rollout_host::scontrol::Scontrol;
use rollout_host::sealing::Sealing;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The configuration file, with drop-ins in `agent.d/`.
pub(crate) const PATH: &str = "/etc/slurm-rollout/agent.toml";

/// Time limit for `scontrol`. slurmctld may be busy, and nothing else waits for it.
const SCONTROL_LIMIT: Duration = Duration::from_secs(15);

/// The keys of `agent.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node's NodeName; by default the agent finds it as slurmd does, see [`crate::node_name`].
    pub(crate) node_name: Option<String>,
    /// Address on which orders are taken.
    pub(crate) listen: SocketAddr,
    /// SlurmUser, whose orders are taken besides those of root.
    pub(crate) slurm_user: String,
    pub(crate) slurmd_unit: String,
    pub(crate) scontrol: PathBuf,
    /// `slurm.conf`, if it is not Slurm's default.
    pub(crate) slurm_conf: Option<PathBuf>,
    /// The slurmctld from which scontrol fetches its configuration on a node without `slurm.conf`; by default the one
    /// that slurmd is started with.
    pub(crate) conf_server: Option<String>,
    /// Program that is run as root before a reboot that a job requested with features. Its argument is Slurm's list of
    /// them, `a,b`.
    pub(crate) features_program: Option<PathBuf>,
    pub(crate) munge_socket: PathBuf,
    /// The key that opens orders sealed without MUNGE; by default Slurm's.
    pub(crate) order_key: Option<PathBuf>,
    /// Directory of the ledger, of staged orders and of the files for an undo. It is always [`state::DIR`]: the units
    /// look there before slurmd starts.
    pub(crate) state_dir: PathBuf,
    /// The Unix socket, for root on this node.
    pub(crate) socket: PathBuf,
    pub(crate) ledger: LedgerStorage,
    /// Time for which slurmd is kept down on a node that has booted without a ledger and has no instructions.
    pub(crate) gate_timeout: TimeLimit,
    pub(crate) on_gate_timeout: OnGateTimeout,
}

/// The lifetime of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LedgerStorage {
    /// The ledger outlives a boot.
    Disk,
    /// A boot removes the ledger: the node's root is an image, and everything written to it is lost.
    Volatile,
}

/// The fate of a node that gets no instructions within `gate_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnGateTimeout {
    /// slurmd starts.
    Open,
    /// slurmd stays down until the node gets instructions or Slurm no longer waits for it.
    Hold,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_name: None,
            listen: SocketAddr::from(([0_u16; 8], answer::PORT)),
            slurm_user: "slurm".to_owned(),
            slurmd_unit: "slurmd.service".to_owned(),
            scontrol: "/usr/bin/scontrol".into(),
            slurm_conf: None,
            conf_server: None,
            features_program: None,
            munge_socket: munge::SOCKET.into(),
            order_key: None,
            state_dir: state::DIR.into(),
            socket: answer::SOCKET.into(),
            ledger: LedgerStorage::Disk,
            gate_timeout: TimeLimit::from_secs(300),
            on_gate_timeout: OnGateTimeout::Hold,
        }
    }
}

impl Config {
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        config::load(path)
    }

    /// Returns the means of opening orders.
    pub(crate) fn sealing(&self) -> Sealing {
        let slurm_user = SlurmUser::known_by(&self.slurm_user, node::uid_of);
        Sealing::new(&self.munge_socket, self.order_key.as_deref(), slurm_user)
    }

    /// Adds the slurmctld that this process or slurmd fetches its configuration from, if no key sets one.
    pub(crate) fn with_conf_server(mut self) -> Self {
        let own = || std::env::var(CONF_SERVER).ok().filter(|server| is_conf_server(server));
        let of_slurmd = || SlurmdOptions::of_unit(&self.slurmd_unit).conf_server;
        self.conf_server = self.conf_server.take().or_else(own).or_else(of_slurmd);
        self
    }

    pub(crate) fn is_volatile(&self) -> bool {
        self.ledger == LedgerStorage::Volatile
    }

    pub(crate) fn scontrol(&self) -> Scontrol {
        Scontrol::new(self.scontrol.clone(), self.slurm_conf.clone(), SCONTROL_LIMIT)
            .fetching_from(self.conf_server.clone())
    }
}

impl Validate for Config {
    fn validate(&self) -> Vec<InvalidValue> {
        let paths = [
            is_absolute(&["scontrol"], &self.scontrol),
            self.slurm_conf.as_deref().and_then(|path| is_absolute(&["slurm_conf"], path)),
            is_absolute(&["munge_socket"], &self.munge_socket),
            self.order_key.as_deref().and_then(|path| is_absolute(&["order_key"], path)),
            self.features_program.as_deref().and_then(|path| is_absolute(&["features_program"], path)),
            is_absolute(&["socket"], &self.socket),
        ];
        let mut wrong: Vec<InvalidValue> = paths.into_iter().flatten().collect();
        if self.state_dir != Path::new(state::DIR) {
            let (dir, theirs) = (state::DIR, one_line(&self.state_dir.display().to_string(), 200));
            let why = format!(
                "the ledger is always in {dir}, where slurm-rollout-gate.service looks before slurmd starts. Remove this \
                 line. To keep the ledger elsewhere, mount that there: stop the agent, copy the files to {dir} or write \
                 `{theirs} {dir} none bind 0 0` into /etc/fstab, then `systemctl daemon-reload`"
            );
            wrong.push(InvalidValue::new(&["state_dir"], why));
        }
        if self.listen.port() == 0 {
            let why = format!("port 0 is another one at each start; the controller asks {}", answer::PORT);
            wrong.push(InvalidValue::new(&["listen"], why));
        }
        if let Some(name) = &self.node_name {
            if NodeSet::from_names([name.as_str()]).is_err() || name.contains(['[', ']', ',']) {
                let why = format!("{name:?} is not the name of one node");
                wrong.push(InvalidValue::new(&["node_name"], why));
            }
        }
        if let Some(server) = self.conf_server.as_deref().filter(|server| !is_conf_server(server)) {
            let why = format!("{server:?} is not HOST, HOST:PORT, or several of them with commas");
            wrong.push(InvalidValue::new(&["conf_server"], why));
        }
        for (key, value) in [(&["slurm_user"], &self.slurm_user), (&["slurmd_unit"], &self.slurmd_unit)] {
            if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '/') {
                wrong.push(InvalidValue::new(key, format!("{value:?} is no name")));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_has_and_explains_every_key_at_its_default() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/config/agent.toml");
        config::assert_shipped::<Config>(Path::new(path));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(Config::default().validate().is_empty());
        for (text, key) in [
            ("state_dir = 'x'", "state_dir"),
            ("state_dir = '/srv/slurm-rollout'", "state_dir"),
            ("features_program = 'set-features'", "features_program"),
            ("scontrol = './scontrol'", "scontrol"),
            ("slurm_conf = 'slurm.conf'", "slurm_conf"),
            ("conf_server = 'ctl 6817'", "conf_server"),
            ("conf_server = ''", "conf_server"),
            ("munge_socket = ''", "munge_socket"),
            ("socket = 'agent.sock'", "socket"),
            ("listen = '10.0.0.1:0'", "listen"),
            ("node_name = 'cn[01-02]'", "node_name"),
            ("node_name = ''", "node_name"),
            ("slurm_user = ''", "slurm_user"),
            ("slurmd_unit = '/lib/slurmd.service'", "slurmd_unit"),
        ] {
            let wrong = toml::from_str::<Config>(text).unwrap().validate();
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
            assert_eq!(wrong[0].keys, [key], "{text}");
        }
        let moved = toml::from_str::<Config>("state_dir = '/srv/ledger'").unwrap().validate();
        let why = &moved[0].why;
        assert!(why.contains("/srv/ledger /var/lib/slurm-rollout-agent none bind 0 0"), "{why}");
        for text in [
            "state_dir = '/var/lib/slurm-rollout-agent/'",
            "node_name = 'cn01'",
            "listen = '[::]:7000'",
            "slurmd_unit = 'slurmd@1.service'",
        ] {
            assert!(toml::from_str::<Config>(text).unwrap().validate().is_empty(), "{text}");
        }
    }
}
