//! Names of a node in OpenCHAMI's services: its xname, or else its MAC address.

use rollout_control::boot::BootNode;

/// The id by which a service addresses a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Id {
    Xname(String),
    /// In lower case.
    Mac(String),
}

impl Id {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Xname(text) | Self::Mac(text) => text,
        }
    }
}

/// Returns the id of a node. `service` is what knows nodes by it.
///
/// # Errors
/// If the file of nodes has none, or an invalid one.
pub(crate) fn id(service: &str, node: &BootNode) -> Result<Id, String> {
    if let Some(xname) = node.xname() {
        return xname.map(|xname| Id::Xname(xname.to_owned()));
    }
    let name = &node.name;
    let mac = node.values.get("mac").ok_or_else(|| {
        format!(
            "{name}: {service} knows nodes by xname or mac: write one below [{name}] in the file of nodes"
        )
    })?;
    let pairs: Vec<&str> = mac.split(':').collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.chars().all(|c| c.is_ascii_hexdigit());
    if pairs.len() != 6 || !pairs.iter().all(is_pair) {
        return Err(format!("{name}: mac {mac:?}: write it as 52:54:00:12:34:56"));
    }
    Ok(Id::Mac(mac.to_ascii_lowercase()))
}
