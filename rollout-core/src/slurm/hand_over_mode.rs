//! The way in which Slurm hands nodes over: the daemon that runs RebootProgram, and the program itself.

use crate::slurm::config::SlurmConfig;
use std::path::Path;

/// File name of the RebootProgram for slurmctld. A site may install it in a different directory.
pub const REBOOT_PROGRAM_NAME: &str = "reboot-program";
/// File name of the RebootProgram for slurmd.
pub const REBOOT_NODE: &str = "reboot-node";

/// The way in which Slurm hands nodes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandOverMode {
    /// slurmctld runs our RebootProgram (`reboot_from_controller`).
    Controller {
        /// With `--plain` it only reboots. A different action applies what is staged (Slurm 26.05).
        plain: bool,
    },
    /// Each slurmd runs our RebootProgram on its node.
    Node { plain: bool },
    /// RebootProgram is a PowerAction of this name (Slurm 26.05). Slurm does not report the program that it runs.
    Action(String),
    /// A RebootProgram that is not ours, described in words.
    NotOurs(String),
}

impl HandOverMode {
    /// Returns the mode that Slurm's configuration describes.
    #[must_use]
    pub fn of(slurm: &SlurmConfig) -> Self {
        let Some(program) = slurm.get("RebootProgram") else {
            return Self::NotOurs("Slurm has no RebootProgram".to_owned());
        };
        let mut words = program.split_whitespace();
        let first = Path::new(words.next().unwrap_or_default());
        let plain = words.any(|word| word == "--plain");
        if !first.is_absolute() {
            return Self::Action(program.to_owned());
        }
        let name = first.file_name().unwrap_or_default();
        match slurm.reboots_from_controller() {
            true if name == REBOOT_PROGRAM_NAME => Self::Controller { plain },
            false if name == REBOOT_NODE => Self::Node { plain },
            true => Self::NotOurs(format!("slurmctld runs {program}")),
            false => Self::NotOurs(format!("slurmd runs {program} on each node")),
        }
    }
}

impl HandOverMode {
    /// Returns the mode on a SlurmctldHost. A program of the site counts as ours if its file names slurm-rollout, as a
    /// script does that calls our RebootProgram. `names_us` looks into the file.
    #[must_use]
    pub fn on_controller(slurm: &SlurmConfig, names_us: impl Fn(&Path) -> Option<bool>) -> Self {
        let mode = Self::of(slurm);
        let program = slurm.get("RebootProgram").unwrap_or_default();
        let path = Path::new(program.split_whitespace().next().unwrap_or_default());
        match mode {
            Self::NotOurs(_) if slurm.reboots_from_controller() && names_us(path) == Some(true) => {
                Self::Controller { plain: program.split_whitespace().any(|word| word == "--plain") }
            }
            mode => mode,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_is_read_from_slurms_configuration() {
        let controller = "SlurmctldParameters = reboot_from_controller\n";
        let not_ours = |why: &str| HandOverMode::NotOurs(why.to_owned());
        for (program, parameters, way) in [
            (
                "/usr/libexec/slurm-rollout/reboot-program",
                controller,
                HandOverMode::Controller { plain: false },
            ),
            (
                "/opt/r/reboot-program --config /x --plain",
                controller,
                HandOverMode::Controller { plain: true },
            ),
            ("/usr/libexec/slurm-rollout/reboot-node", "", HandOverMode::Node { plain: false }),
            ("/usr/libexec/slurm-rollout/reboot-node --plain", "", HandOverMode::Node { plain: true }),
            ("rollout", "", HandOverMode::Action("rollout".to_owned())),
            (
                "/usr/libexec/slurm-rollout/reboot-program",
                "",
                not_ours("slurmd runs /usr/libexec/slurm-rollout/reboot-program on each node"),
            ),
            ("/usr/sbin/reboot", controller, not_ours("slurmctld runs /usr/sbin/reboot")),
            ("(null)", controller, not_ours("Slurm has no RebootProgram")),
        ] {
            let slurm = SlurmConfig::parse(&format!("RebootProgram = {program}\n{parameters}"));
            assert_eq!(HandOverMode::of(&slurm), way, "{program}");
        }
    }

    #[test]
    fn a_wrapper_of_our_program_is_ours() {
        let controller = "SlurmctldParameters = reboot_from_controller\n";
        let (wrapper, ours) = ("/etc/slurm/site-reboot.sh", HandOverMode::Controller { plain: false });
        for (program, parameters, names_us, is_ours) in [
            (wrapper, controller, Some(true), true),
            (wrapper, controller, Some(false), false),
            (wrapper, controller, None, false),
            // The file that slurmd runs is on the nodes.
            (wrapper, "", Some(true), false),
            ("(null)", controller, Some(false), false),
        ] {
            let slurm = SlurmConfig::parse(&format!("RebootProgram = {program}\n{parameters}"));
            let mode = HandOverMode::on_controller(&slurm, |_| names_us);
            assert_eq!(mode == ours, is_ours, "{program} {parameters} {names_us:?}");
        }
    }
}
