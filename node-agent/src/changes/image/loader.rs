//! Boot loaders.

use crate::changes::ChangeError;
use std::path::{Path, PathBuf};

/// The kind of files that hold the kernel's command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::changes) enum Files {
    /// Entries in the directory of systemd-boot, and /etc/kernel/cmdline.
    SystemdBoot,
    /// GRUB: entries in files of their own, or the menu in its configuration.
    Grub {
        /// The configuration file that GRUB reads.
        configuration: PathBuf,
        /// The program that writes it.
        mkconfig: PathBuf,
    },
}

/// A boot loader, as far as the running system can configure it. Entries are named as the loader names them.
pub(in crate::changes) trait Loader {
    /// The loader's name, for messages.
    fn name(&self) -> &'static str;

    /// Fails if the loader would not try this entry once and then return to its default, as far as can be seen from
    /// the running system.
    fn check(&self, entry: &str) -> Result<(), ChangeError>;

    /// Returns the configured default, or `None` if the loader chooses by itself.
    fn default_entry(&self) -> Result<Option<String>, ChangeError>;

    fn set_default(&self, entry: Option<&str>) -> Result<(), ChangeError>;

    /// Returns the entry for the next boot only.
    fn next_entry(&self) -> Result<Option<String>, ChangeError>;

    fn set_next(&self, entry: Option<&str>) -> Result<(), ChangeError>;

    /// Returns the entry that booted the running system, with this command line, if it is known.
    fn booted_entry(&self, cmdline: &str) -> Option<String>;

    /// Returns the entry that the loader chooses if no default is set, if it is known.
    fn chosen_entry(&self) -> Option<String> {
        None
    }

    /// Returns the files that hold the command line.
    fn files(&self) -> Files;

    /// Returns the reason why the loader would not try an entry of ours once, if there is one.
    fn cannot_try_once(&self) -> Result<Option<String>, ChangeError> {
        Ok(None)
    }

    /// Returns a variable that entries may use.
    fn variable(&self, _name: &str) -> Result<Option<String>, ChangeError> {
        Ok(None)
    }

    fn set_variable(&self, name: &str, _value: Option<&str>) -> Result<(), ChangeError> {
        Err(ChangeError::state(format!("setting {name}"), format!("{} has no variables", self.name())))
    }

    /// Makes sure that the loader reads what was written to this file.
    fn reach_the_disk(&self, _path: &Path) -> Result<(), ChangeError> {
        Ok(())
    }
}
