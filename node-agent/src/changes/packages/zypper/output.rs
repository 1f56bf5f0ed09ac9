//! The output of `zypper --xmlout`. Pure.
//!
//! Its elements have all of interest in attributes, so no more of XML than start tags is read.

use crate::changes::packages::space::Space;
use crate::changes::packages::spec::{self, Notation};
use rollout_core::protocol::rehearsal::Step;
use std::collections::{BTreeMap, BTreeSet};

/// The repository of packages that are installed and in no repository.
const INSTALLED_ONLY: &str = "(System Packages)";

/// Returns the ids of the repositories that are enabled, in the output of `repos`.
pub(super) fn enabled_repositories(xml: &str) -> Vec<String> {
    let repositories = elements(xml, "repo").into_iter();
    let enabled = repositories.filter(|repo| repo.get("enabled").map(String::as_str) == Some("1"));
    enabled.filter_map(|mut repo| repo.remove("alias")).collect()
}

/// Returns the installed packages with the name of a package that a dry run lists.
pub(super) fn named(xml: &str, installed: &[String]) -> Vec<String> {
    let solvables = elements(xml, "solvable").into_iter();
    let names: BTreeSet<String> = solvables.filter_map(|mut solvable| solvable.remove("name")).collect();
    installed.iter().filter(|package| names.contains(spec::name(Notation::Rpm, package))).cloned().collect()
}

/// Returns the packages as the dry run would install, replace and remove them.
pub(super) fn steps(xml: &str) -> Vec<Step> {
    const REMOVED: (&str, &str) = ("<to-remove>", "</to-remove>");
    let (before, rest) = xml.split_once(REMOVED.0).unwrap_or((xml, ""));
    let (removed, after) = rest.split_once(REMOVED.1).unwrap_or((rest, ""));
    let step = |mut solvable: BTreeMap<String, String>, goes: bool| {
        let is_package = solvable.get("type").is_some_and(|kind| kind == "package");
        let what = format!("{}.{}", solvable.remove("name")?, solvable.remove("arch")?);
        let (edition, old) = (solvable.remove("edition"), solvable.remove("edition-old"));
        let (from, to) = if goes { (edition, None) } else { (old, edition) };
        is_package.then_some(Step { what, from, to })
    };
    let stay = [before, after].into_iter().flat_map(|part| elements(part, "solvable"));
    let stay = stay.filter_map(|solvable| step(solvable, false));
    let go = elements(removed, "solvable").into_iter().filter_map(|solvable| step(solvable, true));
    let mut steps: Vec<Step> = stay.chain(go).collect();
    steps.sort_unstable();
    steps
}

/// Returns those of these installed packages that no repository has in the output of `search --details`.
pub(super) fn not_offered(xml: &str, packages: &[String]) -> Vec<String> {
    let solvables = elements(xml, "solvable").into_iter();
    let offered =
        solvables.filter(|solvable| solvable.get("repository").is_some_and(|id| id != INSTALLED_ONLY));
    let offered: BTreeSet<String> = offered
        .filter_map(|mut solvable| {
            let (name, edition) = (solvable.remove("name")?, solvable.remove("edition")?);
            let edition = if edition.contains(':') { edition } else { format!("0:{edition}") };
            Some(format!("{name}-{edition}.{}", solvable.remove("arch")?))
        })
        .collect();
    packages.iter().filter(|package| !offered.contains(*package)).cloned().collect()
}

/// Returns the space that the summary of a dry run names.
pub(super) fn space(xml: &str) -> Space {
    let summary = elements(xml, "install-summary").into_iter().next().unwrap_or_default();
    let number = |key: &str| summary.get(key).and_then(|value| value.parse::<i64>().ok()).unwrap_or(0);
    let bytes = |key: &str| u64::try_from(number(key)).unwrap_or(0);
    Space { download: bytes("download-size"), growth: bytes("space-usage-diff") }
}

/// Returns the attributes of all elements of this name.
fn elements(xml: &str, name: &str) -> Vec<BTreeMap<String, String>> {
    let start = format!("<{name} ");
    let tags = xml.split(start.as_str()).skip(1).filter_map(|rest| rest.split_once('>'));
    tags.map(|(tag, _)| attributes(tag)).collect()
}

/// Parses `key="value"` pairs. zypper escapes `>` and `"` in values.
fn attributes(tag: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut rest = tag;
    while let Some((key, after)) = rest.split_once("=\"") {
        let Some((value, after)) = after.split_once('"') else { break };
        found.insert(key.trim().to_owned(), unescaped(value));
        rest = after;
    }
    found
}

fn unescaped(text: &str) -> String {
    let escapes = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    escapes.iter().fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of zypper 1.14.42.
    const REPOSITORIES: &str = r#"<?xml version='1.0'?>
<stream>
<repo-list>
<repo alias="lab" name="R&amp;D" type="rpm-md" priority="99" enabled="1" autorefresh="0" gpgcheck="0">
<url>file:/tmp/repo</url>
</repo>
<repo alias="a&amp;b" name="b" type="rpm-md" priority="99" enabled="1" autorefresh="0" gpgcheck="1">
<repo alias="off" name="off" type="rpm-md" priority="99" enabled="0" autorefresh="0" gpgcheck="1">
</repo-list>
</stream>"#;

    #[test]
    fn repositories_are_those_that_are_enabled() {
        assert_eq!(enabled_repositories(REPOSITORIES), ["lab", "a&b"]);
        assert!(enabled_repositories("<repo alias=\"x").is_empty());
    }

    /// Output of zypper 1.14.42, shortened.
    const SUMMARY: &str = r#"<message type="info">Loading repository data...</message>
<install-summary download-size="12371" space-usage-diff="8" packages-to-change="3">
<to-upgrade>
<solvable type="package" name="alpha" edition="1.1-1" arch="noarch" edition-old="1.0-1" summary="x &gt; y">
<description>t</description></solvable>
</to-upgrade>
<to-install>
<solvable type="package" name="new" edition="1.1-1" arch="noarch" summary="test">
</to-install>
<to-remove>
<solvable type="package" name="k" edition="2-1" arch="noarch" summary="test">
</to-remove>
</install-summary>"#;

    #[test]
    fn a_dry_run_names_packages_and_space() {
        let installed =
            ["alpha-0:1.0-1.noarch", "alpha-libs-0:1.0-1.noarch", "k-0:1-1.noarch", "k-0:2-1.noarch"];
        let found = named(SUMMARY, &installed.map(str::to_owned));
        assert_eq!(found, ["alpha-0:1.0-1.noarch", "k-0:1-1.noarch", "k-0:2-1.noarch"]);
        assert_eq!(space(SUMMARY), Space { download: 12371, growth: 8 });
        let less = SUMMARY.replace("diff=\"8\"", "diff=\"-8\"");
        assert_eq!(space(&less), Space { download: 12371, growth: 0 });
        assert_eq!(space(""), Space::default());
        let step = |what: &str, from: Option<&str>, to: Option<&str>| Step {
            what: what.to_owned(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let expected = [
            step("alpha.noarch", Some("1.0-1"), Some("1.1-1")),
            step("k.noarch", Some("2-1"), None),
            step("new.noarch", None, Some("1.1-1")),
        ];
        assert_eq!(steps(SUMMARY), expected);
        assert!(steps("").is_empty() && steps("<to-remove><solvable name=\"x").is_empty());
    }

    /// Output of zypper 1.14.42, shortened.
    const SEARCH: &str = r#"<search-result version="0.0"><solvable-list>
<solvable status="installed" name="alpha" kind="package" edition="1.0-1" arch="noarch" repository="lab"/>
<solvable status="other-version" name="beta" kind="package" edition="1.1-1" arch="noarch" repository="lab"/>
<solvable status="installed" name="beta" kind="package" edition="1.0-1" arch="noarch" repository="(System Packages)"/>
<solvable status="installed" name="epoch" kind="package" edition="2:1.0-1" arch="x86_64" repository="lab"/>
</solvable-list></search-result>"#;

    #[test]
    fn packages_that_are_only_installed_are_not_offered() {
        let installed = ["alpha-0:1.0-1.noarch", "beta-0:1.0-1.noarch", "epoch-2:1.0-1.x86_64"];
        assert_eq!(not_offered(SEARCH, &installed.map(str::to_owned)), ["beta-0:1.0-1.noarch"]);
    }
}
