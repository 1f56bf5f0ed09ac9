//! An entry of the node's own boot loader: tried once, and made the default when it is proven. So a node that hangs in
//! the new system comes back in the old one by a power cycle alone.
//!
//! The boot loader in use is known only to this module and to the [`Loader`]s themselves.

use super::grub::Grub;
use super::loader::Loader;
use super::systemd_boot::SystemdBoot;
use super::{NodeProvider, cmdline};
use crate::changes::ChangeError;
use rollout_core::agent::record::BootDefault;
use rollout_core::rollout::image::Image;
use serde::{Deserialize, Serialize};

/// The state that an undo needs, as JSON in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    /// The loader's default before the first change of the order.
    default: Option<String>,
    /// The entry that was booted. `None` if it is not known, and in records of older agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    booted: Option<String>,
    /// The kernel's command line: it tells apart entries that share a kernel and a root.
    cmdline: String,
}

pub(super) struct BootEntry;

impl NodeProvider for BootEntry {
    fn is_satisfied(&self, image: &Image) -> Result<bool, ChangeError> {
        Ok(find()?.default_entry()?.as_deref() == Some(entry(image)))
    }

    fn observe(&self, boot: Option<&BootDefault>) -> Result<String, ChangeError> {
        let loader = find()?;
        let cmdline = cmdline()?;
        // A change before this one may have installed a kernel that made itself the default.
        let saved = match boot.cloned() {
            Some(BootDefault { default, booted }) => Saved { default, booted, cmdline },
            None => Saved { default: loader.default_entry()?, booted: None, cmdline },
        };
        serde_json::to_string(&saved)
            .map_err(|error| ChangeError::state("noting the boot loader's default", error.to_string()))
    }

    fn look_for(&self, image: &Image) -> Result<(), ChangeError> {
        find()?.check(entry(image))
    }

    fn apply(&self, image: &Image, _saved: &str) -> Result<(), ChangeError> {
        let loader = find()?;
        loader.check(entry(image))?;
        loader.set_next(Some(entry(image)))
    }

    fn before_reboot(&self, saved: &str) -> Result<(), ChangeError> {
        let Saved { default, booted, .. } = read(saved)?;
        keep_default(find()?.as_ref(), &BootDefault { default, booted })
    }

    fn confirm(&self, image: &Image) -> Result<(), ChangeError> {
        settle(find()?.as_ref(), Some(entry(image)))
    }

    fn undo(&self, saved: &str) -> Result<(), ChangeError> {
        settle(find()?.as_ref(), read(saved)?.default.as_deref())
    }

    fn verify_old(&self, saved: &str) -> Result<(), ChangeError> {
        let (loader, wanted) = (find()?, read(saved)?.default);
        for (what, found, wanted) in [
            ("default", loader.default_entry()?, wanted),
            ("entry for the next boot", loader.next_entry()?, None),
        ] {
            if found != wanted {
                let describe = |entry: Option<String>| entry.unwrap_or_else(|| "not set".to_owned());
                let problem = format!("it is {}, not {}", describe(found), describe(wanted));
                return Err(ChangeError::state(
                    format!("verifying the {what} of {}", loader.name()),
                    problem,
                ));
            }
        }
        Ok(())
    }

    fn is_booted_as_before(&self, saved: &str) -> bool {
        cmdline().is_ok_and(|cmdline| is_same_boot(saved, &cmdline))
    }
}

fn is_same_boot(saved: &str, cmdline: &str) -> bool {
    read(saved).is_ok_and(|saved| saved.cmdline == cmdline)
}

/// Makes sure that the loader returns to the old system after the one try, whatever the changes have made its default.
pub(in crate::changes) fn keep_default(loader: &dyn Loader, before: &BootDefault) -> Result<(), ChangeError> {
    match before.during_trial() {
        Some(entry) if loader.default_entry()?.as_deref() != Some(entry) => loader.set_default(Some(entry)),
        _ => Ok(()),
    }
}

/// Makes an entry the default, with no other for the next boot. Writes only values that differ.
pub(in crate::changes) fn settle(loader: &dyn Loader, default: Option<&str>) -> Result<(), ChangeError> {
    if loader.next_entry()?.is_some() {
        loader.set_next(None)?;
    }
    if loader.default_entry()?.as_deref() != default {
        loader.set_default(default)?;
    }
    Ok(())
}

pub(in crate::changes) fn find() -> Result<Box<dyn Loader>, ChangeError> {
    // systemd-boot records that it booted this system. GRUB may not, and may be a remnant of an earlier installation.
    if SystemdBoot::has_booted_this() {
        return Ok(Box::new(SystemdBoot));
    }
    if let Some(grub) = Grub::find() {
        return Ok(Box::new(grub));
    }
    let problem = "this system was not booted by systemd-boot, and there is no /boot/grub2/grubenv and no \
                   /boot/grub/grubenv of GRUB's";
    Err(ChangeError::state("looking for the boot loader", problem))
}

fn entry(image: &Image) -> &str {
    image.values.get("entry").map_or("", String::as_str)
}

fn read(saved: &str) -> Result<Saved, ChangeError> {
    serde_json::from_str(saved).map_err(|error| {
        ChangeError::state("reading the boot loader's default in the ledger", error.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::image::loader::Files;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Fake(RefCell<(Option<String>, Option<String>, Vec<String>)>);

    impl Loader for Fake {
        fn name(&self) -> &'static str {
            "fake"
        }
        fn check(&self, _: &str) -> Result<(), ChangeError> {
            Ok(())
        }
        fn default_entry(&self) -> Result<Option<String>, ChangeError> {
            Ok(self.0.borrow().0.clone())
        }
        fn set_default(&self, entry: Option<&str>) -> Result<(), ChangeError> {
            let mut state = self.0.borrow_mut();
            state.0 = entry.map(str::to_owned);
            state.2.push(format!("default {entry:?}"));
            Ok(())
        }
        fn next_entry(&self) -> Result<Option<String>, ChangeError> {
            Ok(self.0.borrow().1.clone())
        }
        fn set_next(&self, entry: Option<&str>) -> Result<(), ChangeError> {
            let mut state = self.0.borrow_mut();
            state.1 = entry.map(str::to_owned);
            state.2.push(format!("once {entry:?}"));
            Ok(())
        }
        fn booted_entry(&self, _: &str) -> Option<String> {
            None
        }
        fn files(&self) -> Files {
            Files::SystemdBoot
        }
    }

    #[test]
    fn only_what_is_another_is_written() {
        let fake = Fake::default();
        settle(&fake, None).unwrap();
        fake.set_next(Some("new")).unwrap();
        settle(&fake, Some("new")).unwrap();
        settle(&fake, Some("new")).unwrap();
        settle(&fake, None).unwrap();
        let written = &fake.0.borrow().2;
        assert_eq!(*written, ["once Some(\"new\")", "once None", "default Some(\"new\")", "default None"]);
    }

    #[test]
    fn a_power_cycle_leads_to_the_default_from_before_the_first_change() {
        for (default, booted, kernel_package_set, expected) in [
            (Some("old"), Some("old"), Some("new"), Some("old")),
            (Some("old"), None, Some("old"), Some("old")),
            // Started by hand, or a default that the loader chooses by itself: the newest.
            (Some("old"), Some("other"), Some("new"), Some("old")),
            (None, Some("old"), None, Some("old")),
            (None, Some("old"), Some("new"), Some("old")),
            (None, None, None, None),
        ] {
            let fake = Fake::default();
            let before =
                BootDefault { default: default.map(str::to_owned), booted: booted.map(str::to_owned) };
            fake.set_default(kernel_package_set).unwrap();
            keep_default(&fake, &before).unwrap();
            keep_default(&fake, &before).unwrap();
            assert_eq!(fake.default_entry().unwrap().as_deref(), expected, "{before:?}");
            settle(&fake, before.default.as_deref()).unwrap();
            assert_eq!(fake.default_entry().unwrap().as_deref(), default, "an undo restores it");
        }
    }

    #[test]
    fn entries_that_differ_by_their_command_line_are_told_apart() {
        let saved = r#"{"default":"old","cmdline":"root=/dev/vda1 quiet"}"#;
        assert!(is_same_boot(saved, "root=/dev/vda1 quiet"));
        assert!(!is_same_boot(saved, "root=/dev/vda1 quiet mitigations=off"));
        assert!(!is_same_boot("", "") && read("").is_err());
    }
}
