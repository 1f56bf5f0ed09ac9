//! Differences between dnf 4 and dnf 5, and the texts of both that are parsed. Pure.

use crate::changes::packages::tool::BY_USER;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::changes::packages) enum Flavour {
    Dnf4,
    Dnf5,
}

impl Flavour {
    /// Options for all or nothing, and never more than asked. A lock is reported, not waited for without end.
    pub(super) fn strictness(self) -> &'static [&'static str] {
        match self {
            Self::Dnf4 => &["--setopt=strict=True", "--setopt=exit_on_lock=True"],
            Self::Dnf5 => &["--setopt=skip_unavailable=False", "--setopt=skip_broken=False"],
        }
    }

    /// Options that lift excludes and locks of versions.
    pub(super) fn without_excludes(self) -> &'static [&'static str] {
        match self {
            Self::Dnf4 => &["--setopt=disable_excludes=all", "--disableplugin=versionlock"],
            Self::Dnf5 => &["--setopt=disable_excludes=*"],
        }
    }

    /// Options that make every package visible that a repository has, also those of module streams that are not
    /// enabled.
    pub(super) fn everything(self) -> impl Iterator<Item = &'static str> {
        self.without_excludes().iter().copied().chain(["--setopt=*.module_hotfixes=True"])
    }

    /// Returns the arguments that give packages a reason, as dnf itself names it.
    pub(super) fn mark(self, reason: &str) -> Vec<&str> {
        match (self, reason) {
            (Self::Dnf4, "group") => vec!["mark", "group"],
            (Self::Dnf4, "dependency") => vec!["mark", "remove"],
            (Self::Dnf4, _) => vec!["mark", "install"],
            (Self::Dnf5, "dependency") => vec!["mark", "dependency"],
            // dnf5 would need the id of the group as well.
            (Self::Dnf5, _) => vec!["mark", "user"],
        }
    }

    /// Arguments that fetch the files of installed packages without a plugin.
    pub(super) fn fetch(self, directory: &Path) -> Vec<String> {
        let directory = directory.display();
        match self {
            Self::Dnf4 => {
                vec!["reinstall".into(), "--downloadonly".into(), format!("--downloaddir={directory}")]
            }
            Self::Dnf5 => vec![
                "download".into(),
                "--setopt=skip_unavailable=True".into(),
                format!("--destdir={directory}"),
            ],
        }
    }
}

/// Parses lines of a name and a reason, in the words of either dnf: `weak-dependency`, `Weak Dependency`.
pub(super) fn reasons(output: &str) -> BTreeMap<String, String> {
    let lines = output.lines().filter_map(|line| line.trim().split_once(' '));
    let simple = |reason: &str| {
        let reason = reason.to_ascii_lowercase();
        match reason.as_str() {
            "group" => "group",
            reason if reason.contains("depend") => "dependency",
            _ => BY_USER,
        }
    };
    lines.map(|(package, reason)| (package.to_owned(), simple(reason).to_owned())).collect()
}

/// Returns whether a file of dnf 4 about a module says that this stream of it is enabled.
pub(super) fn has_stream(text: &str, stream: &str) -> bool {
    let value = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.map(|(key, value)| (key.trim(), value.trim())).find(|(k, _)| *k == key).map(|(_, value)| value)
    };
    value("state") == Some("enabled") && value("stream") == Some(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_both_dnfs() {
        let found =
            reasons("a.x86_64 user\nb.noarch dependency\n\nc.noarch Weak Dependency\nd.noarch Group\n");
        let reason = |name: &str| found.get(name).map(String::as_str);
        assert_eq!(reason("a.x86_64"), Some("user"));
        assert_eq!(reason("b.noarch"), Some("dependency"));
        assert_eq!(reason("c.noarch"), Some("dependency"));
        assert_eq!(reason("d.noarch"), Some("group"));
    }

    #[test]
    fn streams_that_are_enabled() {
        let text = "[driver]\nname=driver\nstream=580-open\nprofiles=\nstate=enabled\n";
        assert!(has_stream(text, "580-open"));
        assert!(!has_stream(text, "580"));
        assert!(!has_stream(&text.replace("enabled", "disabled"), "580-open"));
        assert!(!has_stream("", "580"));
    }
}
