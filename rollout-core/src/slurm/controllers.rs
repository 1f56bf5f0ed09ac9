//! The hosts of slurmctld, and the role of a host by them. Only a SlurmctldHost acts as a controller: any other host
//! has a state directory of its own, in which nothing is staged, and would reboot nodes without their changes.

use crate::slurm::config::SlurmConfig;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Host names in the SlurmctldHost entries, the primary first, without addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ControllerHosts(Vec<String>);

/// Role of a host in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRole {
    /// A SlurmctldHost.
    Controller,
    /// Not a SlurmctldHost, but it uses the state directory of one: it may stage, and hands nothing over.
    SharesState,
    /// Not a SlurmctldHost, and its state directory is its own.
    Other { controllers: ControllerHosts },
    /// Slurm could not be asked, and the state directory does not record the answer of before.
    Unknown,
}

impl ControllerHosts {
    /// Returns the hosts in Slurm's configuration.
    #[must_use]
    pub fn of(slurm: &SlurmConfig) -> Self {
        // With a takeover managed outside Slurm, one entry lists all hosts: `ctl1,ctl2(ADDRESS)`.
        let hosts = slurm.controllers().into_iter().flat_map(|entry| entry.split(','));
        Self(hosts.map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned).collect())
    }

    /// Returns whether the host of this name is one of them, by Slurm's own rule: its name as a whole or up to the
    /// first dot is in an entry, whatever address stands in parentheses. Anywhere else slurmctld refuses to start
    /// (`_controller_index` in `src/slurmctld/controller.c`, 22.05 to 26.05).
    #[must_use]
    pub fn include(&self, host_name: &str) -> bool {
        let short = host_name.split('.').next().unwrap_or(host_name);
        self.0.iter().any(|host| host == host_name || host == short)
    }

    /// Returns the number of hosts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether no host is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for ControllerHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" and "))
    }
}

/// Returns the role of the host of this name. `slurm` is slurmctld's answer, if there is one. `recorded` is the answer
/// that a controller has recorded in this host's state directory.
#[must_use]
pub fn host_role(host_name: &str, slurm: Option<&ControllerHosts>, recorded: &ControllerHosts) -> HostRole {
    let Some(slurm) = slurm.filter(|slurm| !slurm.is_empty()) else {
        return match recorded {
            recorded if recorded.include(host_name) => HostRole::Controller,
            recorded if recorded.is_empty() => HostRole::Unknown,
            _ => HostRole::SharesState,
        };
    };
    if slurm.include(host_name) {
        HostRole::Controller
    } else if recorded.0.iter().any(|host| slurm.0.contains(host)) {
        HostRole::SharesState
    } else {
        HostRole::Other { controllers: slurm.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(entries: &[&str]) -> ControllerHosts {
        let entry = |(index, entry): (usize, &&str)| format!("SlurmctldHost[{index}] = {entry}\n");
        let text: String = entries.iter().enumerate().map(entry).collect();
        ControllerHosts::of(&SlurmConfig::parse(&text))
    }

    #[test]
    fn a_controller_is_known_by_its_name_as_slurmctld_does() {
        for (entries, host, is_one) in [
            (&["ctl"][..], "ctl", true),
            (&["ctl"], "ctl.cluster.example", true),
            (&["ctl(10.71.1.1)"], "ctl", true),
            (&["ctl.cluster.example(10.71.1.1)"], "ctl.cluster.example", true),
            (&["ctl(10.71.1.1)", "ctl2(10.71.1.2)"], "ctl2", true),
            (&["ctl1,ctl2(10.71.1.9)"], "ctl2.cluster.example", true),
            (&["ctl1,ctl2(10.71.1.9)"], "ctl1", true),
            // slurmctld starts on neither of them.
            (&["ctl.cluster.example"], "ctl", false),
            (&["ctl"], "CTL", false),
            (&["ctl(login)"], "login", false),
            (&["ctl"], "ctl2", false),
            (&["ctl"], "", false),
            (&[], "ctl", false),
        ] {
            assert_eq!(hosts(entries).include(host), is_one, "{entries:?} {host}");
        }
        assert_eq!(hosts(&["ctl(10.71.1.1)", "ctl2"]).to_string(), "ctl and ctl2");
    }

    #[test]
    fn only_what_is_known_to_be_a_controller_is_one() {
        let (ctl, pair, other) = (hosts(&["ctl"]), hosts(&["ctl", "ctl2"]), hosts(&["elsewhere"]));
        let none = ControllerHosts::default();
        let own = |controllers: &ControllerHosts| HostRole::Other { controllers: controllers.clone() };
        for (host, slurm, recorded, role) in [
            ("ctl", Some(&ctl), &none, HostRole::Controller),
            ("ctl2", Some(&pair), &ctl, HostRole::Controller),
            ("login", Some(&ctl), &none, own(&ctl)),
            // The directory of another cluster, or of this one before its controller was replaced.
            ("login", Some(&ctl), &other, own(&ctl)),
            ("login", Some(&ctl), &pair, HostRole::SharesState),
            // A controller that is none any more.
            ("elsewhere", Some(&ctl), &other, own(&ctl)),
            ("ctl", None, &pair, HostRole::Controller),
            ("login", None, &pair, HostRole::SharesState),
            ("ctl", None, &none, HostRole::Unknown),
            ("ctl", Some(&none), &none, HostRole::Unknown),
        ] {
            assert_eq!(host_role(host, slurm, recorded), role, "{host} {slurm:?} {recorded:?}");
        }
    }
}
