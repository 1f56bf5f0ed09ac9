//! A change of packages: its keys and their rules.
//!
//! Only the node knows its package manager if the manifest does not name it, so a key that the manager does not know is
//! refused there; see [`Packages::unsupported`].

use super::{ManifestError, value};
use crate::time_limit::TimeLimit;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A change of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Packages to install, in the package manager's notation: `name`, `name-version` (dnf, zypper),
    /// `name=version` (apt, zypper), globs.
    #[serde(default)]
    pub install: Vec<String>,
    /// Packages to remove, in the same notation.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Package manager. Detected on the node if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<Manager>,
    /// Time limit after which the package manager counts as hanging.
    #[serde(default = "default_timeout")]
    pub timeout: TimeLimit,
    /// Repositories of the node to use although they are disabled, by id. dnf and zypper.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enable_repos: Vec<String>,
    /// Repositories of the node not to use, by id or glob. dnf and zypper.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disable_repos: Vec<String>,
    /// Module streams to enable before packages are installed, as `name:stream`. dnf only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<String>,
    /// Further options for dnf, apt-get or zypper; see `OPTIONS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Restrictions that do not apply to this change.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub allow: BTreeSet<Allowance>,
}

/// A package manager that the agent can drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// dnf 4, or dnf 5 installed under this name.
    Dnf,
    /// dnf 5 under its own name.
    Dnf5,
    Apt,
    Zypper,
}

/// A restriction that an admin lifts for one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allowance {
    /// Packages that `excludepkgs` of the node's dnf configuration hides, and those locked by versionlock or `zypper
    /// addlock`.
    Excluded,
    /// Packages on hold in dpkg.
    Held,
    /// A change that cannot be undone, because a package that it replaces is neither kept nor offered.
    NoRollback,
    /// Scriptlets that fail without failing the transaction. They become a note in the status.
    FailedScriptlets,
    /// A boot into another kernel than the one that was installed.
    OtherKernel,
}

/// Options that `options` may contain, with the manager that knows them. None of them can keep the agent from finding
/// out what was done, answer questions, skip a package or a signature check, or run a program.
const OPTIONS: [(Kind, &str); 22] = [
    (Kind::Dnf, "--setopt="),
    (Kind::Dnf, "--repo="),
    (Kind::Dnf, "--exclude="),
    (Kind::Dnf, "--releasever="),
    (Kind::Dnf, "--enableplugin="),
    (Kind::Dnf, "--disableplugin="),
    (Kind::Dnf, "--best"),
    (Kind::Dnf, "--nobest"),
    (Kind::Dnf, "--nodocs"),
    (Kind::Dnf, "--cacheonly"),
    (Kind::Apt, "--target-release="),
    (Kind::Apt, "--install-recommends"),
    (Kind::Apt, "--no-install-recommends"),
    (Kind::Apt, "--install-suggests"),
    (Kind::Apt, "--no-install-suggests"),
    (Kind::Apt, "--fix-policy"),
    (Kind::Apt, "-o"),
    (Kind::Zypper, "--from="),
    (Kind::Zypper, "--recommends"),
    (Kind::Zypper, "--no-recommends"),
    (Kind::Zypper, "--allow-vendor-change"),
    (Kind::Zypper, "--no-allow-vendor-change"),
];

/// Configuration keys of dnf that `--setopt` must not set, without a repository in front.
const PROTECTED_SETTINGS: [&str; 21] = [
    "assumeno",
    "assumeyes",
    "cachedir",
    "clean_requirements_on_remove",
    "defaultyes",
    "downloadonly",
    "exit_on_lock",
    "gpgcheck",
    "installroot",
    "localpkg_gpgcheck",
    "persistdir",
    "pkg_gpgcheck",
    "pluginconfpath",
    "pluginpath",
    "protected_packages",
    "repo_gpgcheck",
    "skip_broken",
    "skip_unavailable",
    "sslverify",
    "strict",
    "tsflags",
];

/// Beginnings of the configuration keys of apt that `-o` may set.
const APT_SETTINGS: [&str; 4] =
    ["acquire::", "apt::install-recommends=", "apt::install-suggests=", "apt::default-release="];

/// Parts of configuration keys of apt that switch off checks or run a program.
const PROTECTED_APT_SETTINGS: [&str; 6] =
    ["allow", "verify", "check-valid-until", "proxy-auto-detect", "proxyautodetect", "trusted"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dnf,
    Apt,
    Zypper,
}

impl Default for Packages {
    fn default() -> Self {
        Self {
            install: Vec::new(),
            remove: Vec::new(),
            manager: None,
            timeout: default_timeout(),
            enable_repos: Vec::new(),
            disable_repos: Vec::new(),
            modules: Vec::new(),
            options: Vec::new(),
            allow: BTreeSet::new(),
        }
    }
}

fn default_timeout() -> TimeLimit {
    TimeLimit::from_secs(20 * 60)
}

impl Packages {
    /// Returns whether the restriction is lifted.
    #[must_use]
    pub fn allows(&self, allowance: Allowance) -> bool {
        self.allow.contains(&allowance)
    }

    /// Returns the first key or option that this package manager does not know, if there is one.
    #[must_use]
    pub fn unsupported(&self, manager: Manager) -> Option<String> {
        let kind = match manager {
            Manager::Apt => Kind::Apt,
            Manager::Dnf | Manager::Dnf5 => Kind::Dnf,
            Manager::Zypper => Kind::Zypper,
        };
        let option = self.options.iter().find(|option| known_option(option) != Some(kind));
        if let Some(option) = option {
            return Some(format!("the option {option:?}"));
        }
        let of_some = [
            ("enable_repos", self.enable_repos.is_empty(), kind != Kind::Apt),
            ("disable_repos", self.disable_repos.is_empty(), kind != Kind::Apt),
            ("modules", self.modules.is_empty(), kind == Kind::Dnf),
        ];
        let key = of_some.into_iter().find(|(_, is_empty, is_known)| !is_empty && !is_known);
        key.map(|(key, _, _)| format!("the key {key:?}"))
    }

    /// Checks the values.
    ///
    /// # Errors
    /// The first value that is refused, with its key.
    pub(super) fn check(&self, key: &str) -> Result<(), ManifestError> {
        if self.install.is_empty() && self.remove.is_empty() {
            return Err(value(key, "neither install nor remove names a package"));
        }
        let is_spec = |spec: &str| is_spec(spec);
        check_each(
            key,
            "install",
            &self.install,
            is_spec,
            "is no package name, version or glob (files and URLs are not taken)",
        )?;
        check_each(
            key,
            "remove",
            &self.remove,
            is_spec,
            "is no package name, version or glob (files and URLs are not taken)",
        )?;
        if let Some(both) = self.install.iter().find(|spec| self.remove.contains(spec)) {
            return Err(value(key, format!("{both:?} is both installed and removed")));
        }
        check_each(key, "enable_repos", &self.enable_repos, is_repository, "is no id of a repository")?;
        check_each(key, "disable_repos", &self.disable_repos, is_repository, "is no id of a repository")?;
        check_each(key, "modules", &self.modules, is_module, "is no module with a stream, NAME:STREAM")?;
        check_each(
            key,
            "options",
            &self.options,
            |option| known_option(option).is_some(),
            "is not among the options that a change may have; manifest.md lists them",
        )?;
        match self.manager.and_then(|manager| self.unsupported(manager)) {
            Some(what) => Err(value(key, format!("the package manager that it names does not know {what}"))),
            None => Ok(()),
        }
    }
}

fn check_each(
    key: &str,
    list: &str,
    values: &[String],
    fits: impl Fn(&str) -> bool,
    problem: &str,
) -> Result<(), ManifestError> {
    match values.iter().position(|value| value.len() > 256 || !fits(value)) {
        Some(index) => {
            let refused = values.get(index).map_or("", String::as_str);
            Err(value(format!("{key}.{list}[{}]", index + 1), format!("{refused:?} {problem}")))
        }
        None => Ok(()),
    }
}

/// Returns whether the text is a name, a version or a glob for dnf, apt and zypper. A leading '-' would be an option,
/// and a trailing one means "remove" to apt. A '/' would be a file or a URL, and those never come from a manifest.
fn is_spec(spec: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "+-._:~^=*?[]@".contains(c);
    let begins = spec.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | '[' | '_'));
    begins && !spec.ends_with('-') && spec.chars().all(fits)
}

fn is_repository(id: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:*?[]".contains(c);
    !id.is_empty() && !id.starts_with('-') && id.chars().all(fits)
}

fn is_module(module: &str) -> bool {
    let fits = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
        !part.is_empty() && !part.starts_with('-') && part.chars().all(fits)
    };
    module.split_once(':').is_some_and(|(name, stream)| fits(name) && fits(stream))
}

/// Returns the kind of package manager that knows the option, or `None` if a change may not have it.
fn known_option(option: &str) -> Option<Kind> {
    if option.contains(char::is_control) {
        return None;
    }
    let is_it = |(_, known): &&(Kind, &str)| match *known {
        "-o" => option.starts_with("-o"),
        known if known.ends_with('=') => option.strip_prefix(known).is_some_and(|value| !value.is_empty()),
        known => option == known,
    };
    let (kind, known) = OPTIONS.iter().find(is_it)?;
    let setting = option.get(known.len()..)?.to_ascii_lowercase();
    let allowed = match *known {
        "--setopt=" => is_free_setting(&setting),
        "-o" => is_free_apt_setting(&setting),
        _ => true,
    };
    allowed.then_some(*kind)
}

fn is_free_setting(setting: &str) -> bool {
    let Some((key, _)) = setting.split_once('=') else { return false };
    let key = key.rsplit('.').next().unwrap_or(key);
    !key.is_empty() && !PROTECTED_SETTINGS.contains(&key)
}

fn is_free_apt_setting(setting: &str) -> bool {
    let key = setting.split('=').next().unwrap_or("");
    setting.contains('=')
        && APT_SETTINGS.iter().any(|beginning| setting.starts_with(beginning))
        && !PROTECTED_APT_SETTINGS.iter().any(|part| key.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(option: &str) -> Packages {
        Packages { install: vec!["a".into()], options: vec![option.into()], ..Packages::default() }
    }

    #[test]
    fn options_that_would_defeat_the_agent_are_refused() {
        let allowed = [
            "--setopt=install_weak_deps=False",
            "--setopt=lab.priority=1",
            "--setopt=timeout=5",
            "--nobest",
            "--exclude=kernel*",
            "--target-release=bookworm-backports",
            "--no-install-recommends",
            "-oAcquire::Retries=3",
            "-oAPT::Default-Release=stable",
            "--from=cuda",
            "--allow-vendor-change",
        ];
        for option in allowed {
            options(option).check("k").unwrap();
        }
        let refused = [
            "",
            "a",
            "-",
            "-y",
            "-o",
            "--",
            "--assumeno",
            "--nogpgcheck",
            "--installroot=/x",
            "--skip-broken",
            "--downloadonly",
            "--setopt=",
            "--setopt=x",
            "--setopt==x",
            "--setopt=gpgcheck=0",
            "--setopt=lab.gpgcheck=0",
            "--setopt=LAB.GPGCheck=0",
            "--setopt=*.sslverify=0",
            "--setopt=tsflags=test",
            "--setopt=timeout=5\n",
            "--repo=",
            "--nobest=x",
            "-oDPkg::Pre-Invoke::=reboot",
            "-oAPT::Get::AllowUnauthenticated=1",
            "-oAcquire::AllowInsecureRepositories=1",
            "-oAcquire::https::Verify-Peer=false",
            "-oAcquire::http::Proxy-Auto-Detect=/bin/x",
            "-oAcquire::Retries",
            "--allow-unauthenticated",
            "--simulate",
            "--no-gpg-checks",
            "--gpg-auto-import-keys",
            "--allow-unsigned-rpm",
            "--root=/x",
            "--dry-run",
            "--download-only",
            "--force-resolution",
        ];
        for option in refused {
            let error = options(option).check("k").unwrap_err().to_string();
            assert!(error.starts_with("k.options[1]"), "{option}: {error}");
        }
    }

    #[test]
    fn a_manager_refuses_what_only_the_other_knows() {
        let named = |manager, packages: Packages| {
            Packages { manager: Some(manager), ..packages }.check("k").map_err(|error| error.to_string())
        };
        assert!(named(Manager::Apt, options("-oAcquire::Retries=3")).is_ok());
        assert!(named(Manager::Dnf, options("--nobest")).is_ok());
        let error = named(Manager::Apt, options("--nobest")).unwrap_err();
        assert!(error.contains("\"--nobest\""), "{error}");
        assert!(named(Manager::Dnf5, options("-oAcquire::Retries=3")).is_err());
        let repos =
            Packages { install: vec!["a".into()], enable_repos: vec!["crb".into()], ..Packages::default() };
        assert!(named(Manager::Dnf, repos.clone()).is_ok());
        assert!(named(Manager::Zypper, repos.clone()).is_ok());
        assert!(named(Manager::Apt, repos.clone()).unwrap_err().contains("enable_repos"));
        let modules = Packages { modules: vec!["driver:580".into()], ..repos };
        assert!(named(Manager::Zypper, modules).unwrap_err().contains("modules"));
        assert!(named(Manager::Zypper, options("--from=cuda")).is_ok());
        assert!(named(Manager::Dnf, options("--from=cuda")).is_err());
    }

    #[test]
    fn names_of_repositories_and_modules() {
        for (id, fits) in [("crb", true), ("site-*", true), ("", false), ("--enable", false), ("a b", false)]
        {
            assert_eq!(is_repository(id), fits, "{id}");
        }
        let modules = [
            ("nvidia-driver:580-open", true),
            ("a", false),
            ("a:", false),
            (":b", false),
            ("a:b:c", false),
            ("-a:b", false),
        ];
        for (module, fits) in modules {
            assert_eq!(is_module(module), fits, "{module}");
        }
    }

    /// An older agent must accept the order of a manifest without the new keys.
    #[test]
    fn keys_that_are_not_used_are_not_written() {
        let packages = Packages { install: vec!["a".into()], ..Packages::default() };
        let text = serde_json::to_string(&packages).unwrap();
        assert_eq!(text, r#"{"install":["a"],"remove":[],"timeout":"20m"}"#);
    }
}
