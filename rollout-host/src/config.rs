//! Configuration files: one TOML file and its drop-ins, merged in the order of their names. Unknown keys and invalid
//! values are refused, with file, line and column.

mod key_positions;
mod report;
#[cfg(feature = "test-helpers")]
mod shipped;

pub use report::{ConfigReport, KeyReport};
#[cfg(feature = "test-helpers")]
pub use shipped::assert_shipped;

use crate::regular_file::{self, MAX_WRITTEN_BY_HAND};
use key_positions::KeyPositions;
use rollout_core::text::one_line;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::DeTable;

/// Length limit of an error message and of a key quoted from a file, in characters.
const MAX_QUOTED: usize = 1000;

/// A mistake in a configuration, with file, line, column and key as far as they are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error(
    "{file}: {position}{key}{why}",
    file = .file.display(), position = position_prefix(*.line, *.column), key = key_prefix(.key.as_deref())
)]
pub struct ConfigError {
    /// Path of the file, or of the directory of drop-ins.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: Option<usize>,
    /// Counted from 1, in characters.
    pub column: Option<usize>,
    pub key: Option<String>,
    /// The mistake and how to correct it, in one line.
    pub why: String,
}

fn position_prefix(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        _ => String::new(),
    }
}

fn key_prefix(key: Option<&str>) -> String {
    key.map(|key| format!("{key}: ")).unwrap_or_default()
}

/// A value that is well-formed TOML of the right type but makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidValue {
    /// The keys that are invalid together. The error names the first one that a file sets.
    pub keys: &'static [&'static str],
    /// The mistake and how to correct it, in one line.
    pub why: String,
}

impl InvalidValue {
    /// Creates an invalid value from its keys and the mistake.
    #[must_use]
    pub fn new(keys: &'static [&'static str], why: impl Into<String>) -> Self {
        Self { keys, why: why.into() }
    }
}

/// A configuration that can check its own values.
pub trait Validate {
    /// Returns all invalid values.
    fn validate(&self) -> Vec<InvalidValue>;
}

/// Returns an error for a relative path: each program has a working directory of its own.
#[must_use]
pub fn is_absolute(key: &'static [&'static str], path: &Path) -> Option<InvalidValue> {
    let why = || InvalidValue::new(key, format!("{:?} is no absolute path: begin it with /", path.display()));
    (!path.is_absolute()).then(why)
}

/// A configuration as read from its files, with all mistakes.
#[derive(Debug)]
pub struct LoadedConfig<T> {
    /// The existing files, in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// The configuration, without the files that could not be read or parsed.
    pub config: T,
    /// All mistakes, in the order of the files.
    pub mistakes: Vec<ConfigError>,
    /// For each key, the file, line and column that set it last.
    positions: BTreeMap<String, (PathBuf, usize, usize)>,
}

/// Reads `path` and then every `*.toml` in the directory `<path without .toml>.d`; later keys win. If there is no file
/// at all, every key has its default.
///
/// # Errors
/// Returns the first mistake.
pub fn load<T: DeserializeOwned + Serialize + Default + Validate>(path: &Path) -> Result<T, ConfigError> {
    let mut loaded = read::<T>(path);
    if loaded.mistakes.is_empty() { Ok(loaded.config) } else { Err(loaded.mistakes.remove(0)) }
}

/// Reads the same files as [`load`], but keeps the origin of every key and all mistakes.
pub fn read<T: DeserializeOwned + Serialize + Default + Validate>(path: &Path) -> LoadedConfig<T> {
    let (found, mistakes) = files(path);
    let texts = found.into_iter().map(|file| {
        let text = regular_file::read_text(&file, MAX_WRITTEN_BY_HAND);
        (file, text)
    });
    from_texts(path, texts, mistakes)
}

/// Like [`read`], for files whose text has already been read. `mistakes` are those found before.
pub fn from_texts<T: DeserializeOwned + Serialize + Default + Validate>(
    path: &Path,
    texts: impl IntoIterator<Item = (PathBuf, io::Result<String>)>,
    mut mistakes: Vec<ConfigError>,
) -> LoadedConfig<T> {
    let mut loaded = LoadedConfig {
        files: Vec::new(),
        config: T::default(),
        mistakes: Vec::new(),
        positions: BTreeMap::new(),
    };
    let known: Vec<String> = report::values(&loaded.config).into_iter().map(|(key, _)| key).collect();
    let texts: Vec<_> = texts.into_iter().collect();
    let mut merged = DeTable::new();
    for (file, text) in &texts {
        let text = match text {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                loaded.files.push(file.clone());
                mistakes.push(unreadable(file.clone(), error));
                continue;
            }
        };
        loaded.files.push(file.clone());
        // Each file must be valid by itself, so that a mistake has a file and a line.
        match parse_file::<T>(file, text, &known) {
            Ok((table, positions)) => {
                merged.extend(table);
                for (key, (line, column)) in positions {
                    loaded.positions.insert(key, (file.clone(), line, column));
                }
            }
            Err(errors) => mistakes.extend(errors),
        }
    }
    match T::deserialize(toml::Deserializer::from(Spanned::new(0..0, merged))) {
        Ok(config) => loaded.config = config,
        Err(error) => mistakes.push(ConfigError {
            file: path.to_owned(),
            line: None,
            column: None,
            key: None,
            why: error.message().to_owned(),
        }),
    }
    mistakes.extend(loaded.config.validate().into_iter().map(|invalid| loaded.locate(path, invalid)));
    loaded.mistakes = mistakes;
    loaded
}

impl<T> LoadedConfig<T> {
    /// Returns the file, line and column that set `key`, or `None` if it has its default.
    #[must_use]
    pub fn set_by(&self, key: &str) -> Option<&(PathBuf, usize, usize)> {
        self.positions.get(key)
    }

    /// Turns an invalid value into an error at the first of its keys that a file sets, or at `path`.
    fn locate(&self, path: &Path, invalid: InvalidValue) -> ConfigError {
        let set = invalid.keys.iter().find_map(|key| Some((*key, self.set_by(key)?)));
        match set {
            Some((key, (file, line, column))) => ConfigError {
                file: file.clone(),
                line: Some(*line),
                column: Some(*column),
                key: Some(key.to_owned()),
                why: invalid.why,
            },
            None => ConfigError {
                file: path.to_owned(),
                line: None,
                column: None,
                key: invalid.keys.first().map(|key| (*key).to_owned()),
                why: invalid.why,
            },
        }
    }
}

/// The keys of one file, and the line and column of each.
type ParsedFile<'a> = (DeTable<'a>, Vec<(String, (usize, usize))>);

/// Parses one file, or returns all its mistakes.
fn parse_file<'a, T: DeserializeOwned>(
    file: &Path,
    text: &'a str,
    known: &[String],
) -> Result<ParsedFile<'a>, Vec<ConfigError>> {
    let mistake = |(line, column), key: Option<&str>, why: String| ConfigError {
        file: file.to_owned(),
        line: Some(line),
        column: Some(column),
        key: key.map(|key| one_line(key, MAX_QUOTED)),
        why: one_line(&why, MAX_QUOTED),
    };
    let parse_error = |error: &toml::de::Error, positions: Option<&KeyPositions<'_>>| {
        let offset = error.span().map_or(0, |span| span.start);
        let key = positions.and_then(|positions| positions.key_at(offset));
        vec![mistake(key_positions::line_and_column(text, offset), key, error.message().replace('\n', "; "))]
    };
    let table = DeTable::parse(text).map_err(|error| parse_error(&error, None))?;
    let positions = KeyPositions::of(text, table.get_ref());
    let unknown: Vec<ConfigError> = positions
        .iter()
        .filter(|(key, _)| !known.iter().any(|known| known == key))
        .map(|(key, at)| mistake(at, Some(key), key_positions::unknown_key(key, known)))
        .collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    // The same deserializer for one file and for all of them: RebootProgram has the code for it once.
    let parsed = T::deserialize(toml::Deserializer::from(table.clone()));
    parsed.map_err(|error| parse_error(&error, Some(&positions)))?;
    Ok((table.into_inner(), positions.iter().map(|(key, at)| (key.to_owned(), at)).collect()))
}

fn unreadable(file: PathBuf, error: &io::Error) -> ConfigError {
    ConfigError { file, line: None, column: None, key: None, why: format!("cannot be read: {error}") }
}

/// Returns the file and its drop-ins in the order of their names, and the errors of listing the drop-ins.
fn files(path: &Path) -> (Vec<PathBuf>, Vec<ConfigError>) {
    let dir = path.with_extension("d");
    let (mut dropins, mut mistakes) = (Vec::new(), Vec::new());
    match std::fs::read_dir(&dir) {
        Ok(entries) => {
            for entry in entries {
                match entry.map(|entry| entry.path()) {
                    Ok(file) if file.extension().is_some_and(|extension| extension == "toml") => {
                        dropins.push(file);
                    }
                    Ok(_) => {}
                    Err(error) => mistakes.push(unreadable(dir.clone(), &error)),
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => mistakes.push(unreadable(dir, &error)),
    }
    dropins.sort();
    ([path.to_owned()].into_iter().chain(dropins).collect(), mistakes)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the files of a test need not survive a power cut")]
mod tests {
    use super::*;
    use std::fs;

    #[derive(Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
    #[serde(deny_unknown_fields, default)]
    struct Port {
        port: u16,
        host: Option<String>,
        least: u16,
    }

    impl Validate for Port {
        fn validate(&self) -> Vec<InvalidValue> {
            let low = self.port < self.least;
            let why = || InvalidValue::new(&["port", "least"], format!("{} is less than least", self.port));
            low.then(why).into_iter().collect()
        }
    }

    fn dir_with(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("agent.d")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let main = dir.path().join("agent.toml");
        (dir, main)
    }

    #[test]
    fn drop_ins_win_in_the_order_of_their_names() {
        let (dir, main) = dir_with(&[]);
        assert_eq!(load::<Port>(&main).unwrap(), Port::default(), "no file at all");
        for (name, text) in [
            ("agent.toml", "port = 1\nhost = 'a'\n"),
            ("agent.d/20.toml", "\n  port = 3\n"),
            ("agent.d/10.toml", "port = 2\n"),
            ("agent.d/30.conf", "port = 4\n"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let loaded = read::<Port>(&main);
        assert_eq!(loaded.config, Port { port: 3, host: Some("a".into()), least: 0 });
        assert_eq!(loaded.set_by("port"), Some(&(dir.path().join("agent.d/20.toml"), 2, 3)));
        assert_eq!(loaded.set_by("host"), Some(&(main, 2, 1)));
        assert_eq!(loaded.set_by("least"), None);
        assert_eq!(loaded.files.len(), 3);
    }

    #[test]
    fn every_mistake_has_its_file_line_column_and_key() {
        for (text, expected) in [
            (
                "port = 1\n\nprt = 2\n",
                "line 3, column 1: prt: unknown key; did you mean port? expected one of `host`, `least`, `port`",
            ),
            (
                "port = 1\n  colour = 2\n",
                "line 2, column 3: colour: unknown key; expected one of `host`, `least`, `port`",
            ),
            ("host = 'ä'\nport = 'x'\n", "line 2, column 8: port: invalid type: string \"x\", expected u16"),
            ("port = 70000\n", "line 1, column 8: port: invalid value: integer `70000`, expected u16"),
            ("port = \n", "line 1, column 8: string values must be quoted"),
            ("port = 1\n\"a\\u0007b\" = 1\n", "line 2, column 1: a b: unknown key; expected one of"),
            ("port = 1\nport = 2\n", "line 2, column 1: duplicate key"),
            ("[port]\na = 1\n", "line 1, column 1: port: invalid type: map, expected u16"),
            ("least = 5\n", "line 1, column 1: least: 0 is less than least"),
            ("least = 5\n\nport = 4", "line 3, column 1: port: 4 is less than least"),
        ] {
            let (dir, main) = dir_with(&[("agent.toml", text)]);
            let error = load::<Port>(&main).unwrap_err();
            let expected = format!("{}: {expected}", dir.path().join("agent.toml").display());
            // The rest of the message is the TOML parser's.
            assert!(error.to_string().starts_with(&expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn all_mistakes_are_told_and_what_is_good_still_counts() {
        let (dir, main) = dir_with(&[
            ("agent.toml", "prt = 1\nhots = 2\n"),
            ("agent.d/10.toml", "port = 2\n"),
            ("agent.d/20.toml", "least ="),
        ]);
        fs::create_dir(dir.path().join("agent.d/30.toml")).unwrap();
        let loaded = read::<Port>(&main);
        assert_eq!(loaded.config.port, 2);
        let messages: Vec<String> = loaded.mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(messages.len(), 4, "{messages:#?}");
        for (message, part) in
            messages.iter().zip(["prt", "hots", "20.toml: line 1", "30.toml: cannot be read"])
        {
            assert!(message.contains(part), "{message}");
        }
    }
}
