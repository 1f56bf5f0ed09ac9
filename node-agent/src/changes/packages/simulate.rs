//! The installed packages that a package manager names in a dry run. Pure, and generous: one too many is cached in
//! vain, one too few cannot be restored without a mirror.

use super::spec::{self, Notation};
use rollout_core::protocol::rehearsal::Step;
use std::collections::BTreeSet;

/// Returns the installed packages whose name is a word of dnf's output, alone or with the architecture. This works
/// for the tables of both dnf4 and dnf5, which are made for people and wrap lines.
pub(super) fn in_dnf(output: &str, installed: &[String]) -> Vec<String> {
    let words: BTreeSet<&str> = output.split_whitespace().collect();
    let is_named = |package: &&String| {
        words.contains(spec::name(Notation::Rpm, package))
            || words.contains(spec::name_and_arch(Notation::Rpm, package).as_str())
    };
    installed.iter().filter(is_named).cloned().collect()
}

/// Returns the installed packages that a simulation lists as `Inst` (installed anew) or `Remv`.
pub(super) fn in_apt(simulation: &str, installed: &[String]) -> Vec<String> {
    let lines =
        simulation.lines().filter_map(|line| line.strip_prefix("Inst ").or(line.strip_prefix("Remv ")));
    let names: BTreeSet<&str> = lines.filter_map(|line| line.split_whitespace().next()).collect();
    let is_named = |package: &&String| {
        names.contains(spec::name(Notation::Deb, package))
            || names.contains(spec::name_and_arch(Notation::Deb, package).as_str())
    };
    installed.iter().filter(is_named).filter(|package| !package.ends_with(']')).cloned().collect()
}

/// A part of dnf's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    New,
    /// In place of an installed version.
    Other,
    Gone,
}

/// Returns the packages as dnf's table lists them. Its rows are indented by one blank. A long name has a line of its
/// own, and what a package replaces is on a line below it.
pub(super) fn steps_in_dnf(output: &str, installed: &[String]) -> Vec<Step> {
    let mut part = None;
    let mut rows: Vec<(Part, Vec<&str>)> = Vec::new();
    for line in output.lines() {
        let words = line.split_whitespace();
        match (line.len() - line.trim_start().len(), part, line.trim_start().strip_prefix("replacing ")) {
            (0, ..) => part = part_of(line),
            (_, None, _) => {}
            (_, Some(_), Some(replaced)) => rows.push((Part::Gone, replaced.split_whitespace().collect())),
            (1, Some(part), None) => rows.push((part, words.collect())),
            (_, Some(_), None) => rows.last_mut().into_iter().for_each(|row| row.1.extend(words.clone())),
        }
    }
    let old = |id: &str| installed.iter().find(|package| spec::name_and_arch(Notation::Rpm, package) == id);
    let mut steps: Vec<Step> = rows
        .iter()
        .filter_map(|(part, words)| {
            let (what, version) = row_of(words)?;
            let from =
                old(&what).map(|package| version_in_rpm(&what, package)).filter(|_| *part != Part::New);
            match part {
                Part::Gone => Some(Step { what, from: from.or(Some(version)), to: None }),
                Part::New | Part::Other => Some(Step { what, from, to: Some(version) }),
            }
        })
        .collect();
    steps.sort_unstable();
    // dnf5 says for each package which version of its own it replaces.
    let staying: BTreeSet<String> =
        steps.iter().filter(|step| step.to.is_some()).map(|step| step.what.clone()).collect();
    steps.retain(|step| step.to.is_some() || !staying.contains(&step.what));
    steps
}

fn part_of(heading: &str) -> Option<Part> {
    const PARTS: [(&str, Part); 5] = [
        ("Installing", Part::New),
        ("Upgrading", Part::Other),
        ("Downgrading", Part::Other),
        ("Reinstalling", Part::Other),
        ("Removing", Part::Gone),
    ];
    PARTS.iter().find(|(word, _)| heading.starts_with(word)).map(|(_, part)| *part)
}

/// Returns `name.arch` and the version of a row: `name arch version …`, or `name.arch version` of dnf 4.
fn row_of(words: &[&str]) -> Option<(String, String)> {
    let (what, version) = match words {
        [what, version] if what.contains('.') => ((*what).to_owned(), version),
        [name, arch, version, ..] => (format!("{name}.{arch}"), version),
        _ => return None,
    };
    Some((what, version.strip_prefix("0:").unwrap_or(version).to_owned()))
}

/// Returns the version in the text of an installed package with this `name.arch`, as dnf writes it.
fn version_in_rpm(what: &str, package: &str) -> String {
    let (name, arch) = what.rsplit_once('.').unwrap_or((what, ""));
    let version = package.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
    let version = version.and_then(|rest| rest.strip_suffix(arch)).map(|rest| rest.trim_end_matches('.'));
    let version = version.unwrap_or(package);
    version.strip_prefix("0:").unwrap_or(version).to_owned()
}

/// Returns the packages as a simulation lists them: `Inst NAME [OLD] (NEW …)`, `Remv NAME [OLD]`.
pub(super) fn steps_in_apt(simulation: &str) -> Vec<Step> {
    let step = |line: &str| {
        let (verb, rest) = line.split_once(' ')?;
        let (what, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let between = |text: &str, open: char, close: char| {
            Some(text.strip_prefix(open)?.split(close).next()?.split(' ').next()?.to_owned())
        };
        let from = between(rest, '[', ']');
        let new = rest.split_once(" (").map_or(rest, |(_, new)| new);
        let to = match verb {
            "Inst" => between(&format!("({}", new.trim_start_matches('(')), '(', ')'),
            "Remv" => None,
            _ => return None,
        };
        Some(Step { what: what.to_owned(), from, to })
    };
    let mut steps: Vec<Step> = simulation.lines().filter_map(step).collect();
    steps.sort_unstable();
    steps
}

#[cfg(test)]
mod tests {
    use super::super::tests::step;
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    const INSTALLED: &str = "a-package-with-a-very-long-name-indeed-0:1.0-1.noarch alpha-0:1.0-1.noarch \
                             alpha-libs-0:1.0-1.noarch beta-0:1.0-1.noarch oldname-0:1.0-1.noarch";

    /// Output of dnf 4.23; a long name has a line of its own.
    const DNF4: &str = "Dependencies resolved.
=========================================================================
 Package           Architecture       Version             Repository  Size
=========================================================================
Installing:
 newname           noarch             2.0-1               lab        6.5 k
     replacing  oldname.noarch 1.0-1
Upgrading:
 a-package-with-a-very-long-name-indeed
                   noarch             1.1-1               lab        6.5 k
 alpha             noarch             1.1-1               lab        6.5 k
Operation aborted.
";

    /// Output of dnf5 5.4.
    const DNF5: &str = "Package            Arch   Version Repository      Size
Upgrading:
 alpha             noarch 0:1.1-1 lab          8.0   B
   replacing alpha noarch 0:1.0-1 lab          8.0   B
Removing:
 beta              noarch 0:1.0-1 lab          8.0   B
";

    /// Output of apt 3.0.
    const APT: &str = "The following packages were automatically installed and are no longer required:
  gamma
Remv oldname:i386 [1:1.0~rc1]
Inst alpha [1.0] (1.1 local [all]) []
Inst newname (2.0 local [all])
Conf alpha (1.1 local [all])
Conf beta (1.1 local [all])
";

    #[test]
    fn packages_are_found_in_what_the_tools_say() {
        let installed = list(INSTALLED);
        let names = |found: Vec<String>| {
            found.iter().map(|p| spec::name(Notation::Rpm, p).to_owned()).collect::<Vec<_>>()
        };
        let found = names(in_dnf(DNF4, &installed));
        assert_eq!(found, ["a-package-with-a-very-long-name-indeed", "alpha", "oldname"]);
        assert_eq!(names(in_dnf(DNF5, &installed)), ["alpha", "beta"]);
        let expected = [
            step("a-package-with-a-very-long-name-indeed.noarch", "1.0-1", "1.1-1"),
            step("alpha.noarch", "1.0-1", "1.1-1"),
            step("newname.noarch", "", "2.0-1"),
            step("oldname.noarch", "1.0-1", ""),
        ];
        assert_eq!(steps_in_dnf(DNF4, &installed), expected);
        let expected = [step("alpha.noarch", "1.0-1", "1.1-1"), step("beta.noarch", "1.0-1", "")];
        assert_eq!(steps_in_dnf(DNF5, &installed), expected);
        let kernels = list("k-0:1-1.x86_64 k-0:2-1.x86_64");
        let beside = "Installing:\n k x86_64 3-1 lab 1 M\nTransaction Summary\n Install 1 Package\n";
        assert_eq!(steps_in_dnf(beside, &kernels), [step("k.x86_64", "", "3-1")]);
        let expected =
            [step("alpha", "1.0", "1.1"), step("newname", "", "2.0"), step("oldname:i386", "1:1.0~rc1", "")];
        assert_eq!(steps_in_apt(APT), expected);
        for nothing in ["", "Installing:\n", " alpha\n", "Removing:\n x\n", "Inst\nRemv\n"] {
            assert!(steps_in_dnf(nothing, &installed).is_empty() && steps_in_apt(nothing).is_empty());
        }
        let installed =
            list("alpha:all=1.0 beta:all=1.0 gamma:all=1.0 oldname:amd64=1:1.0~rc1 oldname:i386=1:1.0~rc1");
        assert_eq!(in_apt(APT, &installed), ["alpha:all=1.0", "oldname:i386=1:1.0~rc1"]);
    }
}
