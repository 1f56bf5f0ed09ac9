//! The manifest: the TOML file in which an admin describes a rollout.
//!
//! Reading has two steps. [`Manifest::parse`] deserializes the text (unknown keys are errors, with line and column) and
//! then checks the rules that TOML cannot express: absolute paths, names that fit a command line, one change per path.
//! Before that, [`expand()`] replaces node sets by their nodes, when the manifest is staged: what is stored names nodes
//! only. A node runs the same checks again on the parts that an order carries: an agent trusts no text from the
//! network.

mod command;
mod expand;
mod packages;
mod verify;

pub use command::{CommandChange, NAME as COMMAND_NAME, PROBE_LIMIT, VERSION as COMMAND_VERSION};
pub use expand::expand;
pub use packages::{Allowance, Manager, Packages};
pub use verify::{OnFailure, PassedOver, Verify};

use crate::hostlist::NodeSet;
use crate::rollout::image::Image;
use crate::rollout::kernel_args::{self, KernelArgs};
use crate::time_limit::TimeLimit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// The largest manifest that is read. An order must fit into a MUNGE credential of 1 MiB in base64.
pub const MAX_BYTES: usize = 256 * 1024;

/// Length limit of a rollout's name, which is part of every Slurm Reason.
const MAX_NAME: usize = 64;

/// One rollout as the admin wrote it: the nodes and their desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Name in status, journal and Slurm's Reason: letters, digits, `.`, `_`, `-`.
    pub name: String,
    pub nodes: NodeSet,
    pub desired: DesiredState,
}

/// Desired state of a node: the part of a manifest that an order carries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredState {
    /// Applied in this order, undone in the reverse one.
    #[serde(default)]
    pub changes: Vec<Change>,
    #[serde(default)]
    pub reboot: Reboot,
    /// Checks after the boot. All must pass before the node is given back.
    #[serde(default)]
    pub verify: Verify,
}

/// One change on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Change {
    /// Packages installed and removed with the node's package manager.
    Packages(Packages),
    /// A symbolic link set to a different target.
    Symlink(Symlink),
    /// A different image booted.
    Image(Image),
    /// Arguments of the kernel added and removed.
    #[serde(rename = "kernel-args")]
    KernelArgs(KernelArgs),
    /// A version changed by programs of the site.
    Command(CommandChange),
}

/// A change of a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Symlink {
    /// Path of the link. Its directory must exist. A real file or directory at this path is never touched.
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Removes the link, which undoes its creation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
}

/// The reboot of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reboot {
    #[serde(default)]
    pub method: RebootMethod,
    /// Program of the site with its arguments, run without a shell to reboot the node into what was staged, by kexec
    /// for example. Empty leaves it to [`Reboot::method`], and so does a program that fails.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Time limit for the orderly shutdown, after which the node is rebooted by force.
    #[serde(default = "default_reboot_timeout")]
    pub timeout: TimeLimit,
}

/// A method of rebooting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RebootMethod {
    /// `systemctl reboot`.
    #[default]
    Systemd,
}

impl Default for Reboot {
    fn default() -> Self {
        Self { method: RebootMethod::default(), command: Vec::new(), timeout: default_reboot_timeout() }
    }
}

fn default_reboot_timeout() -> TimeLimit {
    TimeLimit::from_secs(10 * 60)
}

/// A manifest that is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// More than [`MAX_BYTES`].
    #[error("the manifest has {0} bytes, more than the {MAX_BYTES} that are read")]
    TooLong(usize),
    /// Not TOML, an unknown key, a missing key or a value of the wrong kind. The source names line, column and key.
    #[error("{0}")]
    Toml(Box<toml::de::Error>),
    /// A value that TOML accepts and a rollout does not.
    #[error("{key}: {reason}")]
    Value {
        /// For example `change[2].path`, counted from 1.
        key: String,
        /// The error, and the correction.
        reason: String,
    },
}

/// The keys of a manifest before they are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    nodes: String,
    #[serde(default)]
    change: Vec<Change>,
    #[serde(default)]
    reboot: Reboot,
    #[serde(default)]
    verify: Verify,
    /// The order in which nodes are taken. An order does not carry it, and rollout-plan alone knows its keys.
    #[serde(default, rename = "strategy")]
    _strategy: PassedOver,
}

impl Manifest {
    /// Parses and checks the text of a manifest.
    ///
    /// # Errors
    /// The first error, with its key and the correction.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        if text.len() > MAX_BYTES {
            return Err(ManifestError::TooLong(text.len()));
        }
        let written: Written = toml::from_str(text).map_err(|e| ManifestError::Toml(Box::new(e)))?;
        check_name(&written.name)?;
        let nodes = NodeSet::parse(&written.nodes).map_err(|e| value("nodes", e.to_string()))?;
        let desired =
            DesiredState { changes: written.change, reboot: written.reboot, verify: written.verify };
        if desired.changes.is_empty() {
            return Err(value(
                "change",
                "no [[change]]: to only reboot nodes, say `scontrol reboot`, nothing needs staging",
            ));
        }
        desired.check()?;
        Ok(Self { name: written.name, nodes, desired })
    }
}

impl Change {
    /// Returns its kind, as manifests name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Packages(_) => "packages",
            Self::Symlink(_) => "symlink",
            Self::Image(_) => "image",
            Self::KernelArgs(_) => "kernel-args",
            Self::Command(_) => "command",
        }
    }

    /// Returns the largest number of boots after which it must be there.
    #[must_use]
    pub fn boots(&self) -> u32 {
        match self {
            Self::Command(command) => command.boots,
            Self::Packages(_) | Self::Symlink(_) | Self::Image(_) | Self::KernelArgs(_) => 1,
        }
    }
}

/// The keys of a manifest in the order in which they are written. Tables come last, as TOML requires.
#[derive(Serialize)]
struct Output<'a> {
    name: &'a str,
    nodes: String,
    change: &'a [Change],
    reboot: &'a Reboot,
    verify: &'a Verify,
}

impl Manifest {
    /// Returns the manifest as an admin would have written it.
    ///
    /// # Errors
    /// If TOML cannot hold a value.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let DesiredState { changes, reboot, verify } = &self.desired;
        toml::to_string(&Output {
            name: &self.name,
            nodes: self.nodes.to_string(),
            change: changes,
            reboot,
            verify,
        })
    }
}

impl DesiredState {
    /// Returns the longest time that an order for it may take, there and back again.
    #[must_use]
    pub fn longest(&self) -> Duration {
        // Preparing, waiting for a lock and the transaction have the same limit, each.
        let changes = self.changes.iter().map(|change| match change {
            Change::Packages(packages) => 3 * packages.timeout.get(),
            Change::KernelArgs(_) => 2 * kernel_args::CONFIGURE_LIMIT,
            Change::Symlink(_) | Change::Image(_) | Change::Command(_) => Duration::ZERO,
        });
        let proof = self.verify.timeout.get();
        let commands: Duration = self.commands().map(|command| command.longest(proof)).sum();
        let boot = commands + self.reboot.timeout.get();
        let one_way = changes.sum::<Duration>() + boot + proof;
        let further_boots = self.changes.iter().map(Change::boots).max().unwrap_or(1) - 1;
        let registration = self.verify.registration_timeout.get();
        let image = self.image().map_or(Duration::ZERO, |image| image.boot_timeout.get());
        2 * one_way + further_boots * boot + registration + image
    }

    /// Returns the changes that programs of the site make.
    pub fn commands(&self) -> impl Iterator<Item = &CommandChange> {
        self.changes.iter().filter_map(|change| match change {
            Change::Command(command) => Some(command),
            Change::Packages(_) | Change::Symlink(_) | Change::Image(_) | Change::KernelArgs(_) => None,
        })
    }

    /// Returns what an admin should know before a node is changed that cannot go back, one line for each change.
    #[must_use]
    pub fn without_undo(&self) -> Vec<String> {
        let without = self.commands().filter(|command| command.undo.is_empty());
        let line = |command: &CommandChange| {
            format!(
                "{} cannot be undone: the change has no `undo`, and a node on which it fails is held",
                command.name
            )
        };
        without.map(line).collect()
    }

    /// Returns the image that the node should boot, if the image changes.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.changes.iter().find_map(|change| match change {
            Change::Image(image) => Some(image),
            Change::Packages(_) | Change::Symlink(_) | Change::KernelArgs(_) | Change::Command(_) => None,
        })
    }

    /// Checks the rules that the types do not ensure: paths, package names, commands, no two changes on one path.
    ///
    /// # Errors
    /// The first value that is refused, with its key.
    pub fn check(&self) -> Result<(), ManifestError> {
        let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
        let (mut packages_seen, mut image_seen, mut args_seen) = (false, false, false);
        for (index, change) in self.changes.iter().enumerate() {
            let key = format!("change[{}]", index + 1);
            if !names.is_empty() && !matches!(change, Change::Command(_)) {
                return Err(value(
                    key,
                    format!(
                        "{} after a command: put commands last, as others can always be undone",
                        change.kind()
                    ),
                ));
            }
            match change {
                Change::Symlink(symlink) => {
                    check_path(&format!("{key}.path"), &symlink.path)?;
                    if symlink.target.is_some() == symlink.absent {
                        return Err(value(
                            format!("{key}.target"),
                            "it needs a target, or `absent = true` and none",
                        ));
                    }
                    if let Some(target) = &symlink.target {
                        check_path(&format!("{key}.target"), target)?;
                    }
                    if symlink.target.as_ref() == Some(&symlink.path) {
                        return Err(value(format!("{key}.target"), "a link cannot point to itself"));
                    }
                    if !paths.insert(symlink.path.as_str()) {
                        return Err(value(
                            format!("{key}.path"),
                            format!("{} is changed twice", symlink.path),
                        ));
                    }
                }
                Change::Packages(packages) => {
                    // Undo and proof compare the whole list of installed packages, so two changes of it at different
                    // times could not both be undone and proven.
                    if std::mem::replace(&mut packages_seen, true) {
                        return Err(value(key, "a second packages change: write all packages into one"));
                    }
                    if args_seen {
                        return Err(value(
                            key,
                            "packages after kernel-args: put them before it, so that a kernel among them gets the arguments",
                        ));
                    }
                    packages.check(&key)?;
                }
                Change::Image(image) => {
                    if std::mem::replace(&mut image_seen, true) {
                        return Err(value(key, "a second image: a node boots one"));
                    }
                    image.check().map_err(|(name, why)| value(format!("{key}.{name}"), why))?;
                }
                Change::KernelArgs(args) => {
                    if std::mem::replace(&mut args_seen, true) {
                        return Err(value(key, "a second kernel-args change: write all arguments into one"));
                    }
                    args.check().map_err(|(name, why)| value(format!("{key}.{name}"), why))?;
                }
                Change::Command(command) => {
                    command.check(&key)?;
                    if !names.insert(command.name.as_str()) {
                        return Err(value(
                            format!("{key}.name"),
                            format!("{} is changed twice", command.name),
                        ));
                    }
                    if command.boots > 1 && (args_seen || image_seen) {
                        return Err(value(
                            format!("{key}.boots"),
                            "several boots beside an image or kernel-args, which are proven in the first boot: use two \
                             rollouts",
                        ));
                    }
                }
            }
        }
        if args_seen && image_seen {
            return Err(value(
                "change",
                "kernel-args and an image: an image brings the arguments of its kernel, see proof.cmdline",
            ));
        }
        if !self.reboot.command.is_empty() {
            check_command("reboot.command", &self.reboot.command)?;
        }
        for (index, command) in self.verify.commands.iter().enumerate() {
            check_command(&format!("verify.commands[{}]", index + 1), command)?;
        }
        for (index, mount) in self.verify.mounts.iter().enumerate() {
            check_path(&format!("verify.mounts[{}]", index + 1), mount)?;
        }
        Ok(())
    }
}

fn value(key: impl Into<String>, reason: impl Into<String>) -> ManifestError {
    ManifestError::Value { key: key.into(), reason: reason.into() }
}

fn check_name(name: &str) -> Result<(), ManifestError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) || name.starts_with(['.', '-']) {
        return Err(value(
            "name",
            format!(
                "{name:?}: 1 to {MAX_NAME} letters, digits, '.', '_' or '-', beginning with a letter or digit"
            ),
        ));
    }
    Ok(())
}

fn check_command(key: &str, command: &[String]) -> Result<(), ManifestError> {
    let program = command.first().ok_or_else(|| value(key, "an empty command"))?;
    check_path(key, program)?;
    if command.iter().any(|argument| argument.contains('\0')) {
        return Err(value(key, "a NUL byte cannot be in an argument"));
    }
    Ok(())
}

fn check_path(key: &str, path: &str) -> Result<(), ManifestError> {
    let refuse = |reason: &str| Err(value(key, format!("{path:?}: {reason}")));
    let Some(rest) = path.strip_prefix('/') else {
        return refuse("not an absolute path");
    };
    if path.len() > 4096 || path.contains(char::is_control) {
        return refuse("longer than 4096 bytes, or with a control character");
    }
    if rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("write it without '.', '..', doubled or trailing slashes");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
