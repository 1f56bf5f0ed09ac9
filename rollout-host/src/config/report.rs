//! The report that `config check` prints for controller and agent: files, every key with its value and origin,
//! mistakes.

use super::{ConfigError, LoadedConfig, Validate, read};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::fmt;
use std::path::{Path, PathBuf};

/// The effective configuration and all mistakes in its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigReport {
    /// The existing files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// Every known key, whether a file sets it or not.
    pub keys: Vec<KeyReport>,
    pub mistakes: Vec<ConfigError>,
    /// Path of the main file, which need not exist.
    #[serde(skip)]
    path: PathBuf,
}

/// The effective value of a key and its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    pub key: String,
    /// Null if the key is not set and has no default.
    pub value: Value,
    /// The file that sets it, or `default`.
    pub from: String,
    pub line: Option<usize>,
}

impl ConfigReport {
    /// Reads the configuration at `path` and its drop-ins.
    #[must_use]
    pub fn of<T: DeserializeOwned + Serialize + Default + Validate>(path: &Path) -> Self {
        let loaded: LoadedConfig<T> = read(path);
        let keys = values(&loaded.config)
            .into_iter()
            .map(|(key, value)| {
                let set = loaded.set_by(&key);
                let from = set.map_or("default".to_owned(), |(file, _, _)| file.display().to_string());
                KeyReport { value, from, line: set.map(|(_, line, _)| *line), key }
            })
            .collect();
        Self { files: loaded.files, keys, mistakes: loaded.mistakes, path: path.to_owned() }
    }
}

impl fmt::Display for ConfigReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|file| file.display().to_string()).collect();
        if files.is_empty() {
            writeln!(f, "no file at {}: every key has its default\n", self.path.display())?;
        } else {
            writeln!(f, "read: {}\n", files.join(", "))?;
        }
        let width = self.keys.iter().map(|key| key.key.len()).max().unwrap_or(0);
        for key in &self.keys {
            let value = if key.value.is_null() { "(not set)".to_owned() } else { key.value.to_string() };
            let from = match key.line {
                Some(line) => format!("{}:{line}", key.from),
                None => key.from.clone(),
            };
            writeln!(f, "{:width$} = {value}  # {from}", key.key)?;
        }
        if !self.mistakes.is_empty() {
            writeln!(f)?;
        }
        for mistake in &self.mistakes {
            writeln!(f, "mistake: {mistake}")?;
        }
        Ok(())
    }
}

/// Returns every key with its value.
pub(super) fn values(config: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(keys)) => keys,
        _ => Map::new(),
    }
}
