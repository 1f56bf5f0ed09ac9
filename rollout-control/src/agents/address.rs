//! IP addresses of agents. NodeAddr, or the host of a URL, is an address itself, or a name that is looked up in
//! `/etc/hosts` or through `getent`.
//!
//! A static program cannot load a site's name service modules (glibc would mix two C libraries). So names that are not
//! in the file are left to `getent`, which is the site's own, dynamic, and has every module. See docs/design.md.

use rollout_host::run::Program;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

const HOSTS: &str = "/etc/hosts";
const GETENT: &str = "/usr/bin/getent";

/// Addresses of one host, in the order in which they are tried. There is at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAddresses(Vec<SocketAddr>);

impl HostAddresses {
    /// Returns the addresses with this port.
    pub fn at_port(&self, port: u16) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(move |address| {
            let mut address = *address;
            address.set_port(port);
            address
        })
    }
}

impl From<IpAddr> for HostAddresses {
    fn from(address: IpAddr) -> Self {
        Self(vec![SocketAddr::new(address, 0)])
    }
}

/// Resolves names to addresses.
#[derive(Debug)]
pub struct Resolver {
    hosts: HashMap<String, Vec<SocketAddr>>,
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
        let mut map: HashMap<String, Vec<SocketAddr>> = HashMap::new();
        for line in hosts.lines() {
            let mut words = line.split('#').next().unwrap_or("").split_whitespace();
            let Some(address) = words.next().and_then(parse) else { continue };
            for name in words {
                // The first line with a name counts, as for glibc, which looks up both families.
                let known = map.entry(name.to_ascii_lowercase()).or_default();
                if known.iter().all(|other| other.is_ipv4() != address.is_ipv4()) {
                    known.push(address);
                }
            }
        }
        Self { hosts: map, getent: getent.to_owned() }
    }

    /// Returns the addresses of `name`. Not all of them may lead to the host: a site may have IPv6 addresses in its
    /// name service, and no route to them.
    ///
    /// # Errors
    /// One line with the reason why there is none.
    pub fn resolve(&self, name: &str, limit: Duration) -> Result<HostAddresses, String> {
        if let Some(address) = parse(name) {
            return Ok(HostAddresses(vec![address]));
        }
        if let Some(addresses) = self.hosts.get(&name.to_ascii_lowercase()) {
            return Ok(HostAddresses(addresses.clone()));
        }
        let output = Program::new(&self.getent, limit)
            .args(["ahosts", "--", name])
            .output()
            .map_err(|error| format!("{name} is no address, is not in {HOSTS}, and {error}"))?;
        match by_getent(&output.stdout) {
            addresses if addresses.is_empty() => {
                Err(format!("{name} has no address (neither in {HOSTS} nor by getent)"))
            }
            addresses => Ok(HostAddresses(addresses)),
        }
    }
}

/// Returns the addresses in the output of `getent ahosts`, which has a line for each socket type, the preferred address
/// first.
fn by_getent(output: &str) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for address in output.lines().filter_map(|line| parse(line.split_whitespace().next()?)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Parses an address. A link-local one of IPv6 has its interface, `%eth0` or `%2`, behind it.
fn parse(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(SocketAddr::new(address, 0));
    }
    let (address, interface) = text.split_once('%')?;
    let index = interface.parse().ok().or_else(|| interface_index(interface))?;
    Some(SocketAddrV6::new(address.parse().ok()?, 0, 0, index).into())
}

fn interface_index(interface: &str) -> Option<u32> {
    if interface.contains('/') || interface.starts_with('.') {
        return None;
    }
    let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).ok()?;
    index.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost\n# 10.0.0.9 cn01\n10.0.0.1\tcn01 cn01.cluster # first\n10.0.0.2 cn01 CN02\nfd00::3 cn03\n10.0.0.3 cn03\nnonsense cn04\n";

    #[test]
    fn literal_addresses_need_nothing_else() {
        let resolver = Resolver::new("", Path::new("/no/such/getent"));
        for literal in ["10.1.2.3", "fd00::1"] {
            let address: IpAddr = literal.parse().unwrap();
            assert_eq!(resolver.resolve(literal, Duration::from_secs(1)), Ok(address.into()));
        }
        // Every machine has lo, and it comes first.
        for literal in ["fe80::1%1", "fe80::1%lo"] {
            let found = resolver.resolve(literal, Duration::from_secs(1)).unwrap();
            let expected = SocketAddrV6::new("fe80::1".parse().unwrap(), 6821, 0, 1);
            assert_eq!(found.at_port(6821).collect::<Vec<_>>(), [expected.into()], "{literal}");
        }
        for literal in ["fe80::1%no-such", "fe80::1%../lo", "10.0.0.1%1", "%1"] {
            assert!(resolver.resolve(literal, Duration::from_secs(1)).is_err(), "{literal}");
        }
    }

    #[test]
    fn hosts_files_are_read_as_glibc_reads_them() {
        let resolver = Resolver::new(HOSTS, Path::new("/no/such/getent"));
        for (name, addresses) in [
            ("cn01", &["10.0.0.1"][..]),
            ("cn01.cluster", &["10.0.0.1"]),
            ("cn02", &["10.0.0.2"]),
            ("cn03", &["fd00::3", "10.0.0.3"]),
        ] {
            let found = resolver.resolve(name, Duration::from_secs(1)).unwrap();
            let found: Vec<String> = found.at_port(1).map(|address| address.ip().to_string()).collect();
            assert_eq!(found, addresses, "{name}");
        }
        let error = resolver.resolve("cn04", Duration::from_secs(1)).unwrap_err();
        assert!(error.contains("cn04") && error.contains("/no/such/getent"), "{error}");
    }

    #[test]
    fn other_names_go_through_getent() {
        let resolver = Resolver::new("", Path::new(GETENT));
        let localhost = resolver.resolve("localhost", Duration::from_secs(5)).unwrap();
        assert!(localhost.at_port(1).all(|address| address.ip().is_loopback()), "{localhost:?}");
        let printed = "fd00::7 STREAM cn07\nfd00::7 DGRAM\nfe80::7%1 STREAM\n10.0.0.7 STREAM\n10.0.0.7 RAW\n";
        let found: Vec<String> = by_getent(printed).iter().map(SocketAddr::to_string).collect();
        assert_eq!(found, ["[fd00::7]:0", "[fe80::7%1]:0", "10.0.0.7:0"]);
        let error = resolver.resolve("no-such-node.invalid", Duration::from_secs(5)).unwrap_err();
        assert!(error.contains("no-such-node.invalid"), "{error}");
    }
}
