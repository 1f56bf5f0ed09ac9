//! Detection of a node's package manager.

use super::apt::{APT_GET, Apt};
use super::dnf::{Dnf, Flavour};
use super::tool::Tool;
use crate::changes::ChangeError;
use rollout_core::rollout::manifest::Manager;
use rollout_host::run::is_program;
use std::path::Path;

const DNF: &str = "/usr/bin/dnf";
const DNF5: &str = "/usr/bin/dnf5";

/// Returns the manager that the manifest names, or else the node's own.
pub(super) fn tool(named: Option<Manager>) -> Result<(Manager, Box<dyn Tool>), ChangeError> {
    let manager = match named {
        Some(manager) => manager,
        None => native(&os_release(), |program| is_program(Path::new(program))).ok_or_else(|| {
            ChangeError::state(
                "looking for the package manager",
                format!("none of {APT_GET}, {DNF5} and {DNF} is on this node"),
            )
        })?,
    };
    let program = match manager {
        Manager::Apt => APT_GET,
        Manager::Dnf => DNF,
        Manager::Dnf5 => DNF5,
    };
    if !is_program(Path::new(program)) {
        let problem =
            "it is not on this node; name the node's own in `manager`, or leave it out to have it found";
        return Err(ChangeError::state(format!("starting {program}"), problem));
    }
    let tool: Box<dyn Tool> = match manager {
        Manager::Apt => Box::new(Apt::of_node()),
        Manager::Dnf | Manager::Dnf5 => Box::new(Dnf::of_node(program, flavour(Path::new(program)))),
    };
    Ok((manager, tool))
}

/// Returns the flavour of a dnf. Since Fedora 41 /usr/bin/dnf is a link to dnf5.
pub(super) fn flavour(program: &Path) -> Flavour {
    let real = std::fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let is_5 = real.file_name().is_some_and(|name| name.to_string_lossy().starts_with("dnf5"));
    if is_5 { Flavour::Dnf5 } else { Flavour::Dnf4 }
}

fn os_release() -> String {
    std::fs::read_to_string("/etc/os-release").unwrap_or_default()
}

/// Returns the manager with which the distribution is made. Installed programs do not tell: Debian also has dnf, as a
/// tool to make other systems.
fn native(os_release: &str, exists: impl Fn(&str) -> bool) -> Option<Manager> {
    let is_debian = os_release.lines().any(|line| {
        let ids = line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")).unwrap_or("");
        ids.trim_matches(['"', '\'']).split_whitespace().any(|id| matches!(id, "debian" | "ubuntu"))
    });
    let rpm = [(DNF5, Manager::Dnf5), (DNF, Manager::Dnf)];
    let apt = [(APT_GET, Manager::Apt)];
    let order: Vec<_> =
        if is_debian { apt.into_iter().chain(rpm).collect() } else { rpm.into_iter().chain(apt).collect() };
    order.into_iter().find(|(program, _)| exists(program)).map(|(_, manager)| manager)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (os-release, programs, manager)
    const CASES: &[(&str, &[&str], Option<Manager>)] = &[
        ("ID=debian\n", &[APT_GET, DNF, DNF5], Some(Manager::Apt)),
        ("NAME=x\nID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", &[APT_GET, DNF], Some(Manager::Apt)),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", &[DNF, APT_GET], Some(Manager::Dnf)),
        ("ID=fedora\n", &[DNF, DNF5], Some(Manager::Dnf5)),
        ("", &[APT_GET], Some(Manager::Apt)),
        ("ID=debian\n", &[DNF], Some(Manager::Dnf)),
        ("ID=alpine\n", &[], None),
    ];

    #[test]
    fn the_distribution_decides_before_what_is_installed() {
        for (os_release, programs, expected) in CASES {
            assert_eq!(native(os_release, |p| programs.contains(&p)), *expected, "{os_release}");
        }
    }
}
