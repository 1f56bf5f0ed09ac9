//! Arguments of the kernel on a node with a disk: tried once by an entry of ours, and written to the boot loader's
//! files when they are proven. So a node that hangs with them comes back without them by a power cycle alone.
//!
//! The files are edited directly: entries of the Boot Loader Specification, `kernelopts` in GRUB's environment block,
//! /etc/default/grub with the menu that grub-mkconfig makes of it, and /etc/kernel/cmdline. grubby edits the same files
//! on EL, but replaces all values of an argument that is added (`console=`), and keeps nothing for an undo. It is only
//! asked for the entry that GRUB chooses.
//!
//! An undo restores the contents of all these files, which are in the ledger before anything is written.

mod menu;
mod site;
mod texts;

use super::image::{BOOTED_BY_OSTREE, cmdline, find_loader};
use super::{ChangeError, ChangeKind};
use rollout_core::agent::record::{After, Before, BootDefault};
use rollout_core::protocol::rehearsal::{ChangeReport, Step};
use rollout_core::rollout::kernel_args::KernelArgs;
use site::{Saved, Site};
use std::path::Path;
use std::time::Duration;

impl ChangeKind for KernelArgs {
    fn is_satisfied(&self) -> Result<bool, ChangeError> {
        if self.missing(&cmdline()?).is_some() {
            return Ok(false);
        }
        on_node(|site| site.is_satisfied(self))
    }

    fn rehearse(&self, _state_dir: &Path, _limit: Duration) -> Result<ChangeReport, ChangeError> {
        if self.is_satisfied()? {
            return Ok(ChangeReport::default());
        }
        let untried = on_node(|site| site.rehearse(self))?;
        let (added, removed) = self.difference(&cmdline()?);
        let words = |words: Vec<String>| (!words.is_empty()).then(|| words.join(" "));
        let step = match (words(removed), words(added)) {
            // The running kernel has them, and the next boot would not.
            (None, None) => Step::new("the boot loader's files", "as the running kernel's arguments"),
            (from, to) => Step { what: "kernel arguments".to_owned(), from, to },
        };
        let notes = untried.map(|why| format!("they would be written without trying them once first: {why}"));
        Ok(ChangeReport { steps: vec![step], notes: notes.into_iter().collect(), ..ChangeReport::default() })
    }

    fn observe(&self, _state_dir: &Path, boot: Option<&BootDefault>) -> Result<Before, ChangeError> {
        let saved = on_node(|site| site.observe(boot))?;
        let saved = serde_json::to_string(&saved);
        let saved =
            saved.map_err(|error| ChangeError::state("noting the boot loader's files", error.to_string()))?;
        Ok(Before::KernelArgs { cmdline: cmdline()?, saved })
    }

    fn apply(&self, before: &Before, _state_dir: &Path) -> Result<After, ChangeError> {
        let (_, saved) = recorded(before, "applying a change")?;
        on_node(|site| site.apply(self, &saved))
    }

    fn before_reboot(&self, before: &Before) -> Result<(), ChangeError> {
        let (_, saved) = recorded(before, "preparing the reboot")?;
        on_node(|site| site.before_reboot(&saved))
    }

    fn verify(&self, _before: &Before, _after: &After) -> Result<(), ChangeError> {
        let line = cmdline()?;
        self.missing(&line).map_or(Ok(()), |why| {
            Err(ChangeError::state("proving the kernel's command line", format!("{why}: {}", line.trim())))
        })
    }

    fn confirm(&self, before: &Before) -> Result<(), ChangeError> {
        let (_, saved) = recorded(before, "making a change permanent")?;
        on_node(|site| site.confirm(self, &saved))
    }

    fn undo(&self, before: &Before, _state_dir: &Path) -> Result<(), ChangeError> {
        let (_, saved) = recorded(before, "undoing a change")?;
        on_node(|site| site.undo(&saved))
    }

    fn runs_as_before(&self, before: &Before) -> bool {
        let Ok((old, _)) = recorded(before, "") else { return false };
        cmdline().is_ok_and(|now| self.is_same(old, &now))
    }

    fn verify_old(&self, before: &Before, _state_dir: &Path) -> Result<Vec<String>, ChangeError> {
        let (old, saved) = recorded(before, "verifying the old state")?;
        let now = cmdline()?;
        if !self.is_same(old, &now) {
            let problem = format!("it is {:?}, and was {:?}", now.trim(), old.trim());
            return Err(ChangeError::state("verifying the kernel's command line of before", problem));
        }
        on_node(|site| site.verify_old(&saved))?;
        Ok(Vec::new())
    }
}

/// Does something with the files of this node's boot loader.
fn on_node<T>(act: impl FnOnce(&Site<'_>) -> Result<T, ChangeError>) -> Result<T, ChangeError> {
    if Path::new(BOOTED_BY_OSTREE).exists() {
        let problem =
            "ostree keeps them with its deployments: use `ostree admin kargs` or `rpm-ostree kargs`";
        return Err(ChangeError::state("changing the kernel's arguments", problem));
    }
    let loader = find_loader()?;
    act(&Site { root: Path::new("/"), loader: loader.as_ref(), running: cmdline()? })
}

fn recorded<'a>(before: &'a Before, attempt: &str) -> Result<(&'a str, Saved), ChangeError> {
    let Before::KernelArgs { cmdline, saved } = before else { return Err(ChangeError::other_kind(attempt)) };
    let saved = serde_json::from_str(saved);
    let saved = saved.map_err(|error| {
        ChangeError::state("reading the boot loader's files in the ledger", error.to_string())
    });
    Ok((cmdline, saved?))
}
