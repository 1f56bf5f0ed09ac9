//! Checks a configuration file as it is shipped, for tests of the crates that own the configuration. In such a file
//! every key is commented out at its default.

use super::{LoadedConfig, Validate, from_texts, report};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

/// Asserts that a shipped file is the default configuration, has every key once at its default, and explains each key
/// in a comment.
///
/// # Panics
/// If the file violates any of this.
pub fn assert_shipped<T>(path: &Path)
where
    T: DeserializeOwned + Serialize + Default + Validate + PartialEq + Debug,
{
    let text = std::fs::read_to_string(path).expect("the shipped file is there");
    assert_eq!(parse::<T>(&text), T::default());

    let lines = key_lines(&text);
    let keys: BTreeSet<&str> = lines.iter().filter_map(|line| line.split(" = ").next()).collect();
    assert_eq!(keys.len(), lines.len(), "a key twice");
    let known = known_keys::<T>();
    assert_eq!(keys, known.iter().map(String::as_str).collect());

    let uncommented = report::values(&parse::<T>(&lines.join("\n")));
    let mut examples = 0;
    for (key, default) in report::values(&T::default()) {
        let shipped = uncommented.get(&key);
        // A key without a default is shipped with an example, and its comment says so.
        if default.is_null() {
            assert!(shipped.is_some_and(|value| !value.is_null()), "{key} has no example");
            examples += 1;
        } else {
            assert_eq!(shipped, Some(&default), "{key}");
        }
    }
    let paragraphs = text.replace("\n# ", " ");
    assert_eq!(paragraphs.matches("This is an example: the default is none.").count(), examples);

    for chunk in text.trim().split("\n\n").skip(1) {
        let comments = chunk.lines().filter(|line| line.starts_with("# ")).count();
        assert!((1..=4).contains(&comments) && chunk.lines().count() == comments + 1, "{chunk}");
    }
}

fn parse<T: DeserializeOwned + Serialize + Default + Validate>(text: &str) -> T {
    let path = Path::new("shipped.toml");
    let loaded: LoadedConfig<T> = from_texts(path, [(path.to_owned(), Ok(text.to_owned()))], Vec::new());
    assert_eq!(loaded.mistakes, []);
    loaded.config
}

/// Returns the lines with keys, without the `#` before each key.
fn key_lines(text: &str) -> Vec<&str> {
    let commented = text.lines().filter_map(|line| line.strip_prefix('#'));
    commented.filter(|line| line.starts_with(|c: char| c.is_alphabetic())).collect()
}

/// Returns the keys that serde names as expected, after an unknown one.
fn known_keys<T: DeserializeOwned + Debug>() -> BTreeSet<String> {
    let error = toml::from_str::<T>("no_such_key = 1").expect_err("unknown keys are refused").to_string();
    let (_, expected) = error.split_once("expected one of ").expect("serde names the known keys");
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
