//! Lists of installed packages. Each package is written so that it is unambiguous: rpm
//! `name-epoch:version-release.arch`, dpkg `name:arch=version`. Pure.
//!
//! dpkg also has packages that are neither installed nor removed. Their text ends in the state in brackets.

use super::spec::{self, Notation};
use std::collections::BTreeMap;

/// State of a removed Debian package whose configuration files are left.
pub(super) const CONFIG_FILES: &str = " [config-files]";
/// State of a Debian package whose files are there and whose configuration was interrupted.
pub(super) const UNCONFIGURED: &str = " [not configured]";
/// State of a Debian package whose unpacking was interrupted.
pub(super) const HALF_INSTALLED: &str = " [half-installed]";

/// The difference between two lists of packages.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// In the first list only.
    pub missing: Vec<String>,
    /// In the second list only.
    pub extra: Vec<String>,
}

impl Difference {
    /// Compares `before` with `now`. A package that is listed twice, as rpm may do, counts twice. Leftover
    /// configuration files do not count: they are not part of the software that a node runs.
    pub(super) fn between(before: &[String], now: &[String]) -> Self {
        let mut count: BTreeMap<&str, i64> = BTreeMap::new();
        for package in before.iter().filter(|package| !package.ends_with(CONFIG_FILES)) {
            *count.entry(package).or_default() -= 1;
        }
        for package in now.iter().filter(|package| !package.ends_with(CONFIG_FILES)) {
            *count.entry(package).or_default() += 1;
        }
        let mut difference = Self::default();
        for (package, count) in count {
            let (list, times) =
                if count < 0 { (&mut difference.missing, -count) } else { (&mut difference.extra, count) };
            list.extend((0..times).map(|_| package.to_owned()));
        }
        difference
    }

    /// Splits a difference to `before` into our part and what others have done. Ours are packages that our transaction
    /// touched, and those that have since taken the place of one of them. A further version beside one from before, as
    /// of a kernel, takes no place.
    pub(super) fn split(self, notation: Notation, before: &[String], touched: &[String]) -> (Self, Self) {
        let stays = |package: &String| {
            let missing = self.missing.contains(package);
            !missing && !touched.contains(package)
        };
        let staying: Vec<&String> = before.iter().filter(|package| stays(package)).collect();
        let is_ours = |package: &String| {
            let replaces = touched.iter().any(|ours| spec::is_same(notation, ours, package));
            touched.contains(package)
                || replaces && !staying.iter().any(|old| spec::is_same(notation, old, package))
        };
        let (our_missing, missing) = self.missing.iter().cloned().partition(|p| touched.contains(p));
        let (our_extra, extra) = self.extra.iter().cloned().partition(is_ours);
        (Self { missing: our_missing, extra: our_extra }, Self { missing, extra })
    }

    /// Returns the list from which `now` would not differ in this way.
    pub(super) fn undone(&self, now: &[String]) -> Vec<String> {
        let mut extra = self.extra.clone();
        let mut target: Vec<String> = Vec::new();
        for package in now {
            match extra.iter().position(|one| one == package) {
                Some(index) => drop(extra.swap_remove(index)),
                None => target.push(package.clone()),
            }
        }
        target.extend(self.missing.iter().cloned());
        target.sort_unstable();
        target
    }

    pub(super) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty()
    }

    /// Describes the difference for messages, with the first few packages of each kind.
    pub(super) fn describe(&self) -> String {
        let part = |word: &str, list: &[String]| (!list.is_empty()).then(|| format!("{word} {}", few(list)));
        let parts = [part("missing:", &self.missing), part("not there before:", &self.extra)];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// Returns the old packages that are half unpacked in their old version.
pub(super) fn half_installed<'a>(
    missing: &'a [String],
    extra: &'a [String],
) -> impl Iterator<Item = &'a String> {
    missing.iter().filter(|package| extra.contains(&format!("{package}{}", HALF_INSTALLED)))
}

/// Returns the first few of a list, for a message that must stay on one line.
pub(super) fn few(list: &[impl AsRef<str>]) -> String {
    let first: Vec<&str> = list.iter().take(4).map(AsRef::as_ref).collect();
    let rest = list.len().saturating_sub(first.len());
    first.join(" ") + &if rest > 0 { format!(" and {rest} more") } else { String::new() }
}

/// Parses the output of rpm: our notation, one package a line.
pub(super) fn from_rpm(output: &str) -> Vec<String> {
    // A signing key is not a package: dnf imports keys on its own, and an undo could not get one back.
    let packages = output.lines().filter(|line| !line.is_empty() && !line.starts_with("gpg-pubkey-"));
    sorted(packages.map(str::to_owned))
}

/// Parses the output of `dpkg-query -W -f '${db:Status-Abbrev}\t${Package}:${Architecture}=${Version}\n'`.
pub(super) fn from_dpkg(output: &str) -> Vec<String> {
    let packages = output.lines().filter_map(|line| {
        let (state, package) = line.split_once('\t')?;
        let mut letters = state.chars().skip(1);
        let suffix = match (letters.next()?, letters.next()) {
            (_, Some('R')) | ('H', _) => HALF_INSTALLED,
            ('U' | 'F', _) => UNCONFIGURED,
            ('c', _) => CONFIG_FILES,
            // Pending triggers change no version.
            ('i' | 'W' | 't', _) => "",
            _ => return None,
        };
        Some(format!("{package}{suffix}"))
    });
    sorted(packages)
}

fn sorted(packages: impl Iterator<Item = String>) -> Vec<String> {
    let mut packages: Vec<_> = packages.collect();
    packages.sort_unstable();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn rpm_lines_are_sorted_and_keys_left_out() {
        let output = "zlib-0:1.3-1.x86_64\ngpg-pubkey-0:8483c65d-1.(none)\nbash-0:5.2-1.x86_64\n";
        assert_eq!(from_rpm(output), ["bash-0:5.2-1.x86_64", "zlib-0:1.3-1.x86_64"]);
    }

    #[test]
    fn dpkg_states() {
        let output = "ii \tb:amd64=1\nhi \ta:all=2\nrc \tc:all=1\niU \td:all=1\niF \te:all=1\niH \tf:all=1\n\
                      iiR\tg:all=1\nun \th:=\nit \ti:all=1\niW \tj:all=1\npn \tk:all=1\n";
        let expected = [
            "a:all=2",
            "b:amd64=1",
            "c:all=1 [config-files]",
            "d:all=1 [not configured]",
            "e:all=1 [not configured]",
            "f:all=1 [half-installed]",
            "g:all=1 [half-installed]",
            "i:all=1",
            "j:all=1",
        ];
        assert_eq!(from_dpkg(output), expected);
    }

    /// (before, now, touched by us, our part, the others' part)
    const SPLITS: &[(&str, &str, &str, &str, &str)] = &[
        ("a:all=1", "a:all=2", "a:all=1 a:all=2", "-a:all=1 +a:all=2", ""),
        ("a:all=1 b:all=1", "a:all=2 b:all=2", "a:all=1 a:all=2", "-a:all=1 +a:all=2", "-b:all=1 +b:all=2"),
        ("a:all=1", "a:all=3", "a:all=1 a:all=2", "-a:all=1 +a:all=3", ""),
        ("", "n:all=2", "n:all=1", "+n:all=2", ""),
        ("b:all=1", "b:all=2", "", "", "-b:all=1 +b:all=2"),
        ("a:all=1", "a:all=1 c:all=1", "a:all=1", "", "+c:all=1"),
    ];

    #[test]
    fn what_others_have_changed_is_not_ours() {
        for (before, now, touched, ours, others) in SPLITS {
            let (before, now) = (list(before), list(now));
            let split = Difference::between(&before, &now).split(Notation::Deb, &before, &list(touched));
            let text = |difference: &Difference| {
                let missing = difference.missing.iter().map(|p| format!("-{p}"));
                missing.chain(difference.extra.iter().map(|p| format!("+{p}"))).collect::<Vec<_>>().join(" ")
            };
            assert_eq!((text(&split.0).as_str(), text(&split.1).as_str()), (*ours, *others), "{now:?}");
            let target = split.0.undone(&now);
            assert_eq!(text(&Difference::between(&before, &target)), *others);
        }
    }

    #[test]
    fn a_kernel_that_others_install_stays_beside_ours() {
        let before = list("k-0:1-1.x86_64 k-0:2-1.x86_64");
        let now = list("k-0:2-1.x86_64 k-0:3-1.x86_64 k-0:4-1.x86_64");
        let touched = list("k-0:1-1.x86_64 k-0:3-1.x86_64");
        let (ours, others) = Difference::between(&before, &now).split(Notation::Rpm, &before, &touched);
        assert_eq!(ours, Difference { missing: list("k-0:1-1.x86_64"), extra: list("k-0:3-1.x86_64") });
        assert_eq!(others.extra, list("k-0:4-1.x86_64"));
    }

    #[test]
    fn differences() {
        let c = ["c:all=1 [config-files]".to_owned()];
        assert!(Difference::between(&list("a b"), &[list("a b"), c.to_vec()].concat()).is_empty());
        let found = Difference::between(&list("a b b"), &list("b c c"));
        assert_eq!(found, Difference { missing: list("a b"), extra: list("c c") });
        assert_eq!(found.describe(), "missing: a b; not there before: c c");
        let many = Difference::between(&list("a b c d e f"), &[]);
        assert_eq!(many.describe(), "missing: a b c d and 2 more");
    }
}
