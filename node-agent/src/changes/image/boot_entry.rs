//! An entry of the node's own boot loader: tried once, and made the default when it is proven. So a node that hangs in the
//! new system comes back in the old one by a power cycle alone.
//!
//! What boot loader it is, is between this module and those that speak with one.

use super::grub::Grub;
use super::systemd_boot::SystemdBoot;
use crate::changes::ChangeError;
use rollout_core::rollout::image::Image;
use serde::{Deserialize, Serialize};

/// A boot loader, as the running system can set it. Entries are in the loader's own words.
pub(super) trait Loader {
    /// For messages.
    fn name(&self) -> &'static str;

    /// Why it would not try this entry once and come back by itself, as far as that can be seen from here.
    fn check(&self, entry: &str) -> Result<(), ChangeError>;

    /// What was set as the default; none where the loader chooses for itself.
    fn default_entry(&self) -> Result<Option<String>, ChangeError>;

    fn set_default(&self, entry: Option<&str>) -> Result<(), ChangeError>;

    /// What it boots the next time only.
    fn next_entry(&self) -> Result<Option<String>, ChangeError>;

    fn set_next(&self, entry: Option<&str>) -> Result<(), ChangeError>;
}

/// What undo needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    /// The loader's default.
    default: Option<String>,
    /// The kernel's command line, by which entries that share a kernel and a root are told apart.
    cmdline: String,
}

pub(super) fn is_already_so(image: &Image) -> Result<bool, ChangeError> {
    Ok(find()?.default_entry()?.as_deref() == Some(entry(image)))
}

pub(super) fn observe(cmdline: &str) -> Result<String, ChangeError> {
    let saved = Saved { default: find()?.default_entry()?, cmdline: cmdline.to_owned() };
    serde_json::to_string(&saved)
        .map_err(|error| ChangeError::state("noting the boot loader's default", error.to_string()))
}

pub(super) fn apply(image: &Image) -> Result<(), ChangeError> {
    let loader = find()?;
    loader.check(entry(image))?;
    loader.set_next(Some(entry(image)))
}

pub(super) fn confirm(image: &Image) -> Result<(), ChangeError> {
    settle(find()?.as_ref(), Some(entry(image)))
}

pub(super) fn undo(saved: &str) -> Result<(), ChangeError> {
    settle(find()?.as_ref(), read(saved)?.default.as_deref())
}

pub(super) fn verify_old(saved: &str) -> Result<(), ChangeError> {
    let (loader, wanted) = (find()?, read(saved)?.default);
    for (what, found, wanted) in [
        ("default", loader.default_entry()?, wanted),
        ("entry for the next boot", loader.next_entry()?, None),
    ] {
        if found != wanted {
            let say = |entry: Option<String>| entry.unwrap_or_else(|| "not set".to_owned());
            let problem = format!("it is {}, not {}", say(found), say(wanted));
            return Err(ChangeError::state(format!("verifying the {what} of {}", loader.name()), problem));
        }
    }
    Ok(())
}

/// Whether this system was booted as it was before the change.
pub(super) fn is_booted_as_before(saved: &str, cmdline: &str) -> bool {
    read(saved).is_ok_and(|saved| saved.cmdline == cmdline)
}

/// Makes an entry the default, and leaves nothing to be tried. Writes only what is another.
fn settle(loader: &dyn Loader, default: Option<&str>) -> Result<(), ChangeError> {
    if loader.next_entry()?.is_some() {
        loader.set_next(None)?;
    }
    if loader.default_entry()?.as_deref() != default {
        loader.set_default(default)?;
    }
    Ok(())
}

fn find() -> Result<Box<dyn Loader>, ChangeError> {
    // The one that booted this system has said so; GRUB says nothing, and may be left over from before.
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
    fn entries_that_differ_by_their_command_line_are_told_apart() {
        let saved = r#"{"default":"old","cmdline":"root=/dev/vda1 quiet"}"#;
        assert!(is_booted_as_before(saved, "root=/dev/vda1 quiet"));
        assert!(!is_booted_as_before(saved, "root=/dev/vda1 quiet mitigations=off"));
        assert!(!is_booted_as_before("", "") && read("").is_err());
    }
}
