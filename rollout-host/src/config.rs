//! Configuration files: one TOML file and its drop-ins, merged in the order of their names, unknown keys refused.

use serde::de::DeserializeOwned;
use std::io;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file is there and cannot be read.
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// In the system's words.
        source: io::Error,
    },
    /// A file is no TOML, has an unknown key or a value of the wrong kind. The text names line, column and key.
    #[error("{path}: {source}", path = .path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// In the parser's words.
        source: Box<toml::de::Error>,
    },
}

/// Reads `path` and then every `*.toml` in the directory `<path without .toml>.d`; later keys win. No file at all is
/// an empty configuration.
///
/// # Errors
/// The first file that cannot be read or does not fit `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let mut merged = toml::Table::new();
    for file in files(path)? {
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ConfigError::Read { path: file, source }),
        };
        let wrong = |source| ConfigError::Toml { path: file.clone(), source: Box::new(source) };
        // Each file must fit by itself, so that an error has a file and a line.
        toml::from_str::<T>(&text).map_err(wrong)?;
        merged.extend(toml::from_str::<toml::Table>(&text).map_err(wrong)?);
    }
    T::deserialize(merged)
        .map_err(|source| ConfigError::Toml { path: path.to_owned(), source: Box::new(source) })
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let dir = path.with_extension("d");
    let mut dropins = Vec::new();
    match std::fs::read_dir(&dir) {
        Ok(entries) => {
            for entry in entries {
                let file = entry.map_err(|source| ConfigError::Read { path: dir.clone(), source })?.path();
                if file.extension().is_some_and(|extension| extension == "toml") {
                    dropins.push(file);
                }
            }
        }
        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(ConfigError::Read { path: dir, source }),
    }
    dropins.sort();
    Ok([path.to_owned()].into_iter().chain(dropins).collect())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files of a test need not survive a power cut")]
mod tests {
    use super::*;
    use std::fs;

    #[derive(Debug, Default, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Port {
        port: u16,
        host: String,
    }

    #[test]
    fn drop_ins_win_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("agent.toml");
        assert_eq!(load::<Port>(&main).unwrap(), Port::default(), "no file at all");
        fs::write(&main, "port = 1\nhost = 'a'\n").unwrap();
        fs::create_dir(dir.path().join("agent.d")).unwrap();
        fs::write(dir.path().join("agent.d/20.toml"), "port = 3\n").unwrap();
        fs::write(dir.path().join("agent.d/10.toml"), "port = 2\n").unwrap();
        fs::write(dir.path().join("agent.d/30.conf"), "port = 4\n").unwrap();
        assert_eq!(load::<Port>(&main).unwrap(), Port { port: 3, host: "a".into() });
    }

    #[test]
    fn an_unknown_key_is_refused_with_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let main = dir.path().join("agent.toml");
        fs::write(&main, "port = 1\n\nprt = 2\n").unwrap();
        let error = load::<Port>(&main).unwrap_err().to_string();
        assert!(error.contains("agent.toml") && error.contains("line 3") && error.contains("prt"), "{error}");
    }
}
