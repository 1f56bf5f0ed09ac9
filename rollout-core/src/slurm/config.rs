//! `scontrol show config` as types, limited to the values that slurm-rollout needs. Read against Slurm 22.05 to 26.05.

use std::collections::BTreeMap;
use std::fmt;

/// Slurm's default of ResumeTimeout.
pub const DEFAULT_RESUME_TIMEOUT_S: u64 = 60;

/// INFINITE up to 25.11, which keeps ResumeTimeout in 16 bits.
const INFINITE_16: u64 = 65535;

/// Slurm's default of KillWait.
const DEFAULT_KILL_WAIT_S: u64 = 30;

/// Slurm's default of UnkillableStepTimeout.
const DEFAULT_UNKILLABLE_STEP_TIMEOUT_S: u64 = 60;

/// Slurm's configuration, as slurmctld reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlurmConfig(BTreeMap<String, String>);

/// Time limit of Slurm for a node to register after a reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResumeTimeout {
    Seconds(u64),
    /// No limit. Up to 25.11, 65535 s.
    Infinite,
}

/// Time for which a job may exceed its time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OverTimeLimit {
    Minutes(u64),
    Unlimited,
}

/// A user as Slurm prints it: `slurm(64030)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlurmUser {
    pub name: String,
    pub uid: u32,
}

/// A version of Slurm by year and month, such as 24 and 11.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    pub year: u16,
    pub month: u16,
}

impl SlurmConfig {
    /// Parses the output of `scontrol show config`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let line = |line: &str| {
            let (key, value) = line.split_once('=')?;
            let (key, value) = (key.trim(), value.trim());
            let is_set = !matches!(value, "" | "(null)" | "N/A");
            (is_set && !key.contains(' ')).then(|| (key.to_owned(), value.to_owned()))
        };
        Self(text.lines().filter_map(line).collect())
    }

    /// Returns a value as it is printed, if it is set.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Returns whether slurmctld itself runs RebootProgram. Slurm looks for the word anywhere, in any case.
    #[must_use]
    pub fn reboots_from_controller(&self) -> bool {
        let parameters = self.get("SlurmctldParameters").unwrap_or("").to_ascii_lowercase();
        parameters.contains("reboot_from_controller")
    }

    /// Returns ResumeTimeout, if Slurm reports it.
    #[must_use]
    pub fn resume_timeout(&self) -> Option<ResumeTimeout> {
        ResumeTimeout::parse(self.get("ResumeTimeout")?)
    }

    /// Returns the global OverTimeLimit, if Slurm reports it.
    #[must_use]
    pub fn over_time_limit(&self) -> Option<OverTimeLimit> {
        OverTimeLimit::parse(self.get("OverTimeLimit")?)
    }

    /// Returns the time between SIGTERM and SIGKILL for a job that has reached its time limit, in seconds.
    #[must_use]
    pub fn kill_wait_s(&self) -> u64 {
        self.seconds("KillWait").unwrap_or(DEFAULT_KILL_WAIT_S)
    }

    /// Returns the time after which slurmd has a node drained whose processes do not end, in seconds.
    #[must_use]
    pub fn unkillable_step_timeout_s(&self) -> u64 {
        self.seconds("UnkillableStepTimeout").unwrap_or(DEFAULT_UNKILLABLE_STEP_TIMEOUT_S)
    }

    /// Parses a time such as `60 sec`.
    #[must_use]
    pub fn seconds(&self, key: &str) -> Option<u64> {
        number(self.get(key)?)
    }

    /// Returns the user that slurmctld runs as.
    #[must_use]
    pub fn slurm_user(&self) -> Option<SlurmUser> {
        let (name, uid) = self.get("SlurmUser")?.strip_suffix(')')?.split_once('(')?;
        Some(SlurmUser { name: name.to_owned(), uid: uid.parse().ok()? })
    }

    /// Returns the hosts of slurmctld, the primary first, without addresses. Slurm prints `HOST(ADDRESS)` up to 26.05.
    #[must_use]
    pub fn controllers(&self) -> Vec<&str> {
        let hosts = self.0.iter().filter(|(key, _)| key.starts_with("SlurmctldHost"));
        hosts.map(|(_, host)| host.split('(').next().unwrap_or(host)).collect()
    }

    /// Returns Slurm's version as it is printed, such as `24.11.5`.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.get("SLURM_VERSION")
    }
}

impl ResumeTimeout {
    /// Parses `60 sec`, `60` or `INFINITE`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match number(text) {
            Some(INFINITE_16) => Some(Self::Infinite),
            Some(seconds) => Some(Self::Seconds(seconds)),
            None => is_infinite(text).then_some(Self::Infinite),
        }
    }
}

impl OverTimeLimit {
    /// Parses `10 min`, `10` or `UNLIMITED`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match number(text) {
            Some(minutes) => Some(Self::Minutes(minutes)),
            None => is_infinite(text).then_some(Self::Unlimited),
        }
    }
}

fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn is_infinite(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    text.starts_with("INFINITE") || text.starts_with("UNLIMITED")
}

impl Release {
    /// Parses `24.11.5`, `26.11.0-0rc1` or `slurm 22.05.8`.
    #[must_use]
    pub fn parse(version: &str) -> Option<Self> {
        let version = version.rsplit(' ').next()?;
        let mut numbers = version.split('.').map(str::parse);
        let (Some(Ok(year)), Some(Ok(month))) = (numbers.next(), numbers.next()) else { return None };
        Some(Self { year, month })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}.{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "Configuration data as of 2026-11-20T13:00:00\n\
AccountingStorageBackupHost = (null)\n\
RebootProgram           = /usr/libexec/slurm-rollout/reboot-program\n\
ResumeTimeout           = 1800 sec\n\
ReturnToService         = 1\n\
SlurmUser               = slurm(64030)\n\
SlurmctldHost[0]        = ctl(10.71.1.1)\n\
SlurmctldHost[1]        = ctl2\n\
SlurmctldParameters     = power_save_interval=1,reboot_from_controller\n\
SLURM_VERSION           = 24.11.5\n\
\n\
Slurmctld(primary) at ctl is UP\n";

    fn with(line: &str) -> SlurmConfig {
        SlurmConfig::parse(line)
    }

    #[test]
    fn reads_what_scontrol_prints() {
        let config = SlurmConfig::parse(CONFIG);
        assert_eq!(config.get("RebootProgram"), Some("/usr/libexec/slurm-rollout/reboot-program"));
        assert_eq!(config.get("AccountingStorageBackupHost"), None);
        assert!(config.reboots_from_controller());
        assert_eq!(config.slurm_user(), Some(SlurmUser { name: "slurm".into(), uid: 64030 }));
        assert_eq!(config.controllers(), ["ctl", "ctl2"]);
        assert_eq!(config.version(), Some("24.11.5"));
        assert_eq!(config.resume_timeout(), Some(ResumeTimeout::Seconds(1800)));
        assert!(!SlurmConfig::default().reboots_from_controller());
    }

    #[test]
    fn resume_timeouts_are_read_in_all_their_forms() {
        for (value, expected) in [
            ("60 sec", Some(ResumeTimeout::Seconds(60))),
            ("65535 sec", Some(ResumeTimeout::Infinite)),
            ("INFINITE", Some(ResumeTimeout::Infinite)),
            ("Infinite sec", Some(ResumeTimeout::Infinite)),
            ("(null)", None),
            ("soon", None),
        ] {
            assert_eq!(with(&format!("ResumeTimeout = {value}")).resume_timeout(), expected, "{value}");
        }
    }

    #[test]
    fn limits_of_jobs_are_read_in_all_their_forms() {
        for (value, expected) in [
            ("0 min", Some(OverTimeLimit::Minutes(0))),
            ("10 min", Some(OverTimeLimit::Minutes(10))),
            ("UNLIMITED", Some(OverTimeLimit::Unlimited)),
            ("(null)", None),
            ("soon", None),
        ] {
            assert_eq!(with(&format!("OverTimeLimit = {value}")).over_time_limit(), expected, "{value}");
        }
        let config = with("KillWait = 45 sec\nUnkillableStepTimeout = 120 sec\n");
        assert_eq!((config.kill_wait_s(), config.unkillable_step_timeout_s()), (45, 120));
        let silent = SlurmConfig::default();
        assert_eq!((silent.kill_wait_s(), silent.unkillable_step_timeout_s()), (30, 60));
    }

    #[test]
    fn users_and_parameters_that_are_odd_give_nothing() {
        for user in ["slurm", "slurm()", "slurm(x)", "(null)"] {
            assert_eq!(with(&format!("SlurmUser = {user}")).slurm_user(), None, "{user}");
        }
        assert!(with("SlurmctldParameters=Reboot_From_Controller").reboots_from_controller());
    }

    #[test]
    fn releases_are_read_from_versions() {
        for (version, release) in [
            ("22.05.8", Some((22, 5))),
            ("26.11.0-0rc1", Some((26, 11))),
            ("slurm 24.11.5", Some((24, 11))),
            ("(null)", None),
            ("", None),
        ] {
            let release = release.map(|(year, month)| Release { year, month });
            assert_eq!(Release::parse(version), release, "{version}");
        }
        assert_eq!(Release { year: 22, month: 5 }.to_string(), "22.05");
    }
}
