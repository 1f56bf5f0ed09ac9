//! The configuration file as it is shipped: every key, commented out with its default.
#![allow(
    clippy::unwrap_used,
    reason = "a test may end with any panic; clippy knows only #[test] functions as tests"
)]

use rollout_control::config::Config;
use rollout_host::durable::replace;
use std::collections::BTreeSet;
use std::path::Path;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/config/controller.toml");

fn shipped() -> String {
    std::fs::read_to_string(SHIPPED).unwrap()
}

/// Returns the lines with keys, without the `#` before them.
fn lines_of_keys() -> Vec<String> {
    let text = shipped();
    let lines = text.lines().filter_map(|line| line.strip_prefix('#'));
    lines.filter(|line| line.starts_with(|c: char| c.is_alphabetic())).map(str::to_owned).collect()
}

#[test]
fn it_is_the_default_as_it_is_and_with_all_its_keys() {
    assert_eq!(Config::load(Path::new(SHIPPED)).unwrap(), Config::default());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("controller.toml");
    replace(&path, lines_of_keys().join("\n").as_bytes(), 0o644).unwrap();
    let all = Config::load(&path).unwrap();
    // A key without a default has an example, and its comment says so.
    assert!(
        all.slurm_conf.is_some()
            && all.boot_file.is_some()
            && all.bss.is_some()
            && all.bos.is_some()
            && all.command.is_some()
    );
    let without = Config { slurm_conf: None, boot_file: None, bss: None, bos: None, command: None, ..all };
    assert_eq!(without, Config::default());
    let text = shipped().replace("\n# ", " ");
    assert_eq!(text.matches("This is an example: the default is none.").count(), 5);
}

#[test]
fn it_has_every_key_once_with_an_explanation() {
    let error = toml::from_str::<Config>("no_such_key = 1").unwrap_err().to_string();
    let (_, expected) = error.split_once("expected one of ").unwrap();
    let fields: BTreeSet<_> = expected.split('`').skip(1).step_by(2).collect();
    let lines = lines_of_keys();
    let keys: BTreeSet<_> = lines.iter().filter_map(|line| line.split(" = ").next()).collect();
    assert_eq!(keys, fields);
    assert_eq!(keys.len(), lines.len(), "a key twice");
    for chunk in shipped().trim().split("\n\n").skip(1) {
        let comments = chunk.lines().filter(|line| line.starts_with("# ")).count();
        assert!((1..=4).contains(&comments) && chunk.lines().count() == comments + 1, "{chunk}");
    }
}
