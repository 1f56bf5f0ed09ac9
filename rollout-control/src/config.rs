//! The controller's configuration. Every key has a default; a site may have no file at all.

use rollout_core::agent_api;
use rollout_core::time_limit::TimeLimit;
use rollout_host::config::{self, Checked, ConfigError, Nonsense, is_absolute};
use rollout_host::munge;
use rollout_host::munge::Munge;
use rollout_host::scontrol::Scontrol;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is, with drop-ins in `controller.d/`.
pub const PATH: &str = "/etc/slurm-rollout/controller.toml";

/// How long `scontrol` may take where a person waits for it.
const SCONTROL_LIMIT: Duration = Duration::from_secs(20);

/// The keys of `controller.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
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
    /// The first mistake, with its file and line.
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

impl Checked for Config {
    fn check(&self) -> Vec<Nonsense> {
        let paths = [
            is_absolute(&["state_dir"], &self.state_dir),
            is_absolute(&["scontrol"], &self.scontrol),
            self.slurm_conf.as_deref().and_then(|path| is_absolute(&["slurm_conf"], path)),
            is_absolute(&["munge_socket"], &self.munge_socket),
        ];
        let mut wrong: Vec<Nonsense> = paths.into_iter().flatten().collect();
        if self.agent_port == 0 {
            let default = agent_api::PORT;
            wrong.push(Nonsense::of(&["agent_port"], format!("no agent listens on port 0; it is {default}")));
        }
        if self.concurrency == 0 {
            wrong.push(Nonsense::of(&["concurrency"], "0: no agent would ever be spoken to"));
        }
        if self.deadline.get() < self.agent_timeout.get() {
            let why = format!(
                "deadline {} is shorter than agent_timeout {}: an invocation would end before its agents may answer",
                self.deadline, self.agent_timeout
            );
            wrong.push(Nonsense::of(&["deadline", "agent_timeout"], why));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout_host::durable::replace;
    use std::collections::BTreeSet;

    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/config/controller.toml");

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("controller.toml");
        replace(&path, text.as_bytes(), 0o644).unwrap();
        Config::load(&path)
    }

    /// The shipped file's keys without the `#` before them.
    fn lines_of_keys() -> Vec<String> {
        let text = std::fs::read_to_string(SHIPPED).unwrap();
        let key = |line: &str| {
            line.strip_prefix('#')
                .filter(|rest| rest.starts_with(|c: char| c.is_alphabetic()))
                .map(str::to_owned)
        };
        text.lines().filter_map(key).collect()
    }

    #[test]
    fn the_shipped_file_is_the_default() {
        assert_eq!(Config::load(Path::new(SHIPPED)).unwrap(), Config::default());
        let all = load(&lines_of_keys().join("\n")).unwrap();
        // What has no default has an example, and the file says so.
        let text = std::fs::read_to_string(SHIPPED).unwrap();
        let examples =
            text.split("\n\n").filter(|chunk| chunk.replace("\n#", "").contains("the default is none."));
        assert_eq!(examples.count(), 1);
        assert_eq!(Config { slurm_conf: None, ..all }, Config::default());
    }

    #[test]
    fn the_shipped_file_has_every_key_and_explains_it() {
        let error = load("no_such_key = 1").unwrap_err().to_string();
        let (_, expected) = error.split_once("expected one of ").unwrap();
        let fields: BTreeSet<_> = expected.split('`').skip(1).step_by(2).collect();
        let lines = lines_of_keys();
        let keys: BTreeSet<_> = lines.iter().filter_map(|line| line.split(" = ").next()).collect();
        assert_eq!(keys, fields);
        assert_eq!(keys.len(), lines.len(), "a key twice");
        let text = std::fs::read_to_string(SHIPPED).unwrap();
        for chunk in text.trim().split("\n\n").skip(1) {
            let comments = chunk.lines().filter(|line| line.starts_with("# ")).count();
            assert!((1..=4).contains(&comments) && chunk.lines().count() == comments + 1, "{chunk}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(Config::default().check().is_empty());
        for (text, key, why) in [
            ("state_dir = 'x'", "state_dir", "no absolute path"),
            ("scontrol = 'scontrol'", "scontrol", "no absolute path"),
            ("slurm_conf = ''", "slurm_conf", "no absolute path"),
            ("munge_socket = 'munge'", "munge_socket", "no absolute path"),
            ("agent_port = 0", "agent_port", "6821"),
            ("concurrency = 0", "concurrency", "no agent"),
            ("deadline = '3s'", "deadline", "shorter than agent_timeout 4s"),
            ("agent_timeout = '1m'", "deadline", "deadline 10s is shorter"),
        ] {
            let wrong = toml::from_str::<Config>(text).unwrap().check();
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
            assert!(wrong[0].keys[0] == key && wrong[0].why.contains(why), "{text}: {wrong:?}");
        }
        assert!(toml::from_str::<Config>("deadline = '4s'").unwrap().check().is_empty());
    }
}
