//! Texts written by people: hostlists, manifests, configuration.

use rollout_core::hostlist::{MAX_NODES, NodeSet, check_name, expand, fold};
use rollout_core::protocol::order::{Apply, GiveBack, Order, OrderId, OrderKind};
use rollout_core::rollout::manifest::Manifest;
use rollout_host::config::{Validate, from_texts};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

/// Checks a text as a hostlist and as names separated by commas.
pub(crate) fn hostlist(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match NodeSet::parse(text) {
        Ok(nodes) => {
            assert_round_trip(&nodes);
            let names = expand(text).unwrap();
            assert!(nodes.len() <= names.len() && names.len() <= MAX_NODES);
            assert!(names.iter().all(|name| check_name(name).is_ok() && nodes.contains(name)), "{names:?}");
            assert_eq!(fold(names.iter().map(String::as_str)), nodes.to_string());
        }
        Err(error) => {
            super::assert_one_line(&error.to_string());
            assert!(expand(text).is_err());
        }
    }
    if let Ok(nodes) = NodeSet::from_names(text.split(',')) {
        assert_round_trip(&nodes);
    }
}

/// Asserts that printing and parsing the set returns it.
fn assert_round_trip(nodes: &NodeSet) {
    assert_eq!(NodeSet::parse(&nodes.to_string()).as_ref(), Ok(nodes));
}

/// Checks a manifest: agents accept every manifest that `stage` accepts.
pub(crate) fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(manifest) = Manifest::parse(text) else { return };
    assert_round_trip(&manifest.nodes);
    super::assert_one_line(&manifest.name);
    let back = GiveBack { resume_if_late: true, drained: None };
    let apply = Apply { rollout: manifest.name, desired: manifest.desired, give_back: back };
    let order = Order::new(OrderId::from_random(1), manifest.nodes, OrderKind::Apply(apply));
    assert_eq!(Order::parse(&serde_json::to_vec(&order).unwrap()).as_ref(), Ok(&order));
}

/// Checks a text as the controller's and as the agent's configuration: a file and, after a NUL, its drop-in.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let texts: Vec<&str> = text.splitn(2, '\0').collect();
    check_config::<rollout_control::config::Config>(&texts);
    check_config::<slurm_rollout_agent::fuzzing::Config>(&texts);
}

fn check_config<T>(texts: &[&str])
where
    T: DeserializeOwned + Serialize + Default + Validate + PartialEq + Debug,
{
    let files = ["/x/a.toml", "/x/a.d/1.toml"].map(PathBuf::from);
    let load = |texts: &[&str]| {
        let read = files.iter().cloned().zip(texts.iter().map(|text| Ok((*text).to_owned())));
        from_texts::<T>(Path::new("/x/a.toml"), read.collect::<Vec<_>>(), Vec::new())
    };
    let loaded = load(texts);
    for mistake in &loaded.mistakes {
        super::assert_one_line(&mistake.to_string());
        let text = files.iter().position(|file| *file == mistake.file).and_then(|index| texts.get(index));
        let lines = text.map_or(0, |text| text.split('\n').count());
        assert!(mistake.line.is_none_or(|line| (1..=lines).contains(&line)), "{mistake:?}");
    }
    if loaded.mistakes.is_empty() {
        assert!(loaded.config.validate().is_empty());
        let printed = toml::to_string(&loaded.config).unwrap();
        let again = load(&[&printed]);
        assert_eq!((&again.config, again.mistakes.len()), (&loaded.config, 0), "{printed}");
    }
}
