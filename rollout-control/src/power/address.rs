//! Addresses of management controllers, and names of nodes at a power program.

use rollout_core::hostlist::MAX_NAME;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv6Addr;

/// Length limit of a host, as of a name in DNS.
const MAX_HOST: usize = 253;

/// A host with or without a port: `cn001-bmc`, `10.1.0.1:8443`, `[fd00::1]:443`. It can be an argument and a part of a
/// URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// Without brackets.
    host: String,
    port: Option<u16>,
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: write host, host:port or [IPv6]:port")]
pub struct NotAnAddress(String);

impl Address {
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl TryFrom<String> for Address {
    type Error = NotAnAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        parse(&text).ok_or_else(|| NotAnAddress(text.chars().take(MAX_NAME).collect()))
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]")?
        } else {
            f.write_str(host)?
        }
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn parse(text: &str) -> Option<Address> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Some(Address { host: text.to_owned(), port: None });
    }
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        host.parse::<Ipv6Addr>().ok()?;
        let port = if rest.is_empty() { None } else { Some(port(rest.strip_prefix(':')?)?) };
        return Some(Address { host: host.to_owned(), port });
    }
    let (host, port) = match text.split_once(':') {
        Some((host, number)) => (host, Some(port(number)?)),
        None => (text, None),
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // A leading hyphen would make it an option of a program.
    let is_host = host.starts_with(|c: char| c.is_ascii_alphanumeric()) && host.chars().all(is_part);
    (is_host && host.len() <= MAX_HOST).then(|| Address { host: host.to_owned(), port })
}

fn port(text: &str) -> Option<u16> {
    let is_number = text.chars().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|port| *port > 0 && is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<Address, NotAnAddress> {
        text.to_owned().try_into()
    }

    #[test]
    fn hosts_have_a_port_or_none() {
        for (text, host, port) in [
            ("cn001-bmc", "cn001-bmc", None),
            ("10.1.0.1:8443", "10.1.0.1", Some(8443)),
            ("bmc.cn1.cluster:443", "bmc.cn1.cluster", Some(443)),
            ("[fd00::1]:443", "fd00::1", Some(443)),
            ("[fd00::1]", "fd00::1", None),
        ] {
            let parsed = address(text).unwrap();
            assert_eq!((parsed.host(), parsed.port()), (host, port), "{text}");
            assert_eq!(parsed.to_string(), text);
        }
        assert_eq!(address("fd00::1").unwrap().to_string(), "[fd00::1]");
    }

    #[test]
    fn options_urls_and_words_are_no_addresses() {
        let long = "a".repeat(MAX_HOST + 1);
        for text in [
            "",
            "-x",
            "a b",
            "a/b",
            "a@b",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:b",
            "[a]:1",
            "[fd00::1]x",
            "a\n",
            "https://a",
            "a?b",
            "a:1:2",
            "ä",
            &long,
        ] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }
}
