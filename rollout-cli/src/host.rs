//! The role of this host in the cluster, see [`HostRole`].

use crate::failure::Failure;
use nix::unistd::gethostname;
use rollout_control::config::Config;
use rollout_control::store::StoreReader;
use rollout_core::slurm::controllers::{ControllerHosts, HostRole, host_role};
use rollout_host::durable;
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time limit for Slurm.
const SLURM_LIMIT: Duration = Duration::from_secs(5);

/// Directory of the unit of `reconcile`, which lasts until the host boots. systemd sets it for units alone.
const UNIT_DIRECTORY: &str = "RUNTIME_DIRECTORY";
/// Last report in it, so that the timer does not repeat it.
const REPORTED: &str = "no-controller";
const MODE: u32 = 0o644;

/// This host, with Slurm's answer about it.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) role: HostRole,
    /// Hosts of slurmctld, or the reason for not knowing them.
    pub(crate) controllers: Result<ControllerHosts, String>,
}

impl Host {
    pub(crate) fn ask(config: &Config, store: &StoreReader) -> Self {
        let asked = config.scontrol().within(SLURM_LIMIT).show_config();
        let controllers = asked.map(|slurm| ControllerHosts::of(&slurm)).map_err(|error| error.to_string());
        let name = name();
        let role = host_role(&name, controllers.as_ref().ok(), &store.controllers());
        Self { name, role, controllers }
    }

    /// Returns the reason for handing nothing over from here. `None` on a SlurmctldHost.
    pub(crate) fn is_no_controller(&self) -> Option<String> {
        let Self { name, role, controllers } = self;
        match role {
            HostRole::Controller => None,
            HostRole::Unknown => {
                let why = controllers.as_ref().err().map_or("Slurm has no SlurmctldHost", String::as_str);
                Some(format!("nothing done: nobody knows whether {name} is a SlurmctldHost: {why}"))
            }
            HostRole::SharesState => {
                Some(format!("nothing to do here: {name} is no SlurmctldHost, whose timer does it"))
            }
            HostRole::Other { controllers } => Some(format!(
                "nothing to do here: {name} is no SlurmctldHost. `systemctl disable --now slurm-rollout-reconcile.timer` \
                 on this host; it belongs on {controllers}"
            )),
        }
    }

    /// Refuses to write a state directory that no controller reads.
    pub(crate) fn check_state_directory(&self, state_dir: &Path) -> Result<(), Failure> {
        let name = &self.name;
        match &self.role {
            HostRole::Controller | HostRole::SharesState => Ok(()),
            HostRole::Unknown => {
                let why = self.controllers.as_ref().err().map_or("it has none", String::as_str);
                eprintln!(
                    "slurm-rollout: warning: not checked whether {name} is a SlurmctldHost of Slurm: {why}"
                );
                Ok(())
            }
            HostRole::Other { controllers } => Err(Failure(format!(
                "{name} is no SlurmctldHost, and no controller uses {}: nothing would come of it. Run this on \
                 {controllers}, or set state_dir in controller.toml to the directory that all controllers share",
                state_dir.display()
            ))),
        }
    }
}

/// Returns the directory of the unit of `reconcile`, if systemd started this.
pub(crate) fn unit_directory() -> Option<PathBuf> {
    std::env::var_os(UNIT_DIRECTORY).map(PathBuf::from)
}

/// Returns whether the last report that is recorded in this directory was another one, and records this one.
pub(crate) fn is_news(directory: &Path, report: &str) -> io::Result<bool> {
    let path = directory.join(REPORTED);
    if regular_file::read_text(&path, MAX_WRITTEN_BY_HAND).is_ok_and(|before| before == report) {
        return Ok(false);
    }
    durable::replace(&path, report.as_bytes(), MODE)?;
    Ok(true)
}

/// Returns this host's name as the kernel has it.
pub(crate) fn name() -> String {
    gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_reports_once_and_again_if_it_is_another_report() {
        let directory = tempfile::tempdir().unwrap();
        let mut news = Vec::new();
        for report in ["it belongs on ctl", "it belongs on ctl", "it belongs on ctl2", "it belongs on ctl2"] {
            news.push(is_news(directory.path(), report).unwrap());
        }
        assert_eq!(news, [true, false, true, false]);
        assert!(is_news(&directory.path().join("missing"), "x").is_err());
    }

    fn host(role: HostRole, controllers: Result<ControllerHosts, String>) -> Host {
        Host { name: "login".to_owned(), role, controllers }
    }

    #[test]
    fn only_a_controller_hands_over_and_no_other_state_directory_is_written() {
        let dir = Path::new("/var/lib/slurm-rollout");
        let none = ControllerHosts::default;
        let other = HostRole::Other { controllers: none() };
        for (role, asked, hands_over, writes) in [
            (HostRole::Controller, Ok(none()), true, true),
            (HostRole::Controller, Err("no answer".to_owned()), true, true),
            (HostRole::SharesState, Ok(none()), false, true),
            (other, Ok(none()), false, false),
            // A person who stages while Slurm is down is told. The timer does nothing.
            (HostRole::Unknown, Err("no answer".to_owned()), false, true),
        ] {
            let host = host(role, asked);
            assert_eq!(host.is_no_controller().is_none(), hands_over, "{host:?}");
            assert_eq!(host.check_state_directory(dir).is_ok(), writes, "{host:?}");
        }
    }
}
