//! The NodeName of a host, found as slurmd finds its own (`_read_config` in `src/slurmd/slurmd/slurmd.c`, 22.05 to
//! 26.05): the option `-N`, else the node whose NodeHostName is the host name up to its first dot, else the whole host
//! name. A slurmd that a script starts with `-N` leaves no trace in its unit, so NodeAddr is compared as well.

use super::node::NodeInfo;
use crate::hostlist::{NodeSet, check_name};
use std::net::IpAddr;

/// Origin of a NodeName.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameSource {
    /// `node_name` in agent.toml.
    Key,
    /// `-N` in slurmd's command line.
    Option,
    /// NodeHostName in Slurm's configuration.
    NodeHostName,
    /// NodeAddr in Slurm's configuration.
    NodeAddr,
    /// The host name up to its first dot, because Slurm has no node for this host.
    HostName,
    /// The host name up to its first dot, because Slurm could not be asked for this reason.
    HostNameUntilAsked(String),
    /// The name that this host had when it was last found otherwise, because Slurm cannot be asked or does not know it.
    Remembered,
}

/// A NodeName with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    pub name: String,
    pub source: NameSource,
}

/// A host without a NodeName.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoNodeName {
    #[error("{0}")]
    HostName(String),
    #[error(
        "Slurm's configuration has several nodes on this host, {host}: {nodes}. Set node_name in agent.toml to the one that \
         slurmd is started for (-N)"
    )]
    Several { host: String, nodes: NodeSet },
}

/// Slurm's configuration, as a host can ask for it.
pub trait SlurmNames {
    /// Returns the nodes with this NodeHostName, as `scontrol show aliases` does from slurm.conf.
    ///
    /// # Errors
    /// Returns the reason if Slurm's configuration cannot be read.
    fn aliases(&self, host_name: &str) -> Result<Vec<String>, String>;

    /// Returns all nodes that slurmctld has.
    ///
    /// # Errors
    /// Returns the reason if slurmctld cannot be asked.
    fn all(&self) -> Result<Vec<NodeInfo>, String>;
}

impl NodeName {
    /// Returns whether the name may be another node's: Slurm was not asked, and nothing else tells.
    #[must_use]
    pub fn is_a_guess(&self) -> bool {
        matches!(self.source, NameSource::HostNameUntilAsked(_))
    }

    /// Returns whether the name is the host name, for want of another one.
    #[must_use]
    pub fn is_from_host_name(&self) -> bool {
        matches!(self.source, NameSource::HostName | NameSource::HostNameUntilAsked(_))
    }

    /// Returns whether Slurm may know a better name later.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.is_from_host_name() || self.source == NameSource::Remembered
    }
}

/// Returns the NodeName of the host with this name and these addresses, by Slurm's configuration.
///
/// # Errors
/// Fails if the host has no name yet, or Slurm has several nodes for it.
pub fn of_host(
    host_name: &str,
    addresses: &[IpAddr],
    slurm: &impl SlurmNames,
) -> Result<NodeName, NoNodeName> {
    let short = short(host_name)?;
    let by_host_name = |why| NodeName { name: short.to_owned(), source: NameSource::HostNameUntilAsked(why) };
    let one = |names: Vec<String>, source| only(host_name, names).map(|name| NodeName { name, source });
    let whole = (host_name != short).then_some(host_name);
    for name in [short].into_iter().chain(whole) {
        match slurm.aliases(name) {
            Ok(names) if names.is_empty() => {}
            Ok(names) => return one(names, NameSource::NodeHostName),
            Err(why) => return Ok(by_host_name(why)),
        }
    }
    // Dynamic nodes are in no slurm.conf.
    let nodes = match slurm.all() {
        Ok(nodes) => nodes,
        Err(why) => return Ok(by_host_name(why)),
    };
    let is_named = |name: &str| name == short || name == host_name;
    type Rule<'a> = (NameSource, &'a dyn Fn(&NodeInfo) -> bool);
    let rules: [Rule; 3] = [
        (NameSource::NodeHostName, &|node| is_named(&node.host)),
        (NameSource::NodeHostName, &|node| is_named(&node.name)),
        (NameSource::NodeAddr, &|node| {
            is_named(&node.address) || node.address.parse().is_ok_and(|address| addresses.contains(&address))
        }),
    ];
    for (source, fits) in rules {
        let names: Vec<String> =
            nodes.iter().filter(|node| fits(node)).map(|node| node.name.clone()).collect();
        if !names.is_empty() {
            return one(names, source);
        }
    }
    Ok(NodeName { name: short.to_owned(), source: NameSource::HostName })
}

/// Parses the output of `scontrol show aliases`: names with blanks in between.
#[must_use]
pub fn parse_aliases(text: &str) -> Vec<String> {
    text.split_whitespace().filter(|name| check_name(name).is_ok()).map(str::to_owned).collect()
}

/// Returns the host name up to its first dot.
///
/// # Errors
/// Fails if the host has no name yet, or one that no node can have.
pub fn short(host_name: &str) -> Result<&str, NoNodeName> {
    match host_name.split('.').next() {
        // The host name before the network has provided one.
        Some("localhost") => Err(NoNodeName::HostName("the host name is still localhost".to_owned())),
        Some(name) if check_name(name).is_ok() => Ok(name),
        _ => {
            let why = format!("the host name {host_name:?} gives no NodeName; set node_name in agent.toml");
            Err(NoNodeName::HostName(why))
        }
    }
}

fn only(host_name: &str, names: Vec<String>) -> Result<String, NoNodeName> {
    let nodes: NodeSet = names.into_iter().collect();
    let first = nodes.iter().next().map(str::to_owned);
    match first.filter(|_| nodes.iter().len() == 1) {
        Some(name) => Ok(name),
        None => Err(NoNodeName::Several { host: host_name.to_owned(), nodes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NodeHostName and NodeName of slurm.conf, and what slurmctld has.
    struct Fake(Result<Vec<(&'static str, &'static str)>, String>, Result<Vec<NodeInfo>, String>);

    impl SlurmNames for Fake {
        fn aliases(&self, host_name: &str) -> Result<Vec<String>, String> {
            let all = self.0.clone()?;
            Ok(all.into_iter().filter(|(host, _)| *host == host_name).map(|(_, n)| n.to_owned()).collect())
        }

        fn all(&self) -> Result<Vec<NodeInfo>, String> {
            self.1.clone()
        }
    }

    fn node(name: &str, host: &str, address: &str) -> NodeInfo {
        NodeInfo { name: name.into(), host: host.into(), address: address.into(), ..NodeInfo::default() }
    }

    #[test]
    fn a_host_is_the_node_that_slurmd_takes_itself_for() {
        let silent = || Err("no slurmctld".to_owned());
        let conf = vec![
            ("rack7-u12", "n1"),
            ("n2", "n2"),
            ("c1.cluster", "c1.cluster"),
            ("gpu", "gpu-a"),
            ("gpu", "gpu-b"),
        ];
        let slurm = || Fake(Ok(conf.clone()), silent());
        let until_asked = || NameSource::HostNameUntilAsked("no slurmctld".to_owned());
        for (host, name, source) in [
            ("rack7-u12", "n1", NameSource::NodeHostName),
            ("rack7-u12.cluster", "n1", NameSource::NodeHostName),
            ("n2", "n2", NameSource::NodeHostName),
            ("n2.example.org", "n2", NameSource::NodeHostName),
            ("c1.cluster", "c1.cluster", NameSource::NodeHostName),
            ("new.cluster", "new", until_asked()),
        ] {
            let found = of_host(host, &[], &slurm()).unwrap();
            assert_eq!(found, NodeName { name: name.to_owned(), source }, "{host}");
        }
        let several = of_host("gpu", &[], &slurm()).unwrap_err().to_string();
        assert!(several.contains("gpu-[a-b]") || several.contains("gpu-a,gpu-b"), "{several}");
        assert!(several.contains("node_name"), "{several}");
        let unread = Fake(Err("no slurmctld".to_owned()), Ok(vec![node("n1", "rack7-u12", "")]));
        let unread = of_host("rack7-u12", &[], &unread).unwrap();
        assert_eq!(unread, NodeName { name: "rack7-u12".to_owned(), source: until_asked() });
        assert!(unread.is_provisional());
    }

    #[test]
    fn nodes_that_are_in_no_slurm_conf_are_found_in_slurmctld() {
        let here: IpAddr = "10.0.0.7".parse().unwrap();
        for (nodes, expected) in [
            (vec![node("dyn1", "rack7", "x")], Some(("dyn1", NameSource::NodeHostName))),
            (
                vec![node("rack7", "other", "x"), node("n9", "n9", "10.0.0.7")],
                Some(("rack7", NameSource::NodeHostName)),
            ),
            (
                vec![node("n1", "n1", "10.0.0.7"), node("n2", "n2", "10.0.0.8")],
                Some(("n1", NameSource::NodeAddr)),
            ),
            (vec![node("n1", "n1", "rack7.cluster")], Some(("n1", NameSource::NodeAddr))),
            (vec![node("n1", "n1", "10.0.0.7"), node("n2", "n2", "10.0.0.7")], None),
            (vec![node("n2", "n2", "10.0.0.8")], Some(("rack7", NameSource::HostName))),
        ] {
            let found = of_host("rack7.cluster", &[here], &Fake(Ok(Vec::new()), Ok(nodes.clone())));
            let found = found.ok().map(|found| (found.name, found.source));
            let expected = expected.map(|(name, source)| (name.to_owned(), source));
            assert_eq!(found, expected, "{nodes:?}");
        }
    }

    #[test]
    fn a_host_without_a_name_has_no_node_name() {
        let slurm = Fake(Ok(vec![("localhost", "n1")]), Ok(Vec::new()));
        for name in ["localhost", "localhost.localdomain", "", ".x"] {
            assert!(matches!(of_host(name, &[], &slurm), Err(NoNodeName::HostName(_))), "{name}");
        }
    }

    #[test]
    fn aliases_are_words() {
        assert_eq!(parse_aliases("n1 n2\n"), ["n1", "n2"]);
        assert_eq!(parse_aliases("\n"), Vec::<String>::new());
        assert_eq!(parse_aliases("n1 a[1-2]"), ["n1"]);
    }
}
