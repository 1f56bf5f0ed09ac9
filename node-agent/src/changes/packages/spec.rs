//! Package specs of a manifest, matched against installed packages. Pure.
//!
//! The rule: **a spec without a version is satisfied by any installed version.** A spec with a version requires that
//! version. Only the package manager can resolve a spec with glob characters or of a group (`@`): to install one the
//! manager is always run, and finds by itself that there is nothing to do.

/// The notation in which a package manager writes packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// `name-epoch:version-release.arch`
    Rpm,
    /// `name:arch=version`
    Deb,
}

/// Returns whether only the package manager can resolve the spec.
pub(super) fn needs_manager(spec: &str) -> bool {
    spec.contains(['*', '?', '[']) || spec.starts_with('@')
}

/// Returns whether the spec names this package. Glob characters are expanded.
pub(super) fn names(notation: Notation, spec: &str, package: &str) -> bool {
    let forms = match notation {
        Notation::Rpm => rpm_forms(package),
        Notation::Deb => deb_forms(package),
    };
    forms.iter().any(|form| glob_matches(spec.as_bytes(), form.as_bytes()))
}

/// Returns the specs that no installed package satisfies yet, or that only the manager can resolve.
pub(super) fn unsatisfied<'a>(notation: Notation, specs: &'a [String], installed: &[String]) -> Vec<&'a str> {
    let unsatisfied =
        |spec: &&String| needs_manager(spec) || !installed.iter().any(|p| names(notation, spec, p));
    specs.iter().filter(unsatisfied).map(String::as_str).collect()
}

/// Returns the installed packages that the specs remove.
pub(super) fn to_remove(notation: Notation, specs: &[String], installed: &[String]) -> Vec<String> {
    let is_named = |package: &&String| specs.iter().any(|spec| names(notation, spec, package));
    installed.iter().filter(is_named).cloned().collect()
}

/// Returns a package's name with its architecture. Only one version of it can be installed, except for kernels.
pub(super) fn name_and_arch(notation: Notation, package: &str) -> String {
    match (notation, rpm_parts(package)) {
        (Notation::Rpm, Some(p)) => format!("{}.{}", p.name, p.arch),
        (Notation::Deb, _) => package.split_once('=').map_or(package, |(name, _)| name).to_owned(),
        (Notation::Rpm, None) => package.to_owned(),
    }
}

/// Returns whether two packages are versions of the same package, only one of which can be installed: the name is the
/// same, and the architecture is the same or one of them is "any".
pub(super) fn is_same(notation: Notation, one: &str, other: &str) -> bool {
    let arch = |package: &str| match notation {
        Notation::Rpm => rpm_parts(package).map(|p| p.arch.to_owned()),
        Notation::Deb => name_and_arch(notation, package).split_once(':').map(|(_, arch)| arch.to_owned()),
    };
    let (a, b) = (arch(one), arch(other));
    let is_any = |arch: &Option<String>| matches!(arch.as_deref(), Some("all" | "noarch"));
    name(notation, one) == name(notation, other) && (a == b || is_any(&a) || is_any(&b))
}

/// Returns a package's name without its architecture.
pub(super) fn name(notation: Notation, package: &str) -> &str {
    match notation {
        Notation::Rpm => rpm_parts(package).map_or(package, |p| p.name),
        Notation::Deb => package.split(':').next().unwrap_or(package),
    }
}

/// Returns the package's name in the name under which its manager keeps the reason for it: `name.arch` of dnf, `name`
/// or `name:arch` of apt.
pub(super) fn name_of_id(notation: Notation, id: &str) -> &str {
    match notation {
        Notation::Rpm => id.rsplit_once('.').map_or(id, |(name, _)| name),
        Notation::Deb => name(notation, id),
    }
}

/// Returns whether a manager keeps the reason for a package under this name. A name without an architecture stands for
/// all of them: apt's own one is not in it.
pub(super) fn has_id(notation: Notation, package: &str, id: &str) -> bool {
    match notation {
        Notation::Rpm if id.ends_with(ANY_ARCH) => name(notation, package) == name_of_id(notation, id),
        Notation::Deb if !id.contains(':') => name(notation, package) == id,
        Notation::Rpm | Notation::Deb => name_and_arch(notation, package) == id,
    }
}

/// Returns the name under which a manager of RPMs that keeps reasons by name alone keeps the one for a package, in the
/// form `name.arch` for [`name_of_id`].
pub(super) fn id_of_name(name: &str) -> String {
    format!("{name}{ANY_ARCH}")
}

/// Stands for all architectures in the name of a package.
const ANY_ARCH: &str = ".*";

struct RpmParts<'a> {
    name: &'a str,
    epoch: &'a str,
    version: &'a str,
    release: &'a str,
    arch: &'a str,
}

fn rpm_parts(package: &str) -> Option<RpmParts<'_>> {
    let (rest, arch) = package.rsplit_once('.')?;
    let (rest, release) = rest.rsplit_once('-')?;
    let (name, version) = rest.rsplit_once('-')?;
    let (epoch, version) = version.split_once(':')?;
    Some(RpmParts { name, epoch, version, release, arch })
}

/// Returns all the specs by which dnf, `rpm -q` and zypper (`name=version`) understand a package, with and without its
/// epoch.
fn rpm_forms(package: &str) -> Vec<String> {
    let Some(RpmParts { name, epoch, version, release, arch }) = rpm_parts(package) else {
        return vec![package.to_owned()];
    };
    let mut forms = vec![name.to_owned(), format!("{name}.{arch}")];
    for version in [version.to_owned(), format!("{epoch}:{version}")] {
        forms.push(format!("{name}-{version}"));
        forms.push(format!("{name}-{version}-{release}"));
        forms.push(format!("{name}-{version}-{release}.{arch}"));
        for name in [name.to_owned(), format!("{name}.{arch}")] {
            forms.push(format!("{name}={version}"));
            forms.push(format!("{name}={version}-{release}"));
        }
    }
    forms.push(format!("{epoch}:{name}-{version}-{release}.{arch}"));
    forms
}

fn deb_forms(package: &str) -> Vec<String> {
    // A package with a state in brackets is not fully installed.
    let parts = package.split_once('=').and_then(|(id, version)| Some((id.split_once(':')?, version)));
    match parts {
        Some(((name, arch), version)) if !version.ends_with(']') => {
            vec![
                name.to_owned(),
                format!("{name}:{arch}"),
                format!("{name}={version}"),
                format!("{name}:{arch}={version}"),
            ]
        }
        _ => Vec::new(),
    }
}

/// Returns whether a glob matches a whole text.
pub(super) fn matches(glob: &str, text: &str) -> bool {
    glob_matches(glob.as_bytes(), text.as_bytes())
}

/// Implements fnmatch(3) with `*`, `?` and `[...]`. A bracket without an end is a plain character.
fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Backtracks to the last star only, so that no pattern takes exponential time.
    let mut star = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            star = Some((rest, text));
            pattern = rest;
        } else if let Some((rest, more)) = matches_one(pattern, text) {
            (pattern, text) = (rest, more);
        } else if pattern.is_empty() && text.is_empty() {
            return true;
        } else {
            let Some((rest, [_, more @ ..])) = star else { return false };
            star = Some((rest, more));
            (pattern, text) = (rest, more);
        }
    }
}

/// Returns the rest of pattern and text after one matching character.
fn matches_one<'p, 't>(pattern: &'p [u8], text: &'t [u8]) -> Option<(&'p [u8], &'t [u8])> {
    let ([wanted, rest @ ..], [first, more @ ..]) = (pattern, text) else { return None };
    let (hit, rest) = match (wanted, bracket(rest, *first)) {
        (b'?', _) => (true, rest),
        (b'[', Some(in_set)) => in_set,
        _ => (wanted == first, rest),
    };
    hit.then_some((rest, more))
}

/// Returns whether a byte is in the set that begins after `[`, and the pattern after the set.
fn bracket(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, set) = match pattern {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    // A `]` in first position belongs to the set.
    let end = 1 + set.get(1..)?.iter().position(|b| *b == b']')?;
    let (set, rest) = (set.get(..end)?, set.get(end + 1..)?);
    let (mut hit, mut members) = (false, set);
    while let [from, more @ ..] = members {
        members = match more {
            [b'-', to, more @ ..] => {
                hit |= (*from..=*to).contains(&byte);
                more
            }
            _ => {
                hit |= *from == byte;
                more
            }
        };
    }
    Some((hit != negated, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Notation::{Deb, Rpm};

    const SLURM: &str = "slurm-slurmd-0:24.11.5-1.el9.x86_64";
    const EPOCH: &str = "shadow-utils-2:4.9-8.el9.x86_64";

    /// (notation, spec, package, whether it names it)
    const CASES: &[(Notation, &str, &str, bool)] = &[
        (Rpm, "slurm-slurmd", SLURM, true),
        (Rpm, "slurm", SLURM, false),
        (Rpm, "slurm-slurmd.x86_64", SLURM, true),
        (Rpm, "slurm-slurmd.aarch64", SLURM, false),
        (Rpm, "slurm-slurmd-24.11.5", SLURM, true),
        (Rpm, "slurm-slurmd-24.11", SLURM, false),
        (Rpm, "slurm-slurmd-24.11.5-1.el9", SLURM, true),
        (Rpm, "slurm-slurmd-24.11.5-1.el9.x86_64", SLURM, true),
        (Rpm, "slurm-slurmd-0:24.11.5-1.el9.x86_64", SLURM, true),
        (Rpm, "slurm-slurmd-1:24.11.5-1.el9.x86_64", SLURM, false),
        (Rpm, "slurm-slurmd-24.11.*", SLURM, true),
        (Rpm, "slurm-*", SLURM, true),
        (Rpm, "slurm-slurmctld*", SLURM, false),
        (Rpm, "shadow-utils-4.9", EPOCH, true),
        (Rpm, "shadow-utils-2:4.9", EPOCH, true),
        (Rpm, "shadow-utils-3:4.9", EPOCH, false),
        (Rpm, "2:shadow-utils-4.9-8.el9.x86_64", EPOCH, true),
        (Deb, "slurmd", "slurmd:amd64=24.11.5-4", true),
        (Deb, "slurm", "slurmd:amd64=24.11.5-4", false),
        (Deb, "slurmd:amd64", "slurmd:amd64=24.11.5-4", true),
        (Deb, "slurmd:i386", "slurmd:amd64=24.11.5-4", false),
        (Deb, "slurmd=24.11.5-4", "slurmd:amd64=24.11.5-4", true),
        (Deb, "slurmd=24.11.5", "slurmd:amd64=24.11.5-4", false),
        (Deb, "slurmd=24.11.*", "slurmd:amd64=24.11.5-4", true),
        (Deb, "slurmd:amd64=24.11.5-4", "slurmd:amd64=24.11.5-4", true),
        (Deb, "g++", "g++:amd64=4:12", true),
        (Deb, "g++=4:12", "g++:amd64=4:12", true),
        (Deb, "slurmd", "slurmd:amd64=1 [config-files]", false),
        (Deb, "slurmd*", "slurmd:amd64=1 [not configured]", false),
    ];

    #[test]
    fn specs_name_packages() {
        for (notation, spec, package, expected) in CASES {
            assert_eq!(names(*notation, spec, package), *expected, "{spec} and {package}");
        }
    }

    /// (pattern, text, whether it fits)
    const GLOBS: &[(&str, &str, bool)] = &[
        ("", "", true),
        ("*", "", true),
        ("a*c", "abbc", true),
        ("a*c", "abb", false),
        ("?", "", false),
        ("a?c", "abc", true),
        ("[a-c]x", "bx", true),
        ("[!a-c]x", "bx", false),
        ("[^a-c]x", "dx", true),
        ("[]a]", "]", true),
        ("[a-]", "-", true),
        ("[ab", "[ab", true),
        ("[", "[", true),
        ("*[0-9]*", "kernel-6", true),
    ];

    #[test]
    fn globs() {
        for (pattern, text, expected) in GLOBS {
            assert_eq!(glob_matches(pattern.as_bytes(), text.as_bytes()), *expected, "{pattern} and {text}");
        }
    }

    #[test]
    fn what_is_left_to_do() {
        let list = |specs: &[&str]| specs.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let installed = list(&[SLURM, EPOCH]);
        let specs = list(&["slurm-slurmd", "slurm-slurmd-25.05", "slurm*", "@tools", "shadow-utils-4.9"]);
        assert_eq!(unsatisfied(Rpm, &specs, &installed), ["slurm-slurmd-25.05", "slurm*", "@tools"]);
        assert_eq!(to_remove(Rpm, &list(&["slurm*", "nothing"]), &installed), [SLURM]);
        assert_eq!(name(Rpm, EPOCH), "shadow-utils");
        assert_eq!(name_and_arch(Rpm, EPOCH), "shadow-utils.x86_64");
        assert_eq!(name_and_arch(Deb, "a:all=1"), "a:all");
    }

    #[test]
    fn versions_of_one_package() {
        assert!(is_same(Deb, "a:all=1", "a:amd64=2 [half-installed]"));
        assert!(!is_same(Deb, "a:i386=1", "a:amd64=2"));
        assert!(!is_same(Deb, "a:all=1", "b:all=1"));
        assert!(is_same(Rpm, "a-0:1-1.noarch", "a-0:2-1.x86_64"));
        assert!(!is_same(Rpm, "a-0:1-1.i686", "a-0:2-1.x86_64"));
        assert!(is_same(Rpm, "a-0:1-1.i686", "a-0:2-1.i686"));
    }
}
