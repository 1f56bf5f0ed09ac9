//! Detection of a node's package manager.

use super::apt::{APT_GET, Apt};
use super::dnf::{Dnf, Flavour};
use super::tool::Tool;
use super::zypper::{ZYPPER, Zypper};
use crate::changes::ChangeError;
use rollout_core::rollout::manifest::{Manager, Packages};
use rollout_host::run::is_program;
use std::path::Path;

const DNF: &str = "/usr/bin/dnf";
const DNF5: &str = "/usr/bin/dnf5";

/// Returns the manager that is named, or else the node's own, set up for a change.
pub(super) fn tool(
    wanted: &Packages,
    named: Option<Manager>,
) -> Result<(Manager, Box<dyn Tool>), ChangeError> {
    let manager = match named {
        Some(manager) => manager,
        None => native(&os_release(), program_at).ok_or_else(|| {
            ChangeError::state(
                "looking for the package manager",
                format!("none of {APT_GET}, {DNF5}, {DNF} and {ZYPPER} is on this node"),
            )
        })?,
    };
    let program = match manager {
        Manager::Apt => APT_GET,
        Manager::Dnf => DNF,
        Manager::Dnf5 => DNF5,
        Manager::Zypper => ZYPPER,
    };
    if !is_program(Path::new(program)) {
        let problem =
            "it is not on this node; name the node's own in `manager`, or leave it out to have it found";
        return Err(ChangeError::state(format!("starting {program}"), problem));
    }
    if let Some(what) = wanted.unsupported(manager) {
        return Err(ChangeError::state(format!("starting {program}"), format!("it does not know {what}")));
    }
    let tool: Box<dyn Tool> = match manager {
        Manager::Apt => Box::new(Apt::of_node().for_change(wanted)),
        Manager::Zypper => Box::new(Zypper::of_node().for_change(wanted)),
        Manager::Dnf | Manager::Dnf5 => {
            Box::new(Dnf::of_node(program, flavour(Path::new(program))).for_change(wanted))
        }
    };
    Ok((manager, tool))
}

/// Returns the flavour of a dnf. Since Fedora 41 /usr/bin/dnf is a link to dnf5.
pub(super) fn flavour(program: &Path) -> Flavour {
    let real = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let is_5 = real.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dnf5"));
    if is_5 { Flavour::Dnf5 } else { Flavour::Dnf4 }
}

/// Returns the flavour of the program at a path, or `None` if there is none. It is of no meaning for other managers.
fn program_at(program: &str) -> Option<Flavour> {
    let path = Path::new(program);
    is_program(path).then(|| flavour(path))
}

fn os_release() -> String {
    std::fs::read_to_string("/etc/os-release").unwrap_or_default()
}

/// Returns the manager with which the distribution is made. Installed programs do not tell: Debian also has dnf and
/// zypper, as tools to make other systems, openSUSE also has dnf, and dnf5 can be installed beside the dnf 4 that is a
/// system's own.
fn native(os_release: &str, at: impl Fn(&str) -> Option<Flavour>) -> Option<Manager> {
    let is_one_of = |distributions: &[&str]| {
        os_release.lines().any(|line| {
            let ids = line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")).unwrap_or("");
            ids.trim_matches(['"', '\'']).split_whitespace().any(|id| distributions.contains(&id))
        })
    };
    let apt = at(APT_GET).map(|_| Manager::Apt);
    let rpm = match (at(DNF), at(DNF5)) {
        (Some(Flavour::Dnf4), _) | (Some(Flavour::Dnf5), None) => Some(Manager::Dnf),
        (_, Some(_)) => Some(Manager::Dnf5),
        (None, None) => None,
    };
    let zypper = at(ZYPPER).map(|_| Manager::Zypper);
    if is_one_of(&["debian", "ubuntu"]) {
        apt.or(rpm).or(zypper)
    } else if is_one_of(&["suse", "opensuse", "sles", "sled", "sle_hpc"]) {
        zypper.or(rpm).or(apt)
    } else {
        rpm.or(zypper).or(apt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (os-release, programs, whether /usr/bin/dnf is dnf 5, manager)
    const CASES: &[(&str, &[&str], bool, Option<Manager>)] = &[
        ("ID=debian\n", &[APT_GET, DNF, DNF5], false, Some(Manager::Apt)),
        ("NAME=x\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", &[APT_GET, DNF], false, Some(Manager::Apt)),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", &[DNF, APT_GET], false, Some(Manager::Dnf)),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", &[DNF, DNF5], false, Some(Manager::Dnf)),
        ("ID=fedora\n", &[DNF, DNF5], true, Some(Manager::Dnf5)),
        ("ID=fedora\n", &[DNF5], true, Some(Manager::Dnf5)),
        ("ID=\"sles\"\nID_LIKE=\"suse\"\n", &[ZYPPER], false, Some(Manager::Zypper)),
        ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", &[DNF, ZYPPER], false, Some(Manager::Zypper)),
        ("ID=debian\n", &[APT_GET, DNF, ZYPPER], false, Some(Manager::Apt)),
        ("ID=\"rocky\"\n", &[DNF, ZYPPER], false, Some(Manager::Dnf)),
        ("", &[ZYPPER, APT_GET], false, Some(Manager::Zypper)),
        ("", &[APT_GET], false, Some(Manager::Apt)),
        ("ID=debian\n", &[DNF], false, Some(Manager::Dnf)),
        ("ID=alpine\n", &[], false, None),
    ];

    #[test]
    fn the_distribution_decides_before_what_is_installed() {
        for (os_release, programs, dnf_is_5, expected) in CASES {
            let at = |program: &str| {
                let is_5 = program == DNF5 || *dnf_is_5;
                programs.contains(&program).then_some(if is_5 { Flavour::Dnf5 } else { Flavour::Dnf4 })
            };
            assert_eq!(native(os_release, at), *expected, "{os_release}");
        }
    }
}
