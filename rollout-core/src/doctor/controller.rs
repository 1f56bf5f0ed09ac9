//! A SlurmctldHost: the units of `reconcile`, the state directory of several controllers, and parameters that
//! slurm.conf has twice.

use super::Finding;
use super::mounts::MountPoint;

/// Timer of `reconcile`.
pub const TIMER: &str = "slurm-rollout-reconcile.timer";
/// Path unit that the timer starts and stops.
pub const PATH: &str = "slurm-rollout-reconcile.path";

/// File systems that several hosts share.
const SHARED: [&str; 16] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "glusterfs",
    "pvfs2",
    "ocfs2",
    "gfs2",
    "afs",
    "9p",
    "virtiofs",
    "panfs",
];

/// State of a unit, as `systemctl show` reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `ActiveState`, such as `active`.
    pub active: String,
    /// `UnitFileState`, such as `enabled`.
    pub file: String,
    /// Paths that a path unit watches.
    pub paths: String,
}

/// Parses the output of `systemctl show` for one unit.
#[must_use]
pub fn unit_state(text: &str) -> UnitState {
    let value = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.filter(|(found, _)| *found == key).map(|(_, value)| value).collect::<Vec<_>>().join(" ")
    };
    UnitState { active: value("ActiveState"), file: value("UnitFileState"), paths: value("Paths") }
}

/// Checks the units that look after nodes. `watched` is the file that RebootProgram touches.
#[must_use]
pub fn reconcile_units(timer: &UnitState, path: &UnitState, watched: &str) -> Vec<Finding> {
    const CHECK: &str = "reconcile";
    let start = format!("systemctl enable --now {TIMER}");
    let mut findings = Vec::new();
    if timer.active != "active" {
        findings.push(
            Finding::problem(CHECK, format!("{TIMER} is {}", or_missing(&timer.active)))
                .because("lost orders are not sent again, drains of others are not seen, and nodes without a disk wait in vain")
                .cured_by(start.clone()),
        );
    } else if !timer.file.starts_with("enabled") {
        findings.push(
            Finding::warning(CHECK, format!("{TIMER} is active, and {}", or_missing(&timer.file)))
                .because("it does not start when this host boots")
                .cured_by(start.clone()),
        );
    }
    if timer.active == "active" && path.active != "active" {
        findings.push(
            Finding::problem(CHECK, format!("{PATH} is {}", or_missing(&path.active)))
                .because("nodes without a disk stay down for half a minute longer after each reboot")
                .cured_by(format!("systemctl restart {TIMER}; `systemctl status {PATH}`")),
        );
    } else if path.active == "active" && !path.paths.split_whitespace().any(|path| path == watched) {
        findings.push(
            Finding::warning(CHECK, format!("{PATH} does not watch {watched}"))
                .because("nodes without a disk stay down for half a minute longer after each reboot")
                .cured_by(format!(
                    "`systemctl edit {PATH}`: [Path], PathModified= and PathModified={watched}; then `systemctl restart \
                     {PATH}`"
                )),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{TIMER} and {PATH} are active")));
    }
    findings
}

fn or_missing(state: &str) -> &str {
    if state.is_empty() { "not there" } else { state }
}

/// Checks that several controllers share the state directory. `save` holds StateSaveLocation, which they share.
#[must_use]
pub fn shared_state(
    controllers: usize,
    state_dir: &str,
    state: &MountPoint,
    save: Option<&MountPoint>,
) -> Option<Finding> {
    const CHECK: &str = "shared-state";
    if controllers < 2 {
        return None;
    }
    let MountPoint { at, kind } = state;
    let is_shared = SHARED.contains(&kind.as_str()) || kind.starts_with("fuse.");
    // A local file system that follows the active controller, such as one on a replicated device.
    let follows = at != "/" && save.is_some_and(|save| save.at == *at);
    if is_shared || follows {
        return Some(Finding::ok(
            CHECK,
            format!("{state_dir} is on {at} ({kind}), for {controllers} controllers"),
        ));
    }
    Some(
        Finding::problem(
            CHECK,
            format!("{controllers} SlurmctldHosts, and {state_dir} is on {at} ({kind}) of this one"),
        )
        .because(
            "after a takeover, everything that is staged, every order under way and every drain is unknown",
        )
        .cured_by(
            "in controller.toml on all of them: state_dir beside StateSaveLocation; move the directory there",
        ),
    )
}

/// Checks that no value of SlurmctldParameters is lost: if slurm.conf has the key twice, Slurm logs "specified more
/// than once, latest value used" (`src/common/parse_config.c`, 22.05 to 26.05), and `scontrol show config` has that
/// value alone.
#[must_use]
pub fn repeated_parameters(slurm_conf: &str) -> Option<Finding> {
    const KEY: &str = "SlurmctldParameters";
    let lines = slurm_conf.lines().map(|line| line.split('#').next().unwrap_or_default());
    let values =
        lines.filter_map(|line| line.split_once('=')).filter(|(key, _)| key.trim().eq_ignore_ascii_case(KEY));
    let values: Vec<&str> = values.map(|(_, value)| value.trim().trim_matches('"')).collect();
    let (last, earlier) = values.split_last()?;
    let words = |value: &&str| value.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
    let kept = words(last);
    let mut lost = Vec::new();
    for word in earlier.iter().flat_map(words) {
        if !word.is_empty() && !kept.contains(&word) && !lost.contains(&word) {
            lost.push(word);
        }
    }
    if lost.is_empty() {
        return None;
    }
    let what = format!("slurm.conf has {KEY} {} times: without effect are {}", values.len(), lost.join(","));
    let is_configless = lost.iter().any(|word| word == "enable_configless");
    let (finding, why) = match is_configless {
        true => (
            Finding::problem("slurm-conf", what),
            "nodes without a slurm.conf get none when slurmd starts again: they cannot register",
        ),
        false => (Finding::warning("slurm-conf", what), "Slurm uses the last of these lines alone"),
    };
    let all =
        lost.iter().chain(&kept).filter(|word| !word.is_empty()).map(String::as_str).collect::<Vec<_>>();
    Some(finding.because(why).cured_by(format!(
        "in slurm.conf one line in place of them: {KEY}={}\nthen `scontrol reconfigure`",
        all.join(",")
    )))
}

/// Reports Include files of slurm.conf that could not be read.
#[must_use]
pub fn unread_includes(unread: &[String]) -> Option<Finding> {
    (!unread.is_empty()).then(|| {
        Finding::warning("slurm-conf", format!("Include files of slurm.conf were left out: {}", unread.join("; ")))
            .because("parameters and PowerActions in them were not checked; slurmctld does not start again if it cannot read one")
            .cured_by("mend the Include line, or the file and its modes; run `slurm-rollout doctor` as root")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn include_files_that_cannot_be_read_are_one_finding() {
        assert_eq!(unread_includes(&[]), None);
        let finding = unread_includes(&["/a: gone".to_owned(), "/b: gone".to_owned()]).unwrap();
        assert!(finding.level == Warning && finding.what.contains("/a: gone; /b: gone"), "{finding:?}");
    }
    use crate::doctor::Level;
    use crate::doctor::Level::{Ok as Fine, Problem, Warning};

    const WATCH: &str = "/var/lib/slurm-rollout/watch";

    fn unit(active: &str, file: &str) -> UnitState {
        unit_state(&format!("ActiveState={active}\nUnitFileState={file}\nPaths={WATCH} (PathModified)\n"))
    }

    fn levels(findings: &[Finding]) -> Vec<Level> {
        findings.iter().map(|finding| finding.level).collect()
    }

    #[test]
    fn the_units_must_be_active_now_and_after_a_boot() {
        for (timer, path, watched, expected) in [
            (unit("active", "enabled"), unit("active", "static"), WATCH, &[Fine][..]),
            (unit("inactive", "enabled"), unit("inactive", "static"), WATCH, &[Problem]),
            (UnitState::default(), UnitState::default(), WATCH, &[Problem]),
            (unit("active", "disabled"), unit("active", "static"), WATCH, &[Warning]),
            (unit("active", "enabled"), unit("failed", "static"), WATCH, &[Problem]),
            (unit("active", "enabled"), unit("active", "static"), "/shared/rollout/watch", &[Warning]),
        ] {
            let findings = reconcile_units(&timer, &path, watched);
            assert_eq!(levels(&findings), expected, "{findings:?}");
        }
    }

    #[test]
    fn several_controllers_share_the_state_directory() {
        let mount = |at: &str, kind: &str| MountPoint { at: at.to_owned(), kind: kind.to_owned() };
        for (controllers, state, save, expected) in [
            (1, mount("/", "ext4"), None, None),
            (2, mount("/", "ext4"), None, Some(Problem)),
            // Both local: nothing is shared.
            (2, mount("/", "ext4"), Some(mount("/", "ext4")), Some(Problem)),
            (2, mount("/var", "xfs"), Some(mount("/shared", "nfs4")), Some(Problem)),
            (2, mount("/shared", "nfs4"), Some(mount("/shared", "nfs4")), Some(Fine)),
            (3, mount("/gpfs", "gpfs"), None, Some(Fine)),
            (2, mount("/mnt", "fuse.sshfs"), None, Some(Fine)),
            (2, mount("/drbd", "xfs"), Some(mount("/drbd", "xfs")), Some(Fine)),
        ] {
            let finding = shared_state(controllers, "/s", &state, save.as_ref());
            assert_eq!(finding.map(|finding| finding.level), expected, "{controllers} {state:?} {save:?}");
        }
    }

    #[test]
    fn a_parameter_that_a_later_line_replaces_is_found() {
        for (text, expected, cure) in [
            ("SlurmctldParameters=enable_configless,reboot_from_controller\n", None, ""),
            (
                "SlurmctldParameters=reboot_from_controller\nSlurmctldParameters=reboot_from_controller\n",
                None,
                "",
            ),
            (
                "SlurmctldParameters=enable_configless\nReturnToService=2\nslurmctldparameters = reboot_from_controller\n",
                Some(Problem),
                "SlurmctldParameters=enable_configless,reboot_from_controller\n",
            ),
            (
                "SlurmctldParameters=idle_on_node_suspend # x\nSlurmctldParameters=reboot_from_controller\n",
                Some(Warning),
                "SlurmctldParameters=idle_on_node_suspend,reboot_from_controller\n",
            ),
            (
                "#SlurmctldParameters=enable_configless\nSlurmctldParameters=reboot_from_controller\n",
                None,
                "",
            ),
            ("", None, ""),
        ] {
            let finding = repeated_parameters(text);
            assert_eq!(finding.as_ref().map(|finding| finding.level), expected, "{text}");
            assert!(finding.and_then(|finding| finding.cure).unwrap_or_default().contains(cure), "{text}");
        }
    }
}
