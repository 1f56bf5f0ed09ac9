//! The tables `[[power]]` of `controller.toml`.

use super::address::Address;
use crate::template;
use rollout_core::time_limit::TimeLimit;
use rollout_host::config::{InvalidValue, is_absolute};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The key of the tables.
const KEY: &[&str] = &["power"];

/// The name of a node by itself, as an address.
const NODE: &str = "{node}";

/// The cipher suites of IPMI v2 that `ipmitool -C` takes.
const CIPHER_SUITES: std::ops::RangeInclusive<u8> = 0..=17;

/// A table `[[power]]`: how the power of some nodes is switched.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "via", rename_all = "lowercase")]
pub enum PowerConfig {
    Redfish(RedfishConfig),
    Ipmi(IpmiConfig),
    Powerman(PowermanConfig),
    Command(CommandConfig),
}

/// Management controllers with Redfish.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RedfishConfig {
    /// Node set. Without it, all nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Host and port, with values of the node in it, such as `{node}-bmc`.
    pub address: String,
    /// File with user and password.
    pub credentials_file: PathBuf,
    /// Certificates of authorities for checking the controller's own, in PEM. By default the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Path of the node's system, with values of the node in it. By default the only one that the controller has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Time within which a change must show.
    #[serde(default = "default_time_limit")]
    pub time_limit: TimeLimit,
}

/// Management controllers with IPMI v2, through `ipmitool`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IpmiConfig {
    /// As in [`RedfishConfig`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// As in [`RedfishConfig`].
    pub address: String,
    /// File with user and password.
    pub credentials_file: PathBuf,
    /// Cipher suite. By default, ipmitool asks the controller for the best one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher_suite: Option<u8>,
    /// Time within which a change must show.
    #[serde(default = "default_time_limit")]
    pub time_limit: TimeLimit,
}

/// A powermand.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PowermanConfig {
    /// As in [`RedfishConfig`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Name of the node in powerman.conf.
    #[serde(default = "node")]
    pub address: String,
    /// Host and port of powermand. By default this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Address>,
    /// Time within which a change must show.
    #[serde(default = "default_time_limit")]
    pub time_limit: TimeLimit,
}

/// A program of the site, which is called with an action and a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// As in [`RedfishConfig`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<String>,
    /// Absolute path, and the first arguments.
    pub command: Vec<String>,
    /// Time within which a change must show.
    #[serde(default = "default_time_limit")]
    pub time_limit: TimeLimit,
}

fn default_time_limit() -> TimeLimit {
    TimeLimit::from_secs(120)
}

fn node() -> String {
    NODE.to_owned()
}

impl PowerConfig {
    /// Returns the word for it in `via`.
    #[must_use]
    pub fn via(&self) -> &'static str {
        match self {
            Self::Redfish(_) => "redfish",
            Self::Ipmi(_) => "ipmi",
            Self::Powerman(_) => "powerman",
            Self::Command(_) => "command",
        }
    }

    /// Returns the node set of the table. `None` stands for all nodes.
    #[must_use]
    pub fn nodes(&self) -> Option<&str> {
        let nodes = match self {
            Self::Redfish(table) => &table.nodes,
            Self::Ipmi(table) => &table.nodes,
            Self::Powerman(table) => &table.nodes,
            Self::Command(table) => &table.nodes,
        };
        nodes.as_deref()
    }

    /// Returns the address, with values of the node in it.
    #[must_use]
    pub fn address(&self) -> &str {
        match self {
            Self::Redfish(table) => &table.address,
            Self::Ipmi(table) => &table.address,
            Self::Powerman(table) => &table.address,
            Self::Command(_) => NODE,
        }
    }

    /// Returns the time within which a change must show.
    #[must_use]
    pub fn time_limit(&self) -> TimeLimit {
        match self {
            Self::Redfish(table) => table.time_limit,
            Self::Ipmi(table) => table.time_limit,
            Self::Powerman(table) => table.time_limit,
            Self::Command(table) => table.time_limit,
        }
    }

    /// Returns the file with user and password.
    #[must_use]
    pub fn credentials_file(&self) -> Option<&Path> {
        match self {
            Self::Redfish(table) => Some(&table.credentials_file),
            Self::Ipmi(table) => Some(&table.credentials_file),
            Self::Powerman(_) | Self::Command(_) => None,
        }
    }

    /// Returns the file with certificates of authorities.
    #[must_use]
    pub fn ca_file(&self) -> Option<&Path> {
        match self {
            Self::Redfish(table) => table.ca_file.as_deref(),
            Self::Ipmi(_) | Self::Powerman(_) | Self::Command(_) => None,
        }
    }

    /// Returns the path of the system, with values of the node in it.
    #[must_use]
    pub fn system(&self) -> Option<&str> {
        match self {
            Self::Redfish(table) => table.system.as_deref(),
            Self::Ipmi(_) | Self::Powerman(_) | Self::Command(_) => None,
        }
    }

    /// Returns whether a value of the node is in its address or system.
    fn tells_nodes_apart(&self) -> bool {
        [Some(self.address()), self.system()]
            .into_iter()
            .flatten()
            .any(|text| template::fill(text, |_| None).is_err())
    }

    fn mistakes(&self) -> Vec<String> {
        let paths = [self.credentials_file(), self.ca_file()];
        let mut wrong: Vec<String> = paths
            .into_iter()
            .flatten()
            .filter_map(|path| is_absolute(KEY, path))
            .map(|wrong| wrong.why)
            .collect();
        let address = self.address();
        let filled = template::fill(address, |_| Some("n1".to_owned())).unwrap_or_default();
        if let Err(error) = Address::try_from(filled) {
            wrong.push(format!("address {address:?}: {error}"));
        }
        if self.nodes().is_none() && !self.tells_nodes_apart() {
            wrong.push(format!(
                "address {address:?} is the same for all nodes: write it with {{node}}, or set nodes"
            ));
        }
        match self {
            Self::Redfish(RedfishConfig { system: Some(system), .. })
                if !template::fill(system, |_| Some("1".to_owned())).is_ok_and(|system| is_path(&system)) =>
            {
                wrong.push(format!("system {system:?}: write it as \"/redfish/v1/Systems/ID\""));
            }
            Self::Ipmi(IpmiConfig { cipher_suite: Some(suite), .. }) if !CIPHER_SUITES.contains(suite) => {
                wrong.push(format!("cipher_suite {suite}: none of IPMI v2, 0 to 17"));
            }
            Self::Command(CommandConfig { command, .. })
                if !command.first().is_some_and(|program| Path::new(program).is_absolute()) =>
            {
                wrong.push("command: begin it with the absolute path of a program".to_owned());
            }
            Self::Redfish(_) | Self::Ipmi(_) | Self::Powerman(_) | Self::Command(_) => {}
        }
        wrong
    }
}

/// Returns whether this is a path in Redfish's tree. It becomes part of a URL.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '~' | ':' | '#');
    text.starts_with("/redfish/") && text.len() <= 1000 && text.chars().all(is_part) && !text.contains("..")
}

/// Returns the tables of a configuration, or all mistakes in them with the numbers of their tables.
///
/// # Errors
/// Fails if there is a mistake. No table counts then: the first one with a node would be unknown.
pub fn power_tables(power: Option<&serde_json::Value>) -> Result<Vec<PowerConfig>, Vec<InvalidValue>> {
    let Some(power) = power else { return Ok(Vec::new()) };
    let Some(values) = power.as_array() else {
        return Err(vec![InvalidValue::new(KEY, "no list of tables: begin each with [[power]]")]);
    };
    let (mut tables, mut wrong) = (Vec::new(), Vec::new());
    for (value, number) in values.iter().zip(1_usize..) {
        let table = PowerConfig::deserialize(value).map_err(|error| vec![error.to_string()]);
        let mistakes = match table {
            Ok(table) => {
                let mistakes = table.mistakes();
                tables.push(table);
                mistakes
            }
            Err(mistakes) => mistakes,
        };
        let of_table = |why: String| InvalidValue::new(KEY, format!("table {number}: {why}"));
        wrong.extend(mistakes.into_iter().map(of_table));
    }
    if wrong.is_empty() { Ok(tables) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        power: serde_json::Value,
    }

    fn tables(text: &str) -> Result<Vec<PowerConfig>, Vec<InvalidValue>> {
        power_tables(Some(&toml::from_str::<File>(text).unwrap().power))
    }

    #[test]
    fn a_site_has_a_table_for_each_kind_of_node() {
        let text = r#"
            [[power]]
            nodes = "cn[001-128]"
            via = "redfish"
            address = "{node}-bmc:8443"
            credentials_file = "/etc/slurm-rollout/bmc.toml"
            ca_file = "/etc/ssl/bmc.pem"
            system = "/redfish/v1/Systems/1"
            time_limit = "5m"
            [[power]]
            nodes = "old[1-4]"
            via = "ipmi"
            address = "{bmc}"
            credentials_file = "/etc/slurm-rollout/bmc.toml"
            cipher_suite = 3
            [[power]]
            nodes = "pdu[1-4]"
            via = "powerman"
            server = "pm.cluster:10101"
            [[power]]
            via = "command"
            command = ["/usr/local/sbin/power", "--quiet"]
        "#;
        let tables = tables(text).unwrap();
        let vias: Vec<_> = tables.iter().map(PowerConfig::via).collect();
        assert_eq!(vias, ["redfish", "ipmi", "powerman", "command"]);
        assert_eq!(tables[3].nodes(), None);
        assert_eq!(tables[2].address(), "{node}");
        assert_eq!(tables[0].time_limit().get().as_secs(), 300);
        assert_eq!(tables[1].time_limit(), default_time_limit());
        let again = toml::to_string(&tables[0]).unwrap();
        assert_eq!(toml::from_str::<PowerConfig>(&again).unwrap(), tables[0]);
    }

    #[test]
    fn keys_of_a_different_kind_are_refused() {
        for (text, why) in [
            ("via = 'smoke'", "unknown variant `smoke`"),
            ("nodes = 'cn1'", "missing field `via`"),
            ("via = 'ipmi'\naddress = '{node}'", "missing field `credentials_file`"),
            ("via = 'powerman'\ncredentials_file = '/c'", "unknown field `credentials_file`"),
            ("via = 'command'\ncommand = ['/c']\naddress = 'x'", "unknown field `address`"),
            ("via = 'command'\ncommand = ['/c']\npassword = 'x'", "unknown field `password`"),
            ("via = 'powerman'\nserver = '-x'", "\"-x\" is no address"),
        ] {
            let wrong = tables(&format!("[[power]]\nvia = 'powerman'\n[[power]]\n{text}")).unwrap_err();
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
            assert!(wrong[0].why.starts_with("table 2: ") && wrong[0].why.contains(why), "{text}: {wrong:?}");
        }
        assert!(tables("[power]\nvia = 'powerman'").unwrap_err()[0].why.contains("[[power]]"));
        assert_eq!(power_tables(None), Ok(Vec::new()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let bmc = "address = '{node}-bmc'\ncredentials_file = '/c'";
        for (text, why) in [
            ("via = 'redfish'\naddress = '{node}'\ncredentials_file = 'c'".to_owned(), "no absolute path"),
            (format!("via = 'redfish'\n{bmc}\nca_file = 'ca.pem'"), "no absolute path"),
            (format!("via = 'redfish'\n{bmc}\nsystem = '1'"), "/redfish/v1/Systems/ID"),
            (format!("via = 'redfish'\n{bmc}\nsystem = '/redfish/v1/@evil'"), "/redfish/v1/Systems/ID"),
            (format!("via = 'ipmi'\n{bmc}\ncipher_suite = 18"), "0 to 17"),
            (
                "via = 'redfish'\naddress = 'https://{node}'\ncredentials_file = '/c'".to_owned(),
                "is no address",
            ),
            ("via = 'ipmi'\naddress = '-{node}'\ncredentials_file = '/c'".to_owned(), "is no address"),
            ("via = 'ipmi'\naddress = 'bmc'\ncredentials_file = '/c'".to_owned(), "the same for all nodes"),
            ("via = 'command'\ncommand = []".to_owned(), "absolute path of a program"),
            ("via = 'command'\ncommand = ['power']".to_owned(), "absolute path of a program"),
        ] {
            let wrong = tables(&format!("[[power]]\n{text}")).unwrap_err();
            assert_eq!(wrong.len(), 1, "{text}: {wrong:?}");
            assert!(wrong[0].why.starts_with("table 1: ") && wrong[0].why.contains(why), "{text}: {wrong:?}");
        }
        let one = "via = 'ipmi'\naddress = '10.0.0.7'\nnodes = 'login'\ncredentials_file = '/c'";
        assert!(tables(&format!("[[power]]\n{one}")).is_ok());
    }
}
