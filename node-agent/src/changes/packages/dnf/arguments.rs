//! The arguments of dnf's runs on the way forward.

use super::Dnf;
use crate::changes::packages::spec::{self, Notation};
use crate::changes::packages::tool::Transaction;

/// Lets any number of versions of a kernel be installed: none must make room.
pub(super) const ALL_VERSIONS: &str = "--setopt=installonly_limit=0";

/// Lets the running kernel be removed.
pub(super) const RUNNING_KERNEL: &str = "--setopt=protect_running_kernel=False";

impl Dnf {
    /// Returns the arguments that install packages.
    pub(super) fn install(&self, transaction: &Transaction) -> Vec<String> {
        let mut arguments = self.refreshing();
        arguments.push("install".to_owned());
        if transaction.may_remove_more {
            arguments.push("--allowerasing".to_owned());
        }
        arguments.extend(exchanges_versions(transaction).then(|| ALL_VERSIONS.to_owned()));
        arguments.extend(transaction.install.iter().cloned());
        arguments
    }

    /// Returns the arguments of two runs that enable module streams. dnf refuses to enable a stream beside another one
    /// of the module. A stream may have been published minutes ago as well.
    pub(super) fn enabling(&self, modules: &[String]) -> [Vec<String>; 2] {
        let run = |verb: &str| ["module".to_owned(), verb.to_owned()];
        let names = modules.iter().map(|module| module.split(':').next().unwrap_or(module).to_owned());
        let enabled = self.refreshing().into_iter().chain(run("enable")).chain(modules.iter().cloned());
        [run("reset").into_iter().chain(names).collect(), enabled.collect()]
    }

    /// Returns the option that refreshes metadata. dnf5 refuses it together with the manifest's `--cacheonly`.
    fn refreshing(&self) -> Vec<String> {
        let is_cached = self.options.iter().any(|option| option == "--cacheonly");
        if is_cached { Vec::new() } else { vec!["--refresh".to_owned()] }
    }

    /// Returns the arguments that remove packages on the way forward. The running kernel may go if another version of
    /// it stays.
    pub(super) fn remove_from(packages: &[String], installed: &[String]) -> Vec<String> {
        let option = leaves_other_version(packages, installed).then(|| RUNNING_KERNEL.to_owned());
        option.into_iter().chain(Self::remove(packages)).collect()
    }

    pub(super) fn remove(packages: &[String]) -> Vec<String> {
        ["remove".to_owned()].into_iter().chain(packages.iter().cloned()).collect()
    }
}

/// Returns whether the transaction installs a version of a package and removes another one, which it names: no other
/// version must make room, as it would for a kernel.
fn exchanges_versions(transaction: &Transaction) -> bool {
    let is_removed =
        |spec: &String| transaction.remove.iter().any(|package| spec::is_same(Notation::Rpm, spec, package));
    transaction.install.iter().any(is_removed)
}

/// Returns whether another version of a removed package stays, so that the node can boot that.
fn leaves_other_version(removed: &[String], installed: &[String]) -> bool {
    let stays = |package: &&String| !removed.contains(package);
    let is_other = |package: &String| removed.iter().any(|old| spec::is_same(Notation::Rpm, old, package));
    installed.iter().filter(stays).any(is_other)
}

#[cfg(test)]
mod tests {
    use super::super::Flavour;
    use super::*;
    use rollout_core::rollout::manifest::Packages;

    #[test]
    fn cached_metadata_is_not_refreshed() {
        let transaction = Transaction {
            install: vec!["a".to_owned()],
            remove: Vec::new(),
            may_remove_more: false,
            modules: Vec::new(),
        };
        for (options, expected) in
            [("--best", &["--refresh", "install", "a"][..]), ("--cacheonly", &["install", "a"])]
        {
            let wanted = Packages { options: vec![options.to_owned()], ..Packages::default() };
            let dnf = Dnf::of_node("/usr/bin/dnf5", Flavour::Dnf5).for_change(&wanted);
            assert_eq!(dnf.install(&transaction), expected);
            let [reset, enable] = dnf.enabling(&["driver:580".to_owned()]);
            assert_eq!(reset, ["module", "reset", "driver"]);
            let is_refreshed = enable.first().is_some_and(|option| option == "--refresh");
            assert_eq!(is_refreshed, options != "--cacheonly");
            assert!(enable.ends_with(&["module", "enable", "driver:580"].map(str::to_owned)), "{enable:?}");
        }
    }

    #[test]
    fn one_version_of_a_kernel_is_exchanged_for_another() {
        let list = |specs: &[&str]| specs.iter().map(|spec| (*spec).to_owned()).collect::<Vec<_>>();
        let kernels = list(&["kernel-0:6.0-1.x86_64", "kernel-0:6.1-1.x86_64", "kernel-0:6.2-1.x86_64"]);
        for (install, remove, exchanges, leaves) in [
            (&["kernel-0:5.9-1.x86_64"][..], &["kernel-0:6.2-1.x86_64"][..], true, true),
            (&[], &["kernel-0:6.2-1.x86_64"], false, true),
            (&["kernel"], &["kernel-0:6.2-1.x86_64"], false, true),
            (&["kernel-0:5.9-1.x86_64"], &["kernel-0:6.2-1.aarch64"], false, false),
            (&["kernel-0:6.3-1.x86_64"], &["tool-0:1-1.noarch"], false, false),
            (&[], &["kernel-0:6.0-1.x86_64", "kernel-0:6.1-1.x86_64", "kernel-0:6.2-1.x86_64"], false, false),
        ] {
            let transaction = Transaction {
                install: list(install),
                remove: list(remove),
                may_remove_more: true,
                modules: Vec::new(),
            };
            assert_eq!(exchanges_versions(&transaction), exchanges, "{install:?} {remove:?}");
            assert_eq!(leaves_other_version(&transaction.remove, &kernels), leaves, "{install:?} {remove:?}");
        }
    }
}
