//! The controller's configuration. Every key has a default, so a site needs no file.

use crate::boot::{BootFileConfig, CommandConfig, ServiceConfig};
use rollout_core::controller::closing::Retention;
use rollout_core::controller::hand_over::ApplyBy;
use rollout_core::protocol::answer;
use rollout_core::slurm::drains::CuredByReboot;
use rollout_core::time_limit::TimeLimit;
use rollout_host::config::{self, ConfigError, InvalidValue, Validate, is_absolute};
use rollout_host::munge;
use rollout_host::order_key::SlurmUser;
use rollout_host::scontrol::Scontrol;
use rollout_host::sealing::Sealing;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Path of the configuration, with drop-ins in `controller.d/`.
pub const PATH: &str = "/etc/slurm-rollout/controller.toml";

/// Time limit for `scontrol` while a person waits.
const SCONTROL_LIMIT: Duration = Duration::from_secs(20);

/// Beginnings of the Reasons with which Slurm drains nodes for faults that a reboot cures (`slurmstepd`, and
/// `drain_nodes` in `src/slurmctld`, 22.05 to 26.05).
const REBOOT_CLEARS: [&str; 9] = [
    "Kill task failed",
    "Prolog error",
    "Epilog error",
    "Prolog/Epilog failure",
    "batch job complete failure",
    "Job env setup error",
    "Duplicate jobid",
    "Not responding",
    "Node unexpectedly rebooted",
];

/// The keys of `controller.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The state directory. Two controllers may share it.
    pub state_dir: PathBuf,
    pub agent_port: u16,
    /// Deadline for an invocation of RebootProgram. Slurm 26.05 kills it after ResumeTimeout, older versions reserve
    /// agent threads as long as it runs.
    pub deadline: TimeLimit,
    /// Time limit for the answer of one agent.
    pub agent_timeout: TimeLimit,
    /// Pre-staging on the nodes.
    pub deliver: Deliver,
    /// The reboots that apply what is staged.
    pub apply: ApplyBy,
    /// Beginnings of the Reasons of drains that Slurm sets itself and that a reboot with `nextstate=resume` clears.
    pub reboot_clears: Vec<String>,
    /// The users as whom Slurm's daemons set such drains.
    pub reboot_clears_by: Vec<String>,
    /// Age in days from which a closed rollout is archived.
    pub archive_after_days: u32,
    /// Number of closed rollouts that are not archived. The oldest ones go first.
    pub archive_beyond: usize,
    /// Age in days from which an archived rollout is deleted. 0 keeps them all.
    pub delete_archived_after_days: u32,
    /// Maximum number of agents in contact at the same time.
    pub concurrency: usize,
    pub scontrol: PathBuf,
    /// `squeue`, if it is not beside `scontrol`.
    pub squeue: Option<PathBuf>,
    /// `slurm.conf`, if it is neither Slurm's default nor in `SLURM_CONF` of the environment.
    pub slurm_conf: Option<PathBuf>,
    pub munge_socket: PathBuf,
    /// The key that orders are sealed with. By default they are sealed with MUNGE, or with Slurm's key if there is no
    /// MUNGE.
    pub order_key: Option<PathBuf>,
    /// Names of the nodes in boot servers and services, for images.
    pub nodes_file: PathBuf,
    /// ClusterShell's configuration directory, for groups in node sets.
    pub clustershell_dir: PathBuf,
    /// Images via `boot-file`.
    pub boot_file: Option<BootFileConfig>,
    /// The Boot Script Service, for images `via = "bss"`.
    pub bss: Option<ServiceConfig>,
    /// The Boot Orchestration Service, for images `via = "bos"`.
    pub bos: Option<ServiceConfig>,
    /// OpenCHAMI's boot-service, for images `via = "boot-service"`.
    pub boot_service: Option<ServiceConfig>,
    /// The site's own program, for images `via = "command"`.
    pub command: Option<CommandConfig>,
    /// How the power of nodes is switched, as a value: [`power_tables`](crate::power::config::power_tables) checks its
    /// keys, which RebootProgram need not know.
    pub power: Option<serde_json::Value>,
    /// Limits for started rollouts, as a value: rollout-plan checks its keys, which RebootProgram need not know.
    pub limits: Option<serde_json::Value>,
}

/// Pre-staging: agents get the staged changes of their nodes beforehand, for a RebootProgram that slurmd runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deliver {
    /// If slurmd runs our RebootProgram by Slurm's configuration.
    Auto,
    /// For a RebootProgram that slurmd runs as a PowerAction, which Slurm does not report.
    Always,
    Never,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/slurm-rollout".into(),
            agent_port: answer::PORT,
            deadline: TimeLimit::from_secs(10),
            agent_timeout: TimeLimit::from_secs(4),
            deliver: Deliver::Auto,
            apply: ApplyBy::Any,
            reboot_clears: owned(&REBOOT_CLEARS),
            reboot_clears_by: owned(&["root", "slurm"]),
            archive_after_days: 365,
            archive_beyond: 500,
            delete_archived_after_days: 1095,
            concurrency: 512,
            scontrol: "/usr/bin/scontrol".into(),
            squeue: None,
            slurm_conf: None,
            munge_socket: munge::SOCKET.into(),
            order_key: None,
            nodes_file: "/etc/slurm-rollout/nodes.toml".into(),
            clustershell_dir: "/etc/clustershell".into(),
            boot_file: None,
            bss: None,
            bos: None,
            boot_service: None,
            command: None,
            power: None,
            limits: None,
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

    /// Returns scontrol with this configuration. RebootProgram gets `SLURM_CONF` from slurmctld in the environment.
    #[must_use]
    pub fn scontrol(&self) -> Scontrol {
        let inherited = || std::env::var_os("SLURM_CONF").map(PathBuf::from);
        let slurm_conf = self.slurm_conf.clone().or_else(inherited);
        Scontrol::new(self.scontrol.clone(), slurm_conf, SCONTROL_LIMIT).with_squeue(self.squeue.clone())
    }

    /// Returns the retention of closed rollouts.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention { age: days(self.archive_after_days), count: self.archive_beyond }
    }

    /// Returns the age from which archived rollouts are deleted. `None` keeps them.
    #[must_use]
    pub fn delete_archived_after(&self) -> Option<Duration> {
        (self.delete_archived_after_days > 0).then(|| days(self.delete_archived_after_days))
    }

    /// Returns the drains of Slurm's own that a reboot cures.
    #[must_use]
    pub fn cured_by_reboot(&self) -> CuredByReboot<'_> {
        CuredByReboot { reasons: &self.reboot_clears, by: &self.reboot_clears_by }
    }

    /// Returns the means of sealing orders. SlurmUser owns the state directory.
    #[must_use]
    pub fn sealing(&self) -> Sealing {
        let slurm_user = SlurmUser::known_by(self.state_dir.to_string_lossy(), owner);
        Sealing::new(&self.munge_socket, self.order_key.as_deref(), slurm_user)
    }
}

fn owner(directory: &str) -> Option<u32> {
    std::fs::metadata(directory).ok().map(|directory| directory.uid())
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn days(number: u32) -> Duration {
    Duration::from_secs(u64::from(number) * 24 * 3600)
}

impl Validate for Config {
    fn validate(&self) -> Vec<InvalidValue> {
        let paths = [
            is_absolute(&["state_dir"], &self.state_dir),
            is_absolute(&["scontrol"], &self.scontrol),
            self.squeue.as_deref().and_then(|path| is_absolute(&["squeue"], path)),
            self.slurm_conf.as_deref().and_then(|path| is_absolute(&["slurm_conf"], path)),
            self.order_key.as_deref().and_then(|path| is_absolute(&["order_key"], path)),
            is_absolute(&["munge_socket"], &self.munge_socket),
            is_absolute(&["nodes_file"], &self.nodes_file),
            is_absolute(&["clustershell_dir"], &self.clustershell_dir),
        ];
        let mut wrong: Vec<InvalidValue> = paths.into_iter().flatten().collect();
        wrong.extend(self.bss.iter().flat_map(|table| table.check(&["bss"])));
        wrong.extend(self.bos.iter().flat_map(|table| table.check(&["bos"])));
        wrong.extend(self.boot_service.iter().flat_map(|table| table.check(&["boot_service"])));
        wrong.extend(self.command.iter().flat_map(|table| table.check(&["command"])));
        if self.apply == ApplyBy::Named && self.deliver == Deliver::Always {
            let why = "\"named\" with deliver = \"always\": slurmd runs RebootProgram, and knows no Reason";
            wrong.push(InvalidValue::new(&["apply", "deliver"], why));
        }
        if self.reboot_clears.iter().any(|reason| reason.trim().is_empty()) {
            wrong.push(InvalidValue::new(
                &["reboot_clears"],
                "an empty text is the beginning of every Reason",
            ));
        }
        if self.agent_port == 0 {
            let default = answer::PORT;
            let why = format!("no agent listens on port 0; it is {default}");
            wrong.push(InvalidValue::new(&["agent_port"], why));
        }
        if self.concurrency == 0 {
            wrong.push(InvalidValue::new(&["concurrency"], "0: no agent would ever be spoken to"));
        }
        if self.deadline.get() < self.agent_timeout.get() {
            let why = format!(
                "deadline {} is shorter than agent_timeout {}: an invocation would end before its agents may answer",
                self.deadline, self.agent_timeout
            );
            wrong.push(InvalidValue::new(&["deadline", "agent_timeout"], why));
        }
        wrong.extend(self.boot_file.iter().flat_map(BootFileConfig::check));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_shipped_file_has_and_explains_every_key_at_its_default() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/config/controller.toml");
        config::assert_shipped::<Config>(Path::new(path));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(Config::default().validate().is_empty());
        for (text, key, why) in [
            ("state_dir = 'x'", "state_dir", "no absolute path"),
            ("scontrol = 'scontrol'", "scontrol", "no absolute path"),
            ("squeue = 'squeue'", "squeue", "no absolute path"),
            ("slurm_conf = ''", "slurm_conf", "no absolute path"),
            ("munge_socket = 'munge'", "munge_socket", "no absolute path"),
            ("clustershell_dir = 'groups'", "clustershell_dir", "no absolute path"),
            ("agent_port = 0", "agent_port", "6821"),
            ("concurrency = 0", "concurrency", "no agent"),
            ("deadline = '3s'", "deadline", "shorter than agent_timeout 4s"),
            ("bss = { url = 'bss.cluster' }", "bss", "https://host:port/path"),
            ("bss = { url = 'ftp://bss' }", "bss", "https://host:port/path"),
            ("bos = { url = 'https://me:word@bos' }", "bos", "https://host:port/path"),
            ("bos = { url = 'https://bos/?a=b' }", "bos", "https://host:port/path"),
            ("bss = { url = 'http://bss', token_file = '/t' }", "bss", "could read the token"),
            ("bss = { url = 'https://bss', token_file = 't' }", "bss", "no absolute path"),
            ("bos = { url = 'https://bos', ca_file = 'ca.pem' }", "bos", "no absolute path"),
            ("boot_service = { url = 'boot.cluster' }", "boot_service", "https://host:port/path"),
            ("command = { program = 'set-image' }", "command", "no absolute path"),
            ("apply = 'named'\ndeliver = 'always'", "apply", "knows no Reason"),
            ("reboot_clears = ['']", "reboot_clears", "every Reason"),
            ("agent_timeout = '1m'", "deadline", "deadline 10s is shorter"),
        ] {
            let wrong = toml::from_str::<Config>(text).unwrap().validate();
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
            assert!(wrong[0].keys[0] == key && wrong[0].why.contains(why), "{text}: {wrong:?}");
        }
        assert!(toml::from_str::<Config>("deadline = '4s'").unwrap().validate().is_empty());
    }

    #[test]
    fn limits_and_power_are_kept_as_they_are_and_stop_no_program_that_needs_neither() {
        for (text, limits) in [
            ("[limits]\nmax_out = '5%'", json!({ "max_out": "5%" })),
            ("limits.window = [{ days = 'Sat' }, {}]", json!({ "window": [{ "days": "Sat" }, {}] })),
            ("[limits]\nkey_of_a_later_version = 1", json!({ "key_of_a_later_version": 1 })),
        ] {
            let config: Config = toml::from_str(text).unwrap();
            assert_eq!((config.validate().len(), config.limits), (0, Some(limits)), "{text}");
        }
        let config: Config = toml::from_str("[[power]]\nvia = 'a later one'").unwrap();
        assert_eq!((config.validate().len(), config.power), (0, Some(json!([{ "via": "a later one" }]))));
    }
}
