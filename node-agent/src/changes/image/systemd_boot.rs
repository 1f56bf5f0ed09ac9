//! systemd-boot: EFI variables name the entries to boot. They are read directly and written through bootctl.

use super::loader::{Files, Loader};
use crate::changes::ChangeError;
use rollout_host::run::Program;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

const BOOTCTL: &str = "/usr/bin/bootctl";
const LIMIT: Duration = Duration::from_secs(60);

const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// Vendor UUID of the variables (Boot Loader Interface).
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Length of the attributes with which a variable begins as Linux shows it.
const ATTRIBUTES: usize = 4;

pub(super) struct SystemdBoot;

impl SystemdBoot {
    /// Returns whether systemd-boot booted this system. A boot loader records its name; GRUB since 2.12 does as well.
    pub(super) fn has_booted_this() -> bool {
        get("LoaderInfo").is_ok_and(|info| info.is_some_and(|info| info.starts_with("systemd-boot")))
    }
}

impl Loader for SystemdBoot {
    fn name(&self) -> &'static str {
        "systemd-boot"
    }

    fn check(&self, entry: &str) -> Result<(), ChangeError> {
        let attempt = || format!("having systemd-boot boot {entry:?} once");
        let list = Program::new(BOOTCTL, LIMIT).args(["list", "--no-pager"]).run();
        let list = list.map_err(|error| ChangeError::state(attempt(), error.to_string()))?;
        let ids = ids(&list.stdout);
        if ids.contains(&entry) {
            return Ok(());
        }
        Err(ChangeError::state(
            attempt(),
            format!("`bootctl list` does not have it; it has {}", ids.join(", ")),
        ))
    }

    fn default_entry(&self) -> Result<Option<String>, ChangeError> {
        get("LoaderEntryDefault")
    }

    fn set_default(&self, entry: Option<&str>) -> Result<(), ChangeError> {
        set("set-default", entry)
    }

    fn next_entry(&self) -> Result<Option<String>, ChangeError> {
        get("LoaderEntryOneShot")
    }

    fn set_next(&self, entry: Option<&str>) -> Result<(), ChangeError> {
        set("set-oneshot", entry)
    }

    fn booted_entry(&self, _cmdline: &str) -> Option<String> {
        get("LoaderEntrySelected").ok()?
    }

    fn chosen_entry(&self) -> Option<String> {
        let list = Program::new(BOOTCTL, LIMIT).args(["list", "--no-pager"]).run().ok()?;
        default_id(&list.stdout).map(str::to_owned)
    }

    fn files(&self) -> Files {
        Files::SystemdBoot
    }
}

fn get(name: &str) -> Result<Option<String>, ChangeError> {
    let path = PathBuf::from(format!("{VARIABLES}/{name}-{VENDOR}"));
    match fs::read(&path) {
        Ok(bytes) => Ok(text(&bytes).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ChangeError::file("reading the EFI variable", &path)(error)),
    }
}

/// Sets a variable. An empty entry removes it.
fn set(verb: &str, entry: Option<&str>) -> Result<(), ChangeError> {
    let entry = entry.unwrap_or("");
    let set = Program::new(BOOTCTL, LIMIT).args([verb, "--", entry]).run();
    let attempt = || format!("having bootctl {verb} {entry:?}");
    set.map(drop).map_err(|error| ChangeError::state(attempt(), error.to_string()))
}

/// Decodes a variable: UTF-16, little endian, with a NUL at its end.
fn text(variable: &[u8]) -> Option<String> {
    let units = variable.get(ATTRIBUTES..)?.chunks_exact(2).map(|pair| match pair {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
    Some(String::from_utf16_lossy(&units))
}

/// Returns the id below the title that `bootctl list` marks as `(default)`.
fn default_id(list: &str) -> Option<&str> {
    let mut lines = list.lines().map(str::trim);
    lines.find(|line| line.starts_with("title: ") && line.contains("(default)"))?;
    lines.find_map(|line| line.strip_prefix("id: "))
}

/// Returns the ids that `bootctl list` prints, as in `        id: debian.conf`. Its JSON came with systemd 253 only.
fn ids(list: &str) -> Vec<&str> {
    list.lines().filter_map(|line| line.trim_start().strip_prefix("id: ")).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_efi_writes_them() {
        let variable: Vec<u8> = [6_u8, 0, 0, 0]
            .into_iter()
            .chain("systemd-boot 257\0".encode_utf16().flat_map(u16::to_le_bytes))
            .collect();
        assert_eq!(text(&variable).as_deref(), Some("systemd-boot 257"));
        assert_eq!(text(&[6, 0, 0, 0]).as_deref(), Some(""));
        assert_eq!(text(&[6, 0, 0, 0, b'x']).as_deref(), Some(""));
        assert_eq!(text(&[6, 0]), None);
    }

    #[test]
    fn entries_are_found_in_what_bootctl_prints() {
        let list = "         type: Boot Loader Specification Type #1 (.conf)\n        title: Old (default) (selected)\n           \
                    id: old.conf\n       source: /boot//loader/entries/old.conf\n        linux: /boot//vmlinuz\n\n         \
                    type: Boot Loader Specification Type #1 (.conf)\n        title: New\n           id: new.conf\n";
        assert_eq!(ids(list), ["old.conf", "new.conf"]);
        assert_eq!((default_id(list), default_id("")), (Some("old.conf"), None));
    }
}
