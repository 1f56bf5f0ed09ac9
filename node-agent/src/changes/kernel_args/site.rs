//! The boot loader's files on a node.

use super::menu;
use super::texts;
use crate::changes::ChangeError;
use crate::changes::image::{CUSTOM, Files, Loader, keep_default, settle};
use rollout_core::agent::record::{After, BootDefault};
use rollout_core::rollout::kernel_args::{CONFIGURE_LIMIT, KernelArgs};
use rollout_host::durable;
use rollout_host::regular_file::{self, MAX_WRITTEN_BY_HAND};
use rollout_host::run::Program;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Id of the entry that is tried once. systemd-boot's ids are names of files.
const TRIAL: &str = "slurm-rollout-trial";
const TRIAL_FILE: &str = "slurm-rollout-trial.conf";

/// Extension of the file that grub-mkconfig writes.
const NEW_MENU: &str = "cfg.slurm-rollout";

/// Directories on which systemd-boot's entries may be: the boot partition, or the EFI system partition.
const BOOT: [&str; 3] = ["boot", "efi", "boot/efi"];

/// State that an undo needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    /// The loader before the first change of the order.
    boot: BootDefault,
    /// The loader's default before this change, which it gets back when the change is permanent.
    default: Option<String>,
    /// The variable of GRUB's environment block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kernelopts: Option<String>,
    /// Contents of the files that the change may write. `None` if there is no such file.
    files: BTreeMap<PathBuf, Option<String>>,
}

/// A node's boot loader and root directory.
pub(super) struct Site<'a> {
    pub root: &'a Path,
    pub loader: &'a dyn Loader,
    /// The running kernel's command line.
    pub running: String,
}

/// The files that the command line comes from.
#[derive(Debug, Default)]
struct Sources {
    /// Entries in files of their own.
    entries: Vec<(PathBuf, String)>,
    kernelopts: Option<String>,
    /// The file from which later kernels get their arguments, and its content, or that of the one it would replace.
    cmdline: Option<(PathBuf, String)>,
    /// /etc/default/grub and the files beside it, in the order in which they are read.
    defaults: Vec<(PathBuf, String)>,
    /// GRUB's configuration, if its entries are in it.
    menu: Option<(PathBuf, String)>,
    /// The program that writes it.
    mkconfig: PathBuf,
    /// The file of the entry that is tried once.
    trial: PathBuf,
    /// A file in whose directory `trial` is.
    beside_trial: PathBuf,
}

/// New contents of files.
struct Edits {
    files: Vec<(PathBuf, String)>,
    kernelopts: Option<String>,
}

impl Site<'_> {
    pub(super) fn is_satisfied(&self, args: &KernelArgs) -> Result<bool, ChangeError> {
        let sources = self.sources(None)?;
        let edits = sources.edits(args)?;
        let in_menu = sources.menu.is_none() || args.missing(&self.next_line(&sources)?).is_none();
        Ok(edits.files.is_empty() && edits.kernelopts.is_none() && in_menu)
    }

    /// Checks that the arguments can be written and the present files restored. Returns the reason why they would not be
    /// tried once, if there is one.
    pub(super) fn rehearse(&self, args: &KernelArgs) -> Result<Option<String>, ChangeError> {
        self.observe(None)?;
        self.sources(None)?.edits(args)?;
        self.loader.cannot_try_once()
    }

    pub(super) fn observe(&self, boot: Option<&BootDefault>) -> Result<Saved, ChangeError> {
        let sources = self.sources(None)?;
        let default = self.loader.default_entry()?;
        let boot = boot.cloned().unwrap_or_else(|| BootDefault {
            default: default.clone(),
            booted: self.loader.booted_entry(&self.running),
        });
        let known = sources.entries.iter().chain(&sources.defaults).chain(&sources.menu);
        let mut files: BTreeMap<PathBuf, Option<String>> =
            known.map(|(path, text)| (path.clone(), Some(text.clone()))).collect();
        for path in sources.cmdline.iter().map(|(path, _)| path).chain([&sources.trial]) {
            files.insert(path.clone(), read(path)?);
        }
        Ok(Saved { boot, default, kernelopts: sources.kernelopts, files })
    }

    /// Prepares the one try. If the loader cannot try an entry once, the change is made for good.
    pub(super) fn apply(&self, args: &KernelArgs, saved: &Saved) -> Result<After, ChangeError> {
        let sources = self.sources(Some(saved))?;
        let (added, removed) = args.difference(&self.next_line(&sources)?);
        let mut after = After { changed: true, added, removed, ..After::default() };
        if let Some(why) = self.loader.cannot_try_once()? {
            self.write(args, saved, &sources)?;
            after
                .notes
                .push(format!("the kernel's arguments were changed without trying them once first: {why}"));
            return Ok(after);
        }
        // An argument that cannot be written to the files must not be proven first.
        sources.edits(args)?;
        let (text, id) = match self.loader.files() {
            Files::SystemdBoot => {
                let entry = self.next_entry(&sources)?;
                let options = args.edited(&texts::command_line(entry, None));
                (texts::with_options(entry, &options), TRIAL_FILE)
            }
            Files::Grub { .. } => {
                let mut own = saved.files.get(&sources.trial).cloned().flatten().unwrap_or_default();
                if !own.is_empty() && !own.ends_with('\n') {
                    own.push('\n');
                }
                (format!("{own}{}", menu::trial(TRIAL, &self.next_body(&sources)?, args)), TRIAL)
            }
        };
        self.replace(&sources.trial, &text, &sources.beside_trial)?;
        self.loader.set_next(Some(id))?;
        Ok(after)
    }

    pub(super) fn before_reboot(&self, saved: &Saved) -> Result<(), ChangeError> {
        match self.loader.next_entry()?.as_deref() {
            Some(TRIAL | TRIAL_FILE) => keep_default(self.loader, &saved.boot),
            _ => Ok(()),
        }
    }

    /// Writes the proven arguments to the files, and removes the entry that was tried.
    pub(super) fn confirm(&self, args: &KernelArgs, saved: &Saved) -> Result<(), ChangeError> {
        let sources = self.sources(Some(saved))?;
        self.settle(saved.default.as_deref())?;
        self.write(args, saved, &sources)?;
        self.restore(&sources.trial, saved.files.get(&sources.trial).and_then(Option::as_deref))
    }

    pub(super) fn undo(&self, saved: &Saved) -> Result<(), ChangeError> {
        for (path, text) in &saved.files {
            self.restore(path, text.as_deref())?;
        }
        if saved.kernelopts.is_some() && self.loader.variable("kernelopts")? != saved.kernelopts {
            self.loader.set_variable("kernelopts", saved.kernelopts.as_deref())?;
        }
        self.settle(saved.boot.default.as_deref())
    }

    /// Proves that nothing of the change is left in the loader. Its files may have been written anew since: the package
    /// of a kernel that came with the same order is removed after this.
    pub(super) fn verify_old(&self, saved: &Saved) -> Result<(), ChangeError> {
        let failed =
            |problem: String| Err(ChangeError::state("verifying the boot loader of before", problem));
        let default = self.loader.default_entry()?;
        if default != saved.boot.default {
            let name = |entry: &Option<String>| entry.clone().unwrap_or_else(|| "not set".to_owned());
            return failed(format!("its default is {}, not {}", name(&default), name(&saved.boot.default)));
        }
        if let Some(next @ (TRIAL | TRIAL_FILE)) = self.loader.next_entry()?.as_deref() {
            return failed(format!("it is to boot {next} next"));
        }
        for (path, text) in saved.files.iter().filter(|(_, text)| text.is_none()) {
            if read(path)? != *text {
                return failed(format!("{} was not there", path.display()));
            }
        }
        Ok(())
    }

    /// Sets the default, with no entry for the next boot.
    fn settle(&self, default: Option<&str>) -> Result<(), ChangeError> {
        settle(self.loader, default)
    }

    /// Writes the arguments to the files, and proves that the next boot has them.
    fn write(&self, args: &KernelArgs, saved: &Saved, sources: &Sources) -> Result<(), ChangeError> {
        let edits = sources.edits(args)?;
        for (path, text) in &edits.files {
            self.replace(path, text, &sources.beside_trial)?;
        }
        if let Some(kernelopts) = &edits.kernelopts {
            self.loader.set_variable("kernelopts", Some(kernelopts))?;
        }
        if let Some((path, _)) = &sources.menu {
            if !edits.files.is_empty() || args.missing(&self.next_line(sources)?).is_some() {
                let text = self.new_menu(&sources.mkconfig, path)?;
                let menu = Some((path.clone(), text.clone()));
                self.prove_next_line(args, &Sources { menu, ..self.sources(Some(saved))? })?;
                self.replace(path, &text, path)?;
            }
        }
        self.prove_next_line(args, &self.sources(Some(saved))?)
    }

    /// Returns the configuration that grub-mkconfig writes now. It goes to a file of its own: GRUB finds the old menu
    /// or the new one, whenever the power is cut.
    fn new_menu(&self, mkconfig: &Path, path: &Path) -> Result<String, ChangeError> {
        let new = path.with_extension(NEW_MENU);
        let attempt = || format!("writing the configuration of {}", self.loader.name());
        let written = Program::new(mkconfig, CONFIGURE_LIMIT).arg("-o").arg(&new).run();
        let text = written
            .map_err(|error| ChangeError::state(attempt(), error.to_string()))
            .and_then(|_| read(&new)?.ok_or_else(|| ChangeError::state(attempt(), "it wrote nothing")));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ChangeError::file("removing", &new)(error))
            }
            _ => text,
        }
    }

    /// Proves that the next boot has the arguments.
    fn prove_next_line(&self, args: &KernelArgs, sources: &Sources) -> Result<(), ChangeError> {
        let line = self.next_line(sources)?;
        args.missing(&line).map_or(Ok(()), |why| {
            let problem = format!(
                "{why}: does it come from elsewhere than /etc/default/grub or the entry? It is {line:?}"
            );
            Err(ChangeError::state("looking at the command line of the next boot", problem))
        })
    }

    /// Returns the command line of the entry that the loader boots by default.
    fn next_line(&self, sources: &Sources) -> Result<String, ChangeError> {
        if sources.menu.is_none() {
            return Ok(texts::command_line(self.next_entry(sources)?, sources.kernelopts.as_deref()));
        }
        let body = self.next_body(sources)?;
        let entry = menu::trial(TRIAL, &body, &KernelArgs::default());
        let entries = menu::entries(&entry);
        Ok(entries.first().and_then(|entry| entry.command_line()).unwrap_or_default().to_owned())
    }

    /// Returns the lines of the entry of GRUB's that it boots by default.
    fn next_body(&self, sources: &Sources) -> Result<Vec<String>, ChangeError> {
        let Some((path, text)) = &sources.menu else {
            let entry = self.next_entry(sources)?;
            let line = texts::command_line(entry, sources.kernelopts.as_deref());
            return Ok(texts::menu_body(&texts::with_options(entry, &line)));
        };
        let default = menu::default(text, self.loader.default_entry()?.as_deref());
        let entries = menu::entries(text);
        let entry = menu::find(&entries, &default).filter(|entry| entry.command_line().is_some());
        let problem = || format!("{} has no entry {default:?} that boots a kernel", path.display());
        let entry = entry.ok_or_else(|| ChangeError::state("looking for GRUB's default entry", problem()))?;
        Ok(entry.body.clone())
    }

    /// Returns the text of the entry in a file of its own that the loader boots by default.
    fn next_entry<'a>(&self, sources: &'a Sources) -> Result<&'a str, ChangeError> {
        let called = |name: &str| {
            let is_it = |(path, text): &&(PathBuf, String)| {
                let id = path.file_name().unwrap_or_default();
                id == name || id == format!("{name}.conf").as_str() || texts::value(text, "title") == name
            };
            sources.entries.iter().find(is_it)
        };
        let default = self.loader.default_entry()?;
        let by_default = default.as_deref().and_then(called);
        // A number is an index in an order of the loader's own, as is a default that is not set.
        let chosen = || self.loader.chosen_entry().as_deref().and_then(called);
        let booted = || self.loader.booted_entry(&self.running).as_deref().and_then(called);
        let entry = by_default.or_else(chosen).or_else(booted);
        let problem = || {
            let default = default.clone().unwrap_or_else(|| "not set".to_owned());
            format!(
                "its default is {default}, which is no entry in a file of its own with the present root file system"
            )
        };
        let missing = || {
            ChangeError::state(format!("looking for the default entry of {}", self.loader.name()), problem())
        };
        entry.map(|(_, text)| text.as_str()).ok_or_else(missing)
    }

    /// Reads the files. `saved` is the state before the change, if it is recorded.
    fn sources(&self, saved: Option<&Saved>) -> Result<Sources, ChangeError> {
        let mut sources = match self.loader.files() {
            Files::SystemdBoot => self.systemd_boot(saved)?,
            Files::Grub { configuration, mkconfig } => self.grub(configuration, mkconfig)?,
        };
        // Entries of a different system on the same disk are left alone.
        let (running, kernelopts) = (root(&self.running), sources.kernelopts.clone());
        let is_unknown = |text: &str| kernelopts.is_none() && texts::uses_kernelopts(text);
        sources.entries.retain(|(_, text)| {
            is_unknown(text) || root(&texts::command_line(text, kernelopts.as_deref())) == running
        });
        Ok(sources)
    }

    fn systemd_boot(&self, saved: Option<&Saved>) -> Result<Sources, ChangeError> {
        let booted = self.loader.booted_entry(&self.running).unwrap_or_default();
        let directories = BOOT.map(|boot| self.root.join(boot).join("loader/entries"));
        let directory = match booted.as_str() {
            "" => None,
            TRIAL_FILE => self.directory_of_trial(&directories, saved)?,
            _ => directories.iter().find(|directory| directory.join(&booted).exists()),
        };
        let problem = || {
            format!(
                "{booted:?} was booted, which is no file in loader/entries: arguments in a unified kernel image cannot \
                     be changed on the node"
            )
        };
        let missing = || ChangeError::state("looking for the entry of systemd-boot", problem());
        let directory = directory.ok_or_else(missing)?;
        let own = self.root.join("etc/kernel/cmdline");
        let vendor = self.root.join("usr/lib/kernel/cmdline");
        let text = match read(&own)? {
            Some(text) => Some(text),
            None => read(&vendor)?,
        };
        let entries = files_in(directory, ".conf")?;
        let beside_trial = entries.first().map(|(path, _)| path.clone()).unwrap_or_default();
        Ok(Sources {
            entries,
            cmdline: text.map(|text| (own, text)),
            trial: directory.join(TRIAL_FILE),
            beside_trial,
            ..Sources::default()
        })
    }

    /// Returns the directory of the entry that was tried and booted the running system. The entry is removed once it is
    /// proven, and a different directory may have entries as well: of another system, or none.
    fn directory_of_trial<'a>(
        &self,
        directories: &'a [PathBuf],
        saved: Option<&Saved>,
    ) -> Result<Option<&'a PathBuf>, ChangeError> {
        let trial = |directory: &&PathBuf| directory.join(TRIAL_FILE);
        let is_saved =
            |directory: &&PathBuf| saved.is_some_and(|saved| saved.files.contains_key(&trial(directory)));
        let known = directories.iter().find(|directory| trial(directory).exists());
        if let Some(directory) = known.or_else(|| directories.iter().find(is_saved)) {
            return Ok(Some(directory));
        }
        let running = root(&self.running);
        for directory in directories {
            let entries = files_in(directory, ".conf")?;
            if entries.iter().any(|(_, text)| root(&texts::command_line(text, None)) == running) {
                return Ok(Some(directory));
            }
        }
        Ok(None)
    }

    fn grub(&self, configuration: PathBuf, mkconfig: PathBuf) -> Result<Sources, ChangeError> {
        let text = read(&configuration)?.unwrap_or_default();
        let has_entries = text.lines().any(|line| line.trim_start().starts_with("blscfg"));
        let main = self.root.join("etc/default/grub");
        let mut defaults: Vec<(PathBuf, String)> =
            read(&main)?.map(|text| (main, text)).into_iter().collect();
        defaults.extend(files_in(&self.root.join("etc/default/grub.d"), ".cfg")?);
        let mut sources = Sources {
            defaults,
            mkconfig,
            trial: configuration.with_file_name(CUSTOM),
            beside_trial: configuration.clone(),
            ..Sources::default()
        };
        if has_entries {
            let cmdline = self.root.join("etc/kernel/cmdline");
            sources.entries = files_in(&self.root.join("boot/loader/entries"), ".conf")?;
            sources.kernelopts = self.loader.variable("kernelopts")?;
            sources.cmdline = read(&cmdline)?.map(|text| (cmdline, text));
        } else if sources.defaults.is_empty() {
            let problem = "there is no /etc/default/grub";
            return Err(ChangeError::state("looking for the arguments in GRUB's configuration", problem));
        } else {
            sources.menu = Some((configuration, text));
        }
        Ok(sources)
    }

    /// Makes a file as it was before.
    fn restore(&self, path: &Path, text: Option<&str>) -> Result<(), ChangeError> {
        match (text, read(path)?) {
            (Some(text), Some(now)) if now == text => Ok(()),
            (Some(text), _) => self.replace(path, text, path),
            (None, Some(_)) => {
                fs::remove_file(path).map_err(ChangeError::file("removing", path))?;
                durable::sync_parent(path).map_err(ChangeError::file("writing the directory of", path))
            }
            (None, None) => Ok(()),
        }
    }

    /// Writes a file. A new one gets the permissions of `like`: a FAT file system accepts no others.
    fn replace(&self, path: &Path, text: &str, like: &Path) -> Result<(), ChangeError> {
        let mode = |path: &Path| fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
        let mode = mode(path).or_else(|_| mode(like)).unwrap_or(0o644);
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            fs::create_dir_all(directory).map_err(ChangeError::file("creating the directory", directory))?;
        }
        // A link stays one.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        durable::replace(&real, text.as_bytes(), mode).map_err(ChangeError::file("writing", &real))?;
        self.loader.reach_the_disk(&real)
    }
}

impl Sources {
    /// Returns the files with other arguments, without those that stay as they are.
    fn edits(&self, args: &KernelArgs) -> Result<Edits, ChangeError> {
        let mut files: Vec<(PathBuf, String)> =
            self.entries.iter().map(|(path, text)| (path.clone(), texts::edited_entry(text, args))).collect();
        files.extend(self.cmdline.iter().map(|(path, text)| (path.clone(), args.edited(text) + "\n")));
        let defaults: Vec<&str> = self.defaults.iter().map(|(_, text)| text.as_str()).collect();
        let edited = texts::edited_defaults(&defaults, args)
            .map_err(|why| ChangeError::state("editing /etc/default/grub", why))?;
        files.extend(self.defaults.iter().map(|(path, _)| path.clone()).zip(edited));
        let before = self.entries.iter().chain(&self.cmdline).chain(&self.defaults);
        let stays: Vec<bool> = before
            .zip(&files)
            .map(|((_, old), (_, new))| old.split_whitespace().eq(new.split_whitespace()))
            .collect();
        let mut stays = stays.into_iter();
        files.retain(|_| !stays.next().unwrap_or(false));
        let mut kernelopts = None;
        if self.entries.iter().any(|(_, text)| texts::uses_kernelopts(text)) {
            let problem = "its environment block has no kernelopts, which its entries use: write the configuration anew \
                           (grub2-mkconfig)";
            let missing = || ChangeError::state("editing GRUB's kernelopts", problem);
            let old = self.kernelopts.as_ref().ok_or_else(missing)?;
            kernelopts =
                Some(args.edited(old)).filter(|new| !new.split_whitespace().eq(old.split_whitespace()));
        }
        Ok(Edits { files, kernelopts })
    }
}

/// Returns the argument that names the root file system.
fn root(line: &str) -> Option<String> {
    line.split_whitespace().find(|word| word.starts_with("root=")).map(str::to_owned)
}

/// Returns paths and texts of the files in a directory whose names end like this, in order, without ours.
fn files_in(directory: &Path, end: &str) -> Result<Vec<(PathBuf, String)>, ChangeError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ChangeError::file("reading the directory", directory)(error)),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(end) && !name.starts_with('.') && name != TRIAL_FILE
    });
    paths.sort();
    let read = |path: PathBuf| Ok(read(&path)?.map(|text| (path, text)));
    paths.into_iter().map(read).filter_map(Result::transpose).collect()
}

/// Returns the text of a file, or `None` if there is none.
fn read(path: &Path) -> Result<Option<String>, ChangeError> {
    match regular_file::read_text(path, MAX_WRITTEN_BY_HAND) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ChangeError::file("reading", path)(error)),
    }
}

#[cfg(test)]
mod tests;
