//! The state of a node around its packages: what a package manager or its scriptlets change along with packages, and
//! the list of installed packages does not show.

use super::configuration::{self, Configuration};
use super::list;
use super::spec::{self, Notation};
use super::tool::Tool;
use super::undo_cache::UndoCache;
use super::units::{self, Links};
use super::{ChangeError, TimeBudget};
use crate::changes::image::{self, Loader};
use rollout_core::agent::record::After;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The record's name in the cache.
const RECORD: &str = "before.json";

/// The system that packages are installed on, apart from their manager.
pub(super) struct System {
    /// The root directory.
    pub root: PathBuf,
    /// The kernel that is running, as `uname -r` prints it.
    pub kernel: String,
    /// The boot loader, if it has a default that can be set.
    pub loader: Option<Box<dyn Loader>>,
}

impl System {
    pub(super) fn of_node() -> Result<Self, ChangeError> {
        Ok(Self { root: "/".into(), kernel: image::kernel()?, loader: image::loader() })
    }
}

/// State before the change.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Surroundings {
    /// Packages on hold.
    #[serde(default)]
    held: BTreeSet<String>,
    /// Reasons for which packages were installed, in the manager's words, by its name for the package.
    #[serde(default)]
    reasons: BTreeMap<String, String>,
    /// Links that enable units.
    #[serde(default)]
    links: Links,
    /// Other versions of configuration files.
    #[serde(default)]
    other_versions: BTreeSet<PathBuf>,
    #[serde(default)]
    kernel: String,
    /// `None` without a boot loader whose default can be set.
    #[serde(default)]
    boot: Option<Boot>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Boot {
    /// The default entry, or `None` if the loader chooses by itself.
    default: Option<String>,
}

/// The recorded surroundings, and what is needed to restore them.
pub(super) struct Surrounded<'a> {
    pub tool: &'a dyn Tool,
    pub cache: &'a UndoCache,
    pub system: &'a System,
}

impl Surrounded<'_> {
    /// Records the present state.
    pub(super) fn record(&self) -> Result<(), ChangeError> {
        let surroundings = Surroundings {
            held: self.tool.held()?,
            reasons: self.tool.reasons()?,
            links: units::links(&self.system.root),
            other_versions: configuration::other_versions_in_etc(&self.system.root),
            kernel: self.system.kernel.clone(),
            boot: self.boot()?,
        };
        self.cache.write(RECORD, &surroundings)
    }

    /// Returns the recorded state. `None` if it was recorded by an older agent, which knew nothing of it.
    pub(super) fn recorded(&self) -> Result<Option<Surroundings>, ChangeError> {
        self.cache.read(RECORD)
    }

    /// Records the package manager's own configuration, and that of packages that the change will replace or remove.
    pub(super) fn record_configuration(&self, packages: &[String]) -> Result<(), ChangeError> {
        self.configuration().record_own(&self.tool.own_configuration())?;
        if packages.is_empty() {
            return Ok(());
        }
        self.configuration().record(&self.tool.configuration_of(packages)?, &self.units_of(packages)?)
    }

    /// Records the configuration that packages brought which an undo removes.
    pub(super) fn record_brought(&self, packages: &[String]) -> Result<(), ChangeError> {
        if packages.is_empty() {
            return Ok(());
        }
        let paths = self.tool.configuration_of(packages)?;
        self.configuration().record_brought(&paths, &self.units_of(packages)?)
    }

    /// Restores the package manager's own configuration, by which it chooses packages.
    pub(super) fn restore_own_configuration(&self) -> Result<(), ChangeError> {
        let own = self.tool.own_configuration();
        let directories: BTreeSet<&Path> = own.iter().filter_map(|path| path.parent()).collect();
        directories.into_iter().try_for_each(|directory| self.configuration().restore_below(directory))?;
        self.configuration().remove_new_own(&own)
    }

    /// Restores everything that is recorded, for packages that were touched.
    pub(super) fn restore(
        &self,
        touched: &[String],
        after: Option<&After>,
        budget: TimeBudget,
    ) -> Result<(), ChangeError> {
        let Some(before) = self.recorded()? else { return Ok(()) };
        let configuration = self.configuration();
        configuration.restore_below(Path::new("/"))?;
        configuration.remove_new_own(&self.tool.own_configuration())?;
        configuration.remove_other_versions(&before.other_versions)?;
        units::restore(&self.system.root, &before.links, &configuration.units()?)?;
        self.restore_holds(&before, Some(touched), budget)?;
        self.restore_reasons(&before, touched, budget)?;
        self.restore_boot_default(&before, after)?;
        self.check(&configuration, &before)
    }

    fn check(&self, configuration: &Configuration<'_>, before: &Surroundings) -> Result<(), ChangeError> {
        let mut differing = configuration.differing()?;
        differing.extend(units::differing(&self.system.root, &before.links, &configuration.units()?));
        match differing.is_empty() {
            true => Ok(()),
            false => {
                let problem = format!("not as before: {}", list::few(&differing));
                Err(ChangeError::state("restoring the configuration of before", problem))
            }
        }
    }

    /// Sets the holds of before again. A package that was touched and not held before is released.
    pub(super) fn restore_holds(
        &self,
        before: &Surroundings,
        touched: Option<&[String]>,
        budget: TimeBudget,
    ) -> Result<(), ChangeError> {
        let now = self.tool.held()?;
        let notation = self.tool.notation();
        let installed: BTreeSet<String> =
            self.tool.installed()?.iter().map(|package| spec::name_and_arch(notation, package)).collect();
        let held: Vec<String> =
            before.held.difference(&now).filter(|p| installed.contains(*p)).cloned().collect();
        let touched: BTreeSet<String> = touched
            .unwrap_or_default()
            .iter()
            .map(|package| spec::name_and_arch(notation, package))
            .collect();
        let released: Vec<String> =
            now.difference(&before.held).filter(|p| touched.contains(*p)).cloned().collect();
        self.tool.hold(&held, &released, budget)
    }

    fn restore_reasons(
        &self,
        before: &Surroundings,
        touched: &[String],
        budget: TimeBudget,
    ) -> Result<(), ChangeError> {
        let changed = changed_reasons(
            self.tool.notation(),
            [&before.reasons, &self.tool.reasons()?],
            touched,
            &self.tool.installed()?,
        );
        changed.iter().try_for_each(|(reason, ids)| self.tool.mark(reason, ids, budget))
    }

    /// Returns whether the change concerned a kernel. Unknown if it did not end well.
    fn concerns_kernel(after: Option<&After>) -> bool {
        after.is_none_or(|after| !after.kernels.is_empty())
    }

    /// Sets the boot loader's default of before: packages of kernels make themselves the default, and leave a default
    /// that does not exist when they are removed.
    fn restore_boot_default(&self, before: &Surroundings, after: Option<&After>) -> Result<(), ChangeError> {
        if let (Some(loader), Some(boot), true) =
            (&self.system.loader, &before.boot, Self::concerns_kernel(after))
        {
            if loader.default_entry()? != boot.default {
                loader.set_default(boot.default.as_deref())?;
            }
        }
        Ok(())
    }

    /// Proves that the node runs the kernel of before with the boot loader's default of before, if the change installed
    /// a kernel. Returns what differs otherwise, which others have changed.
    pub(super) fn verify_old(&self, after: Option<&After>) -> Result<Vec<String>, ChangeError> {
        let Some(before) = self.recorded()? else { return Ok(Vec::new()) };
        if after.is_some_and(|after| !after.kernels.is_empty()) {
            if before.kernel != self.system.kernel {
                let problem = format!("the node runs {}, not {}", self.system.kernel, before.kernel);
                return Err(ChangeError::state("verifying the kernel of before", problem));
            }
            let boot = self.boot()?;
            if before.boot.is_some() && boot != before.boot {
                let name = |boot: Option<Boot>| {
                    boot.and_then(|boot| boot.default).unwrap_or_else(|| "not set".to_owned())
                };
                let problem = format!("it is {}, not {}", name(boot), name(before.boot));
                return Err(ChangeError::state("verifying the boot loader's default", problem));
            }
        }
        let configuration = self.configuration();
        let mut drift = configuration.differing()?;
        drift.extend(units::differing(&self.system.root, &before.links, &configuration.units()?));
        Ok(drift)
    }

    fn boot(&self) -> Result<Option<Boot>, ChangeError> {
        let default = self.system.loader.as_ref().map(|loader| loader.default_entry()).transpose()?;
        Ok(default.map(|default| Boot { default }))
    }

    fn configuration(&self) -> Configuration<'_> {
        Configuration::new(self.cache, &self.system.root)
    }

    fn units_of(&self, packages: &[String]) -> Result<Vec<String>, ChangeError> {
        match packages.is_empty() {
            true => Ok(Vec::new()),
            false => Ok(units::among(&self.tool.files_of(packages)?)),
        }
    }
}

/// Returns the managers' names of touched packages that are installed for another reason than before, by that reason.
/// The packages of a name may have several architectures, each with a reason of its own.
fn changed_reasons(
    notation: Notation,
    [before, now]: [&BTreeMap<String, String>; 2],
    touched: &[String],
    installed: &[String],
) -> BTreeMap<String, Vec<String>> {
    let usual = |reasons: &BTreeMap<String, String>, id: &String| {
        reasons.get(id).map_or(super::tool::BY_USER, String::as_str).to_owned()
    };
    let mut changed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for id in before.keys().chain(now.keys()).collect::<BTreeSet<_>>() {
        let is_among =
            |packages: &[String]| packages.iter().any(|package| spec::has_id(notation, package, id));
        let wanted = usual(before, id);
        if wanted != usual(now, id) && is_among(touched) && is_among(installed) {
            changed.entry(wanted).or_default().push(id.clone());
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_architecture_has_its_reason() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let reasons = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(id, reason)| ((*id).to_owned(), (*reason).to_owned())).collect()
        };
        // The other architecture is another's, and is gone or has another reason by now.
        let before =
            reasons(&[("a.x86_64", "dependency"), ("a.i686", "dependency"), ("b.noarch", "dependency")]);
        let now = reasons(&[("a.x86_64", "user"), ("b.noarch", "user")]);
        let touched = list(&["a-0:1-1.x86_64"]);
        for installed in [&["a-0:1-1.x86_64", "b-0:1-1.noarch"][..], &["a-0:1-1.x86_64", "a-0:1-1.i686"]] {
            let changed = changed_reasons(Notation::Rpm, [&before, &now], &touched, &list(installed));
            assert_eq!(changed, [("dependency".to_owned(), list(&["a.x86_64"]))].into(), "{installed:?}");
        }
        // apt names its own architecture's packages without it; zypper knows names alone.
        let before = reasons(&[("a", "dependency"), ("a:i386", "dependency")]);
        let (touched, installed) = (list(&["a:i386=1"]), list(&["a:i386=1", "a:amd64=1"]));
        let changed = changed_reasons(Notation::Deb, [&before, &BTreeMap::new()], &touched, &installed);
        assert!(changed.values().flatten().any(|id| id == "a:i386"));
        let before = reasons(&[("a.*", "dependency")]);
        let touched = list(&["a-0:1-1.x86_64"]);
        let changed = changed_reasons(Notation::Rpm, [&before, &BTreeMap::new()], &touched, &touched);
        assert_eq!(changed["dependency"], ["a.*"]);
    }
}
