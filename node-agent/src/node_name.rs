//! The NodeName of this node: `node_name` in agent.toml, `-N` of slurmd, Slurm's configuration, or the host name.
//!
//! A name that is not the host name is remembered beside the ledger. An order may break Slurm's programs or remove
//! slurmd's unit, and the agent must still know then that the ledger is its own.

use crate::config::Config;
use crate::log;
use crate::slurm::slurmd_options::SlurmdOptions;
use rollout_core::slurm::node::NodeInfo;
use rollout_core::slurm::node_name::{NameSource, NoNodeName, NodeName, SlurmNames, of_host, short};
use rollout_host::durable;
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::scontrol::Scontrol;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Time limit for Slurm. The agent takes no order meanwhile, and a node that boots waits for it.
const SLURM_LIMIT: Duration = Duration::from_secs(5);

/// File in the state directory with the name that this host had last, if that is not its host name.
const MEMORY: &str = "node-name.json";
const MODE: u32 = 0o600;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    /// A disk that was copied to another host has another one.
    host: String,
    node: String,
}

/// Returns the node's NodeName with its origin.
///
/// # Errors
/// Fails if the host has no name yet, or Slurm has several nodes for it.
pub(crate) fn find(config: &Config) -> Result<NodeName, NoNodeName> {
    if let Some(name) = of_slurmd(config) {
        return Ok(name);
    }
    let host = host_name()?;
    let found = of_host(&host, &addresses(), &Asking(config.scontrol().within(SLURM_LIMIT)))?;
    let remembered = || remembered(&config.state_dir, &host);
    match found.is_provisional().then(remembered).flatten() {
        Some(name) => Ok(NodeName { name, source: NameSource::Remembered }),
        None => Ok(found),
    }
}

/// Remembers a name for times when it cannot be found.
pub(crate) fn remember(config: &Config, found: &NodeName) {
    let path = config.state_dir.join(MEMORY);
    let Ok(host) = host_name() else { return };
    if found.is_provisional() {
        return;
    }
    let done = match found.source == NameSource::Key || short(&host).is_ok_and(|short| short == found.name) {
        true => std::fs::remove_file(&path),
        false if remembered(&config.state_dir, &host).as_ref() == Some(&found.name) => Ok(()),
        false => {
            let memory = Memory { host, node: found.name.clone() };
            serde_json::to_vec(&memory)
                .map_err(io::Error::from)
                .and_then(|bytes| durable::replace(&path, &bytes, MODE))
        }
    };
    if let Err(error) = done.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }) {
        log::warning(&format!("{}: {error}", path.display()));
    }
}

fn remembered(state_dir: &Path, host: &str) -> Option<String> {
    let text = regular_file::read_text(&state_dir.join(MEMORY), MAX_WRITTEN_BY_HAND).ok()?;
    let memory: Memory = serde_json::from_str(&text).ok()?;
    (memory.host == host).then_some(memory.node)
}

/// Returns the name that the agent or slurmd is configured with.
fn of_slurmd(config: &Config) -> Option<NodeName> {
    let key = config.node_name.clone().map(|name| NodeName { name, source: NameSource::Key });
    let option = || SlurmdOptions::of_unit(&config.slurmd_unit).node_name;
    key.or_else(|| option().map(|name| NodeName { name, source: NameSource::Option }))
}

fn host_name() -> Result<String, NoNodeName> {
    let host = nix::unistd::gethostname()
        .map_err(|error| NoNodeName::HostName(format!("the host name cannot be read: {error}")))?;
    Ok(host.to_string_lossy().into_owned())
}

/// Returns the addresses of this host that others can use.
fn addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let of_interface = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    };
    interfaces.filter_map(of_interface).filter(|address| !address.is_loopback()).collect()
}

/// Asks through scontrol.
struct Asking(Scontrol);

impl SlurmNames for Asking {
    fn aliases(&self, host_name: &str) -> Result<Vec<String>, String> {
        self.0.aliases(host_name).map_err(|error| error.to_string())
    }

    fn all(&self) -> Result<Vec<NodeInfo>, String> {
        self.0.show_all_nodes().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    /// A scontrol whose configuration has this host as n1, and another one as n2.
    #[allow(clippy::disallowed_methods, reason = "a program in place of scontrol")]
    fn scontrol(dir: &Path, host: &str, names: &str) -> Config {
        let path = dir.join("scontrol");
        let script = format!("#!/bin/sh\n[ \"$*\" = \"show aliases {host}\" ] && echo {names}\nexit 0\n");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Config { scontrol: path, state_dir: dir.to_owned(), ..Config::default() }
    }

    #[test]
    fn the_name_is_that_of_the_configuration_then_of_slurm_then_of_the_host() {
        let dir = tempfile::tempdir().unwrap();
        let host = host_name().unwrap();
        let short = host.split('.').next().unwrap();
        let config = scontrol(dir.path(), short, "n1");
        let found = find(&config).unwrap();
        assert_eq!(found, NodeName { name: "n1".to_owned(), source: NameSource::NodeHostName });
        let set = Config { node_name: Some("n7".to_owned()), ..config };
        assert_eq!(find(&set).unwrap(), NodeName { name: "n7".to_owned(), source: NameSource::Key });
        let several = find(&scontrol(dir.path(), short, "n1 n2")).unwrap_err();
        assert!(matches!(several, NoNodeName::Several { .. }), "{several}");
        let none = find(&scontrol(dir.path(), "another", "n2")).unwrap();
        assert_eq!(none, NodeName { name: short.to_owned(), source: NameSource::HostName });
        let missing = Config { scontrol: dir.path().join("missing"), ..Config::default() };
        let missing = find(&missing).unwrap();
        assert_eq!(missing.name, short);
        assert!(matches!(missing.source, NameSource::HostNameUntilAsked(_)), "{missing:?}");
    }

    #[test]
    fn a_name_is_remembered_for_the_time_when_slurm_cannot_be_asked() {
        let dir = tempfile::tempdir().unwrap();
        let host = host_name().unwrap();
        let short = short(&host).unwrap();
        let slurm = scontrol(dir.path(), short, "n1");
        let broken = Config { scontrol: dir.path().join("missing"), ..slurm.clone() };
        assert!(find(&broken).unwrap().is_a_guess());
        remember(&broken, &find(&broken).unwrap());
        assert_eq!(remembered(dir.path(), &host), None, "a guess is not remembered");
        remember(&slurm, &find(&slurm).unwrap());
        let found = find(&broken).unwrap();
        assert_eq!(found, NodeName { name: "n1".to_owned(), source: NameSource::Remembered });
        assert!(found.is_provisional() && !found.is_a_guess());
        assert_eq!(remembered(dir.path(), "another"), None, "the disk was copied");
        let own = NodeName { name: short.to_owned(), source: NameSource::NodeHostName };
        remember(&slurm, &own);
        assert_eq!(remembered(dir.path(), &host), None, "the host name needs no memory");
        remember(&slurm, &own);
    }
}
