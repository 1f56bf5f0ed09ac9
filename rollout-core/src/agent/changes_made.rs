//! Changes that rollouts made on a node, as its ledger keeps them for a later undo.

use crate::agent::record::{After, Before, Record, name_and_arch};
use crate::protocol::order::Apply;
use crate::rollout::image::Running;
use crate::rollout::kernel_args::KernelArgs;
use crate::rollout::manifest::{Change, Manager};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Changes that one rollout made on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChanges {
    pub rollout: String,
    /// One for each change of the manifest that altered the node, in the same order.
    pub made: Vec<ChangeMade>,
}

/// One change that was made, with everything needed to reverse it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ChangeMade {
    Symlink {
        path: String,
        /// The former target. `None` if there was no link.
        before: Option<String>,
    },
    /// The notation of packages is that of [`Before::Packages`].
    Packages {
        manager: Manager,
        added: Vec<String>,
        removed: Vec<String>,
        /// Packages of `added` that did not replace every older version, as kernels do not: another version was there
        /// before and stayed. Agents up to 0.1 do not report them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        beside: Vec<String>,
    },
    Image {
        /// The system that was running before.
        running: Running,
        /// As in [`Before::Image`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        saved: Option<String>,
    },
    #[serde(rename = "kernel-args")]
    KernelArgs {
        added: Vec<String>,
        removed: Vec<String>,
        /// Arguments from before that removing the added ones takes away as well: `nosmt=force` goes with `nosmt`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kept: Vec<String>,
    },
    Command {
        name: String,
        /// The version before, and the one that the rollout brought.
        before: String,
        after: String,
    },
}

impl NodeChanges {
    /// Returns the changes of a finished order, by its records.
    #[must_use]
    pub fn of(apply: &Apply, records: &[Record]) -> Self {
        let made = apply.desired.changes.iter().zip(records).filter_map(|(change, record)| {
            let after = record.after.as_ref().filter(|after| after.changed)?;
            Some(match (change, &record.before) {
                (Change::Symlink(link), Before::Symlink { target }) => {
                    ChangeMade::Symlink { path: link.path.clone(), before: target.clone() }
                }
                // Only a module stream was enabled: an undo has nothing to name.
                (Change::Packages(_), _) if after.added.is_empty() && after.removed.is_empty() => {
                    return None;
                }
                (Change::Packages(_), Before::Packages { manager, installed }) => ChangeMade::Packages {
                    manager: *manager,
                    added: after.added.clone(),
                    removed: after.removed.clone(),
                    beside: beside(*manager, after, installed),
                },
                (Change::Image(_), Before::Image { running, saved }) => {
                    ChangeMade::Image { running: running.clone(), saved: saved.clone() }
                }
                (Change::KernelArgs(_), _) if after.added.is_empty() && after.removed.is_empty() => {
                    return None;
                }
                (Change::KernelArgs(_), Before::KernelArgs { cmdline, .. }) => {
                    let mut kept = KernelArgs::taken_along(&after.added, cmdline);
                    kept.retain(|word| !after.removed.contains(word));
                    ChangeMade::KernelArgs {
                        added: after.added.clone(),
                        removed: after.removed.clone(),
                        kept,
                    }
                }
                (Change::Command(command), Before::Command { version }) => ChangeMade::Command {
                    name: command.name.clone(),
                    before: version.clone(),
                    after: command.version.clone(),
                },
                _ => return None,
            })
        });
        Self { rollout: apply.rollout.clone(), made: made.collect() }
    }
}

/// Returns the added packages of which another version was there before and stayed.
fn beside(manager: Manager, after: &After, before: &[String]) -> Vec<String> {
    let stayed: BTreeSet<(&str, &str)> = before
        .iter()
        .filter(|package| !after.removed.contains(package))
        .map(|package| name_and_arch(manager, package))
        .collect();
    after.added.iter().filter(|package| stayed.contains(&name_and_arch(manager, package))).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::test_orders::apply_changes;
    use crate::protocol::order::OrderKind;

    #[test]
    fn arguments_that_an_undo_would_take_along_are_recorded() {
        let manifest = "[[change]]\nkind='kernel-args'\nadd=['nosmt','a=2']\nremove=['a','quiet']\n";
        let OrderKind::Apply(apply) = apply_changes("r", manifest) else { panic!() };
        let before =
            Before::KernelArgs { cmdline: "nosmt=force a=1 quiet -- nosmt=x\n".into(), saved: "{}".into() };
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (added, removed) = (list(&["nosmt", "a=2"]), list(&["a=1", "quiet"]));
        let after =
            After { changed: true, added: added.clone(), removed: removed.clone(), ..After::default() };
        let changes = NodeChanges::of(&apply, &[Record { before, after: Some(after) }]);
        let kept = list(&["nosmt=force"]);
        assert_eq!(changes.made, [ChangeMade::KernelArgs { added, removed, kept }]);
        // An agent before this key.
        let older = r#"{"kind":"kernel-args","added":["a"],"removed":[]}"#;
        let older: ChangeMade = serde_json::from_str(older).unwrap();
        assert!(matches!(older, ChangeMade::KernelArgs { kept, .. } if kept.is_empty()));
    }

    #[test]
    fn a_command_is_recorded_with_both_versions() {
        let manifest = "[[change]]\nkind='command'\nname='bios'\nversion='2'\nprobe=['/p']\napply=['/a']\n";
        let OrderKind::Apply(apply) = apply_changes("r", manifest) else { panic!() };
        let before = Before::Command { version: "1".into() };
        for (changed, made) in [(true, 1), (false, 0)] {
            let after = Some(After { changed, ..After::default() });
            let changes = NodeChanges::of(&apply, &[Record { before: before.clone(), after }]);
            assert_eq!(changes.made.len(), made);
            let expected = ChangeMade::Command { name: "bios".into(), before: "1".into(), after: "2".into() };
            assert!(changes.made.iter().all(|change| *change == expected), "{changes:?}");
        }
        // The words in ledgers.
        let made: ChangeMade =
            serde_json::from_str(r#"{"kind":"command","name":"bios","before":"1","after":"2"}"#).unwrap();
        assert!(matches!(made, ChangeMade::Command { before, .. } if before == "1"));
        assert_eq!(serde_json::from_str::<Before>(r#"{"kind":"command","version":"1"}"#).unwrap(), before);
    }

    #[test]
    fn versions_that_stayed_beside_a_new_one_are_seen() {
        let list =
            |packages: &[&str]| packages.iter().map(|package| (*package).to_owned()).collect::<Vec<_>>();
        let before = ["kernel-0:5.9-1.x86_64", "kernel-0:6.0-1.x86_64", "driver-0:570-1.x86_64"];
        let added = ["kernel-0:6.2-1.x86_64", "driver-0:580-1.x86_64", "new-0:1-1.noarch"];
        for (removed, expected) in [
            (&["driver-0:570-1.x86_64"][..], &["kernel-0:6.2-1.x86_64"][..]),
            (&["driver-0:570-1.x86_64", "kernel-0:5.9-1.x86_64"], &["kernel-0:6.2-1.x86_64"]),
            (&["driver-0:570-1.x86_64", "kernel-0:5.9-1.x86_64", "kernel-0:6.0-1.x86_64"], &[]),
        ] {
            let after =
                After { changed: true, added: list(&added), removed: list(removed), ..After::default() };
            assert_eq!(beside(Manager::Dnf, &after, &list(&before)), list(expected), "{removed:?}");
        }
        let after = After {
            changed: true,
            added: list(&["tool:amd64=2"]),
            removed: list(&["tool:amd64=1"]),
            ..After::default()
        };
        assert!(beside(Manager::Apt, &after, &list(&["tool:amd64=1", "tool:i386=1"])).is_empty());
    }
}
