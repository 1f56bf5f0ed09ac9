//! Node sets and ClusterShell's files of groups.

use rollout_cli::groups::conf::parse_conf;
use rollout_cli::groups::flat::{flat_files, parse_flat};
use rollout_cli::groups::yaml::{YamlSources, parse_yaml};
use rollout_core::hostlist::{MAX_NODES, NodeSet};
use rollout_core::nodeset::{Definition, Expression, GroupError, Groups, NodesetError};
use rollout_core::rollout::manifest::{Manifest, expand};
use std::path::Path;

/// The groups of one YAML file. The first source is the default one.
struct File(YamlSources);

impl Groups for File {
    fn default_source(&self) -> Result<String, GroupError> {
        self.0.keys().next().cloned().ok_or_else(|| GroupError("no source".to_owned()))
    }

    fn group(&self, source: &str, group: &str) -> Result<Definition, GroupError> {
        let nodes = self.0.get(source).and_then(|groups| groups.get(group));
        nodes.cloned().map(Definition::Text).ok_or_else(|| GroupError("no group".to_owned()))
    }

    fn all(&self, source: &str) -> Result<Vec<Definition>, GroupError> {
        let groups = self.0.get(source).ok_or_else(|| GroupError("no source".to_owned()))?;
        Ok(groups.values().cloned().map(Definition::Text).collect())
    }
}

/// Checks a text as a node set and, after a NUL, as a file of the groups in it.
pub(crate) fn nodeset(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (set, file) = text.split_once('\0').unwrap_or((text, text));
    other_files(file);
    let groups = match parse_yaml(file) {
        Ok(sources) => File(sources),
        Err(error) => {
            assert!(error.starts_with("line "), "{error}");
            File(YamlSources::new())
        }
    };
    let evaluated = evaluate(set, &groups);
    match &evaluated {
        Ok(nodes) => {
            assert!(nodes.len() <= MAX_NODES);
            assert_eq!(evaluate(set, &groups).as_ref(), Ok(nodes));
            if let Some(first) = nodes.iter().next() {
                // Behind a hostlist that ends in a comma, an operator is an error.
                let rest = evaluate(&format!("{set}!{first}"), &groups);
                assert!(rest.is_err() || rest.is_ok_and(|rest| rest.len() + 1 == nodes.len()), "{set:?}");
            }
        }
        Err(error) => super::assert_one_line(&error.to_string()),
    }
    if let Ok(nodes) = NodeSet::parse(set) {
        assert_eq!(evaluated, Ok(nodes), "a hostlist keeps its meaning");
    }
    in_a_manifest(set, &groups);
}

fn evaluate(set: &str, groups: &File) -> Result<NodeSet, NodesetError> {
    Expression::parse(set)?.evaluate(groups)
}

/// Checks that a manifest is stored with the nodes that its node set stands for.
fn in_a_manifest(set: &str, groups: &File) {
    let rest = "name = 'a'\n[[change]]\nkind = 'symlink'\npath = '/a'\ntarget = '/b'\n";
    let Ok(quoted) = toml::Value::try_from(set) else { return };
    let text = format!("nodes = {quoted}\n{rest}");
    let nodes = evaluate(set, groups).ok().filter(|nodes| !nodes.is_empty());
    let Some(nodes) = nodes else { return };
    let expanded = expand(&text, |set| evaluate(set, groups).map_err(|error| error.to_string())).unwrap();
    if let Ok(manifest) = Manifest::parse(&expanded) {
        assert_eq!(manifest.nodes, nodes);
    } else {
        assert!(expanded.len() > rollout_core::rollout::manifest::MAX_BYTES, "{expanded:?}");
    }
}

/// Checks a text as the other files of ClusterShell.
fn other_files(text: &str) {
    let _ = parse_flat(text);
    if let Ok(conf) = parse_conf(text) {
        for (_, section) in conf.sections {
            let _ = flat_files(&section.map, Path::new("/c"));
        }
    }
}
