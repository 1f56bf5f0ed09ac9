//! IP addresses of agents. NodeAddr, or the host of a URL, is an address itself, or a name that is looked up in
//! `/etc/hosts` or through `getent`.
//!
//! A static program cannot load a site's name service modules (glibc would mix two C libraries). So names that are not
//! in the file are left to `getent`, which is the site's own, dynamic, and has every module. See docs/design.md.

use rollout_host::run::Program;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HOSTS: &str = "/etc/hosts";
const GETENT: &str = "/usr/bin/getent";

/// Resolves names to addresses.
#[derive(Debug)]
pub struct Resolver {
    hosts: HashMap<String, IpAddr>,
    getent: PathBuf,
}

impl Default for Resolver {
    /// Reads this machine's `/etc/hosts` once, and uses its `getent`.
    fn default() -> Self {
        Self::new(&std::fs::read_to_string(HOSTS).unwrap_or_default(), Path::new(GETENT))
    }
}

impl Resolver {
    /// Returns a resolver with the text of a hosts file.
    #[must_use]
    pub fn new(hosts: &str, getent: &Path) -> Self {
        let mut map = HashMap::new();
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
            for name in words {
                // The first line with a name counts, as for glibc.
                map.entry(name.to_ascii_lowercase()).or_insert(address);
            }
        }
        Self { hosts: map, getent: getent.to_owned() }
    }

    /// Returns the address of `name`.
    ///
    /// # Errors
    /// One line with the reason why there is none.
    pub fn resolve(&self, name: &str, limit: Duration) -> Result<IpAddr, String> {
        if let Ok(address) = name.parse() {
            return Ok(address);
        }
        if let Some(address) = self.hosts.get(&name.to_ascii_lowercase()) {
            return Ok(*address);
        }
        let output = Program::new(&self.getent, limit)
            .args(["ahosts", "--", name])
            .output()
            .map_err(|error| format!("{name} is no address, is not in {HOSTS}, and {error}"))?;
        let first = output.stdout.split_whitespace().next().and_then(|word| word.parse().ok());
        first.ok_or_else(|| format!("{name} has no address (neither in {HOSTS} nor by getent)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost\n# 10.0.0.9 cn01\n10.0.0.1\tcn01 cn01.cluster # first\n10.0.0.2 cn01 CN02\nfd00::3 cn03\nnonsense cn04\n";

    #[test]
    fn literal_addresses_need_nothing_else() {
        let resolver = Resolver::new("", Path::new("/no/such/getent"));
        for literal in ["10.1.2.3", "fd00::1"] {
            assert_eq!(resolver.resolve(literal, Duration::from_secs(1)), Ok(literal.parse().unwrap()));
        }
    }

    #[test]
    fn hosts_files_are_read_as_glibc_reads_them() {
        let resolver = Resolver::new(HOSTS, Path::new("/no/such/getent"));
        for (name, address) in
            [("cn01", "10.0.0.1"), ("cn01.cluster", "10.0.0.1"), ("cn02", "10.0.0.2"), ("cn03", "fd00::3")]
        {
            assert_eq!(
                resolver.resolve(name, Duration::from_secs(1)),
                Ok(address.parse().unwrap()),
                "{name}"
            );
        }
        let error = resolver.resolve("cn04", Duration::from_secs(1)).unwrap_err();
        assert!(error.contains("cn04") && error.contains("/no/such/getent"), "{error}");
    }

    #[test]
    fn other_names_go_through_getent() {
        let resolver = Resolver::new("", Path::new(GETENT));
        assert!(resolver.resolve("localhost", Duration::from_secs(5)).unwrap().is_loopback());
        let error = resolver.resolve("no-such-node.invalid", Duration::from_secs(5)).unwrap_err();
        assert!(error.contains("no-such-node.invalid"), "{error}");
    }
}
