//! The installed packages that a package manager names in a dry run. Pure, and generous: one too many is cached in
//! vain, one too few cannot be restored without a mirror.

use super::spec::{self, Notation};
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

#[cfg(test)]
mod tests {
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
        let installed =
            list("alpha:all=1.0 beta:all=1.0 gamma:all=1.0 oldname:amd64=1:1.0~rc1 oldname:i386=1:1.0~rc1");
        assert_eq!(in_apt(APT, &installed), ["alpha:all=1.0", "oldname:i386=1:1.0~rc1"]);
    }
}
