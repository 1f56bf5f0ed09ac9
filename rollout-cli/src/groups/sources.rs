//! The sources of groups in ClusterShell's configuration, read as `GroupResolverConfig` in
//! `lib/ClusterShell/NodeUtils.py` reads them (1.9.1).

use super::command::{self, Variables};
use super::conf::{Conf, Section, parse_conf};
use super::flat::{flat_files, parse_flat};
use super::yaml::parse_yaml;
use rollout_core::nodeset::{Definition, GroupError};
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::trust::may_be_trusted;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Number of groups or sources that an error lists.
const LISTED: usize = 12;

/// The programs of Slurm, for sources that run one.
pub(super) struct Place<'a> {
    /// Directory of scontrol.
    pub(super) slurm_bin: Option<&'a Path>,
    pub(super) slurm_conf: Option<PathBuf>,
}

/// All sources.
#[derive(Debug, Default)]
pub(super) struct Sources {
    dir: PathBuf,
    default: Option<String>,
    /// Sources in the order in which they were found.
    sources: Vec<(String, Source)>,
    /// Files that this user may not read, which ClusterShell skips.
    unreadable: Vec<PathBuf>,
}

/// One source.
#[derive(Debug)]
pub(super) enum Source {
    /// Groups that are written in a file.
    File { file: PathBuf, groups: BTreeMap<String, String> },
    /// Groups that programs print.
    Commands { file: PathBuf, name: String, dir: PathBuf, section: Section },
}

impl Sources {
    /// Reads the configuration in `dir`. Without one there is no source.
    pub(super) fn read(dir: &Path) -> Result<Self, GroupError> {
        let mut sources = Self { dir: dir.to_owned(), ..Self::default() };
        let path = dir.join("groups.conf");
        let Some(text) = sources.read_file(&path)? else {
            sources.add_legacy_file(dir)?;
            return Ok(sources);
        };
        let conf = parse_conf(&text).map_err(|error| in_file(&path, &error))?;
        for directory in directories(&conf.directories, dir, &path)? {
            for file in files_in(&directory, "conf")? {
                sources.add_conf(&file, &directory)?;
            }
        }
        for directory in directories(&conf.yaml_directories, dir, &path)? {
            for file in files_in(&directory, "yaml")? {
                sources.add_yaml(&file)?;
            }
        }
        sources.add_sections(&path, dir, conf.sections)?;
        sources.set_default(conf.default, &path)?;
        Ok(sources)
    }

    /// Returns the source of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Source> {
        self.sources.iter().find(|(known, _)| known == name).map(|(_, source)| source)
    }

    pub(super) fn default_source(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// Returns the error about a source that is not there.
    pub(super) fn no_source(&self) -> GroupError {
        let names = listed(self.sources.iter().map(|(name, _)| name.as_str()));
        let has = if names.is_empty() { "no source of groups".to_owned() } else { format!("only {names}") };
        let mut error = format!(
            "no such source of groups: {} has {has}, and Slurm's are partition, feature and state",
            self.dir.display()
        );
        for file in &self.unreadable {
            error.push_str(&format!("; {} was skipped, as this user may not read it", file.display()));
        }
        GroupError(error)
    }

    /// Adds the file that ClusterShell's source `local` had before there was a configuration.
    fn add_legacy_file(&mut self, dir: &Path) -> Result<(), GroupError> {
        let file = dir.join("groups");
        if let Some(text) = self.read_file(&file)? {
            let groups = parse_flat(&text);
            self.add("local", Source::File { file, groups })?;
            self.default = Some("local".to_owned());
        }
        Ok(())
    }

    fn add_conf(&mut self, file: &Path, directory: &Path) -> Result<(), GroupError> {
        let Some(text) = self.read_file(file)? else { return Ok(()) };
        let Conf { sections, .. } = parse_conf(&text).map_err(|error| in_file(file, &error))?;
        self.add_sections(file, directory, sections)
    }

    fn add_yaml(&mut self, file: &Path) -> Result<(), GroupError> {
        let Some(text) = self.read_file(file)? else { return Ok(()) };
        for (name, groups) in parse_yaml(&text).map_err(|error| in_file(file, &error))? {
            self.add(&name, Source::File { file: file.to_owned(), groups })?;
        }
        Ok(())
    }

    fn add_sections(
        &mut self,
        file: &Path,
        dir: &Path,
        sections: Vec<(String, Section)>,
    ) -> Result<(), GroupError> {
        for (name, section) in sections {
            let source = match flat_files(&section.map, dir) {
                Some(files) => self.flat(files)?,
                None => Source::Commands {
                    file: file.to_owned(),
                    name: name.clone(),
                    dir: dir.to_owned(),
                    section,
                },
            };
            self.add(&name, source)?;
        }
        Ok(())
    }

    /// Reads the first of these files that exists.
    fn flat(&mut self, files: Vec<PathBuf>) -> Result<Source, GroupError> {
        let mut last = PathBuf::new();
        for file in files {
            if let Some(text) = self.read_file(&file)? {
                return Ok(Source::File { file, groups: parse_flat(&text) });
            }
            last = file;
        }
        Ok(Source::File { file: last, groups: BTreeMap::new() })
    }

    fn add(&mut self, name: &str, source: Source) -> Result<(), GroupError> {
        if let Some(other) = self.get(name) {
            let (one, other) = (other.file().display(), source.file().display());
            return Err(GroupError(format!("the source {name} is in {one} and in {other}; remove one")));
        }
        self.sources.push((name.to_owned(), source));
        Ok(())
    }

    /// Sets the default source: the one that the configuration names, else the first.
    fn set_default(&mut self, named: Option<String>, path: &Path) -> Result<(), GroupError> {
        self.default = match named {
            Some(name) if self.get(&name).is_none() => {
                return Err(in_file(path, &format!("the default source {name:?} does not exist")));
            }
            Some(name) => Some(name),
            None => self.sources.first().map(|(name, _)| name.clone()),
        };
        Ok(())
    }

    /// Reads a file. `None` if it does not exist, or if this user may not read it.
    fn read_file(&mut self, path: &Path) -> Result<Option<String>, GroupError> {
        match regular_file::read_text(path, MAX_WRITTEN_BY_HAND) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.unreadable.push(path.to_owned());
                Ok(None)
            }
            Err(error) => Err(in_file(path, &error.to_string())),
        }
    }
}

impl Source {
    /// Returns the nodes of a group.
    pub(super) fn group(&self, group: &str, place: &Place<'_>) -> Result<Definition, GroupError> {
        match self {
            Self::File { file, groups } => match groups.get(group) {
                Some(text) => Ok(Definition::Text(text.clone())),
                None if groups.is_empty() => {
                    Err(GroupError(format!("no such group: {} has none", file.display())))
                }
                None => {
                    let names = listed(groups.keys().map(String::as_str));
                    Err(GroupError(format!("no such group: {} has only {names}", file.display())))
                }
            },
            Self::Commands { section, .. } => {
                let printed = self.run("map", &section.map, Some(group), place)?;
                // Slurm's and most other programs print nothing about what they do not know, and end well.
                if printed.is_empty() {
                    return Err(
                        self.error(&format!("map of {group} printed no node: the group is unknown or empty"))
                    );
                }
                Ok(Definition::Text(printed.join(",")))
            }
        }
    }

    /// Returns sets that together are all nodes: the group `all` if there is one, as in ClusterShell, else all groups.
    pub(super) fn all(&self, place: &Place<'_>) -> Result<Vec<Definition>, GroupError> {
        match self {
            Self::File { groups, .. } => Ok(match groups.get("all") {
                Some(all) => vec![Definition::Text(all.clone())],
                None => groups.values().cloned().map(Definition::Text).collect(),
            }),
            Self::Commands { section: Section { all: Some(all), .. }, .. } => {
                Ok(vec![Definition::Text(self.run("all", all, None, place)?.join(","))])
            }
            Self::Commands { section: Section { list: Some(list), .. }, .. } => {
                let names = self.run("list", list, None, place)?;
                Ok(names.into_iter().map(|name| Definition::Text(format!("@{name}"))).collect())
            }
            Self::Commands { .. } => {
                Err(self.error("it has neither all nor list, so it has no set of all nodes"))
            }
        }
    }

    fn file(&self) -> &Path {
        match self {
            Self::File { file, .. } | Self::Commands { file, .. } => file,
        }
    }

    /// Runs a command of a source and returns the words that it prints.
    fn run(
        &self,
        key: &str,
        template: &str,
        group: Option<&str>,
        place: &Place<'_>,
    ) -> Result<Vec<String>, GroupError> {
        let Self::Commands { file, name, dir, .. } = self else { return Ok(Vec::new()) };
        may_be_trusted(file).map_err(|why| in_file(file, &format!("its commands are not run: {why}")))?;
        let variables = Variables { group, source: name, dir };
        let printed = command::run(template, &variables, place.slurm_bin, place.slurm_conf.as_deref());
        printed.map_err(|error| self.error(&format!("{key}: {error}")))
    }

    fn error(&self, error: &str) -> GroupError {
        match self {
            Self::File { file, .. } => in_file(file, error),
            Self::Commands { file, name, .. } => in_file(file, &format!("[{name}] {error}")),
        }
    }
}

/// Returns the directories that a value of groups.conf names.
fn directories(value: &str, dir: &Path, file: &Path) -> Result<Vec<PathBuf>, GroupError> {
    let words = command::words(value, &Variables { group: None, source: "", dir });
    let words = words.map_err(|error| in_file(file, &error.to_string()))?;
    let mut found: Vec<PathBuf> = Vec::new();
    for word in words {
        // Written in different ways, `/etc/clustershell/` and `/etc/clustershell`, it is still one.
        let path: PathBuf = Path::new(&word).components().collect();
        if !found.contains(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// Returns the files of a directory with this extension, by name. A missing directory has none.
fn files_in(directory: &Path, extension: &str) -> Result<Vec<PathBuf>, GroupError> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(in_file(directory, &error.to_string())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| in_file(directory, &error.to_string()))?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn in_file(file: &Path, error: &str) -> GroupError {
    GroupError(format!("{}: {error}", file.display()))
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED { format!("{shown}, …") } else { shown }
}
