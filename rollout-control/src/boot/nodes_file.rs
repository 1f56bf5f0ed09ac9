//! The site's file of nodes: their names in boot servers and services.
//!
//! ```toml
//! [cn001]
//! mac   = "52:54:00:12:34:56"
//! xname = "x1000c0s0b0n0"
//! ```

use super::BootNode;
use rollout_core::hostlist::NodeSet;
use rollout_core::slurm::addresses::Addresses;
use rollout_host::regular_file;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Maximum number of bytes that are read, enough for tens of thousands of nodes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The file of nodes cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodesFileError {
    #[error("{path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    /// Not TOML, or not the expected tables. The source names the line.
    #[error("{path}: {source}", path = .path.display())]
    Content { path: PathBuf, source: Box<toml::de::Error> },
    /// A value that would lead out of a directory or a line.
    #[error("{path}: [{node}] {key}: {value:?} has a slash or a control character", path = .path.display())]
    Value { path: PathBuf, node: String, key: String, value: String },
}

/// Values of nodes from the site's file, which need not exist.
#[derive(Debug, Clone, Default)]
pub struct NodesFile {
    nodes: BTreeMap<String, BTreeMap<String, String>>,
}

impl NodesFile {
    /// Reads the file. A missing file counts as empty.
    ///
    /// # Errors
    /// If the file exists and cannot be used.
    pub fn load(path: &Path) -> Result<Self, NodesFileError> {
        let io = |source| NodesFileError::Io { path: path.to_owned(), source };
        let text = match regular_file::read_text(path, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io(error)),
        };
        let content = |source| NodesFileError::Content { path: path.to_owned(), source: Box::new(source) };
        let nodes: BTreeMap<String, BTreeMap<String, String>> = toml::from_str(&text).map_err(content)?;
        for (node, values) in &nodes {
            // Values become parts of file names, of paths in URLs, and of lines in the scripts of boot loaders.
            let wrong = values.iter().find(|(_, value)| value.contains(|c: char| c == '/' || c.is_control()));
            if let Some((key, value)) = wrong {
                let (path, node, key) = (path.to_owned(), node.clone(), key.clone());
                return Err(NodesFileError::Value { path, node, key, value: value.clone() });
            }
        }
        Ok(Self { nodes })
    }

    /// Returns the nodes as providers know them. `addresses` are Slurm's.
    #[must_use]
    pub fn nodes(&self, names: &NodeSet, addresses: &Addresses) -> Vec<BootNode> {
        let node = |name: &str| {
            let mut values = self.nodes.get(name).cloned().unwrap_or_default();
            let address = addresses.of(name);
            if address.parse::<IpAddr>().is_ok() {
                values.entry("ip".to_owned()).or_insert_with(|| address.to_owned());
            }
            BootNode { name: name.to_owned(), values }
        };
        names.iter().map(node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "what a site writes")]
    fn what_the_site_says_goes_before_what_slurm_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("nodes.toml");
        assert!(NodesFile::load(&path).unwrap().nodes.is_empty());
        std::fs::write(&path, "[n1]\nmac = '52:54:00:12:34:56'\n[n2]\nip = '10.1.0.2'\n").unwrap();
        let addresses = [("n1", "10.0.0.1"), ("n2", "10.0.0.2"), ("n3", "n3")];
        let addresses =
            Addresses::from(addresses.map(|(node, address)| (node.to_owned(), address.to_owned())));
        let nodes = NodesFile::load(&path).unwrap().nodes(&NodeSet::parse("n[1-3]").unwrap(), &addresses);
        let ip = |index: usize| nodes[index].values.get("ip").map(String::as_str);
        assert_eq!((ip(0), ip(1), ip(2)), (Some("10.0.0.1"), Some("10.1.0.2"), None));
        assert_eq!(nodes[0].values["mac"], "52:54:00:12:34:56");
        for (text, why) in [("[n1]\nmac = 1\n", "mac"), ("[n1]\nmac = '../x'\n", "slash"), ("n1 = 2\n", "n1")]
        {
            std::fs::write(&path, text).unwrap();
            let error = NodesFile::load(&path).unwrap_err().to_string();
            assert!(error.contains("nodes.toml") && error.contains(why), "{error}");
        }
    }
}
