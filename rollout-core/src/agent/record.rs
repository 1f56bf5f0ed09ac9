//! Records of changes in a ledger: everything that verifying and undoing a change needs.

use crate::rollout::image::Running;
use crate::rollout::manifest::Manager;
use serde::{Deserialize, Serialize};

/// Record of one change. It is on disk before the change is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub before: Before,
    /// State after the change. `None` while it is being made.
    #[serde(default)]
    pub after: Option<After>,
}

/// State of the node before a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Before {
    Symlink {
        /// `None` if there was no link.
        target: Option<String>,
    },
    Packages {
        manager: Manager,
        /// Every installed package: dnf and zypper `name-epoch:version-release.arch`, apt `name:arch=version`.
        installed: Vec<String>,
    },
    /// No state to restore: the change comes with the image, and a node without a disk is only checked for it.
    InImage,
    Image {
        /// The system that was running.
        running: Running,
        /// Private notes of the node's provider, with which it restores the boot source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saved: Option<String>,
    },
    KernelArgs {
        /// The running kernel's command line.
        cmdline: String,
        /// Private notes of the agent, with which it restores the boot loader's files.
        saved: String,
    },
    Command {
        /// The version that `probe` printed.
        version: String,
    },
}

/// The boot loader before the first change of an order. Changes of packages may move its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootDefault {
    /// The default entry. `None` if the loader chooses by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The entry that was booted, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted: Option<String>,
}

impl BootDefault {
    /// Returns the default to set while another entry is tried once, so that a power cycle leads to the old system. A
    /// loader that chooses by itself might choose a kernel that was just installed.
    #[must_use]
    pub fn during_trial(&self) -> Option<&str> {
        self.default.as_deref().or(self.booted.as_deref())
    }
}

/// State of the node after a change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct After {
    /// The node differs from before.
    pub changed: bool,
    /// Packages that the change brought, in the notation of [`Before::Packages`], or arguments of the kernel. Empty for
    /// other changes.
    #[serde(default)]
    pub added: Vec<String>,
    /// Packages or arguments that it took away.
    #[serde(default)]
    pub removed: Vec<String>,
    /// Kernels that it installed, as `uname -r` prints them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<String>,
    /// Facts that an admin should see although the change succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl After {
    /// Returns the state after a change that had nothing to do.
    #[must_use]
    pub fn unchanged() -> Self {
        Self::default()
    }
}

impl Record {
    /// Returns the record of a change that had nothing to do.
    #[must_use]
    pub fn unchanged(before: Before) -> Self {
        Self { before, after: Some(After::unchanged()) }
    }

    /// Returns whether the node may differ from before. An interrupted change has no `after` and may have done
    /// anything.
    #[must_use]
    pub fn may_have_changed(&self) -> bool {
        self.after.as_ref().is_none_or(|after| after.changed)
    }
}

/// Returns name and architecture of a package, of which one version replaces another. The notation is that of
/// [`Before::Packages`].
pub(crate) fn name_and_arch(manager: Manager, package: &str) -> (&str, &str) {
    match manager {
        Manager::Apt => (package.split_once('=').map_or(package, |(name, _)| name), ""),
        Manager::Dnf | Manager::Dnf5 | Manager::Zypper => {
            let (rest, arch) = package.rsplit_once('.').unwrap_or((package, ""));
            (rest.rsplitn(3, '-').nth(2).unwrap_or(rest), arch)
        }
    }
}
